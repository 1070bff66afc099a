"""The demo's parts that need no Label Studio."""

import io
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from exemplar.demo import autopilot, digits, label_studio, messages, pictures, processes, project, run
from exemplar.demo.dataset import Dataset
from exemplar.errors import SettingError

# ── Digits ───────────────────────────────────────────────────────────────────────────────────────────────


def test_pool_and_held_out_are_all_digits_and_share_none() -> None:
    assert [*digits.POOL, *digits.HELD_OUT] == list(range(len(digits.truth())))
    assert (len(digits.POOL), len(digits.HELD_OUT)) == (1400, 397)


@pytest.mark.parametrize("index", [0, 7, 1399, 1796])
def test_png_gives_the_intensities_back(index: int) -> None:
    image = Image.open(io.BytesIO(digits.png(index)))
    grey = np.asarray(image, dtype=float)
    assert (image.mode, image.size) == ("L", (64, 64))
    np.testing.assert_array_equal(np.round(grey[::8, ::8] * 16 / 255).ravel(), digits.pixels()[index])


def test_true_digit_goes_by_the_name_and_not_by_the_order() -> None:
    data = {"image": "/data/upload/1/ea10b01a-" + digits.file_name(1234)}
    assert digits.true_digit(data) == digits.truth()[1234]


