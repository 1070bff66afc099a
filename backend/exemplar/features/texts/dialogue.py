"""A dialogue → text, each turn on a line of its own behind its speaker's name, as a label config shows it."""

from collections.abc import Iterable

from exemplar.features.texts.beginning import MAX_CHARACTERS


def text_of_dialogue(turns: Iterable[tuple[str, str]]) -> str:
    r"""Return the turns as lines, as many as are read; a turn without speaker or words has only what it has.

    >>> text_of_dialogue([("Ann", "Where is it?"), ("", "Here.")])
    'Ann: Where is it?\nHere.'
    """
    lines: list[str] = []
    missing = MAX_CHARACTERS
    for speaker, text in turns:
        lines.append(": ".join(filter(None, (speaker.strip(), text.lstrip()[:MAX_CHARACTERS].rstrip()))))
        missing -= len(lines[-1]) + 1
        if missing <= 0:  # no more is read
            break
    return "\n".join(lines)
