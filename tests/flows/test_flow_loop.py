"""The main job: from connecting to a pool that is labelled."""

import pytest

from exemplar.demo import digits
from exemplar.rows import TOLERANCE, is_asked
from flows.conftest import BATCH, N_CLUSTERS, N_TASKS, Flow, by_size_and_centre, said, truth


def test_connecting_queues_only_a_first_batch_of_empty_rows(flow: Flow) -> None:
    project = flow.project()
    flow.run(project)
    rows = flow.rows(project)
    assert len(rows) == BATCH
    assert {said(row) for row in rows.values()} == {None}
    assert all(is_asked(row["score"]) for row in rows.values())
    assert (project["model_version"], project["sampling"]) == ("exemplar-1", "Uncertainty sampling")


def test_the_queue_begins_with_each_clusters_representative_biggest_cluster_first(flow: Flow) -> None:
    project = flow.project()
    flow.run(project)
    assert flow.queue(project)[:N_CLUSTERS] == by_size_and_centre(flow.snapshot(project))


def test_annotators_are_asked_in_the_order_of_the_queue(flow: Flow) -> None:
    project = flow.project()
    flow.run(project)
    assert flow.label(project, BATCH) == flow.queue(project)


def test_two_annotators_share_the_queue_and_no_task(flow: Flow) -> None:
    project = flow.project()
    flow.run(project)
    queue = flow.queue(project)
    taken = []
    for _ in range(3):
        tasks = [flow.studio.next_task(project, user=user) for user in (1, 2)]
        for user, task in zip((1, 2), tasks, strict=True):
            assert task is not None
            flow.studio.submit(task, truth(task), user=user)
            taken.append(task["id"])
    assert taken == queue[:6]


def test_answers_spread_to_every_task_one_row_each(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    rows = flow.rows(project)
    assert set(rows) == {task["id"] for task in flow.studio.state.tasks_of(project["id"])}
    assert None not in {said(row) for row in rows.values()}
    answered = {task["id"]: task for task in flow.studio.state.tasks_of(project["id"]) if task["is_labeled"]}
    for task_id, task in answered.items():
        assert (said(rows[task_id]), rows[task_id]["score"]) == (truth(task), 1.0)


def test_a_clusters_answer_is_its_members_pre_annotation(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    snapshot, rows = flow.snapshot(project), flow.rows(project)
    tasks = {task["id"]: task for task in flow.studio.state.tasks_of(project["id"])}
    answers = {
        int(snapshot.geometry.clustering.cluster_ids[row]): truth(tasks[int(task_id)])
        for row, task_id in enumerate(snapshot.task_ids)
        if tasks[int(task_id)]["is_labeled"]
    }
    for row, task_id in enumerate(snapshot.task_ids):
        if not tasks[int(task_id)]["is_labeled"]:
            assert said(rows[int(task_id)]) == answers[int(snapshot.geometry.clustering.cluster_ids[row])]


def test_with_every_cluster_labelled_the_least_certain_is_asked_next(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    rows, task = flow.rows(project), flow.studio.next_task(project)
    assert task is not None
    unlabelled = [task["id"] for task in flow.studio.state.tasks_of(project["id"]) if not task["is_labeled"]]
    assert rows[task["id"]]["score"] == min(rows[task_id]["score"] for task_id in unlabelled)
    assert not is_asked(rows[task["id"]]["score"])


def test_a_skipped_task_is_never_asked_first_again(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    task = flow.studio.next_task(project)
    assert task is not None
    flow.studio.skip(task)
    flow.settle(project)
    assert not is_asked(flow.rows(project)[task["id"]]["score"])
    other = flow.studio.next_task(project, user=2)
    assert other is not None
    assert other["id"] != task["id"]
    flow.label_every_cluster(project)
    assert not is_asked(flow.rows(project)[task["id"]]["score"])


def test_the_pool_can_be_finished_to_its_last_task(flow: Flow) -> None:
    project = flow.project()
    flow.run(project)
    asked = []
    while (task := flow.studio.next_task(project)) is not None:
        asked.append(task["id"])
        flow.studio.submit(task, truth(task))
        if len(asked) % 4 == 0:
            flow.settle(project)
    assert len(asked) == N_TASKS
    assert sorted(asked) == [task["id"] for task in flow.studio.state.tasks_of(project["id"])]


def test_the_pool_can_be_finished_while_no_worker_runs(flow: Flow) -> None:
    project = flow.project()
    flow.run(project)
    assert sorted(flow.label(project, N_TASKS)) == [t["id"] for t in flow.studio.state.tasks_of(project["id"])]
    assert flow.studio.next_task(project) is None


def test_predict_answers_what_the_rows_say(flow: Flow) -> None:
    project = flow.project()
    flow.settle(project)
    flow.label_every_cluster(project)
    tasks = flow.studio.state.tasks_of(project["id"])
    rows = flow.rows(project)
    for task, answer in zip(tasks, flow.predict(project, tasks), strict=True):
        assert said(answer) == said(rows[task["id"]])
        # A confidence that moved by less than the tolerance is not patched.
        assert answer["score"] == pytest.approx(rows[task["id"]]["score"], abs=TOLERANCE)
        assert answer["model_version"] == project["model_version"]


def test_predict_classifies_an_image_outside_the_pool(flow: Flow) -> None:
    project = flow.project(n_tasks=60)
    flow.settle(project)
    flow.label(project, 40)
    flow.settle(project)
    flow.studio.state.files["x/digit-0100.png"] = digits.png(100)
    answer = flow.predict(project, [{"data": {"image": "/data/upload/x/digit-0100.png"}}])[0]
    assert said(answer) in {str(digit) for digit in range(10)}
    assert 0 < answer["score"] <= 1


def test_predictions_that_label_studio_stored_itself_do_not_double_the_rows(flow: Flow) -> None:
    project = flow.project()
    flow.run(project)
    # The rest of the pool has no rows yet: Label Studio asks /predict and stores the answers.
    flow.studio.retrieve_predictions(project, [task["id"] for task in flow.studio.state.tasks_of(project["id"])])
    assert len(flow.rows(project)) == N_TASKS
    flow.label_every_cluster(project)
    assert len(flow.rows(project)) == N_TASKS
