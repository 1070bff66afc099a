"""A MODEL_DIR that takes nothing: it is said, and nothing is lost."""

import time
from pathlib import Path

import pytest

from exemplar import failpoints
from flows.conftest import Flow
from flows.fake_state import ApiError

N_TASKS = 12


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a file named like a failpoint lets all writes of that kind fail."""
    folder = tmp_path / "failpoints"
    folder.mkdir()
    monkeypatch.setattr(failpoints, "_FOLDER", str(folder))
    return folder


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS"])
def test_while_nothing_can_be_written_webhooks_are_kept_and_the_status_says_so(
    flow: Flow, disk: Path, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    project = flow.project(N_TASKS)
    flow.settle(project)
    flow.label(project, 3)
    flow.settle(project)
    tasks, store = flow.studio.state.tasks_of(project["id"]), flow.store(project)
    before, number = flow.predict(project, tasks), store.number("webhooks")
    for point in ("number.before", "write.before", "array.before"):
        (disk / point).write_text(error)
    time.sleep(1.1)  # the status looks once a second
    flow.studio.webhook_answers.clear()
    flow.label(project, 2)
    assert {answer for _, answer, _ in flow.studio.webhook_answers} == {201}
    assert flow.predict(project, tasks) == before
    with pytest.raises(OSError):
        flow.run(project)
    said = flow.call("GET", "/").json()
    assert "MODEL_DIR=" in said["problem"]
    status = said["projects"][flow.key(project)]
    assert status["state"] == "failed"
    assert "cannot be written: " in status["problem"]
    assert {"ENOSPC": "No space left", "EROFS": "Read-only"}[error] in status["problem"]
    assert flow.call("GET", "/health").status_code == 200
    assert caplog.text.count("webhooks are kept in memory") == 1
    assert store.number("webhooks") == number

    for point in disk.iterdir():
        point.unlink()
    deadline = time.monotonic() + 5
    while store.number("webhooks") == number:
        assert time.monotonic() < deadline, "the webhooks were lost"
        time.sleep(0.05)
    flow.settle(project)
    time.sleep(1.1)
    said = flow.call("GET", "/").json()
    status = said["projects"][flow.key(project)]
    assert (said["problem"], status["state"], status["problem"]) == (None, "ready", None)
    assert status["answered"] == 5


def test_a_model_connected_while_the_disk_is_full_is_refused_with_a_sentence(flow: Flow, disk: Path) -> None:
    (disk / "write.before").write_text("ENOSPC")
    with pytest.raises(ApiError) as refused:
        flow.project(3)
    assert "No space left on device" in str(refused.value.detail)
    assert "Traceback" not in str(refused.value.detail)
