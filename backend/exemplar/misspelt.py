"""Names that nobody reads: which known one was probably meant.

A setting whose name is mistyped is as good as not set, and nobody would tell. Names that begin like ours are
refused; other programs' names are only told where one of ours is likely to be meant and is not set itself.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

OURS = "EXEMPLAR_"
# Of the tests and benchmarks, which read these themselves.
NOT_SETTINGS = ("EXEMPLAR_TEST_", "EXEMPLAR_BENCH_")
# What Kubernetes and Docker set in every container for a service called `exemplar`; EXEMPLAR_PORT=9090 is none.
_LINK = re.compile(r"EXEMPLAR_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*)")
_LINK_VALUE = re.compile(r"(tcp|udp)://")
# What is meant by it is plain to people, if not to the letter; the values are names of settings.
_SYNONYMS = {
    "BASIC_AUTH_USERNAME": "BASIC_AUTH_USER",
    "BASIC_AUTH_PASSWORD": "BASIC_AUTH_PASS",
    "LABEL_STUDIO_TOKEN": "LABEL_STUDIO_API_KEY",
    "LABEL_STUDIO_API_TOKEN": "LABEL_STUDIO_API_KEY",
    "LABEL_STUDIO_ACCESS_TOKEN": "LABEL_STUDIO_API_KEY",
    "LABEL_STUDIO_KEY": "LABEL_STUDIO_API_KEY",
    "LABEL_STUDIO_ADDRESS": "LABEL_STUDIO_URL",
    "LABEL_STUDIO_HOSTNAME": "LABEL_STUDIO_URL",
    "LABEL_STUDIO_BASE_URL": "LABEL_STUDIO_URL",
    "MODEL_DIRECTORY": "MODEL_DIR",
    "MODEL_FOLDER": "MODEL_DIR",
}
# Shorter names are too like words that mean something else: PORT and EXPORT.
_LONG_ENOUGH = 8


def nearest(name: str, known: Collection[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like the given one, case aside; None if none is.

    >>> nearest("EXEMPLAR_QUEU", ["EXEMPLAR_QUEUE", "EXEMPLAR_POLL"]), nearest("nothing", ["EXEMPLAR_QUEUE"])
    ('EXEMPLAR_QUEUE', None)
    """
    by_folded = {one.casefold(): one for one in known}
    found = get_close_matches(name.casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def unknown_of_ours(environ: Mapping[str, str], known: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the variables that are called like settings and are none, each with the setting most like it."""
    for name in sorted(environ):
        is_ours = name.upper().startswith(OURS) and not name.startswith(NOT_SETTINGS)
        if is_ours and name not in known and environ[name].strip() and not _is_link(name, environ[name]):
            yield name, _meant(name, known)


def unknown_of_others(environ: Mapping[str, str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the variables of other programs by which a setting was probably meant, and that setting."""
    for name in sorted(environ):
        if name.upper().startswith(OURS) or name in known or not environ[name].strip():
            continue
        meant = _SYNONYMS.get(_spelt_out(name)) or _nearly(_spelt_out(name), known)
        if meant:
            yield name, meant


def _is_link(name: str, value: str) -> bool:
    return bool(_LINK.fullmatch(name) or (name == "EXEMPLAR_PORT" and _LINK_VALUE.match(value)))


def _meant(name: str, known: Collection[str]) -> str | None:
    """Compare without the prefix, which all have and some should not: EXEMPLAR_MODEL_DIR is MODEL_DIR."""
    bare = name.upper().removeprefix(OURS)
    by_bare = {one.removeprefix(OURS): one for one in known}
    part = next((one for one in sorted(by_bare) if one.endswith(f"_{bare}") or one.startswith(f"{bare}_")), None)
    found = bare if bare in by_bare else part or nearest(bare, by_bare)
    return by_bare[found] if found else None


def _spelt_out(name: str) -> str:
    return re.sub(r"^LABELSTUDIO(?=_)", "LABEL_STUDIO", re.sub(r"^LS_", "LABEL_STUDIO_", name.upper()))


def _nearly(name: str, known: Collection[str]) -> str | None:
    return nearest(name, known, cutoff=0.9) if len(name) >= _LONG_ENOUGH else None
