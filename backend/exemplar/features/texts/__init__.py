"""Texts as vectors. The embedders take a text of each value; ``text_of`` makes it of markup and of dialogues."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from exemplar.features.texts.dialogue import text_of_dialogue
from exemplar.features.texts.html import text_of_html

_texts: Mapping[str, Callable[[Any], str]] = MappingProxyType(
    {"text": str, "html": text_of_html, "dialogue": text_of_dialogue}
)
KINDS = tuple(_texts)


def text_of(kind: str, value: Any) -> str:
    """Return the text of a value of one of these kinds: a text, markup, or the turns of a dialogue.

    >>> text_of("html", "<b>bold</b>"), text_of("dialogue", [("Ann", "Hello")])
    ('bold', 'Ann: Hello')
    """
    return _texts[kind](value)
