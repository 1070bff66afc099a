"""What is derived of a geometry is made once, and let go with it."""

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from exemplar.engine import (
    Geometry,
    infer,
    plan_queue,
    prepare_queue,
    prepare_spreading,
    survey,
)
from exemplar.engine.kept import kept_with_it
from exemplar.engine.propagation.prepared import pusher, spreader
from exemplar.engine.query.planning import _coarse, _prepared

N_CLASSES = 3


@pytest.fixture
def geometry() -> Geometry:
    return survey(np.random.default_rng(0).standard_normal((60, 4), np.float32))


def answered(geometry: Geometry) -> None:
    """Have everything derived that answers need, by a regression too, which pushes."""
    shares = np.zeros((geometry.n_tasks, N_CLASSES), np.float32)
    shares[np.arange(9), np.arange(9) % N_CLASSES] = 1
    labeled = shares.any(axis=1)
    for method in ("graph", "gaussian-process"):
        found = infer(geometry, shares, method=method)
        plan_queue(geometry, found.scores, labeled=labeled, askable=~labeled, n=5)


class Pool:
    """Something that can be kept by."""


def test_a_thing_is_derived_once_for_each_of_its_options() -> None:
    made: list[tuple[object, int]] = []
    pools = [Pool(), Pool()]
    derived = kept_with_it(lambda pool, n: made.append((pool, n)))
    for pool in [*pools, *pools]:
        derived(pool, 1)
        derived(pool, 2)
    assert made == [(pool, n) for pool in pools for n in (1, 2)]


def test_a_derivation_that_failed_is_tried_again() -> None:
    answers = iter([InterruptedError, "made"])

    @kept_with_it
    def derived(pool: Pool) -> str:
        answer = next(answers)
        if answer is InterruptedError:
            raise InterruptedError
        return str(answer)

    pool = Pool()
    with pytest.raises(InterruptedError):
        derived(pool)
    assert derived(pool) == derived(pool) == "made"


@pytest.mark.parametrize("derived", [spreader, pusher, _prepared, lambda geometry: _coarse(geometry, 7)])
def test_answers_find_what_was_derived_for_the_ones_before(
    derived: Callable[[Geometry], object], geometry: Geometry
) -> None:
    before = derived(geometry)
    answered(geometry)
    assert derived(geometry) is before
    assert derived(survey(geometry.X)) is not before


def test_after_preparing_no_answer_derives_anything(geometry: Geometry, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_spreading(geometry)
    prepare_queue(geometry, n_classes=N_CLASSES)
    spreading = ("propagation.prepared.Spreader", "propagation.prepared.Pusher")
    for name in (*spreading, "query.planning.Herding", "query.planning.cluster"):
        monkeypatch.setattr(f"exemplar.engine.{name}", lambda *args, **options: 1 / 0)
    monkeypatch.setattr("exemplar.engine.neighbors.NeighborGraph.outliers", lambda graph: 1 / 0)
    answered(geometry)


def test_a_geometry_that_nobody_holds_is_let_go_with_all_that_was_derived(geometry: Geometry) -> None:
    pool = survey(geometry.X)
    answered(pool)
    gone = [weakref.ref(thing) for thing in (pool, pusher(pool), spreader(pool), _prepared(pool))]
    del pool
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4
