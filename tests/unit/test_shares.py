"""Per cent and shares as people type them; what may be either is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exemplar.commands.shares import confidence_of, promise_of
from exemplar.errors import SettingError


@pytest.mark.parametrize("text", ["95", "95%", "95 %", " 95.0 ", "0.95", ".95"])
def test_per_cent_and_shares_are_the_same_promise(text: str) -> None:
    assert promise_of(text) == pytest.approx(0.95)


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "1.0",
        "0",
        "0.3",
        "0.95%",
        "5",
        "49",
        "100",
        "100%",
        "101",
        "-95",
        "95,5",
        "nan",
        "inf",
        "1e2",
        "abc",
        "",
    ],
)
def test_what_is_no_promise_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(SettingError, match=r"--promise=.*: expected per cent from 50 .*or a share from 0.5"):
        promise_of(text)


@pytest.mark.parametrize(
    ("text", "share"),
    [("0", 0.0), ("0.9", 0.9), ("90", 0.9), ("90%", 0.9), ("1%", 0.01), ("100%", 1.0), ("100", 1.0)],
)
def test_a_confidence_is_understood(text: str, share: float) -> None:
    assert confidence_of(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["1", "1.0", "101", "-0.1", "sure", "0.9.1", "nan"])
def test_a_confidence_that_may_be_two_things_or_none_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match=r"--min-confidence=.*1 may be both"):
        confidence_of(text)


@given(st.text(max_size=8))
def test_whatever_is_typed_is_a_promise_of_at_least_half_or_refused(text: str) -> None:
    try:
        promise = promise_of(text)
    except SettingError:
        return
    assert 0.5 <= promise < 1
