"""What is embedded for a class, which settings say so, and what of it stands in a label config."""

import pytest

from exemplar.errors import SettingError
from exemplar.labelstudio.label_config import Labeling, read_label_config
from exemplar.project.priors import words_of
from exemplar.settings import Settings, for_project, from_environment

TEXT = '<View><Text name="t" value="$text"/><Choices name="c" toName="t">{}</Choices></View>'


def labeling(*names: str) -> Labeling:
    return Labeling("c", "t", "text", "text", names, names)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ('<Choice value="Refund late"/>', "Refund late"),
        ('<Choice value="Refund late" alias="cls_17"/>', "Refund late"),
        ('<Choice value="17" alias="refund_late"/>', "refund_late"),
        ('<Choice value="17"/>', "17"),
        ('<Choice alias="refund"/>', "refund"),
        ('<Choice value="r" html="&lt;b&gt;Refund&lt;/b&gt; is&amp;nbsp;late"/>', "Refund is late"),
        ('<Choice value="Refund" hint="money  that did not\n come back"/>', "Refund, money that did not come back"),
        ('<Choice value="1" alias="2" hint="spam"/>', "2, spam"),
        ('<Choice value="r" html="&lt;img src=x&gt;"/>', "r"),
        ('<Choice value="猫"/>', "猫"),
    ],
)
def test_what_people_read_of_a_choice(choice: str, said: str) -> None:
    found = read_label_config(TEXT.format(choice + '<Choice value="other"/>'))
    assert found.said == (said, "other")


def test_another_hint_makes_no_other_labeling() -> None:
    one, two = (
        read_label_config(TEXT.format(f'<Choice value="cat" hint="{hint}"/><Choice value="dog"/>'))
        for hint in ("meows", "purrs")
    )
    assert one == two
    assert one.said != two.said


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("card_arrival", "lost-card", "topUpFailed"), ("card arrival", "lost card", "top Up Failed")),
        (("A", "B", "C"), ("", "", "")),
        (("1", "2", "3.5"), ("", "", "")),
        (("class 7", "class 8"), ("", "")),
        (("label_1", "Label_2", "spam"), ("", "", "spam")),
        (("Type A", "Type B"), ("", "")),
        (("positive", "negative"), ("positive", "negative")),
        (("猫", "犬"), ("猫", "犬")),
        (("クラス1", "クラス2"), ("", "")),
        (("C++", "C#", "Python"), ("", "", "Python")),
        (("version 2 bug", "login bug"), ("version 2 bug", "login bug")),
        (("", " ", "x y"), ("", "", "")),
        (("1st class mail", "2nd class mail"), ("1st class mail", "2nd class mail")),
    ],
)
def test_names_that_say_something(names: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert words_of(labeling(*names)) == words


def test_descriptions_take_the_place_of_names() -> None:
    described = {"A": "money that did not come back ", "nobody": "x", "spam": ""}
    assert words_of(labeling("A", "B", "spam"), described) == ("money that did not come back", "", "")


@pytest.mark.parametrize(
    ("given", "versions"),
    [
        ({"model_version": "gpt-4"}, ("gpt-4",)),
        ({"model_version": ["gpt-4", "old, and odd"]}, ("gpt-4", "old, and odd")),
        (["b", "a", "b"], ("b", "a")),
        ("gpt-4, bert", ("gpt-4", "bert")),
        ("", ()),
        ([], ()),
    ],
)
def test_which_models_are_believed(given: object, versions: tuple[str, ...]) -> None:
    assert for_project(Settings(), {"priors": given}).priors == versions


@pytest.mark.parametrize(
    "given", [3, None, True, {"model": "x"}, {"model_version": 3}, [3], {"model_version": "x", "y": 1}]
)
def test_what_names_no_models_is_refused(given: object) -> None:
    with pytest.raises(
        SettingError, match=r'extra param priors=.*: expected names of model versions, or \{"model_vers'
    ):
        for_project(Settings(), {"priors": given})


def test_descriptions_are_read_from_the_extra_params_and_the_environment() -> None:
    assert for_project(Settings(), {"descriptions": {"a": "b"}}).descriptions == {"a": "b"}
    assert from_environment({"EXEMPLAR_DESCRIPTIONS": '{"a": "b"}'}).descriptions == {"a": "b"}
    assert for_project(Settings(), {"descriptions": {}}).descriptions is None


@pytest.mark.parametrize("given", [3, ["a"], {"a": 1}, "no json", None, '["a"]'])
def test_what_describes_nothing_is_refused(given: object) -> None:
    with pytest.raises(SettingError, match=r"extra param descriptions=.*: expected words for classes, as JSON"):
        for_project(Settings(), {"descriptions": given})


@pytest.mark.parametrize("given", [-0.1, 1.1, "much", None, "nan"])
def test_a_floor_is_a_confidence(given: object) -> None:
    with pytest.raises(SettingError, match="expected a number from 0 to 1"):
        for_project(Settings(), {"shown_from": given})


@pytest.mark.parametrize("given", [0, 1, 0.5, "0.5"])
def test_a_floor_may_be_any_confidence(given: object) -> None:
    assert for_project(Settings(), {"shown_from": given}).shown_from == float(str(given))
