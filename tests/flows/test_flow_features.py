"""Values are embedded once, ever; what sees them can be chosen, fails without harm, and says how far it is."""

import base64
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exemplar import recipes
from exemplar.demo import digits
from exemplar.errors import EmbedderError
from exemplar.features import columns_of, registry
from exemplar.project import embedding, reading, rounds
from exemplar.store import segments
from exemplar.store.vectors import FOLDER, vectors_of
from flows.conftest import Flow, MakeFlow, truth
from flows.fake_state import Json
from small_models import image_model, text_model

# The names are those that the fake's `submit` gives.
TEXTS = """<View><Text name="image" value="$text"/><Choices name="digit" toName="image"><Choice value="short"/>
<Choice value="long"/></Choices></View>"""
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


class Counting:
    """An embedder that counts what it is given; of a value that it is told to it makes nothing, or fails."""

    name = "counting"
    kinds = ("text", "image")
    n_features = 5
    batch_size = 8

    def __init__(self, identity: str = "counting-1", seconds: float = 0.0) -> None:
        self.identity = identity
        self.given: list[Any] = []
        self.seconds = seconds
        self.fails_on: Callable[[Any], bool] = lambda value: False
        self.says: Callable[[Any], Any] | None = None

    def transform(self, values: Sequence[Any]) -> np.ndarray:
        self.given += values
        assert len(values) <= self.batch_size
        time.sleep(self.seconds * len(values))
        if any(map(self.fails_on, values)):
            raise RuntimeError("cannot")
        return np.array([self.says(value) if self.says else self.vector(value) for value in values], np.float32)

    def vector(self, value: Any) -> list[float]:
        if isinstance(value, str):
            return [len(value), value.count("e"), value.count("t"), value.count("o"), 1]
        return [*np.resize(value.rgb, 4).tolist(), 1]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_made", dict(registry._made))
    monkeypatch.setattr(registry, "_out_of_order", {})
    monkeypatch.setattr(embedding, "_proven", set())
    vectors_of.cache_clear()
    yield
    vectors_of.cache_clear()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Counting], Counting]:
    """Let an embedder be there, as if a package brought it."""

    def install_one(one: Counting) -> Counting:
        monkeypatch.setattr(recipes, "plugins", lambda: {one.name: None})
        monkeypatch.setattr(registry, "plugins", lambda: {one.name: None})
        registry._made[one.name] = one
        return one

    return install_one


def texts(flow: Flow, n: int = 30, *, start: int = 0, **values: Any) -> Json:
    """Create a project of texts that all differ."""
    project = flow.project(0, connected=False, label_config=TEXTS, **values)
    add_texts(flow, project, n, start=start)
    flow.connect(project)
    return project


def add_texts(flow: Flow, project: Json, n: int, *, start: int = 0) -> list[Json]:
    said = [f"{WORDS[i % 12]} {WORDS[i // 12 % 12]} {i}" for i in range(start, start + n)]
    return flow.studio.state.import_tasks(project["id"], [{"text": text} for text in said])


# ── Once, ever ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_value_is_embedded_and_a_file_is_read_once(kind: str, make_flow: MakeFlow, install: Any) -> None:
    counting = install(Counting())
    flow = make_flow(features="counting")
    project = texts(flow, 24) if kind == "text" else flow.project(24)
    flow.settle(project)
    assert len(counting.given) == 24
    before, n_read = flow.snapshot(project), n_files(flow)
    assert len(before.task_ids) == 24
    assert [block.embedder for block in before.facts.blocks] == ["counting"]

    flow.store(project).raise_number("orders")  # Start Training
    flow.settle(project)
    vectors_of.cache_clear()  # as after a restart
    flow.settle(project)
    config = project["label_config"].replace('name="digit"', 'name="number"')
    assert config != project["label_config"]
    flow.studio.state.patch_project(project["id"], {"label_config": config})
    flow.settle(project)
    after = flow.snapshot(project)
    assert after.facts.labeling.control == "number"
    np.testing.assert_array_equal(after.geometry.X, before.geometry.X)
    assert len(counting.given) == 24
    assert n_files(flow) == n_read

    for snapshots in (flow.store(project).folder / "snapshots", flow.store(project).folder / "parts"):
        for path in snapshots.rglob("*"):
            if path.is_file():
                path.unlink()
    flow.settle(project)
    np.testing.assert_array_equal(flow.snapshot(project).geometry.X, before.geometry.X)
    assert len(counting.given) == 24
    assert n_files(flow) == n_read


def n_files(flow: Flow) -> int:
    return sum("/data/upload/" in path for _, path in flow.studio.requests)


