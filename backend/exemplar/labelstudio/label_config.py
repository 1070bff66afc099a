"""What there is to classify in a project's label config, and the results that say so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from label_studio_tools.core.label_config import parse_config
from label_studio_tools.core.utils.exceptions import LabelStudioXMLSyntaxErrorSentryIgnored
from lxml import etree

from exemplar.errors import LabelConfigError

KINDS = {"Image": "image", "Text": "text"}


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
    """

    control: str
    object: str
    field: str
    kind: str
    classes: tuple[str, ...]

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

    def class_index(self, result: Iterable[Mapping[str, Any]]) -> int:
        """Return which class a result names, or -1 if none of ours: the first choice counts."""
        for region in result:
            if region.get("from_name") == self.control:
                for choice in region.get("value", {}).get("choices", ()):
                    if choice in self.classes:
                        return self.classes.index(choice)
        return -1


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
            source = control["inputs"][0]
            if source["type"] in KINDS and _shows_a_field(xml, control["to_name"][0]):
                return Labeling(
                    control=name,
                    object=control["to_name"][0],
                    field=source["value"],
                    kind=KINDS[source["type"]],
                    classes=tuple(control["labels"]),
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


def _shows_a_field(xml: str, name: str) -> bool:
    """Return whether a tag shows what stands in a field of each task: not a fixed file, not text at an address."""
    tag = next(tag for tag in etree.fromstring(xml).iter() if tag.attrib.get("name") == name)
    return str(tag.attrib["value"]).startswith("$") and tag.attrib.get("valueType") != "url"
