"""Tasks with vectors of the user's own are seen by these alone, wherever they stand; what is unusable is named."""

import base64
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from exemplar import failpoints
from exemplar.commands.features import show_features
from exemplar.commands.vectors import forget_vectors, give_vectors
from exemplar.errors import InputError
from exemplar.project import sync
from exemplar.store import own_vectors, segments
from exemplar.store.vectors import FOLDER, vectors_of
from flows.conftest import Flow, MakeFlow, said
from flows.fake_state import Json

# The names are those that the fake's `submit` gives. What the texts say tells nothing: the vectors tell.
TEXTS = """<View><Text name="image" value="$text"/><Choices name="digit" toName="image"><Choice value="warm"/>
<Choice value="cold"/></Choices></View>"""
N, LENGTH = 24, 6


@pytest.fixture(autouse=True)
def forgetful() -> None:
    vectors_of.cache_clear()
    own_vectors._tables.cache_clear()


def vector(i: int) -> np.ndarray:
    """Return the vector of the i-th task: every other one points the same way, more or less."""
    rng = np.random.default_rng(i)
    return np.float32(np.eye(LENGTH)[i % 2] * 5 + rng.normal(0, 0.3, LENGTH))


def truth(i: int) -> str:
    return ("warm", "cold")[i % 2]


def numbers(i: int) -> list[float]:
    return [float(x) for x in vector(i)]


def in_base64(i: int) -> str:
    return base64.b64encode(vector(i).astype("<f4").tobytes()).decode()


Task = Callable[[int], Json]


def texts(
    flow: Flow,
    task: Task = lambda i: {},
    *,
    n: int = N,
    params: Json | None = None,
    odd: dict[int, Json] | None = None,
) -> Json:
    """Create a project of texts; ``task`` says what else each task has, beside what all have; ``odd`` of some."""
    project = flow.project(0, connected=False, label_config=TEXTS)
    add(flow, project, range(n), task, odd)
    flow.extra_params = flow.extra_params | (params or {})
    flow.connect(project)
    return project


def add(
    flow: Flow, project: Json, which: range, task: Task = lambda i: {}, odd: dict[int, Json] | None = None
) -> list[Json]:
    every = [(odd or {}).get(i, task(i)) for i in which]
    values = [
        {"data": {"text": f"w{i}", "name": f"doc-{i}"} | one.get("data", {}), "meta": one.get("meta", {})}
        for i, one in zip(which, every, strict=True)
    ]
    return flow.studio.state.import_tasks(project["id"], values)


def in_data(i: int) -> Json:
    return {"data": {"emb": numbers(i)}}


def in_meta(i: int) -> Json:
    return {"meta": {"embedding": numbers(i)}}


FIELD = {"embedding_field": "emb"}


def pointing(which: Sequence[int]) -> np.ndarray:
    X = np.array([vector(i) for i in which])
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def seen_by_own(flow: Flow, project: Json, which: Sequence[int] = range(N)) -> None:
    """Make sure that those tasks are in the pool, by their own vectors alone."""
    snapshot = flow.snapshot(project)
    assert [(block.embedder, block.kind, block.n_features) for block in snapshot.facts.blocks] == [
        ("own", "vector", LENGTH)
    ]
    np.testing.assert_allclose(snapshot.geometry.X, pointing(which), atol=1e-6)


def left_out(flow: Flow, project: Json) -> dict[int, str]:
    return flow.snapshot(project).facts.unreadable


def learn(flow: Flow, project: Json, which: Sequence[int] = range(8)) -> None:
    """Answer some tasks with the truth, and let it be learned."""
    tasks = flow.studio.state.tasks_of(project["id"])
    for i in which:
        flow.studio.submit(tasks[i], truth(i))
    flow.settle(project)