def test_the_same_data_under_new_ids_and_in_another_project_embeds_nothing(
    make_flow: MakeFlow, install: Any
) -> None:
    counting = install(Counting())
    flow = make_flow(features="counting")
    first, second = texts(flow, 24), texts(flow, 24)
    images = [flow.project(24), flow.project(24)]  # the same pictures, at other addresses
    for project in (first, second, *images):
        flow.settle(project)
        assert len(flow.snapshot(project).task_ids) == 24
    assert len(counting.given) == 48
    flow.studio.state.delete_tasks([task["id"] for task in flow.studio.state.tasks_of(first["id"])])
    add_texts(flow, first, 30)
    flow.settle(first)
    assert len(flow.snapshot(first).task_ids) == 30
    assert len(counting.given) == 54


def test_texts_that_are_equal_are_embedded_once(make_flow: MakeFlow, install: Any) -> None:
    counting = install(Counting())
    flow = make_flow(features="counting")
    project = flow.project(0, connected=False, label_config=TEXTS)
    flow.studio.state.import_tasks(project["id"], [{"text": f"the same {i % 3}"} for i in range(30)])
    flow.connect(project)
    flow.settle(project)
    assert len(counting.given) == 3
    assert len(flow.snapshot(project).task_ids) == 30


def test_vectors_of_two_identities_never_mix(make_flow: MakeFlow, install: Any) -> None:
    install(Counting("counting-1"))
    flow = make_flow(features="counting")
    project = texts(flow, 24)
    flow.settle(project)
    other = install(Counting("counting-2"))
    other.says = lambda value: [1, 0, 0, 0, len(value)]
    add_texts(flow, project, 3, start=24)
    flow.settle(project)
    assert len(other.given) == 27
    X = flow.snapshot(project).geometry.X
    assert (X[:, 1:4] == 0).all()


@pytest.mark.parametrize("damage", ["gone", "cut off", "odd"])
def test_what_is_damaged_is_embedded_again(damage: str, make_flow: MakeFlow, install: Any) -> None:
    counting = install(Counting())
    flow = make_flow(features="counting")
    project = texts(flow, 24)
    flow.settle(project)
    X = flow.snapshot(project).geometry.X.copy()
    for path in (flow.settings.model_dir / FOLDER).rglob(f"*{segments.SUFFIX}"):
        if damage == "gone":
            path.unlink()
        else:
            content = path.read_bytes()
            half = len(content) // 2
            path.write_bytes(content[:half] if damage == "cut off" else content[:half] + bytes(len(content) - half))
    for path in (flow.store(project).folder / "snapshots").rglob("facts.json"):
        path.unlink()
    flow.settle(project)
    flow.settle(project)  # what was found to be damaged comes with the next look
    np.testing.assert_array_equal(flow.snapshot(project).geometry.X, X)
    assert 24 < len(counting.given) <= 48


# ── What is chosen ───────────────────────────────────────────────────────────────────────────────────────


