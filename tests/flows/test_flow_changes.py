"""What people change in Label Studio, and what follows from it."""

import logging
import struct
import time
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from conftest import LABEL_CONFIG
from exemplar.demo import digits
from exemplar.errors import LabelStudioError
from exemplar.labelstudio.client import Client
from exemplar.project.sync import OVERLAP
from exemplar.rows import TOLERANCE, Ledger, imports, writing
from exemplar.store.snapshot import FORMAT
from flows.conftest import N_CLUSTERS, N_TASKS, Flow, said, truth
from flows.fake_label_studio import choices
from flows.fake_state import Json


@pytest.fixture
def labelled(flow: Flow) -> Json:
    """A project whose every cluster has an answer, all rows settled."""
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    return project


def answered_task(flow: Flow, project: Json) -> Json:
    return next(task for task in flow.studio.state.tasks_of(project["id"]) if task["is_labeled"])


def unlabelled(flow: Flow, project: Json) -> list[int]:
    return [task["id"] for task in flow.studio.state.tasks_of(project["id"]) if not task["is_labeled"]]


# ── Nothing changed ──────────────────────────────────────────────────────────────────────────────────────


def test_idle_means_idle(flow: Flow, labelled: Json) -> None:
    before, name = flow.studio.writes, flow.store(labelled).current_name()
    for _ in range(3):
        flow.run(labelled)
    assert flow.studio.writes == before
    assert flow.store(labelled).current_name() == name


