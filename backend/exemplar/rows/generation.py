"""The names under which our rows stand in Label Studio."""

import re
from functools import lru_cache

RETIRED = 0
# Generation 0 may bear a proof: what /setup answers until Label Studio has confirmed a project.
_GENERATION = re.compile(r"exemplar-(0\.[0-9a-f]{16}|0|[1-9][0-9]*)")


def generation_name(generation: int) -> str:
    """Return the model version under which a generation's rows stand."""
    return f"exemplar-{generation}"


@lru_cache
def generation_number(model_version: object) -> int | None:
    """Return which generation a model version names, or None if it is not one of ours (some are numbers)."""
    match = _GENERATION.fullmatch(str(model_version))
    return int(match[1].partition(".")[0]) if match else None


def proof_name(proof: str) -> str:
    """Return the model version that bears a proof; rows never stand under it."""
    return f"exemplar-{RETIRED}.{proof}"
