"""Per cent and shares as people type them: 95, 95% and 0.95 are the same; what may be either is refused."""

import re

from exemplar.errors import SettingError

PROMISE = "per cent from 50 to under 100, as 95 or 95%, or a share from 0.5 to under 1, as 0.95"
CONFIDENCE = "per cent, as 90 or 90%, or a share below 1, as 0.9; 1 may be both: say 1% or 100%"


def promise_of(text: str) -> float:
    """Return a promise as a share.

    Raises
    ------
    SettingError
        If it is nothing that can be promised, such as 0.95 %, or neither per cent nor a share.
    """
    share = _share(text)
    if share is None or not 0.5 <= share < 1:
        raise SettingError("--promise", text, PROMISE)
    return share


def confidence_of(text: str) -> float:
    """Return a confidence as a share; a ``SettingError`` says what was expected."""
    share = _share(text)
    if share is None:
        raise SettingError("--min-confidence", text, CONFIDENCE)
    return share


def _share(text: str) -> float | None:
    """Return what lies between 0 and 1; None where that is not certain."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(%?)", text.strip(), re.ASCII)
    if not found:
        return None
    number = float(found[1])
    is_per_cent = bool(found[2]) or number > 1
    if number > 100 or (number == 1 and not is_per_cent):
        return None
    return number / 100 if is_per_cent else number