def test_idle_means_idle_before_the_first_answer_too(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    before = flow.studio.writes
    flow.run(project)
    flow.run(project)
    assert flow.studio.writes == before


def test_a_forged_webhook_costs_no_write(flow: Flow, labelled: Json) -> None:
    before = flow.studio.writes
    flow.call("POST", "/webhook", {"action": "ANNOTATION_CREATED", "project": {"id": labelled["id"]}})
    flow.settle(labelled)
    assert flow.studio.writes == before


def test_a_second_full_training_changes_nothing(flow: Flow, labelled: Json) -> None:
    backend = flow.studio.state.backends_of(labelled["id"])[0]
    for _ in range(2):
        flow.store(labelled).raise_number("orders")
        flow.settle(labelled)
    contents, before = flow.contents(labelled), flow.studio.writes
    flow.store(labelled).raise_number("orders")
    flow.settle(labelled)
    assert flow.contents(labelled) == contents
    assert flow.studio.writes == before
    assert backend["state"] == "CO"


def test_rows_of_the_version_before_with_its_negative_scores_are_brought_along_in_place(
    flow: Flow,
) -> None:
    project = flow.project()
    flow.settle(project)
    flow.label(project, 2)
    flow.settle(project)
    asked, rows = flow.queue(project), flow.rows(project)
    ids = {task_id: row["id"] for task_id, row in rows.items()}
    known = [task_id for task_id in unlabelled(flow, project) if task_id in rows and task_id not in asked]
    assert len(asked) > 2
    assert known
    for position, task_id in enumerate(asked):
        rows[task_id]["score"] = -1 / (1 + position)
    rows[known[0]]["score"] = 0.0  # was nothing, and would be asked first
    folder = flow.store(project).folder / "snapshots" / str(flow.store(project).current_name())
    facts = (folder / "facts.json").read_text()
    assert f'"format":{FORMAT}' in facts
    (folder / "facts.json").write_text(facts.replace(f'"format":{FORMAT}', f'"format":{FORMAT - 1}'))
    flow.settle(project)
    assert min(row["score"] for row in flow.rows(project).values()) > 0
    assert flow.queue(project) == asked
    assert {task_id: row["id"] for task_id, row in flow.rows(project).items()} == ids


def test_a_full_training_makes_the_rows_exact(flow: Flow, labelled: Json) -> None:
    backend = flow.studio.state.backends_of(labelled["id"])[0]
    answer = flow.studio.start_training(backend)
    assert answer["job"] == f"{flow.key(labelled)}:1"
    flow.settle(labelled)
    snapshot = flow.snapshot(labelled)
    wanted = dict(zip(snapshot.task_ids.tolist(), snapshot.scores.tolist(), strict=True))
    assert {id_: score for id_, (_, score) in flow.contents(labelled).items()} == pytest.approx(wanted)
    assert flow.call("POST", "/job_status", {"job": answer["job"]}).json()["job_status"] == "finished"


# ── Annotations ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_changed_answer_is_in_its_row(flow: Flow, labelled: Json) -> None:
    task = answered_task(flow, labelled)
    other = str((int(truth(task)) + 1) % 10)
    annotation = flow.studio.state.annotations_of(task["id"])[0]
    flow.studio.state.patch_annotation(annotation["id"], {"result": choices(other), "lead_time": 9})
    flow.settle(labelled)
    row = flow.rows(labelled)[task["id"]]
    assert (said(row), row["score"]) == (other, 1.0)


def test_after_a_deleted_answer_its_cluster_is_asked_again(flow: Flow, labelled: Json) -> None:
    task = answered_task(flow, labelled)
    flow.studio.state.delete_annotation(flow.studio.state.annotations_of(task["id"])[0]["id"])
    flow.settle(labelled)
    snapshot, queue = flow.snapshot(labelled), flow.queue(labelled)
    clusters = dict(zip(snapshot.task_ids.tolist(), snapshot.geometry.clustering.cluster_ids.tolist(), strict=True))
    assert clusters[queue[0]] == clusters[task["id"]]


def test_an_answer_taken_back_and_given_again_leaves_what_was(flow: Flow, labelled: Json) -> None:
    flow.store(labelled).raise_number("orders")
    flow.settle(labelled)
    before, task = flow.contents(labelled), answered_task(flow, labelled)
    flow.studio.state.delete_annotation(flow.studio.state.annotations_of(task["id"])[0]["id"])
    flow.settle(labelled)
    flow.studio.submit(task, truth(task))
    flow.store(labelled).raise_number("orders")
    flow.settle(labelled)
    assert flow.contents(labelled) == before


def test_an_answer_that_was_committed_late_is_not_missed(flow: Flow, labelled: Json) -> None:
    task = flow.studio.state.task(unlabelled(flow, labelled)[0])
    flow.studio.submit(task, "9")
    # It was begun before the last reading and committed after it.
    late = datetime.fromisoformat(flow.store(labelled).done().cursor) - 0.8 * OVERLAP
    task["updated_at"] = f"{late:%Y-%m-%dT%H:%M:%S.%fZ}"
    flow.settle(labelled)
    assert said(flow.rows(labelled)[task["id"]]) == "9"


def test_an_empty_answer_is_no_answer_and_the_task_is_not_asked_first(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    task = flow.studio.next_task(project)
    assert task is not None
    flow.studio.state.create_annotation(task["id"], {"result": [], "lead_time": 1.0}, 1)
    flow.settle(project)
    assert flow.snapshot(project).facts.n_answered == 0
    following = flow.studio.next_task(project)
    assert following is not None
    assert following["id"] != task["id"]


def test_bulk_accepted_rows_are_no_evidence(flow: Flow, labelled: Json) -> None:
    contents, n_answered = flow.contents(labelled), flow.snapshot(labelled).facts.n_answered
    flow.studio.state.accept_in_bulk(labelled["id"], unlabelled(flow, labelled)[:6], user=1)
    flow.settle(labelled)
    assert flow.snapshot(labelled).facts.n_answered == n_answered
    assert flow.contents(labelled) == contents


def test_bulk_accepted_rows_stay_no_evidence_when_label_studio_forgets_where_they_came_from(
    flow: Flow, labelled: Json
) -> None:
    state, n_answered = flow.studio.state, flow.snapshot(labelled).facts.n_answered
    accepted = state.accept_in_bulk(labelled["id"], unlabelled(flow, labelled)[:6], user=1)
    flow.settle(labelled)
    for annotation in accepted:
        state.delete_prediction(annotation["parent_prediction"])
    assert {annotation["parent_prediction"] for annotation in accepted} == {None}
    flow.settle(labelled)
    assert flow.snapshot(labelled).facts.n_answered == n_answered
    flow.store(labelled).raise_number("orders")
    flow.settle(labelled)
    assert flow.snapshot(labelled).facts.n_answered == n_answered


def test_a_bulk_accepted_row_that_a_person_saves_is_evidence(flow: Flow, labelled: Json) -> None:
    n_answered = flow.snapshot(labelled).facts.n_answered
    accepted = flow.studio.state.accept_in_bulk(labelled["id"], unlabelled(flow, labelled)[:1], user=1)[0]
    flow.settle(labelled)
    flow.studio.state.patch_annotation(accepted["id"], {"result": choices("4"), "lead_time": 3.0})
    flow.settle(labelled)
    assert flow.snapshot(labelled).facts.n_answered == n_answered + 1
    assert said(flow.rows(labelled)[accepted["task"]]) == "4"


# ── Tasks ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_few_new_tasks_join_the_clusters_that_are_there(flow: Flow, labelled: Json) -> None:
    centers = flow.snapshot(labelled).geometry.clustering.centers
    new = flow.upload(labelled, range(100, 103))
    flow.settle(labelled)
    assert len(flow.rows(labelled)) == N_TASKS + 3
    assert all(said(flow.rows(labelled)[task["id"]]) is not None for task in new)
    assert (flow.snapshot(labelled).geometry.clustering.centers == centers).all()


def test_many_new_tasks_make_new_clusters_and_are_asked(flow: Flow, labelled: Json) -> None:
    new = {task["id"] for task in flow.upload(labelled, range(100, 124))}
    flow.settle(labelled)
    assert set(flow.rows(labelled)) >= new
    assert flow.snapshot(labelled).facts.n_clustered == N_TASKS + 24


def test_tasks_of_a_long_import_that_is_committed_late_join_too(flow: Flow, labelled: Json) -> None:
    # One transaction: the times are those of its first minute, the commit comes after our reading.
    new = flow.upload(labelled, range(100, 103))
    late = datetime.fromisoformat(flow.store(labelled).done().cursor) - timedelta(minutes=1)
    for task in new:
        task["updated_at"] = f"{late:%Y-%m-%dT%H:%M:%S.%fZ}"
    flow.settle(labelled)
    assert {task["id"] for task in new} <= set(flow.rows(labelled))


def test_a_project_without_tasks_waits_for_some(flow: Flow) -> None:
    project = flow.project(n_tasks=0)
    flow.run(project)
    assert flow.call("GET", "/").json()["projects"][flow.key(project)]["doing"] == "waiting for tasks"
    flow.upload(project, range(N_TASKS))
    flow.settle(project)
    assert flow.queue(project)


def test_deleted_tasks_leave_the_pool(flow: Flow, labelled: Json) -> None:
    gone = unlabelled(flow, labelled)[:3]
    flow.studio.state.delete_tasks(gone)
    flow.settle(labelled)
    assert not set(gone) & set(flow.snapshot(labelled).task_ids.tolist())
    assert len(flow.rows(labelled)) == N_TASKS - 3


def test_all_tasks_can_be_deleted_and_others_uploaded(flow: Flow, labelled: Json) -> None:
    flow.studio.state.delete_tasks([task["id"] for task in flow.studio.state.tasks_of(labelled["id"])])
    flow.settle(labelled)
    new = flow.upload(labelled, range(200, 220))
    flow.settle(labelled)
    assert {task["id"] for task in new} >= set(flow.rows(labelled))
    assert flow.queue(labelled)


def test_another_task_with_the_number_of_a_deleted_one_is_another_task(flow: Flow, labelled: Json) -> None:
    last = flow.studio.state.tasks_of(labelled["id"])[-1]
    flow.studio.state.delete_tasks([last["id"]])
    new = flow.upload(labelled, range(300, 301))[0]
    assert new["id"] == last["id"]
    flow.settle(labelled)
    assert flow.snapshot(labelled).by_id[new["id"]].value == new["data"]["image"]
    assert new["id"] in flow.rows(labelled)


def test_the_same_task_imported_again_after_its_deletion_gets_its_row_back(flow: Flow, labelled: Json) -> None:
    last = flow.studio.state.task(unlabelled(flow, labelled)[-1])
    following = [task for task in flow.studio.state.tasks_of(labelled["id"]) if task["id"] > last["id"]]
    flow.studio.state.delete_tasks([last["id"], *(task["id"] for task in following)])
    flow.studio.state.import_tasks(labelled["id"], [last["data"], *(task["data"] for task in following)])
    flow.settle(labelled)
    assert len(flow.rows(labelled)) == N_TASKS


def test_a_task_whose_image_changes_is_read_anew(flow: Flow, labelled: Json) -> None:
    task_id = unlabelled(flow, labelled)[0]
    before = flow.snapshot(labelled)
    flow.studio.state.files["other/digit-0400.png"] = digits.png(400)
    flow.studio.state.patch_task(task_id, {"image": "/data/upload/other/digit-0400.png"})
    flow.settle(labelled)
    after, row = flow.snapshot(labelled), before.row(task_id)
    assert (after.geometry.X[row] != before.geometry.X[row]).any()
    assert len(flow.rows(labelled)) == N_TASKS


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_somebody_deleted_come_back_with_the_next_answer(flow: Flow, labelled: Json) -> None:
    flow.studio.state.delete_model_version(labelled["id"], "exemplar-1")
    assert labelled["model_version"] is None
    task = flow.studio.state.task(unlabelled(flow, labelled)[0])
    flow.studio.submit(task, truth(task))
    flow.settle(labelled)
    assert labelled["model_version"] == "exemplar-1"
    assert len(flow.rows(labelled)) == N_TASKS


def test_rows_that_somebody_deleted_come_back_though_the_worker_thinks_that_it_knows_them(
    flow: Flow, labelled: Json
) -> None:
    ledger = Ledger()
    for _ in range(2):
        task = flow.studio.state.task(unlabelled(flow, labelled)[0])
        flow.studio.submit(task, truth(task))
        flow.run(labelled, ledger=ledger)
    flow.studio.state.delete_model_version(labelled["id"], "exemplar-1")
    task = flow.studio.state.task(unlabelled(flow, labelled)[0])
    flow.studio.submit(task, truth(task))
    for _ in range(3):  # what fails is tried again by the worker, with the rows listed anew
        with suppress(LabelStudioError):
            flow.run(labelled, ledger=ledger)
    assert labelled["model_version"] == "exemplar-1"
    assert len(flow.rows(labelled)) == N_TASKS


def test_of_two_rows_of_a_task_one_is_put_aside(flow: Flow, labelled: Json) -> None:
    task_id = unlabelled(flow, labelled)[0]
    first = flow.rows(labelled)[task_id]
    double = flow.studio.state.create_prediction({**first, "score": 0.1})
    task = flow.studio.state.task(unlabelled(flow, labelled)[1])
    flow.studio.submit(task, truth(task))
    flow.settle(labelled)
    assert flow.rows(labelled)[task_id]["id"] == first["id"]
    assert flow.studio.state.predictions[double["id"]]["model_version"] == "exemplar-0"


def test_predictions_of_others_are_never_touched(flow: Flow) -> None:
    project = flow.project()
    tasks = flow.studio.state.tasks_of(project["id"])
    names = ("somebody-else", "exemplar", "exemplar-x", "my-exemplar-1", "exemplar-1-copy")
    foreign = [
        dict(flow.studio.state.create_prediction({"task": task["id"], "score": 0.5, "model_version": name}))
        for task in tasks
        for name in names
    ]
    flow.settle(project)
    flow.label_every_cluster(project)
    for row in foreign:
        assert flow.studio.state.predictions[row["id"]] == row


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────


def test_another_control_in_the_label_config_makes_a_new_generation(
    flow: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    project = flow.project()
    flow.settle(project)
    old = {row["id"]: dict(row) for row in flow.studio.state.predictions_of(project["id"])}
    config = LABEL_CONFIG.replace('name="digit"', 'name="number"')
    flow.studio.state.patch_project(project["id"], {"label_config": config})
    flow.settle(project)
    assert project["model_version"] == "exemplar-2"
    assert flow.queue(project)
    assert {id_: flow.studio.state.predictions[id_] for id_ in old} == old
    assert "the label config has changed; learning starts anew with number on 0, 1, 2" in caplog.text


def test_a_further_choice_in_the_label_config_keeps_the_answers(flow: Flow, labelled: Json) -> None:
    n_answered = flow.snapshot(labelled).facts.n_answered
    old = {row["id"]: dict(row) for row in flow.studio.state.predictions_of(labelled["id"])}
    config = LABEL_CONFIG.replace('<Choice value="0"', '<Choice value="none"/><Choice value="0"')
    flow.studio.state.patch_project(labelled["id"], {"label_config": config})
    flow.settle(labelled)
    assert labelled["model_version"] == "exemplar-2"
    assert flow.snapshot(labelled).facts.n_answered == n_answered
    assert len(flow.rows(labelled)) == N_TASKS
    assert {id_: flow.studio.state.predictions[id_] for id_ in old} == old
    task = answered_task(flow, labelled)
    assert said(flow.rows(labelled)[task["id"]]) == truth(task)


def test_between_a_new_label_config_and_its_refresh_nothing_of_the_old_one_is_predicted(
    flow: Flow, labelled: Json
) -> None:
    config = LABEL_CONFIG.replace('<Choice value="0"', '<Choice value="none"/><Choice value="0"')
    flow.studio.state.patch_project(labelled["id"], {"label_config": config})
    answers = flow.predict(labelled, flow.studio.state.tasks_of(labelled["id"]))
    assert len(answers) == N_TASKS
    assert {said(answer) for answer in answers} == {None}


def test_another_number_of_clusters_is_used_without_a_new_generation(flow: Flow, labelled: Json) -> None:
    backend = flow.studio.state.backends_of(labelled["id"])[0]
    backend["extra_params"] = {**backend["extra_params"], "n_clusters": N_CLUSTERS + 3}
    flow.studio.list_backends(labelled["id"])
    flow.settle(labelled)
    assert len(flow.snapshot(labelled).geometry.clustering.centers) == N_CLUSTERS + 3
    assert labelled["model_version"] == "exemplar-1"
    assert len(flow.rows(labelled)) == N_TASKS


def test_a_wrong_extra_param_is_explained_on_the_model_card(flow: Flow, labelled: Json) -> None:
    backend = flow.studio.state.backends_of(labelled["id"])[0]
    backend["extra_params"] = {"n_clusters": "many"}
    flow.studio.list_backends(labelled["id"])
    assert backend["state"] == "ER"
    assert "extra param n_clusters='many': expected a whole number from 2" in backend["error_message"]


def test_switched_off_pre_annotations_are_spoken_of(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    project = flow.project(show_collab_predictions=False)
    flow.settle(project)
    assert "pre-annotations are switched off" in caplog.text
    assert flow.queue(project)


def test_annotations_interrupt_a_bulk_import_and_it_goes_on_where_it_was(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BULK", 20)
    monkeypatch.setattr(imports, "LEAST", 1)
    project = flow.project(150)
    flow.settle(project)
    imported: list[int] = []
    listings: list[int] = []
    import_predictions, predictions = Client.import_predictions, Client.predictions

    def interrupt(client: Client, project_id: int, rows: list[Json]) -> None:
        import_predictions(client, project_id, rows)
        imported.append(len(rows))
        if len(imported) <= 3:
            flow.label(project, 1)

    def count(client: Client, project_id: int) -> list[Json]:
        listings.append(project_id)
        return predictions(client, project_id)

    monkeypatch.setattr(Client, "import_predictions", interrupt)
    monkeypatch.setattr(Client, "predictions", count)
    flow.label(project, 2)
    ledger, passes = Ledger(), 0
    while (outcome := flow.run(project, ledger=ledger)).pending:
        passes += 1
        snapshot = outcome.snapshot
        assert snapshot is not None
        assert snapshot.facts.n_answered == min(1 + passes, 5)
        assert len(flow.rows(project)) < 150 or len(imported) > 3
        assert passes < 9
    assert imported[:3] == [20, 20, 20]
    assert len(listings) <= 3  # not at each pass: listing a big project takes seconds
    final = flow.snapshot(project)
    rows = flow.rows(project)
    assert sorted(rows) == sorted(final.task_ids.tolist())
    assert {id_: rows[id_]["score"] for id_ in rows} == pytest.approx(
        {id_: float(final.scores[final.row(id_)]) for id_ in rows}, abs=TOLERANCE
    )


def test_a_big_import_waits_until_nobody_is_at_work_or_it_is_worth_while(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SMALL_IMPORT", 50)
    monkeypatch.setattr(writing, "WORTH_IMPORTING", 5)
    resting, working = flow.project(100), flow.project(100)
    for project in (resting, working):
        flow.settle(project)
        flow.label(project, 3)
        assert flow.run(project).pending >= 80
        assert len(flow.rows(project)) < 20
    (flow.store(resting).folder / "annotated").write_bytes(struct.pack("<d", time.time() - 11))
    flow.label(working, 2)
    for project in (resting, working):
        flow.settle(project)
        assert len(flow.rows(project)) == 100


def test_a_new_generation_takes_the_place_of_the_old_one_only_when_it_is_whole(
    flow: Flow, labelled: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BULK", 5)
    monkeypatch.setattr(imports, "LEAST", 1)
    seen: list[str] = []
    import_predictions = Client.import_predictions

    def interrupt(client: Client, project_id: int, rows: list[Json]) -> None:
        import_predictions(client, project_id, rows)
        seen.append(flow.studio.state.project(project_id)["model_version"])
        if len(seen) == 1:
            flow.label(labelled, 1)

    monkeypatch.setattr(Client, "import_predictions", interrupt)
    config = LABEL_CONFIG.replace('<Choice value="0"', '<Choice value="none"/><Choice value="0"')
    flow.studio.state.patch_project(labelled["id"], {"label_config": config})
    ledger = Ledger()
    outcome = flow.run(labelled, ledger=ledger)
    assert outcome.pending
    assert flow.studio.state.project(labelled["id"])["model_version"] == "exemplar-1"
    while flow.run(labelled, ledger=ledger).pending:
        pass
    assert set(seen) == {"exemplar-1"}
    assert flow.studio.state.project(labelled["id"])["model_version"] == "exemplar-2"
    assert len(flow.rows(flow.studio.state.project(labelled["id"]))) == N_TASKS
