"""Rows of a table: what columns hold, and rows that lie as far apart as they differ."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplar.features.table import OWN_PLACES, SHARED_PLACES, Table, TableModel

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def holds(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {column.name: column.holds for column in Table().fit(rows).columns}


def apart(model: TableModel, one: dict[str, Any], other: dict[str, Any]) -> float:
    X = model.transform([one, other])
    return float(np.linalg.norm(X[0] - X[1]))


def orders(n: int = 60) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "price": float(rng.lognormal(3)),
            "items": str(rng.integers(1, 9)),
            "country": ["DE", "fr", "IT"][i % 3],
            "paid": bool(i % 2),
            "note": f"please send order {i} to my new address as soon as you can",
            "id": f"order-{i}",
            "currency": "EUR",
        }
        for i in range(n)
    ]


def test_columns_are_what_the_pool_has_in_them_and_those_that_tell_nothing_are_left_out() -> None:
    assert holds(orders()) == {
        "price": "numbers",
        "items": "numbers",
        "country": "categories",
        "paid": "categories",
        "note": "words",
    }


def test_numbers_are_robust_to_what_is_far_out() -> None:
    rows = [{"x": float(n)} for n in range(100)]
    plain, spoilt = Table().fit(rows), Table().fit([*rows, {"x": 1e30}, {"x": -1e30}])
    assert apart(plain, {"x": 10}, {"x": 60}) == pytest.approx(apart(spoilt, {"x": 10}, {"x": 60}), rel=0.05)
    assert np.isfinite(spoilt.transform([{"x": 1e30}, {"x": 3e38}, {"x": 10**400}, {"x": "1e999"}])).all()


def test_numbers_in_texts_are_numbers() -> None:
    model = Table().fit([{"x": n} for n in range(50)])
    assert np.array_equal(model.transform([{"x": " 1,024 "}]), model.transform([{"x": 1024}]))


def test_missing_has_a_place_of_its_own_whatever_it_is_called() -> None:
    model = Table().fit([*orders(), {}, {"price": None, "country": ""}])
    missing = [{}, {"price": None}, {"price": "n/a"}, {"price": float("nan")}, {"price": "unknown"}, {"price": []}]
    X = model.transform(missing)
    assert (X[0] == X).all()
    middle = next(column.middle for column in model.columns if column.name == "price")
    assert apart(model, {"price": middle}, {}) == pytest.approx(1.0)


def test_categories_are_equally_far_from_each_other_and_spelling_is_none() -> None:
    model = Table().fit(orders())
    one, two, three = ({"country": country} for country in ("DE", "FR", "IT"))
    assert apart(model, one, two) == pytest.approx(apart(model, two, three)) == pytest.approx(np.sqrt(2))
    assert apart(model, one, {"country": " de "}) == 0


def test_of_many_categories_the_frequent_ones_have_places_of_their_own() -> None:
    rows = [{"x": f"c{i % 50}"} for i in range(200)] + [{"x": f"once {i}"} for i in range(100)]
    (column,) = Table().fit(rows).columns
    assert (len(column.own), column.width) == (OWN_PLACES, OWN_PLACES + SHARED_PLACES + 1)
    assert Table().fit(rows).transform([{"x": "never seen"}])[0, OWN_PLACES:-1].sum() == 1


def test_mixed_types_in_a_column_go_on() -> None:
    mixed = [{"x": value} for value in (1, "two", None, True, [1, 2], {"a": 1}, 3.5, "4", "", "two") * 5]
    model = Table().fit(mixed)
    X = model.transform(list(mixed))
    assert np.isfinite(X).all() and len(np.unique(X, axis=0)) >= 5


def test_a_pool_of_rows_that_tell_nothing_has_zero_vectors() -> None:
    for rows in ([{}], [{}, {}], [{"a": None}], [{"a": "same"}, {"a": "same"}]):
        assert not Table().fit(rows).transform(rows).any()
    assert Table().fit([]).transform([]).shape == (0, 1)


def test_a_model_is_json_and_restored_as_it_was() -> None:
    model = Table().fit(orders())
    restored = Table().restore(json.loads(json.dumps(model.facts)), dict(model.arrays))
    assert restored == model
    assert np.array_equal(restored.transform(orders()), model.transform(orders()))


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=3), ANYTHING, max_size=4), max_size=8))
def test_any_rows_have_finite_vectors_that_depend_on_no_order(rows: list[dict[str, Any]]) -> None:
    model = Table().fit(rows)
    X = model.transform(rows)
    assert X.shape == (len(rows), model.n_features) and np.isfinite(X).all()
    assert Table().fit(rows[::-1]) == model


def test_rows_of_one_kind_lie_together() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.integers(3, size=300)
    rows = [
        {
            "size": rng.normal(10 * kind, 4),
            "colour": rng.choice(["red", "blue", "grey"]) if rng.random() < 0.3 else ["red", "blue", "grey"][kind],
            "noise": rng.normal(),
        }
        for kind in kinds.tolist()
    ]
    X = Table().fit(rows).transform(rows)
    D = np.linalg.norm(X[:, None] - X, axis=2) + 1e9 * np.eye(300)
    assert (kinds[D.argmin(axis=1)] == kinds).mean() > 0.85
