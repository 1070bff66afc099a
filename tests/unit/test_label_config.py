"""What there is to classify in a label config."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exemplar.errors import LabelConfigError
from exemplar.labelstudio.label_config import Labeling, read_label_config

IMAGE = '<Image name="img" value="$picture"/>'
TEXT = '<Text name="txt" value="$review"/>'
CAT_DOG = '<Choice value="cat"/><Choice value="dog"/>'


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def choices(to_name: str, inside: str = CAT_DOG, name: str = "animal") -> str:
    return f'<Choices name="{name}" toName="{to_name}">{inside}</Choices>'


def test_choices_on_an_image() -> None:
    assert read_label_config(view(IMAGE, choices("img"))) == Labeling(
        "animal", "img", "picture", "image", ("cat", "dog")
    )


def test_choices_on_a_text_whatever_stands_first() -> None:
    assert read_label_config(view(choices("txt"), "<!-- a comment -->", TEXT)) == Labeling(
        "animal", "txt", "review", "text", ("cat", "dog")
    )


def test_the_label_config_that_we_ship_is_one_of_ours() -> None:
    labeling = read_label_config((Path(__file__).parents[2] / "label_config.xml").read_text())
    assert (labeling.kind, len(labeling.classes)) == ("image", 10)


def test_a_choice_goes_by_its_alias_as_in_label_studios_results() -> None:
    labeling = read_label_config(
        view(IMAGE, choices("img", '<Choice value="Katze" alias="cat"/><Choice value="x"/>'))
    )
    assert labeling.classes == ("cat", "x")


def test_choices_may_stand_in_folds() -> None:
    assert read_label_config(view(IMAGE, choices("img", f"<View>{CAT_DOG}</View>"))).classes == ("cat", "dog")


def test_the_first_control_that_we_can_serve_is_taken() -> None:
    labeling = read_label_config(
        view(
            IMAGE,
            '<RectangleLabels name="box" toName="img"><Label value="ear"/></RectangleLabels>',
            '<TextArea name="note" toName="img"/>',
            '<Choices name="dynamic" toName="img" value="$options"/>',
            choices("img"),
            choices("img", '<Choice value="good"/>', name="quality"),
        )
    )
    assert (labeling.control, labeling.classes) == ("animal", ("cat", "dog"))


@pytest.mark.parametrize(
    ("xml", "there"),
    [
        (view(IMAGE), "no control tag"),
        (view(), "no control tag"),
        ("", "no control tag"),
        (view(IMAGE, '<TextArea name="note" toName="img"/>'), "TextArea 'note' on Image"),
        (view('<Audio name="a" value="$a"/>', choices("a")), "Choices 'animal' on Audio"),
        (view(IMAGE, '<Choices name="c" toName="img" value="$options"/>'), "Choices 'c' on Image"),
        (view(IMAGE, choices("nowhere")), "Choices 'animal' on nothing"),
        (view(IMAGE, choices("img", "")), "Choices 'animal' on Image"),
    ],
)
def test_without_anything_of_ours_the_sentence_says_what_there_is(xml: str, there: str) -> None:
    with pytest.raises(LabelConfigError, match=f"Exemplar classifies with Choices .* has .*{there}"):
        read_label_config(xml)


@pytest.mark.parametrize("xml", ["<View>", "plain words", "{}", "<View><Image></View>", "\x00", "<"])
def test_broken_xml_is_called_so(xml: str) -> None:
    with pytest.raises(LabelConfigError, match="no valid XML"):
        read_label_config(xml)


@pytest.mark.parametrize(
    "xml",
    [
        view('<Image name="img"/>', '<Text name="img" value="fixed"/>', choices("img")),
        view('<Image name="img" value="$"/>', choices("img")),
        view(IMAGE, choices("")),
        view(IMAGE, choices(",")),
    ],
)
def test_a_config_that_is_half_done_is_a_sentence(xml: str) -> None:
    with pytest.raises(LabelConfigError, match="Exemplar classifies with Choices"):
        read_label_config(xml)


def test_of_several_objects_the_first_that_is_there_is_classified() -> None:
    labeling = read_label_config(view(IMAGE, choices("nowhere,img")))
    assert (labeling.object, labeling.field) == ("img", "picture")


ATTRIBUTES = st.dictionaries(
    st.sampled_from(["name", "toName", "value", "alias", "valueType", "perRegion", "whenTagName"]),
    st.sampled_from(["img", "c", "$a", "$", "", "a,b", "img,c", " ", "url", "true", "-1"]),
    max_size=4,
)
TAGS = st.sampled_from(["View", "Image", "Text", "Choices", "Choice", "Label", "Audio"])
ELEMENTS = st.recursive(
    st.builds(lambda tag, attributes: element(tag, attributes, []), TAGS, ATTRIBUTES),
    lambda inside: st.builds(lambda t, a, i: element(t, a, i), TAGS, ATTRIBUTES, st.lists(inside, max_size=3)),
    max_leaves=6,
)


def element(tag: str, attributes: dict[str, str], inside: list[str]) -> str:
    said = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<{tag}{said}>{''.join(inside)}</{tag}>"


@given(st.lists(ELEMENTS, max_size=3), st.lists(st.sampled_from([IMAGE, TEXT, choices("img"), choices("c,img")])))
def test_no_tags_whatever_raise_anything_else(some: list[str], good: list[str]) -> None:
    with suppress(LabelConfigError):
        labeling = read_label_config(view(*some, *good))
        assert labeling.field
        assert labeling.classes


@given(st.text(max_size=40) | st.text("<>/=\"' aVview$", max_size=40))
def test_no_text_whatever_raises_anything_else(xml: str) -> None:
    with pytest.raises(LabelConfigError):
        read_label_config(xml)


# ── Results ──────────────────────────────────────────────────────────────────────────────────────────────

LABELING = Labeling("animal", "img", "picture", "image", ("cat", "dog", "Käfer"))


@pytest.mark.parametrize("class_index", [-1, 0, 1, 2])
def test_a_result_says_the_class_that_it_was_made_from(class_index: int) -> None:
    result = json.loads(json.dumps(LABELING.result(class_index)))
    assert LABELING.class_index(result) == class_index


def test_a_result_is_what_the_editor_takes() -> None:
    (region,) = LABELING.result(1)
    assert isinstance(region["id"], str)
    assert (region["from_name"], region["to_name"], region["type"]) == ("animal", "img", "choices")
    assert region["value"] == {"choices": ["dog"]}


def test_the_first_choice_that_we_know_counts() -> None:
    region = LABELING.result(0)[0] | {"value": {"choices": ["unicorn", "dog", "cat"]}}
    assert LABELING.class_index([region]) == 1


@pytest.mark.parametrize(
    "result",
    [
        [],
        [{}],
        [{"from_name": "quality", "value": {"choices": ["cat"]}}],
        [{"from_name": "animal", "value": {"choices": ["unicorn"]}}],
        [{"from_name": "animal", "value": {"text": ["cat"]}}],
        [{"from_name": "animal", "type": "choices"}],
    ],
    ids=["empty", "no region", "another control", "another choice", "another value", "no value"],
)
def test_what_says_none_of_our_classes_is_none(result: list[dict[str, object]]) -> None:
    assert LABELING.class_index(result) == -1
