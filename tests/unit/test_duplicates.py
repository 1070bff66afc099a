"""Near-duplicates: which values are the same but for little, and what a group takes over from its answers."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from exemplar.engine import (
    UNLABELED,
    group_by_all,
    group_by_keys,
    group_by_prints,
    labelled_together,
    with_answers_of_groups,
)
from exemplar.errors import InputError
from exemplar.features.images import Picture
from exemplar.features.signatures import Print, same_pictures, same_texts, text_keys
from pictures import copies, drawing

TICKET = "My card 4711 was declined at the counter, what can I do?"


def together(*texts: str) -> list[int]:
    return same_texts(text_keys(texts)).tolist()


# -- texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        TICKET.upper(),
        f"  {TICKET}\n",
        TICKET.replace(" ", "  "),
        TICKET.replace("?", "!!!"),
        f"“{TICKET}”",
        TICKET.replace(", ", " - "),
        TICKET.replace("4711", "17"),
        TICKET.replace("4711", "1,234.50"),
        TICKET.replace("4711", "-3"),
        TICKET.replace("a", "ａ"),  # the same letter, in full width
        TICKET.replace("card", "c\u00adard"),  # with a soft hyphen
    ],
)
def test_texts_that_differ_in_a_number_or_in_how_they_are_written_are_one(other: str) -> None:
    assert together(TICKET, other) == [0, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TICKET, TICKET.replace("declined", "stolen")),
        (TICKET, TICKET.replace("was", "was not")),
        (TICKET, TICKET.replace("4711 ", "")),
        ("3 apples", "5 apples"),
        ("Chapter 1", "Chapter 2"),
        ("17", "18"),
        ("-5", "5"),
        ("5 %", "5"),
        ("1 2", "12"),
        ("C#", "C"),
        ("2*3", "2 3"),
        ("good :)", "good :("),
        ("👍", "👎"),
        ("👍🏻", "👍🏿"),
        ("!!!", "???"),
        ("Temperatures: 12 13 14 15 16 and 17 degrees", "Temperatures: 12 13 14 15 16 and 18 degrees"),
        ("x" * 200_000, "x" * 200_001),
    ],
)
def test_texts_that_say_something_else_are_not(one: str, other: str) -> None:
    assert together(one, other) == [0, 1]


def test_texts_without_spaces_have_words_all_the_same() -> None:
    assert together("我的订单12345还没有送到请帮我查一下", "我的订单67890还没有送到请帮我查一下。") == [0, 0]
    assert together("第1章", "第2章") == [0, 1]


def test_the_same_text_is_the_same_whatever_it_is() -> None:
    assert together("!!!", "!!!", "👍", "❤", "❤\ufe0f", "17", "17") == [0, 0, 2, 3, 3, 5, 5]
    assert together("", " ", "\n") == [0, 1, 2]  # nothing is no text
    assert together("half a character \ud800", "half a character \ud800") == [0, 0]


def test_where_numbers_are_all_that_differs_in_most_of_a_pool_they_tell_its_tasks_apart() -> None:
    readings = [f"The temperature of the patient is {n} degrees" for n in range(40)]
    others = ["The patient sleeps well", "The temperature of the patient is 3 degrees!"]
    leaders = together(*readings, *others)
    assert leaders == [*range(40), 40, 3]
    assert len(set(together(*readings[:15], *others))) == 2


@settings(deadline=None)
@given(st.text(max_size=60), st.text(alphabet=" \t\n.,;!?-–()\"'", max_size=5))
def test_what_is_added_in_punctuation_changes_no_text_that_says_anything(text: str, added: str) -> None:
    keys = text_keys([text, f"{text} {added}"])
    says = any(character.isalpha() for character in text)
    smiles = any(eyes in f"{text} {added}" for eyes in ":;")
    assert (keys[0] == keys[1]).all() or not says or smiles


def test_texts_of_fifty_megabytes_cost_no_more_than_their_beginning() -> None:
    started = time.process_time()
    assert together("word " * 10_000_000, "Word " * 10_000_000) == [0, 0]
    assert time.process_time() - started < 5


# -- pictures ----------------------------------------------------------------------------------------------


def prints(*images: Image.Image) -> np.ndarray:
    return Print().transform([Picture(np.asarray(image.convert("RGB"))) for image in images])


def test_a_picture_in_another_size_or_compression_is_the_same_picture() -> None:
    images = [drawing(seed) for seed in range(30)]
    made = [copy for image in images for copy in copies(image)]
    leaders = same_pictures(prints(*images, *made))
    assert leaders[:30].tolist() == list(range(30))  # no two of them are one
    of = np.repeat(np.arange(30), len(made) // 30)
    assert (leaders[30:] == of).mean() >= 0.95
    assert np.isin(leaders[30:], [*of, *range(30, 30 + len(made))]).all()
    assert ((leaders[30:] == of) | (leaders[30:] >= 30)).all()  # and none is taken for another's copy


def test_pictures_that_differ_in_one_place_are_not_the_same() -> None:
    one = drawing(1)
    other = one.copy()
    ImageDraw.Draw(other).rectangle([90, 60, 110, 80], fill="black")
    assert same_pictures(prints(one, other)).tolist() == [0, 1]


def test_pictures_in_other_colours_are_not_the_same() -> None:
    grey, red = Image.new("RGB", (40, 40), (76, 76, 76)), Image.new("RGB", (40, 40), (255, 0, 0))
    leaders = same_pictures(prints(grey, red, grey, drawing(1), drawing(1).convert("L")))
    assert leaders.tolist() == [0, 1, 0, 3, 4]


def test_pictures_without_contrast_are_the_same_only_if_they_are_equal() -> None:
    rng = np.random.default_rng(0)
    surfaces = [Image.fromarray(rng.normal(128, 12, (160, 160)).clip(0, 255).astype(np.uint8)) for _ in range(20)]
    assert same_pictures(prints(*surfaces)).tolist() == list(range(20))


def test_pictures_of_one_pixel_have_prints() -> None:
    assert prints(Image.new("RGB", (1, 1)), Image.new("L", (3000, 1))).shape == (2, Print.n_features)


# -- groups ------------------------------------------------------------------------------------------------


def test_a_chain_of_near_prints_is_no_one_group() -> None:
    chain = np.arange(10, dtype=np.float32)[:, None]
    assert group_by_prints(chain, np.full(10, 1.5, np.float32)).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


def test_a_later_task_changes_no_group_that_is_there() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 20)).astype(np.float32)
    points[150:] = points[rng.integers(150, size=150)] + rng.normal(scale=0.05, size=(150, 20)).astype(np.float32)
    radii = np.full(300, 0.5, np.float32)
    whole = group_by_prints(points, radii)
    assert len(set(whole)) == 150
    assert group_by_prints(points[:200], radii[:200]).tolist() == whole[:200].tolist()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_groups_are_those_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 6, (40, 12)).astype(np.float32)[rng.integers(40, size=40)]
    points += rng.choice([0, 0.3], (40, 1)).astype(np.float32)
    radii = rng.choice([0.0, 1.1, 2.0], 40).astype(np.float32)
    expected = np.full(40, -1)
    for row in range(40):
        equal = [other for other in range(row) if (points[other] == points[row]).all()]
        if equal:
            expected[row] = expected[equal[0]]
        if expected[row] >= 0:
            continue
        expected[row] = row
        apart = np.linalg.norm(points - points[row], axis=1)
        near = (apart <= np.minimum(radii, radii[row])) & (expected < 0) & (np.arange(40) > row)
        firsts = [i for i in np.flatnonzero(near) if not (points[:i] == points[i]).all(axis=1).any()]
        expected[firsts] = row
    assert group_by_prints(points, radii).tolist() == expected.tolist()


def test_groups_of_several_views_are_together_in_all_of_them() -> None:
    assert group_by_all(np.int32([0, 0, 2, 2]), np.int32([0, 0, 0, 0])).tolist() == [0, 0, 2, 2]


def test_wrong_arrays_are_named() -> None:
    with pytest.raises(InputError, match=r"keys has the shape \(3,\)"):
        group_by_keys(np.zeros(3, np.uint64))
    with pytest.raises(InputError, match=r"radii has the shape \(1,\): expected \(2,\)"):
        group_by_prints(np.zeros((2, 1), np.float32), np.zeros(1, np.float32))
    with pytest.raises(InputError, match=r"y has the shape \(1,\): expected \(2,\)"):
        labelled_together(np.int32([0, 1]), np.array([0]))


# -- what a group takes over -------------------------------------------------------------------------------


def test_an_answer_is_that_of_all_in_its_group_and_no_further() -> None:
    found = labelled_together(np.int32([0, 0, 2, 0, 2]), np.array([-1, 3, -1, -1, -1]))
    assert found.y.tolist() == [3, UNLABELED, UNLABELED, 3, UNLABELED]
    assert found.confidence == pytest.approx(0.98)


def test_groups_whose_answers_differ_take_over_nothing() -> None:
    found = labelled_together(np.int32([0, 0, 0, 3, 3]), np.array([1, 2, -1, 0, -1]))
    assert (found.y.tolist(), found.differ.tolist()) == ([-1, -1, -1, -1, 0], [0])
    assert (found.n_tried, found.n_same) == (1, 0)


def test_second_answers_say_how_sure_a_group_is_and_when_groups_are_none() -> None:
    leaders = np.repeat(np.arange(0, 40, 2), 2).astype(np.int32)
    same = np.repeat(np.arange(20) % 3, 2)
    assert labelled_together(leaders, same).confidence == pytest.approx(44.5 / 45)
    differ = same.copy()
    differ[1::2] = (differ[1::2] + 1) % 3
    assert not labelled_together(leaders, differ).is_trusted


def test_distributions_stay_distributions_when_answers_are_taken_over() -> None:
    rng = np.random.default_rng(0)
    before = rng.dirichlet(np.ones(4), 50).astype(np.float32)
    before[::7] = 0
    found = labelled_together(
        np.repeat(np.arange(0, 50, 5), 5).astype(np.int32), np.where(np.arange(50) % 5, -1, 2)
    )
    after = with_answers_of_groups(before, found)
    taken = found.y >= 0
    assert np.allclose(after[taken].sum(axis=1), 1)
    assert (after[taken, 2] >= np.float32(0.98)).all()
    assert (after[~taken] == before[~taken]).all()


def test_of_one_class_alone_all_is_sure() -> None:
    found = labelled_together(np.int32([0, 0]), np.array([0, -1]))
    assert with_answers_of_groups(np.zeros((2, 1), np.float32), found)[1].tolist() == [1.0]
