"""What a setting's value may be: each function takes its name and value, and returns what is meant by it.

All raise a ``SettingError`` with the name, the value and what was expected.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from exemplar.errors import SettingError
from exemplar.recipes import read_recipes, written

# The last part of a name has a letter: what has none is an address, and a wrong one.
_HOST_RULE = re.compile(r"(\*\.)?([\w-]+\.)*(?=[\d-]*[a-z_])[\w-]+", re.ASCII)


class Secret(str):
    """A string whose repr hides it, so that no log or traceback shows it."""

    def __repr__(self) -> str:
        return "'***'" if self else "''"


def whole(name: str, value: Any, low: int, high: int) -> int:
    """Return a whole number in a range."""
    try:
        number = int(str(value))
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise SettingError(name, value, f"a whole number from {low} to {high}")
    return number


def number(name: str, value: Any, low: float, high: float) -> float:
    """Return a number in a range."""
    try:
        number = float(str(value))
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise SettingError(name, value, f"a number from {low:g} to {high:g}")
    return number


def port(name: str, value: Any) -> int:
    """Return a port."""
    return whole(name, value, 1, 65535)


def host(name: str, value: Any) -> str:
    """Return a name or an address to listen on."""
    host = str(value).strip()
    # Colons are those of an IPv6 address: two of them at least.
    if not host or host.count(":") == 1 or any(sign in host for sign in "/[]@ "):
        raise SettingError(
            name, value, "a name or an address such as 127.0.0.1 or 0.0.0.0, without http:// or a port"
        )
    return host


def percent(name: str, value: Any) -> float:
    """Return per cent, more than none."""
    percent = number(name, value, 0, 100)
    if percent == 0:
        raise SettingError(name, value, "more than 0 and at most 100")
    return percent


def share(name: str, value: Any) -> float:
    """Return per cent of the queue, at most half."""
    return number(name, value, 0, 50)


def gib(name: str, value: Any) -> float:
    """Return a size in GiB."""
    return number(name, value, 0, 1e6)


def one_of(choices: tuple[str, ...]) -> Callable[[str, Any], str]:
    """Return what takes one of some words, and nothing else."""

    def parse(name: str, value: Any) -> str:
        if value not in choices:
            raise SettingError(name, value, "one of " + ", ".join(choices))
        return str(value)

    return parse


def confidence(name: str, value: Any) -> float:
    """Return a probability."""
    return number(name, value, 0, 1)


def models(name: str, value: Any) -> tuple[str, ...]:
    """Return names of model versions: of a text with commas, a list, or an object with ``model_version``."""
    given = value
    if isinstance(given, dict) and list(given) == ["model_version"]:
        given = given["model_version"]
        given = [given] if isinstance(given, str) else given
    elif isinstance(given, str):
        given = given.split(",")
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise SettingError(name, value, 'names of model versions, or {"model_version": "…"}')
    return tuple(dict.fromkeys(one.strip() for one in given if one.strip()))


def descriptions(name: str, value: Any) -> dict[str, str] | None:
    """Return words by class: of an object, or of the JSON of one; None if there are none."""
    given = value
    if isinstance(given, str):
        with suppress(ValueError):
            given = json.loads(given) if given.strip() else {}
    if not isinstance(given, dict) or not all(isinstance(words, str) for words in given.values()):
        raise SettingError(name, value, 'words for classes, as JSON: {"class": "words that describe it"}')
    return given or None


def clusters(name: str, value: Any) -> int | None:
    """Return a number of clusters, None for auto."""
    return None if str(value) in ("", "auto", "None") else whole(name, value, 2, 100_000)


def batch(name: str, value: Any) -> int:
    """Return the length of a queue."""
    return whole(name, value, 1, 10_000)


def seconds(name: str, value: Any) -> float:
    """Return seconds, at most a day."""
    return number(name, value, 0.01, 86_400)


def switch(name: str, value: Any) -> bool:
    """Return whether a switch is on."""
    words = {
        "on": True,
        "true": True,
        "1": True,
        "yes": True,
        "off": False,
        "false": False,
        "0": False,
        "no": False,
    }
    if str(value).lower() not in words:
        raise SettingError(name, value, "on or off")
    return words[str(value).lower()]


def level(name: str, value: Any) -> str:
    """Return a level of the log."""
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    if str(value).upper() not in levels:
        raise SettingError(name, value, "one of " + ", ".join(levels))
    return str(value).upper()


def address(name: str, value: Any) -> str:
    """Return an address without a slash at its end, or raise a SettingError if it is none of HTTP."""
    try:
        parts = urlsplit(str(value))
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port above 65535 or that is no number, a bracket that is not closed
        is_one = False
    if value and not is_one:
        raise SettingError(name, value, "an address such as http://localhost:8080")
    return str(value).rstrip("/")


def hosts(name: str, value: Any) -> tuple[str, ...]:
    """Return rules for hosts, each in its one spelling."""
    return tuple(_host_rule(name, rule.strip()) for rule in str(value).split(",") if rule.strip())


def _host_rule(name: str, rule: str) -> str:
    """Return one rule in its one spelling."""
    try:
        return str(ip_network(rule.strip("[]"), strict=False))
    except ValueError:
        pass
    plain = rule.lower().rstrip(".")
    with suppress(UnicodeError):
        plain = plain.encode("idna").decode()
    if rule.lower() not in ("*", "public") and not _HOST_RULE.fullmatch(plain):
        expected = "host names, *.suffix, addresses, networks such as 10.0.0.0/8, public, or *"
        raise SettingError(name, rule, f"{expected}, with commas between them")
    return plain


def addresses(name: str, value: Any) -> tuple[str, ...]:
    """Return addresses, without a slash at the end."""
    return tuple(address(name, part.strip()) for part in str(value).split(",") if part.strip())


def recipes(name: str, value: Any) -> str:
    """Return recipes in their one spelling."""
    try:
        return written(read_recipes(str(value)))
    except ValueError as error:
        raise SettingError(name, value, str(error)) from error


def field(name: str, value: Any) -> str:
    """Return the name of a field; a dollar before it, as label configs have it, means nothing."""
    found = value.strip().removeprefix("$") if isinstance(value, str) else ""
    if not found:
        raise SettingError(name, value, "auto, off, or the name of a field, as embedding or meta.embedding")
    return found


def secret(name: str, value: Any) -> Secret:
    """Return a text that hides itself."""
    return Secret(value)


def text(name: str, value: Any) -> str:
    """Return any text."""
    return str(value)


def path(name: str, value: Any) -> Path:
    """Return an absolute path."""
    try:
        return Path(str(value)).expanduser().absolute()
    except RuntimeError as error:
        raise SettingError(name, value, "a folder; there is no such user") from error
