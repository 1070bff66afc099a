"""What there is to classify in a project's label config, and the results that say so."""

import dataclasses
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from label_studio_tools.core.label_config import parse_config
from label_studio_tools.core.utils.exceptions import LabelStudioXMLSyntaxErrorSentryIgnored
from lxml import etree

from exemplar.errors import LabelConfigError
from exemplar.labelstudio.reading import listing, mapping, text

KINDS = {"Image": "image", "Text": "text"}
_MARKUP = re.compile(r"<[^>]*>")
_WORD = re.compile(r"[^\W\d_]+")

# Why an answer is not used, or not all of it.
UNKNOWN_LABEL = "names a label that the label config does not have"
SEVERAL_REGIONS = "answers more than once; the first label counts"
SEVERAL_CHOICES = "ticks more than one choice; the first counts"
NO_REGION = "has a region that is no object"
NO_CONTROL = "has a region that names no control"
NO_VALUE = "has a region without a value"
NO_CHOICES = "has choices that are no list"
NO_TEXT = "has a choice that is no text"


@dataclass(frozen=True)
class Labeling:
    """One Choices control on one Image or Text.

    Attributes
    ----------
    control, object : str
        Names of the two tags (``from_name`` and ``to_name`` of a result).
    field : str
        The key of a task's data that the object shows.
    kind : str
        "image" or "text".
    classes : tuple of str
        The choices; class index i is ``classes[i]``.
    said : tuple of str
        What people read of each class: what is written at the choice, and its hint. Another wording makes no other
        labeling.
    """

    control: str
    object: str
    field: str
    kind: str
    classes: tuple[str, ...]
    said: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def result(self, class_index: int) -> list[dict[str, Any]]:
        """Return the result that ticks one choice, or an empty one for a negative class index.

        The region's id is a string: the editor fails on numbers.
        """
        if class_index < 0:
            return []
        return [
            {
                "id": f"exemplar-{self.control}",
                "from_name": self.control,
                "to_name": self.object,
                "type": "choices",
                "value": {"choices": [self.classes[class_index]]},
            }
        ]

    def class_index(self, result: Any) -> int:
        """Return which class a result names, or -1 if none of ours, whatever it is: the first choice counts."""
        for region in listing(result):
            for choice in _choices(region, self.control):
                if choice in self.classes:
                    return self.classes.index(choice)
        return -1

    def not_used(self, result: Any) -> str:
        """Return why a result is not used, or not all of it; empty if it is."""
        regions = [region for region in listing(result) if _control(region) in (self.control, None)]
        choices = [choice for region in regions for choice in _choices(region, self.control)]
        known = [choice for choice in choices if choice in self.classes]
        oddities = [oddity for region in regions if (oddity := _oddity(region))]
        if len(known) < len(choices):
            oddities.append(UNKNOWN_LABEL)
        if len(known) > 1:
            oddities.append(SEVERAL_REGIONS if len(regions) > 1 else SEVERAL_CHOICES)
        return next(iter(oddities), "")


def kept_of(result: Any) -> list[dict[str, Any] | None]:
    """Return of a result what an answer can be read from under any label config, and what is odd about it.

    Results can be of any size and depth, and are kept: so only names and choices are.
    """
    if not isinstance(result, list):
        return [] if result is None else [None]
    return [_kept_region(region) for region in result if mapping(region).get("type") != "relation"]


def _kept_region(region: Any) -> dict[str, Any] | None:
    if not isinstance(region, dict):
        return None
    kept: dict[str, Any] = {"from_name": _text_alone(region.get("from_name"))}
    value = region.get("value")
    if isinstance(value, dict):
        choices = value.get("choices")
        kept["value"] = {"choices": [*map(_text_alone, choices)] if isinstance(choices, list) else None}
    return kept


def _text_alone(value: Any) -> str | None:
    return text(value) if isinstance(value, str) else None