# ── Where they stand ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("task", "params"),
    [
        (in_data, FIELD),
        (in_data, {"embedding_field": "$emb"}),
        (in_data, {"embedding_field": "data.emb"}),
        (lambda i: {"data": {"emb": in_base64(i)}}, FIELD),
        (lambda i: {"data": {"emb": json.dumps(numbers(i))}}, FIELD),  # of a CSV file
        (lambda i: {"data": {"emb": [numbers(i)]}}, FIELD),  # what encoding one text gives
        (in_meta, {}),
        (lambda i: {"meta": {"vector": in_base64(i)}}, {}),
        (lambda i: {"meta": numbers(i)}, {}),
        (lambda i: {"meta": {"e5": numbers(i), "embedding": "e5-small"}}, {"embedding_field": "meta.e5"}),
        (lambda i: {"meta": {"e5": numbers(i)}}, {"embedding_field": "e5"}),
    ],
)
def test_vectors_in_tasks_are_what_these_are_seen_by(task: Task, params: Json, make_flow: MakeFlow) -> None:
    flow = make_flow(features="words", names=True)
    project = texts(flow, task, params=params)
    flow.settle(project)
    seen_by_own(flow, project)
    assert left_out(flow, project) == {}
    learn(flow, project)
    rows = flow.rows(project)
    tasks = flow.studio.state.tasks_of(project["id"])
    assert [said(rows[one["id"]]) for one in tasks[8:]] == [truth(i) for i in range(8, N)]


def test_a_project_of_pictures_is_seen_without_reading_one(make_flow: MakeFlow) -> None:
    flow = make_flow(embedding_field="emb")
    project = flow.project(0, connected=False)
    tasks = [{"image": f"/data/upload/1/gone-{i}.png", "emb": numbers(i)} for i in range(N)]
    flow.studio.state.import_tasks(project["id"], tasks)
    flow.connect(project)
    flow.settle(project)
    seen_by_own(flow, project)
    assert not any("/data/upload/" in path for _, path in flow.studio.requests)


def test_numbers_are_kept_apart_from_tasks_in_memory(make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = make_flow()
    project = texts(flow, lambda i: in_data(i) | in_meta(i), params=FIELD)
    raws: list[Json] = []
    read_task = sync.read_task
    monkeypatch.setattr(sync, "read_task", lambda raw, *args: raws.append(raw) or read_task(raw, *args))
    flow.settle(project)
    assert len(raws) >= N
    assert not any("meta" in raw or "emb" in raw["data"] for raw in raws)
    assert all(task.own.numbers is None for task in flow.snapshot(project).tasks if task.own)


# ── In a file ────────────────────────────────────────────────────────────────────────────────────────────


def npy(path: Path, names: list[Any], X: np.ndarray) -> Path:
    np.save(path / "mine.npy", X)
    (path / "mine.ids.txt").write_text("".join(f"{name}\n" for name in names))
    return path / "mine.npy"


def npz(path: Path, names: list[Any], X: np.ndarray) -> Path:
    np.savez(path / "mine.npz", ids=np.array(names), vectors=X)
    return path / "mine.npz"


def parquet(path: Path, names: list[Any], X: Any) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"id": names, "label": ["x"] * len(names), "vector": list(X)}), path / "mine.parquet")
    return path / "mine.parquet"


def give(flow: Flow, project: Json, path: Path, **options: Any) -> str:
    return "\n".join(give_vectors(flow.settings, project["id"], path, **options))


@pytest.mark.parametrize("write", [npy, npz, parquet])
@pytest.mark.parametrize("by", ["", "name"])
@pytest.mark.parametrize("first", [True, False], ids=["given first", "given later"])
def test_vectors_in_a_file_are_what_tasks_are_seen_by(
    write: Callable[..., Path], by: str, first: bool, make_flow: MakeFlow, tmp_path: Path
) -> None:
    flow = make_flow()
    project = texts(flow)
    if not first:
        flow.settle(project)
        assert flow.snapshot(project).facts.blocks[0].kind == "text"
    tasks = flow.studio.state.tasks_of(project["id"])
    names = [task["data"]["name"] if by else task["id"] for task in tasks]
    order = np.random.default_rng(0).permutation(N)
    path = write(tmp_path, [names[i] for i in order], np.array([vector(i) for i in order]))
    told = give(flow, project, path, by=by)
    assert (
        f"24 vectors of 6 numbers are kept of '{path.name}', by the tasks' {repr('name') if by else 'numbers'}"
        in told
    )
    assert ("24 of the project's 24 tasks have one" in told) == (not by and not first)
    path.unlink()  # nobody needs it any more
    flow.settle(project)
    seen_by_own(flow, project)
    learn(flow, project)
    # A task that the file does not know is left out; one that it knows is seen, whatever its number.
    [other] = add(flow, project, range(N, N + 1))
    flow.settle(project)
    assert left_out(flow, project) == {other["id"]: f"has no vector in '{path.name}'"}
    known = (
        {"data": {"text": "never shown", "name": "doc-3"}} if by else {"id": tasks[3]["id"], "data": {"text": "?"}}
    )
    [result] = flow.predict(project, [known])
    assert said(result) == truth(3)