@pytest.mark.parametrize("data", [{}, {"image": "/data/upload/1/cat.png"}, {"text": "digit-0007.png"}])
def test_a_task_that_is_no_digit_is_named(data: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected a file that was uploaded as"):
        digits.true_digit(data)


# ── Every data set ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=run.DATASETS)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return run.DATASETS[request.param]()


def test_a_data_set_has_its_name_and_answers_that_its_label_config_offers(dataset: Dataset) -> None:
    assert run.DATASETS[dataset.name]().truth == dataset.truth
    assert set(dataset.truth) == set(dataset.labeling.classes)
    assert [*dataset.pool, *dataset.held_out] == list(range(len(dataset.truth)))


def test_no_class_is_rare_or_overwhelming(dataset: Dataset) -> None:
    for part in (dataset.pool, dataset.held_out):
        counts = Counter(dataset.truth[index] for index in part)
        even = len(part) / len(dataset.labeling.classes)
        assert min(counts.values()) > even / 2 and max(counts.values()) < 2 * even


def test_a_task_is_known_again_and_its_answer_is_what_label_studio_takes(dataset: Dataset) -> None:
    uploads = dataset.imported([3])
    if "files" in uploads:
        [(name, _, _)] = uploads["files"].values()
        data = {"image": f"/data/upload/1/ea10b01a-{name}"}
    else:
        [data] = uploads["json"]
    assert dataset.index_of(data) == 3
    [region] = dataset.result(data)
    assert dataset.labeling.classes[dataset.labeling.class_index([region])] == dataset.truth[3]
    assert region["to_name"] == dataset.labeling.object and dataset.labeling.field in data


def test_what_is_uploaded_does_not_say_the_answer(dataset: Dataset) -> None:
    request = dataset.imported(range(40))
    sent = [name for name, _, _ in request["files"].values()] if "files" in request else request["json"]
    said = json.dumps(sent, ensure_ascii=False).lower()
    assert not any(choice.lower() in said for choice in dataset.labeling.classes if not choice.isdigit())
    if "json" in request:
        assert all(list(data) == [dataset.labeling.field] for data in sent)


def test_somebody_elses_task_is_named(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match=r"cat\.png"):
        dataset.index_of({dataset.labeling.field: "cat.png"})


# ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────


def test_messages_are_the_same_in_every_process() -> None:
    script = "from exemplar.demo.messages import texts_and_intents; print(hash(str(texts_and_intents())))"
    found = [
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": "0"}, capture_output=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert found[0] == found[1]


def test_messages_are_all_different_and_have_nothing_left_of_the_grammar() -> None:
    texts, intents = messages.texts_and_intents()
    assert len(set(texts)) == len(texts) == len(intents) == messages.N_POOL + messages.N_HELD_OUT
    assert len(messages.intents()) == 12
    assert not any(sign in text for text in texts for sign in "(){}|[]")
    assert not any("  " in text or text != text.strip() for text in texts)


def test_some_messages_are_german_and_some_have_slips() -> None:
    texts, _ = messages.texts_and_intents()
    german = sum(" ich " in f" {text.lower()} " or " der " in text or " die " in text for text in texts)
    assert 0.03 < german / len(texts) < 0.2
    assert len({text.lower() for text in texts if text == text.lower()}) > 0.1 * len(texts)


def test_intents_share_their_words() -> None:
    texts, intents = messages.texts_and_intents()
    spoken = Counter(
        (intent, word) for text, intent in zip(texts, intents, strict=True) for word in set(text.split())
    )
    for word in ("order", "card", "account", "money", "back", "parcel", "address"):
        assert sum(spoken[intent, word] > 0 for intent in messages.intents()) >= 3, word


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_is_the_same_at_each_call_and_small() -> None:
    before = pictures.jpeg(5)
    pictures.jpeg.cache_clear()
    assert pictures.jpeg(5) == before and len(before) < 10_000
    image = Image.open(io.BytesIO(before))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (128, 128))


def test_every_shape_is_drawn_and_no_two_are_alike() -> None:
    """A glyph that the font lacks would be drawn as the same empty box."""
    glyphs = "".join(pictures.SHAPES.values())
    masks = [pictures._shape(glyph, np.random.default_rng(0)) for glyph in glyphs]
    assert len({mask.tobytes() for mask in masks}) == len(glyphs) == len(set(glyphs))
    assert all(np.mean(np.asarray(mask) > 128) > 0.02 for mask in masks)


def test_colour_says_little_about_what_a_picture_shows() -> None:
    """The mean colour of a class's pictures lies within what chance makes of forty pictures of any class."""
    names = np.array(pictures.truth()[:400])
    colours = np.array([np.asarray(Image.open(io.BytesIO(pictures.jpeg(i)))).mean(axis=(0, 1)) for i in range(400)])
    for name in pictures.SHAPES:
        mine = colours[names == name]
        error = colours.std(axis=0) / np.sqrt(len(mine))
        assert (np.abs(mine.mean(axis=0) - colours.mean(axis=0)) < 4 * error).all(), name


# ── Label Studio and its installation ────────────────────────────────────────────────────────────────────


def test_free_port_is_the_preferred_one_or_the_next() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert label_studio.free_port(port) > port
    assert label_studio.free_port(port) == port


def test_complete_installation_is_not_repeated_but_for_a_moved_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(label_studio, "_run", lambda command, report: commands.append(command))
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    label_studio.install(tmp_path / "venv")
    label_studio.install(tmp_path / "venv")
    assert len(commands) == 2 and commands[1][-1] == f"label-studio=={label_studio.VERSION}"
    (tmp_path / "venv").rename(tmp_path / "moved")
    label_studio.install(tmp_path / "moved")
    assert len(commands) == 4


def test_interrupted_installation_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run_until_interrupted(command: list[str], report: object) -> None:
        commands.append(command)
        if len(commands) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(label_studio, "_run", run_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        label_studio.install(tmp_path)
    label_studio.install(tmp_path)
    assert len(commands) == 4 and "--clear" in commands[2]


def test_what_pip_says_is_in_the_error() -> None:
    command = [sys.executable, "-c", "print('No matching distribution'); raise SystemExit(1)"]
    with pytest.raises(processes.DemoError, match="No matching distribution"):
        label_studio._run(command, lambda line: None)


def test_label_studio_gets_its_own_home_and_none_of_our_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_HOST", "https://elsewhere.example")
    monkeypatch.setenv("PORT", "1")
    studio = label_studio.LabelStudio("http://localhost:8080", "a@example.com", "secret", "token")
    environment = label_studio._environment(studio, tmp_path)
    assert environment["HOME"] == str(tmp_path)
    assert environment.keys().isdisjoint({"LABEL_STUDIO_HOST", "PORT"})
    assert "secret" not in repr(studio) and "token='" not in repr(studio)


# ── Processes ────────────────────────────────────────────────────────────────────────────────────────────


def test_server_ends_with_its_block_even_if_it_refuses(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)"
    command = [sys.executable, "-c", f"{stubborn}; time.sleep(60)"]
    log_path = tmp_path / "logs" / "server.log"
    with processes.running_server(command, env={}, log_path=log_path) as server:
        while "up" not in log_path.read_text():
            time.sleep(0.01)
        started = time.monotonic()
        processes._end(server, patience=0.2)
        assert server.returncode == -9 and time.monotonic() - started < 5


def test_server_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log_path = tmp_path / "server.log"
    command = [sys.executable, "-c", "raise SystemExit('no such table')"]
    with (
        processes.running_server(command, env={}, log_path=log_path) as server,
        pytest.raises(processes.DemoError, match=r"(?s)code 1.*no such table"),
    ):
        processes.wait_until_up(server, "http://127.0.0.1:9/health", name="It", log_path=log_path, seconds=30)


# ── Project, autopilot, run ──────────────────────────────────────────────────────────────────────────────


def test_project_key_is_what_label_studio_sends() -> None:
    assert project.DemoProject(7, "1970-01-01T00:01:40.999999Z", "<View/>").key == "7.100"


def test_only_the_demos_own_project_is_deleted(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    methods: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        methods.append(request.method)
        created_at = "2026-01-01T00:00:00Z" if request.method == "POST" else "2030-01-01T00:00:00Z"
        return httpx.Response(200, json={"id": 1, "created_at": created_at, "label_config": "<View/>"})

    with httpx.Client(base_url="http://studio", transport=httpx.MockTransport(answer)) as client:
        project.find_or_create(client, state, title="Digits", label_config="<View/>")
        project.delete(client, state)  # the project 1 that is there now was created at another time
    assert methods == ["POST", "GET"] and not state.exists()


def test_predicted_choice_of_an_empty_prediction_is_none() -> None:
    assert autopilot.predicted_choice({"result": [], "score": 0}) is None


@pytest.mark.parametrize("right", [0, 900, None])
def test_before_any_answer_the_autopilot_says_what_is_right(right: int | None) -> None:
    """The backend predicts so many of the pool rightly and the rest wrongly, or nothing at all."""
    data = messages.dataset()

    def answer(request: httpx.Request) -> httpx.Response:
        tasks = json.loads(request.content)["tasks"]
        return httpx.Response(200, json={"results": [predict(data.index_of(task["data"])) for task in tasks]})

    def predict(index: int) -> dict[str, object]:
        if right is None:
            return {"result": [], "score": 0}
        wrong = data.labeling.classes[data.labeling.classes.index(data.truth[index]) - 1]
        choice = data.truth[index] if index < right else wrong
        return {"result": [{"value": {"choices": [choice]}}], "score": 0.1}

    demo_project = project.DemoProject(1, "2026-01-01T00:00:00Z", data.label_config)
    rest = {index: data.data(index) for index in data.pool}
    with httpx.Client(base_url="http://backend", transport=httpx.MockTransport(answer)) as backend:
        found = autopilot.before_any_answer(backend, demo_project, data, rest)
    if right is None:
        assert found is None
    else:
        assert found and (found.n_labels, found.propagated, found.accuracy) == (0, right / 1500, 0)
        assert autopilot._cells(found)[-1] == "–"


def test_each_data_set_has_a_project_of_its_own_and_digits_keep_theirs(tmp_path: Path) -> None:
    folders = run.Folders(tmp_path)
    states = [folders.state(name, is_external=external) for name in run.DATASETS for external in (False, True)]
    assert len(set(states)) == 6
    assert folders.state("digits", is_external=False).name == "demo-project.json"


def test_a_data_set_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"cats.*digits, messages, pictures"):
        run.run_demo(dataset="cats", directory=tmp_path)


def test_learning_curve_is_a_png(tmp_path: Path) -> None:
    measured = [autopilot.Measurement(10, 0.6, 0.5, 0.1), autopilot.Measurement(20, float("nan"), 0.7, 0.1)]
    autopilot.draw_learning_curve(measured, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.format == "PNG"


def test_second_demo_in_the_same_folder_is_told_of_the_first(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from exemplar.demo.run import _alone
with _alone(Path({str(tmp_path)!r})):
    print("held", flush=True)
    input()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout and first.stdout.readline() == "held\n"
        with pytest.raises(processes.DemoError, match=f"as process {first.pid}"), run._alone(tmp_path):
            pass
        first.communicate("\n")
    with run._alone(tmp_path):
        pass


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(processes.DemoError, match="expected a new folder"), run._alone(tmp_path):
        pass


def test_half_a_label_studio_in_the_environment_is_refused() -> None:
    with pytest.raises(SettingError, match="LABEL_STUDIO_API_KEY"):
        run._external_studio({"LABEL_STUDIO_URL": "http://localhost:8080"})
    with pytest.raises(SettingError, match="LABEL_STUDIO_URL"):
        run._external_studio({"LABEL_STUDIO_API_KEY": "key"})
    assert run._external_studio({}) is None


def test_a_folder_that_only_holds_label_studios_venv_is_taken(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()  # what the tests leave there
    with run._alone(tmp_path):
        assert (tmp_path / "demo.lock").exists()