def _control(region: Any) -> str | None:
    """Return which control a region is of; None if it does not say."""
    name = region.get("from_name") if isinstance(region, dict) else None
    return name if isinstance(name, str) else None


def _choices(region: Any, control: str) -> list[str]:
    """Return the choices that a region of our control ticks, as far as they are texts."""
    if _control(region) != control:
        return []
    value = mapping(mapping(region).get("value"))
    return [choice for choice in listing(value.get("choices")) if isinstance(choice, str)]


def _oddity(region: Any) -> str:
    """Return what is odd about a region, empty if nothing is."""
    if not isinstance(region, dict):
        return NO_REGION
    if _control(region) is None:
        return NO_CONTROL
    value = region.get("value")
    if not isinstance(value, dict):
        return NO_VALUE
    choices = value.get("choices")
    if not isinstance(choices, list):
        return NO_CHOICES
    return "" if all(isinstance(choice, str) for choice in choices) else NO_TEXT


def read_label_config(xml: str) -> Labeling:
    """Find the first Choices on an Image or a Text.

    Raises
    ------
    LabelConfigError
        If there is none, saying what there is.
    """
    try:
        controls = parse_config(xml)
    except (LabelStudioXMLSyntaxErrorSentryIgnored, KeyError, ValueError) as error:
        raise LabelConfigError(f"The label config is no valid XML of Label Studio: {error}") from error
    for name, control in controls.items():
        if control["type"] == "Choices" and control["labels"] and control["inputs"]:
            source, shown = control["inputs"][0], _shown(xml, control["to_name"])
            if source["type"] in KINDS and shown is not None:
                return Labeling(
                    control=name,
                    object=shown,
                    field=source["value"],
                    kind=KINDS[source["type"]],
                    classes=tuple(control["labels"]),
                    said=tuple(map(_said, control["labels_attrs"].values())),
                )
    there = ", ".join(
        f"{control['type']} {name!r} on {' and '.join(source['type'] for source in control['inputs']) or 'nothing'}"
        for name, control in controls.items()
    )
    raise LabelConfigError(
        "Exemplar classifies with Choices on an Image or a Text that show a field of the tasks ($…), each Choice "
        "written in the label config; "
        f"this label config has {there or 'no control tag'}"
    )


def _shown(xml: str, to_name: list[str]) -> str | None:
    """Return the tag that a control is on, if it shows what stands in a field of each task.

    Not a fixed file, and not text at an address. Of several tags it is the first that is there.
    """
    there = {tag.attrib["name"]: tag for tag in etree.fromstring(xml).iter() if _is_object(tag)}
    name = next((name for name in to_name if name in there), None)
    if name is None:
        return None
    value = there[name].attrib["value"]
    is_field = value.startswith("$") and value.strip("$") != "" and there[name].attrib.get("valueType") != "url"
    return name if is_field else None


def has_words(name: str) -> bool:
    """Return whether a text has a word that is more than a letter, of an alphabet, or a sign of another script.

    >>> has_words("refund"), has_words("猫"), has_words("A 7"), has_words("12")
    (True, True, False, False)
    """
    return any(len(word) > 1 or not word.isascii() for word in _WORD.findall(name))


def _said(choice: Mapping[str, str]) -> str:
    """Return what people read of a choice: its HTML in place of its value, and its hint.

    An alias is what results call it; it is read where the value has no words.
    """
    shown = _MARKUP.sub(" ", html.unescape(choice.get("html", ""))).strip() or choice.get("value", "")
    read = [shown if has_words(shown) else choice.get("alias") or shown, choice.get("hint", "")]
    return ", ".join(" ".join(words.split()) for words in read if words.strip())


def _is_object(tag: Any) -> bool:
    """Return whether a tag shows something, as label-studio-tools has it."""
    return bool(tag.attrib.get("name") and tag.attrib.get("value") and not tag.attrib.get("toName"))
