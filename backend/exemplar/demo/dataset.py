"""What the demo knows of the data it shows: how they come into Label Studio, and the truth about each."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.labelstudio.label_config import Labeling, read_label_config


@dataclass(frozen=True)
class Dataset:
    """Examples known by their index: the first ``n_pool`` become tasks, the rest is held out to measure with.

    Attributes
    ----------
    name, title : str
        What ``--dataset`` and the project are called.
    examples : str
        What an example is, in the plural.
    label_config : str
        As Label Studio takes it.
    truth : tuple of str
        The choice that is right, of each example. Nothing that Label Studio or the backend is given says it.
    n_pool : int
        How many of the examples are annotated.
    data : callable
        Gives an example as a task's data, with all that it shows.
    imported : callable
        Gives some examples as the body of a request to a project's import.
    index_of : callable
        Tells which example a task's data show; raises ValueError if none.
    textbook : str
        What the textbook's pipeline is given of the examples.
    textbook_vectors : callable
        Gives that, of shape (n_examples, n_features).
    """

    name: str
    title: str
    examples: str
    label_config: str
    truth: tuple[str, ...]
    n_pool: int
    data: Callable[[int], dict[str, str]]
    imported: Callable[[Sequence[int]], dict[str, Any]]
    index_of: Callable[[Mapping[str, object]], int]
    textbook: str
    textbook_vectors: Callable[[], NDArray[np.float32]]

    @property
    def pool(self) -> range:
        """Return the examples that become tasks."""
        return range(self.n_pool)

    @property
    def held_out(self) -> range:
        """Return the examples that Label Studio never sees."""
        return range(self.n_pool, len(self.truth))

    @cached_property
    def labeling(self) -> Labeling:
        """Return what there is to answer."""
        return read_label_config(self.label_config)

    def answer(self, task_data: Mapping[str, object]) -> str:
        """Return the choice that is right for a task."""
        return self.truth[self.index_of(task_data)]

    def result(self, task_data: Mapping[str, object]) -> list[dict[str, Any]]:
        """Return what an annotation of a task with the truth holds."""
        said = {"type": "choices", "value": {"choices": [self.answer(task_data)]}}
        return [{"from_name": self.labeling.control, "to_name": self.labeling.object, **said}]


@dataclass(frozen=True)
class NumberedFiles:
    """Names of files that tell the example's index and nothing else; Label Studio puts a prefix before them."""

    stem: str
    suffix: str

    def name(self, index: int) -> str:
        """Return the name of an example's file.

        >>> NumberedFiles("digit", "png").name(7)
        'digit-0007.png'
        """
        return f"{self.stem}-{index:04d}.{self.suffix}"

    def index_of(self, task_data: Mapping[str, object]) -> int:
        """Return which of the examples a task shows, by its file's name.

        >>> NumberedFiles("digit", "png").index_of({"image": "/data/upload/1/ea10b01a-digit-0007.png"})
        7
        """
        address = str(task_data.get("image", ""))
        name = re.search(rf"{self.stem}-(\d{{4}})\.{self.suffix}$", address)
        if name is None:
            expected = f"{self.stem}-NNNN.{self.suffix}"
            raise ValueError(f"image={address!r}: expected a file that was uploaded as {expected}")
        return int(name[1])

    def imported(self, indices: Sequence[int], content: Callable[[int], bytes]) -> dict[str, Any]:
        """Return files as the body of a request; of several in one form field, Label Studio reads only the last."""
        kind = f"image/{self.suffix}"
        return {"files": {self.name(i): (self.name(i), content(i), kind) for i in indices}}
