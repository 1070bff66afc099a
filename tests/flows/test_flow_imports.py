"""Bulk imports that are cut off: by a kill, by an impatient proxy, by a Label Studio that went down."""

import time

import pytest

from exemplar.errors import LabelStudioDownError
from exemplar.jobs import Worker
from exemplar.labelstudio.client import Client, NotReachedError
from exemplar.rows import Ledger, imports
from exemplar.store.records import Importing
from flows.conftest import Flow
from flows.fake_state import Json

N = 60


class Imports:
    """The bulk imports that reach Label Studio; ``answers`` says what becomes of each, ``late`` holds rows back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.late: list[Json] = []
        self.cut_off: LabelStudioDownError | None = None
        self.still_comes = True
        self._through = Client.import_predictions
        monkeypatch.setattr(Client, "import_predictions", lambda *given: self._import(*given))

    def _import(self, client: Client, project_id: int, rows: list[Json]) -> None:
        self.sizes.append(len(rows))
        if self.cut_off is None:
            self._through(client, project_id, rows)
            return
        if self.still_comes:
            self.late.extend(rows)
        raise self.cut_off

    def arrive(self, flow: Flow, project: Json) -> None:
        """Let Label Studio finish what was cut off."""
        self.cut_off = None
        client = Client(flow.studio.url, flow.settings.label_studio_api_key)
        self._through(client, project["id"], self.late)
        client.close()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Imports:
    monkeypatch.setattr(imports, "LOOK_EVERY", 60.0)
    return Imports(monkeypatch)


def labelled(flow: Flow) -> Json:
    project = flow.project(N)
    flow.settle(project)
    flow.label(project, 3)
    return project


def test_rows_that_come_late_are_not_imported_twice(flow: Flow, requests: Imports) -> None:
    project = labelled(flow)
    requests.cut_off = LabelStudioDownError("504 Gateway Timeout")
    ledger = Ledger()
    with pytest.raises(LabelStudioDownError):
        flow.run(project, ledger=ledger)
    for _ in range(3):
        assert flow.run(project, ledger=ledger).pending
    assert len(requests.sizes) == 1
    assert "whose import was cut off" in (flow.store(project).status().doing or "")
    requests.arrive(flow, project)
    while flow.run(project, ledger=ledger).pending:
        pass
    assert len(requests.sizes) == 1
    assert len(flow.rows(project)) == N  # fails on two rows of a task
    assert flow.store(project).importing() is None


def test_a_killed_worker_leaves_word_of_its_import(flow: Flow, requests: Imports) -> None:
    project = labelled(flow)
    requests.cut_off = LabelStudioDownError("the process was killed here")
    with pytest.raises(LabelStudioDownError):
        flow.run(project)
    assert flow.run(project, ledger=Ledger()).pending  # another process
    requests.arrive(flow, project)
    flow.settle(project)
    assert len(requests.sizes) == 1
    assert len(flow.rows(project)) == N


def test_rows_that_never_come_are_imported_again_fewer_at_a_time(
    flow: Flow, requests: Imports, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(imports, "LEAST", 10)
    monkeypatch.setattr(imports, "BULK", 80)
    project = labelled(flow)
    requests.cut_off, requests.still_comes = LabelStudioDownError("Label Studio was ended"), False
    ledger = Ledger()
    with pytest.raises(LabelStudioDownError):
        flow.run(project, ledger=ledger)
    requests.cut_off = None
    assert flow.run(project, ledger=ledger).pending
    assert len(requests.sizes) == 1
    monkeypatch.setattr(imports, "PATIENCE", -1.0)
    monkeypatch.setattr(imports, "PATIENCE_A_ROW", 0.0)
    while flow.run(project, ledger=ledger).pending:
        pass
    assert set(requests.sizes[1:-1]) == {20}
    assert "was cut off; fewer are tried next" in caplog.text
    assert len(flow.rows(project)) == N


def test_what_never_reached_label_studio_or_was_refused_is_not_waited_for(flow: Flow, requests: Imports) -> None:
    project = labelled(flow)
    requests.cut_off, requests.still_comes = NotReachedError("connection refused"), False
    with pytest.raises(NotReachedError):
        flow.run(project)
    assert flow.store(project).importing() is None
    requests.cut_off = None
    flow.settle(project)
    assert len(flow.rows(project)) == N


def test_a_dry_run_writes_down_no_import(flow: Flow, requests: Imports) -> None:
    project = labelled(flow)
    flow.run(project, dry_run=True)
    assert flow.store(project).importing() is None


def test_while_it_imports_only_something_new_is_worth_a_pass(flow: Flow) -> None:
    project = flow.project(3)
    flow.settle(project)
    worker, store = Worker(flow.settings), flow.store(project)
    now = time.monotonic()
    worker.turn(store).last = now
    assert not worker.is_due(store, now)
    worker.turn(store).again_at = now
    assert worker.is_due(store, now)
    worker.ledger(store).look_at = time.monotonic() + 60
    assert not worker.is_due(store, now)
    store.raise_number("webhooks")
    time.sleep(2 * flow.settings.debounce)
    assert worker.is_due(store, now)


def test_word_of_an_import_survives_the_process(flow: Flow) -> None:
    project = flow.project(3)
    store = flow.store(project)
    said = Importing(version="exemplar-1", rows=5, expected=7, since=12.5)
    store.note_import(said)
    assert flow.store(project).importing() == said
    store.end_import()
    store.end_import()
    assert store.importing() is None


def test_an_answer_does_not_wait_until_the_queue_is_created_but_the_first_batch_is_whole(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = flow.project(N)
    created: list[Json] = []
    create = Client.create_prediction

    def interrupt(client: Client, row: Json) -> Json:
        created.append(row)
        flow.store(project).raise_number("webhooks")
        return create(client, row)

    monkeypatch.setattr(Client, "create_prediction", interrupt)
    flow.run(project)
    assert len(created) == len(flow.queue(project)) == 8
    flow.label(project, 8)
    created.clear()
    assert flow.run(project).pending  # it comes back for the rest of the next batch
    n_first = len(created)
    assert n_first < 8
    monkeypatch.undo()
    flow.settle(project)
    assert len(flow.rows(project)) == N