def test_a_new_file_takes_the_place_of_the_one_before_and_forgetting_it_gives_the_texts_back(
    make_flow: MakeFlow, tmp_path: Path
) -> None:
    flow = make_flow()
    project = texts(flow)
    flow.settle(project)
    ids = [task["id"] for task in flow.studio.state.tasks_of(project["id"])]
    give(flow, project, npz(tmp_path, ids, np.array([vector(i) for i in range(N)])))
    flow.settle(project)
    before = flow.snapshot(project)
    # One vector changed, one gone.
    X = np.array([vector(i + 100 * (i == 3)) for i in range(N)])
    give(flow, project, npz(tmp_path, ids[1:], X[1:]))
    flow.settle(project)
    seen_by_own(flow, project, [i + 100 * (i == 3) for i in range(1, N)])
    after = flow.snapshot(project)
    assert list(left_out(flow, project).values()) == ["has no vector in 'mine.npz'"]
    assert after.facts.n_clustered == before.facts.n_clustered  # the others' clusters stay
    folder = flow.store(project).folder / "own"
    assert len(list(folder.iterdir())) == 1
    n_reads = sum("/api/tasks" in path for _, path in flow.studio.requests)
    flow.settle(project)  # idle again
    assert flow.store(project).current_name() == f"{after.facts.number:06d}"
    assert sum("/api/tasks" in path for _, path in flow.studio.requests) == n_reads + 1
    assert "are forgotten" in forget_vectors(flow.settings, project["id"])
    assert not folder.exists()
    flow.settle(project)
    assert {block.kind for block in flow.snapshot(project).facts.blocks} == {"text"}
    assert "no vectors were given" in forget_vectors(flow.settings, project["id"])


def test_a_file_goes_before_a_field_that_is_named_and_meta_is_not_mixed_with_it(
    make_flow: MakeFlow, tmp_path: Path
) -> None:
    flow = make_flow()
    project = texts(flow, lambda i: {"data": {"emb": numbers(i + 100)}, "meta": {"embedding": numbers(i + 200)}})
    flow.settle(project)
    seen_by_own(flow, project, range(200, 200 + N))
    ids = [task["id"] for task in flow.studio.state.tasks_of(project["id"])]
    give(flow, project, npz(tmp_path, ids[:20], np.array([vector(i) for i in range(20)])))
    flow.settle(project)
    seen_by_own(flow, project, range(20))
    assert len(left_out(flow, project)) == 4
    [backend] = flow.studio.state.backends_of(project["id"])
    backend["extra_params"] = flow.extra_params | FIELD
    flow.studio.list_backends(project["id"])
    flow.settle(project)
    seen_by_own(flow, project, [*range(20), *range(120, 124)])