def test_blocks_of_several_embedders_have_their_weights_in_length(make_flow: MakeFlow, install: Any) -> None:
    install(Counting())
    flow = make_flow(features="words + 0.5*counting")
    project = texts(flow, 24)
    flow.settle(project)
    snapshot = flow.snapshot(project)
    words, counting = snapshot.facts.blocks
    assert (words.embedder, counting.embedder, counting.n_features) == ("words", "counting", 5)
    X = snapshot.geometry.X
    assert X.shape[1] == words.n_features + 5
    np.testing.assert_allclose(np.linalg.norm(X[:, : words.n_features], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(X[:, words.n_features :], axis=1), 0.5, rtol=1e-5)


def assert_first_block_weighs(flow: Flow, project: Json, weight: float) -> None:
    """Of two blocks, the first of five columns."""
    snapshot = flow.snapshot(project)
    assert [block.weight for block in snapshot.facts.blocks] == [weight, 1]
    X = snapshot.geometry.X
    np.testing.assert_allclose(np.linalg.norm(X[:, :5], axis=1), weight, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(X[:, 5:], axis=1), 1, rtol=1e-5)


def test_by_default_blocks_count_as_their_embedders_say_of_the_pool(
    make_flow: MakeFlow, install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting: Any = install(Counting())
    counting.weight_in = lambda values: {24: 0.5, 28: 0.25}.get(len(values), 9)
    monkeypatch.setattr(registry, "DEFAULTS", {"text": ("2*counting + words",)})
    flow = make_flow()
    project = texts(flow, 24)

    flow.settle(project)
    assert_first_block_weighs(flow, project, 1)
    add_texts(flow, project, 4, start=24)
    flow.settle(project)
    assert_first_block_weighs(flow, project, 1)  # as in the pool that it was fitted on
    flow.store(project).raise_number("orders")  # Start Training
    flow.settle(project)
    assert_first_block_weighs(flow, project, 0.5)
    assert len(counting.given) == 28


def test_by_default_blocks_of_pictures_count_as_their_embedders_say_of_the_vectors(
    make_flow: MakeFlow, install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting: Any = install(Counting())
    seen: list[np.ndarray] = []

    def weight_among(vectors: np.ndarray) -> float:
        seen.append(vectors.copy())
        return {24: 0.5, 28: 0.25}.get(len(vectors), 9)

    counting.weight_among = weight_among
    monkeypatch.setattr(registry, "DEFAULTS", {"image": ("2*counting + thumbnail",)})
    flow = make_flow()
    project = flow.project(24)

    flow.settle(project)
    assert_first_block_weighs(flow, project, 1)
    flow.upload(project, range(24, 28))
    flow.settle(project)
    assert_first_block_weighs(flow, project, 1)  # as in the pool that it was weighed in
    flow.store(project).raise_number("orders")  # Start Training
    flow.settle(project)
    assert_first_block_weighs(flow, project, 0.5)
    assert [len(vectors) for vectors in seen] == [24, 28]
    assert len(counting.given) == 28


def test_texts_are_seen_by_pretrained_models_and_the_pools_own_by_default(make_flow: MakeFlow) -> None:
    if not is_there("wordllama"):
        pytest.skip("no wheel of wordllama here")
    flow = make_flow()
    project = texts(flow, 24)
    flow.settle(project)
    snapshot = flow.snapshot(project)
    blocks = snapshot.facts.blocks
    assert [block.embedder for block in blocks] == ["use", "wordllama", "ngrams"]
    assert snapshot.geometry.X.shape == (24, 512 + 256 + 128)
    said = [task["data"]["text"] for task in flow.studio.state.tasks_of(project["id"])]
    assert [block.weight for block in blocks] == list(registry.choose("text").weights_in(said))
    assert blocks[0].weight == 1 > blocks[1].weight > blocks[2].weight  # short, and of numbers rather than English


def test_a_project_chooses_in_its_extra_params_and_what_changes_starts_anew(
    make_flow: MakeFlow, install: Any
) -> None:
    counting = install(Counting())
    flow = make_flow()
    flow.extra_params = {"features": "text: counting; image: thumbnail"}
    project = texts(flow, 24)
    flow.settle(project)
    assert [block.embedder for block in flow.snapshot(project).facts.blocks] == ["counting"]
    [backend] = flow.studio.state.backends_of(project["id"])
    backend["extra_params"] = {"features": "2*counting + words"}
    flow.studio.list_backends(project["id"])  # Label Studio calls /setup
    flow.settle(project)
    blocks = flow.snapshot(project).facts.blocks
    assert [(block.embedder, block.weight) for block in blocks] == [("counting", 2), ("words", 1)]
    assert len(counting.given) == 24


def test_tasks_outside_the_pool_are_embedded_by_its_blocks_and_kept_ones_are_not(
    make_flow: MakeFlow, install: Any
) -> None:
    counting = install(Counting())
    flow = make_flow(features="words + counting")
    project = texts(flow, 24)
    flow.settle(project)
    for i, task in enumerate(flow.studio.state.tasks_of(project["id"])[:8]):
        flow.studio.submit(task, "short" if i % 2 else "long")
    flow.settle(project)
    known = flow.studio.state.tasks_of(project["id"])[0]["data"]["text"]
    counting.given.clear()
    results = flow.predict(project, [{"data": {"text": text}} for text in (known, "never shown", "", "nor this")])
    assert [bool(result["result"]) for result in results] == [True, True, False, True]
    assert counting.given == ["never shown", "nor this"]


def test_without_the_pools_embedder_tasks_outside_it_are_answered_empty(
    make_flow: MakeFlow, install: Any, caplog: pytest.LogCaptureFixture
) -> None:
    install(Counting())
    flow = make_flow(features="counting")
    project = texts(flow, 24)
    flow.settle(project)
    for i, task in enumerate(flow.studio.state.tasks_of(project["id"])[:8]):
        flow.studio.submit(task, "short" if i % 2 else "long")
    flow.settle(project)
    install(Counting("counting-2"))
    [result] = flow.predict(project, [{"data": {"text": "never shown"}}])
    assert result["result"] == []
    assert "the pool was embedded by 'counting-1'" in caplog.text


# ── What fails ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_value_that_an_embedder_fails_on_is_left_out_alone(make_flow: MakeFlow, install: Any) -> None:
    counting = install(Counting())
    counting.fails_on = lambda value: value.endswith(" 7")
    flow = make_flow(features="counting")
    project = texts(flow, 24)
    flow.settle(project)
    snapshot = flow.snapshot(project)
    assert list(snapshot.facts.unreadable.values()) == ["counting fails on it: RuntimeError: cannot"]
    assert len(snapshot.task_ids) == 23
    n_given = len(counting.given)
    flow.settle(project)
    assert len(counting.given) == n_given  # not tried again and again
    counting.fails_on = lambda value: False
    flow.store(project).raise_number("orders")
    flow.settle(project)
    assert len(flow.snapshot(project).task_ids) == 24


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e30])
def test_a_value_whose_vector_is_no_vector_is_left_out(odd: float, make_flow: MakeFlow, install: Any) -> None:
    counting = install(Counting())
    counting.says = lambda value: [odd, 1, 1, 1, 1] if value.endswith(" 7") else counting.vector(value)
    flow = make_flow(features="counting")
    project = texts(flow, 24)
    flow.settle(project)
    assert list(flow.snapshot(project).facts.unreadable.values()) == [
        "counting gives no numbers for it, or too large ones"
    ]
    assert np.isfinite(flow.snapshot(project).geometry.X).all()


def test_a_value_of_which_there_is_nothing_to_tell_is_zeros(make_flow: MakeFlow, install: Any) -> None:
    counting = install(Counting())
    counting.says = lambda value: [0] * 5 if value.endswith(" 7") else counting.vector(value)
    flow = make_flow(features="counting")
    project = texts(flow, 24)
    flow.settle(project)
    assert (flow.snapshot(project).geometry.X[7] == 0).all()
    assert len(flow.snapshot(project).task_ids) == 24


@pytest.mark.parametrize("fault", ["raises", "another shape"])
def test_an_embedder_that_fails_on_all_gives_way_to_the_default(
    fault: str, make_flow: MakeFlow, install: Any, caplog: pytest.LogCaptureFixture
) -> None:
    counting = install(Counting())
    if fault == "raises":
        counting.fails_on = lambda value: True
    else:
        counting.says = lambda value: [1, 2]
    flow = make_flow(features="counting")
    project = texts(flow, 24)
    with pytest.raises(Exception, match="counting cannot be had"):
        flow.run(project)
    assert "counting cannot be had" in str(flow.store(project).status().problem)
    flow.settle(project)
    snapshot = flow.snapshot(project)
    assert len(snapshot.task_ids) == 24
    assert "counting" not in [block.embedder for block in snapshot.facts.blocks]
    assert flow.store(project).status().problem is None
    assert caplog.text.count("The embedder 'counting' cannot be had") == 1


# ── In rounds ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exemplar.project.refresh.ROUND", 0.5)
    monkeypatch.setattr("exemplar.project.refresh.BRIEF_ROUND", 0.1)
    monkeypatch.setattr(rounds, "AT_ONCE_SECONDS", 0.05)
    monkeypatch.setattr(reading, "NOTE_EVERY", 0.0)


@pytest.mark.usefixtures("short_rounds")
def test_a_large_pool_is_embedded_in_rounds_that_say_how_far_they_are(make_flow: MakeFlow, install: Any) -> None:
    install(Counting(seconds=0.005))
    flow = make_flow(features="counting")
    project = texts(flow, 300)
    said = []
    note = type(flow.store(project)).note

    def noted(self: Any, **changes: Any) -> None:
        said.append(changes.get("doing"))
        note(self, **changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(flow.store(project)), "note", noted)
        started = time.monotonic()
        outcome = flow.run(project)
        assert time.monotonic() - started < 1.5
        assert outcome.unread > 0
        assert 0 < len(flow.snapshot(project).task_ids) < 300
        assert len(flow.queue(project)) == 8  # the first batch has not waited
        assert str(flow.store(project).status().doing).startswith("embedding ")
        flow.settle(project)
    assert len(flow.snapshot(project).task_ids) == 300
    assert flow.store(project).status().doing is None
    pattern = re.compile(r"embedding (\d+) of 300, [\d.]+/s, \d+ (s|min|h) left")
    progress = [int(found[1]) for doing in said if doing and (found := pattern.fullmatch(doing))]
    assert len(progress) > 5
    assert progress == sorted(progress)


@pytest.mark.usefixtures("short_rounds")
def test_answers_do_not_wait_while_texts_are_embedded(make_flow: MakeFlow, install: Any) -> None:
    counting = install(Counting())
    flow = make_flow(features="counting")
    project = texts(flow, 24)
    flow.settle(project)
    counting.seconds = 0.02
    add_texts(flow, project, 200, start=24)
    flow.run(project, at_length=False)
    flow.studio.submit(flow.studio.state.tasks_of(project["id"])[0], "long")
    started = time.monotonic()
    flow.run(project, at_length=False)
    assert time.monotonic() - started < 1
    assert flow.snapshot(project).facts.n_answered == 1
    threading.Timer(0.1, lambda: flow.store(project).raise_number("webhooks")).start()
    started = time.monotonic()
    flow.run(project)  # a newer webhook ends it
    assert time.monotonic() - started < 0.45


def test_an_embedder_is_given_to_those_who_wait_in_turn() -> None:
    turns, order, ready = embedding.Turns(), [], threading.Barrier(2)

    def greedy() -> None:
        ready.wait()
        for _ in range(50):
            with turns.turn():
                order.append("greedy")
                time.sleep(0.002)

    thread = threading.Thread(target=greedy)
    thread.start()
    ready.wait()
    time.sleep(0.01)
    for _ in range(3):
        with turns.turn():
            order.append("other")
    thread.join()
    assert order.index("other") < 20
    assert [i for i, who in enumerate(order) if who == "other"][-1] < 25


def test_who_waits_for_longer_than_a_deadline_is_told(install: Any) -> None:
    turns = embedding.Turns()
    with turns.turn(), pytest.raises(embedding.NotNowError), turns.turn(time.monotonic() + 0.05):
        pass
    with turns.turn(time.monotonic() + 0.05):
        pass


# ── The real ones ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["text", "image"])
def test_the_pretrained_ones_see_a_pool_once_and_what_is_outside_it(
    kind: str, make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = make_flow(features="text: use + wordllama + ngrams")  # of images they are the default
    names = ["use", "wordllama", "ngrams"] if kind == "text" else ["lite0", "hog"]
    missing = [name for name in names if not is_there(name)]
    if missing:
        pytest.skip(f"no wheels here: {missing}")
    project = texts(flow, 24) if kind == "text" else flow.project(24)
    flow.settle(project)
    before = flow.snapshot(project)
    assert [block.embedder for block in before.facts.blocks] == names
    lengths = [np.linalg.norm(before.geometry.X[:, columns], axis=1) for columns in columns_of(before.facts.blocks)]
    assert all((length > 0).any() for length in lengths)
    tasks = flow.studio.state.tasks_of(project["id"])
    for i, task in enumerate(tasks[:8]):
        flow.studio.submit(task, ("short", "long")[i % 2] if kind == "text" else truth(task))
    flow.settle(project)
    outside = {"text": "never shown"} if kind == "text" else {"image": data_uri(digits.png(77))}
    for _ in range(2):
        [result] = flow.predict(project, [{"data": outside}])
        assert result["result"]
    monkeypatch.setattr(rounds, "embedded", None)  # whoever embeds again fails
    flow.store(project).raise_number("orders")
    flow.settle(project)
    assert len(flow.snapshot(project).task_ids) == 24


def is_there(name: str) -> bool:
    try:
        return bool(registry.embedder(name))
    except EmbedderError:
        return False


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_model_in_a_folder_sees_a_pool_and_what_is_outside_it(
    kind: str, make_flow: MakeFlow, tmp_path: Path
) -> None:
    pytest.importorskip("fastembed")
    name = text_model(tmp_path / "small") if kind == "text" else image_model(tmp_path / "small")
    flow = make_flow(features=f"{kind}: {name}", shown_from=0.0)
    project = flow.project(0, connected=False, label_config=TEXTS) if kind == "text" else flow.project(24)
    if kind == "text":
        said = ["cat", "dog", "tram", "bus"]
        values = [{"text": f"{said[i % 4]} {said[i // 4 % 2 + i % 4 // 2 * 2]}"} for i in range(24)]
        flow.studio.state.import_tasks(project["id"], values)
        flow.connect(project)
    flow.settle(project)
    snapshot = flow.snapshot(project)
    assert [block.embedder for block in snapshot.facts.blocks] == [name]
    assert len(snapshot.task_ids) == 24
    tasks = flow.studio.state.tasks_of(project["id"])
    for i, task in enumerate(tasks[:8]):
        flow.studio.submit(task, ("short", "long")[i % 4 // 2] if kind == "text" else truth(task))
    flow.settle(project)
    outside = {"text": "bus tram bus"} if kind == "text" else {"image": data_uri(digits.png(77))}
    [result] = flow.predict(project, [{"data": outside}])
    assert result["result"]
    if kind == "text":
        assert result["result"][0]["value"]["choices"] == ["long"]
