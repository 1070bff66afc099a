"""What is known of the rows in Label Studio from one pass to the next."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

# What is known of the rows is believed for so many seconds, or so many times as long as listing them took; while
# annotators are at work, some times longer.
LEDGER_LIFE = 60.0
LISTING_SHARE = 50.0
AT_WORK_LONGER = 10.0
Json = dict[str, Any]


class Ledger:
    """The predictions that are in the project, as last listed and since written by us.

    Listing them costs Label Studio as much as several Submits. So what we know is kept for a while, in memory
    only: after a restart, an error, or a bulk import, which does not tell its rows' ids, they are listed anew.

    Parameters
    ----------
    background : Executor, optional
        Where bulk imports run, so that annotations are taken in meanwhile.

    Attributes
    ----------
    n_cut_off : int
        How many imports were cut off whose rows never came.
    look_at : float
        Before this time (of the monotonic clock) nothing is to be seen of an import that was cut off.
    """

    def __init__(self, background: Executor | None = None) -> None:
        self._predictions: dict[int, Json] = {}
        self._imported: list[Json] = []
        self._import: Future[None] | None = None
        self._life, self._filled_at = 0.0, -np.inf
        self._in_doubt = True  # an earlier process may have been killed
        self._background = background
        self.n_cut_off, self.look_at = 0, -np.inf

    def is_stale(self, *, at_work: bool) -> bool:
        """Return whether the rows are to be listed anew; sooner while no annotator is at work."""
        life = self._life * (AT_WORK_LONGER if at_work else 1)
        return time.monotonic() >= self._filled_at + life

    @property
    def is_forgotten(self) -> bool:
        """Whether the rows are to be listed anew whatever the time."""
        return self._filled_at == -np.inf

    @property
    def has_imported(self) -> bool:
        """Whether rows were imported whose ids are not known."""
        return bool(self._imported)

    @property
    def is_importing(self) -> bool:
        """Whether an import is under way: until it ends, only something new is worth another pass."""
        under_way = self._import is not None and not self._import.done()
        return under_way or time.monotonic() < self.look_at

    @property
    def n_under_way(self) -> int:
        """How many of the imported rows may not be there yet."""
        return len(self._imported) if self._import is not None else 0

    def predictions(self) -> list[Json]:
        """Return the predictions as far as they are known, those on their way included."""
        return [*self._predictions.values(), *self._imported]

    def fill(self, predictions: Iterable[Json], *, seconds: float = 0.0) -> None:
        """Take in a listing that took so many seconds."""
        self._predictions = {prediction["id"]: prediction for prediction in predictions}
        self._imported = []
        self._filled_at, self._life = time.monotonic(), max(LEDGER_LIFE, LISTING_SHARE * seconds)

    def forget(self) -> None:
        """Have the next reader list all predictions anew."""
        self._filled_at = -np.inf

    def doubt(self) -> None:
        """Forget all after an error; a request that was cut off may still be under way in Label Studio."""
        self.forget()
        self._in_doubt = True

    def look_again(self) -> None:
        """List the rows once more after some were created in doubt: others may have come to stand beside them."""
        if self._in_doubt:
            self.forget()
            self._in_doubt = False

    def add(self, prediction: Json) -> None:
        """Take in a prediction that was created."""
        self._predictions[prediction["id"]] = prediction

    def remove(self, prediction_id: int) -> None:
        """Take in that a prediction was deleted."""
        del self._predictions[prediction_id]

    def note(self, prediction_id: int, **values: Any) -> None:
        """Take in what was changed of a prediction."""
        self._predictions[prediction_id].update(values)

    def import_(self, rows: list[Json], request: Callable[[list[Json]], None]) -> None:
        """Import rows by a request, in the background if there is one; until a listing they have no ids."""
        if self._background is None:
            request(rows)
        else:
            self._import = self._background.submit(request, rows)
        self._imported.extend({"id": None, **row} for row in rows)

    def settle(self) -> bool:
        """Return whether no import is under way; raises what the last one raised."""
        if self._import is not None and self._import.done():
            ended, self._import = self._import, None
            ended.result()
        return self._import is None