def test_a_file_that_is_cut_off_while_it_is_taken_leaves_the_one_before(
    make_flow: MakeFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow()
    project = texts(flow)
    flow.settle(project)
    ids = [task["id"] for task in flow.studio.state.tasks_of(project["id"])]
    give(flow, project, npz(tmp_path, ids, np.array([vector(i) for i in range(N)])))
    flow.settle(project)
    other = npz(tmp_path, ids, np.array([vector(i + 1) for i in range(N)]))

    def killed(name: str, *args: Any) -> None:
        if name == "vectors.during":
            raise KeyboardInterrupt

    monkeypatch.setattr(segments, "reach", killed)
    with pytest.raises(KeyboardInterrupt):
        give(flow, project, other)
    monkeypatch.setattr(segments, "reach", failpoints.reach)
    assert len(list((flow.store(project).folder / "own").iterdir())) == 1
    flow.store(project).raise_number("orders")
    flow.settle(project)
    seen_by_own(flow, project)


# ── What cannot be used ──────────────────────────────────────────────────────────────────────────────────

UNUSABLE = [
    (None, "has no vector in 'emb'"),
    ("", "has no vector in 'emb'"),
    ([], "its vector in 'emb' has 0 numbers: expected 1 to 16384"),
    ([1.0, 2.0], "its vector in 'emb' has 2 numbers: expected 6, as most have"),
    ([0] * LENGTH, "its vector in 'emb' is all zeros, which points nowhere"),
    ("[1, 2, 3, 4, 5, NaN]", "its vector in 'emb' has nan at place 5: expected numbers"),
    ("[1, 2, 3, 4, -Infinity, 6]", "its vector in 'emb' has -inf at place 4: expected numbers"),
    (
        [1, 2, 3, 4, 5, float("nan")],
        "its vector in 'emb' cannot be read: Label Studio itself fails to show the task",
    ),
    ([1e300] * LENGTH, "its vector in 'emb' has inf at place 0: expected numbers"),
    ([1e20] * LENGTH, "its vector in 'emb' has 1e+20 in it: expected numbers below 1e+18"),
    ([10**400] * LENGTH, "its vector in 'emb' holds a number too large for a vector"),
    ([1, 2, None, 4, 5, 6], "its vector in 'emb' holds null at place 2: expected numbers alone"),
    ([1, "2", 3, 4, 5, 6], "its vector in 'emb' holds a text at place 1: expected numbers alone"),
    ([True] * LENGTH, "its vector in 'emb' holds true or false at place 0: expected numbers alone"),
    ([[1, 2, 3], [4, 5, 6]], "its vector in 'emb' holds a list at place 0: expected numbers alone"),
    ({"values": [1]}, "its vector in 'emb' is an object: expected a list of numbers, or base64 of float32"),
    (7, "its vector in 'emb' is a number: expected a list of numbers, or base64 of float32"),
    ("[0.1 0.2 ... 0.3]", "its vector in 'emb' is a text that begins as a list and is no JSON"),
    ("none, sorry", "its vector in 'emb' is a text: expected a list of numbers, or base64 of float32"),
    ("AAAA", "its vector in 'emb' is base64 of 3 bytes: expected four for each number"),
    (base64.b64encode(np.full(LENGTH, np.nan, "<f4")).decode(), "its vector in 'emb' has nan at place 0: expected"),
]


@pytest.mark.parametrize(("odd", "why"), UNUSABLE, ids=[why for _, why in UNUSABLE])
def test_a_vector_that_cannot_be_used_leaves_its_task_out_alone(
    odd: Any, why: str, make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make_flow()
    project = texts(flow, in_data, params=FIELD, odd={7: {"data": {"emb": odd}}})
    flow.settle(project)
    task = flow.studio.state.tasks_of(project["id"])[7]
    seen_by_own(flow, project, [i for i in range(N) if i != 7])
    assert list(left_out(flow, project)) == [task["id"]]
    assert left_out(flow, project)[task["id"]].startswith(why)
    status = flow.call("GET", "/").json()["projects"][flow.key(project)]
    assert [(one["task"], one["why"]) for one in status["left_out_first"]] == [*left_out(flow, project).items()]
    assert caplog.text.count(f"task {task['id']} is left out: {why}") == 1
    flow.settle(project)
    assert caplog.text.count(f"task {task['id']} is left out") == 1  # said once
    # Mended, it joins.
    flow.studio.state.patch_task(task["id"], task["data"] | {"emb": in_base64(7)})
    flow.settle(project)
    seen_by_own(flow, project)
    assert left_out(flow, project) == {}


def test_the_length_that_most_have_is_the_length(make_flow: MakeFlow) -> None:
    flow = make_flow()
    short = {i: {"data": {"emb": [1.0, i + 1.0, 2.0]}} for i in range(5)}
    project = texts(flow, in_data, params=FIELD, odd=short)
    flow.settle(project)
    seen_by_own(flow, project, range(5, N))
    assert set(left_out(flow, project).values()) == {
        "its vector in 'emb' has 3 numbers: expected 6, as most have",
    }
    # More with three come: these are the most now.
    add(flow, project, range(N, N + 20), lambda i: {"data": {"emb": [1.0, i + 1.0, 2.0]}})
    flow.settle(project)
    assert flow.snapshot(project).facts.blocks[0].n_features == 3
    assert len(flow.snapshot(project).task_ids) == 25


@pytest.mark.parametrize("odd", [np.nan, np.inf, 0.0], ids=["nan", "inf", "zeros"])
@pytest.mark.parametrize("write", [npy, npz, parquet])
def test_what_cannot_be_used_of_a_file_is_told_by_the_command_and_of_the_task(
    write: Callable[..., Path], odd: float, make_flow: MakeFlow, tmp_path: Path
) -> None:
    flow = make_flow()
    project = texts(flow)
    flow.settle(project)
    ids = [task["id"] for task in flow.studio.state.tasks_of(project["id"])]
    X = np.array([vector(i) for i in range(N)])
    X[7] = odd
    told = give(flow, project, write(tmp_path, [*ids[:-1], 999], X))
    why = "is all zeros, which points nowhere" if odd == 0 else f"has {odd} at place 0: expected numbers"
    assert f"{ids[7]} is left out: its vector {why}" in told
    assert "22 of the project's 24 tasks have one; 1 ids are no task's number" in told
    flow.settle(project)
    seen_by_own(flow, project, [i for i in range(N - 1) if i != 7])
    name = next(tmp_path.glob("mine.np*"), tmp_path / "mine.parquet").name
    assert left_out(flow, project) == {
        ids[7]: f"its vector in '{name}' {why}",
        ids[-1]: f"has no vector in '{name}'",
    }


def test_ragged_and_missing_lists_of_a_parquet_file_cost_their_tasks_alone(
    make_flow: MakeFlow, tmp_path: Path
) -> None:
    flow = make_flow()
    project = texts(flow)
    flow.settle(project)
    ids = [task["id"] for task in flow.studio.state.tasks_of(project["id"])]
    X: list[Any] = [numbers(i) for i in range(N)]
    X[2], X[3], X[4] = [1.0, 2.0], None, [1.0, None, 3.0, 4.0, 5.0, 6.0]
    told = give(flow, project, parquet(tmp_path, ids, X))
    assert f"{ids[2]} is left out: its vector has 2 numbers: expected 6, as most have" in told
    assert f"{ids[4]} is left out: its vector has nan at place 1" in told
    assert "1 ids have no vector" in told
    flow.settle(project)
    seen_by_own(flow, project, [0, 1, *range(5, N)])
    assert len(left_out(flow, project)) == 3


def test_a_file_of_which_nothing_can_be_used_changes_nothing(make_flow: MakeFlow, tmp_path: Path) -> None:
    flow = make_flow()
    project = texts(flow)
    flow.settle(project)
    ids = [task["id"] for task in flow.studio.state.tasks_of(project["id"])]
    with pytest.raises(InputError, match=r"No vector of 'mine.npz' can be used: \d+: is all zeros"):
        give(flow, project, npz(tmp_path, ids, np.zeros((N, LENGTH))))
    strangers = [f"doc-{i}" for i in range(N)]
    with pytest.raises(InputError, match=r"No id in 'mine.npz', as 'doc-0', is the number of one of .*--by FIELD"):
        give(flow, project, npz(tmp_path, strangers, np.array([vector(i) for i in range(N)])))
    assert flow.store(project).own_vectors.given() is None
    assert not any((flow.store(project).folder / "own").iterdir())
    flow.settle(project)
    assert flow.snapshot(project).facts.blocks[0].kind == "text"


def test_a_field_that_no_task_has_is_named_and_the_texts_serve(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    flow = make_flow(embedding_field="embeding")
    project = texts(flow, in_data)
    flow.settle(project)
    assert {block.kind for block in flow.snapshot(project).facts.blocks} == {"text"}
    assert "no task has a vector in 'embeding' that can be used" in caplog.text
    status = flow.call("GET", "/").json()["projects"][flow.key(project)]
    assert status["own_vectors"] == "no task has a vector in 'embeding' that can be used"
    learn(flow, project)
    assert flow.snapshot(project).facts.n_answered == 8


@pytest.mark.parametrize(
    "meta", [{"embedding": "text-embedding-3-small"}, {"vector": 7}, ["a", "b"], None, {"x": 1}]
)
def test_what_meta_holds_beside_is_no_vector(meta: Any, make_flow: MakeFlow) -> None:
    flow = make_flow()
    project = texts(flow, lambda i: {"meta": meta})
    flow.settle(project)
    assert {block.kind for block in flow.snapshot(project).facts.blocks} == {"text"}
    assert left_out(flow, project) == {}
    assert flow.snapshot(project).facts.own_vectors == ""


def test_vectors_in_meta_of_few_tasks_are_taken_if_somebody_says_so(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    flow = make_flow()
    project = texts(flow, lambda i: in_meta(i) if i < N // 2 else {})
    flow.settle(project)
    assert {block.kind for block in flow.snapshot(project).facts.blocks} == {"text"}
    assert len(flow.snapshot(project).task_ids) == N
    assert "12 of 24 tasks have a vector of 6 numbers in meta, too few to go by" in caplog.text
    [backend] = flow.studio.state.backends_of(project["id"])
    backend["extra_params"] = flow.extra_params | {"embedding_field": "meta"}
    flow.studio.list_backends(project["id"])
    flow.settle(project)
    seen_by_own(flow, project, range(12))
    backend["extra_params"] = flow.extra_params | {"embedding_field": "off"}
    flow.studio.list_backends(project["id"])
    flow.settle(project)
    assert {block.kind for block in flow.snapshot(project).facts.blocks} == {"text"}
    assert flow.snapshot(project).facts.own_vectors == ""
    # One more, and most have one.
    backend["extra_params"] = flow.extra_params
    flow.studio.list_backends(project["id"])
    task = flow.studio.state.tasks_of(project["id"])[12]
    flow.studio.state.patch_task(task["id"], task["data"], meta={"embedding": numbers(12)})
    flow.settle(project)
    seen_by_own(flow, project, range(13))


# ── Outside the pool ─────────────────────────────────────────────────────────────────────────────────────


def test_a_task_never_seen_is_answered_by_the_vector_that_comes_with_it(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make_flow()
    project = texts(flow, in_meta)
    flow.settle(project)
    learn(flow, project)
    never = [
        {"data": {"text": "new"}, "meta": {"embedding": numbers(100)}},
        {"data": {"text": "new"}, "meta": {"vector": in_base64(101)}},
        {"data": {"text": "new"}, "meta": numbers(102)},
        {"data": {"text": "new"}},
        {"data": {"text": "new"}, "meta": {"embedding": [1, 2]}},
        {"data": {"text": "new"}, "meta": {"embedding": [0] * LENGTH}},
        {"data": {"text": "new"}, "meta": None},
        "no task",
    ]
    results = flow.predict(project, never)
    assert [said(result) for result in results] == ["warm", "cold", "warm", None, None, None, None, None]
    for why in ("has no vector in meta", "has 2 numbers: expected 6, as most have", "is all zeros"):
        assert why in caplog.text


def test_a_task_of_the_pool_is_answered_with_its_vector_and_without(make_flow: MakeFlow) -> None:
    flow = make_flow()
    project = texts(flow, in_data, params=FIELD)
    flow.settle(project)
    learn(flow, project)
    task = flow.studio.state.tasks_of(project["id"])[9]
    row = flow.rows(project)[task["id"]]
    without = task | {"data": {"text": task["data"]["text"]}}
    edited = task | {"data": task["data"] | {"emb": numbers(10)}}
    results = flow.predict(project, [task, without, edited])
    assert [said(result) for result in results] == [truth(9), truth(9), truth(10)]
    assert [result["score"] == row["score"] for result in results[:2]] == [True, True]


# ── What changes, and what is lost ───────────────────────────────────────────────────────────────────────


def test_a_vector_that_changes_is_a_task_that_changes(make_flow: MakeFlow) -> None:
    flow = make_flow()
    project = texts(flow, in_meta)
    flow.settle(project)
    task = flow.studio.state.tasks_of(project["id"])[4]
    flow.studio.state.patch_task(task["id"], task["data"], meta={"embedding": numbers(105)})
    flow.settle(project)
    seen_by_own(flow, project, [*range(4), 105, *range(5, N)])
    flow.studio.state.patch_task(task["id"], task["data"], meta={})
    flow.settle(project)
    seen_by_own(flow, project, [*range(4), *range(5, N)])
    name = flow.store(project).current_name()
    flow.settle(project)
    assert flow.store(project).current_name() == name  # idle again


@pytest.mark.parametrize("gib", [4.0, 0.0], ids=["deleted", "no room"])
def test_vectors_that_are_lost_are_read_again(
    gib: float, make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make_flow(vectors_gib=gib)
    project = texts(flow, in_meta)
    flow.settle(project)
    learn(flow, project)
    if gib:
        shutil.rmtree(flow.settings.model_dir / FOLDER)
        vectors_of.cache_clear()
    # Seen by texts for a while, then by their own vectors again.
    [backend] = flow.studio.state.backends_of(project["id"])
    for field in ("off", "auto"):
        backend["extra_params"] = flow.extra_params | {"embedding_field": field}
        flow.studio.list_backends(project["id"])
        flow.settle(project)
    seen_by_own(flow, project)
    flow.store(project).raise_number("orders")
    flow.settle(project)
    seen_by_own(flow, project)
    for path in flow.store(project).folder.rglob("facts.json"):
        path.unlink()
    flow.settle(project)
    seen_by_own(flow, project)
    assert flow.snapshot(project).facts.n_answered == 8


def test_vectors_that_no_snapshot_has_yet_and_are_lost_are_read_again(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow()
    project = texts(flow, in_meta)
    flow.settle(project)
    # The length that most have changes, and with it which vectors are needed; those were lost.
    add(flow, project, range(N, N + 20), lambda i: {"meta": {"embedding": [1.0, i, 2.0]}})
    monkeypatch.setattr(sync, "OVERLAP", timedelta(0))
    for _ in range(3):  # until nothing that we read or write is news any more
        flow.settle(project)
    shutil.rmtree(flow.settings.model_dir / FOLDER)
    vectors_of.cache_clear()
    add(flow, project, range(N + 20, N + 30), lambda i: {"meta": {"embedding": [1.0, i, 2.0]}})
    flow.settle(project)
    assert len(flow.snapshot(project).task_ids) == 30
    assert "own vectors of 20 tasks were lost in MODEL_DIR and are read again" in caplog.text


def a_file_of(flow: Flow, tmp_path: Path) -> Json:
    project = texts(flow)
    flow.settle(project)
    ids = [task["id"] for task in flow.studio.state.tasks_of(project["id"])]
    give(flow, project, npz(tmp_path, ids, np.array([vector(i) for i in range(N)])))
    return project


def test_damage_to_a_files_vectors_costs_those_alone_and_is_named(make_flow: MakeFlow, tmp_path: Path) -> None:
    flow = make_flow()
    project = a_file_of(flow, tmp_path)
    [path] = (flow.store(project).folder / "own").rglob(f"*{segments.SUFFIX}")
    content = bytearray(path.read_bytes())
    record = len(content) // N
    content[7 * record + segments.HEAD_BYTES] ^= 1
    path.write_bytes(bytes(content))
    flow.settle(project)
    seen_by_own(flow, project, [i for i in range(N) if i != 7])
    [why] = left_out(flow, project).values()
    assert why == "its vector in 'mine.npz' is damaged in MODEL_DIR: give the file again, by exemplar vectors"


@pytest.mark.parametrize("damage", ["record", "both records", "vectors cut", "vectors gone"])
def test_what_is_lost_of_a_file_is_named_and_the_rest_goes_on(
    damage: str, make_flow: MakeFlow, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make_flow()
    project = a_file_of(flow, tmp_path)
    folder = flow.store(project).folder
    [path] = (folder / "own").rglob(f"*{segments.SUFFIX}")
    if "record" in damage:
        (folder / "own.json").write_text("{")
        if damage == "both records":
            (folder / "own.copy.json").write_text("{")
    elif damage == "vectors cut":
        path.write_bytes(path.read_bytes()[: 10 * (path.stat().st_size // N)])
    else:
        path.unlink()
    flow.settle(project)
    status = flow.call("GET", "/").json()["projects"][flow.key(project)]
    if damage == "record":
        seen_by_own(flow, project)
        assert json.loads((folder / "own.json").read_text())["name"] == "mine.npz"
    elif damage == "vectors cut":
        seen_by_own(flow, project, range(10))
        assert (
            "of the 24 vectors of 'mine.npz', 10 are left in MODEL_DIR: give the file again"
            in status["own_vectors"]
        )
    else:
        assert {block.kind for block in flow.snapshot(project).facts.blocks} == {"text"}
        lost = "own.json is damaged and is not used" if damage == "both records" else "0 are left in MODEL_DIR"
        assert lost in caplog.text + status["own_vectors"]
    learn(flow, project, range(4))
    assert flow.snapshot(project).facts.n_answered == 4


# ── What else is believed, and what is said ──────────────────────────────────────────────────────────────


def test_names_are_not_seen_through_own_vectors_and_other_models_are_believed(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    flow = make_flow(propagation="auto", priors=("gpt-4",))
    project = texts(flow, in_meta)
    tasks = flow.studio.state.tasks_of(project["id"])
    for i, task in enumerate(tasks[:12]):
        result = [{"id": "a", "from_name": "digit", "to_name": "image", "type": "choices"}]
        result[0]["value"] = {"choices": [truth(i)]}  # type: ignore[assignment]
        flow.studio.state.create_prediction({"task": task["id"], "result": result, "model_version": "gpt-4"})
    flow.settle(project)
    facts = flow.snapshot(project).facts
    assert [believed.of for believed in facts.priors] == ["gpt-4"]
    assert "the names of the choices are not read: tasks are seen by vectors of your own" in caplog.text
    rows = flow.rows(project)
    told = {said(rows[task["id"]]) == truth(i) for i, task in enumerate(tasks) if rows[task["id"]]["result"]}
    assert told == {True}
    learn(flow, project)
    assert flow.snapshot(project).facts.n_answered == 8


def test_texts_that_are_the_same_are_asked_once_whatever_their_vectors(make_flow: MakeFlow) -> None:
    flow = make_flow()
    same = {i: in_meta(i) | {"data": {"text": "Your order 17 is late"}} for i in (2, 3, 9)}
    project = texts(flow, in_meta, odd=same)
    flow.settle(project)
    seen_by_own(flow, project)
    assert (flow.snapshot(project).facts.duplicates.groups, flow.snapshot(project).facts.duplicates.tasks) == (1, 3)


def shown(flow: Flow, project: Json) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    show_features(flow.settings, project["id"], console)
    with suppress(AttributeError):
        console.file.close()
    return console.export_text()


def test_the_command_says_what_is_taken_and_why(make_flow: MakeFlow, tmp_path: Path) -> None:
    flow = make_flow(features="words")
    project = texts(flow, in_meta, odd={3: {}, 4: {"meta": {"embedding": [1, 2]}}})
    flow.settle(project)
    told = shown(flow, project)
    assert "own vectors (meta)" in told
    assert "vectors of your own, 6 numbers each, in meta, of 22 of 24 tasks" in told
    assert "The names of the choices are not read" in told
    assert "1 left out: has no vector in meta" in told
    assert "1 left out: its vector in meta has 2 numbers: expected 6, as most have" in told
    ids = [task["id"] for task in flow.studio.state.tasks_of(project["id"])]
    give(flow, project, npz(tmp_path, ids, np.array([vector(i) for i in range(N)])))
    assert "the next refresh reads the tasks anew" in shown(flow, project)
    flow.settings = replace(flow.settings, names=False)
    flow.settle(project)
    told = shown(flow, project)
    assert "in 'mine.npz', of 24 of 24 tasks" in told
    assert "names of the choices" not in told
    assert "left out" not in told
