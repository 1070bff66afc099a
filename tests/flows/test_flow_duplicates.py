"""Near-duplicates in a project: asked once, labelled together, and named where their answers differ."""

import io
from dataclasses import replace

import numpy as np
import pytest

from exemplar.commands.duplicates import duplicates
from exemplar.commands.report import report
from exemplar.rows import is_asked
from flows.conftest import Flow, MakeFlow, said
from flows.fake_state import Json
from pictures import copies, drawing

LABEL_CONFIG = (
    '<View><Text name="message" value="$text"/><Choices name="about" toName="message">'
    '<Choice value="card"/><Choice value="parcel"/><Choice value="refund"/></Choices></View>'
)
LABEL_CONFIG_OF_PICTURES = (
    '<View><Image name="picture" value="$image"/><Choices name="about" toName="picture">'
    '<Choice value="one"/><Choice value="two"/></Choices></View>'
)
ABOUT = {
    "card": ["The card {n} was declined at the {place}", "My new card {n} does not work in the {place}"],
    "parcel": ["The parcel {n} was left at the {place}", "Where is my parcel {n}, it is not at the {place}"],
    "refund": ["I want my money back for {n} from the {place}", "Please refund order {n} of the {place} to me"],
}
PLACES = ["shop", "station", "market", "airport", "library"]
N_MESSAGES, N_COPIES = 30, 3


def messages() -> list[tuple[str, str, str]]:
    """Return of each message its class, what is the same in its copies, and its text; copies lie far apart."""
    kinds = [(about, form, place) for about, forms in ABOUT.items() for form in forms for place in PLACES]
    assert len(kinds) == N_MESSAGES
    copies = [
        (about, f"{form} {place}", form.format(n=100 + 7 * i + 1000 * copy, place=place))
        for copy in range(N_COPIES)
        for i, (about, form, place) in enumerate(kinds)
    ]
    return [(about, what, text.upper() if i % 4 == 0 else text) for i, (about, what, text) in enumerate(copies)]


def status(flow: Flow, project: Json) -> Json:
    found: Json = flow.call("GET", "/").json()["projects"][flow.key(project)]
    return found


class Messages:
    """A project of messages, each of which stands there three times with another number."""

    def __init__(self, flow: Flow, **extra_params: object) -> None:
        self.flow = flow
        self.project = flow.studio.state.create_project({"title": "Messages", "label_config": LABEL_CONFIG})
        made = messages()
        tasks = flow.studio.state.import_tasks(self.project["id"], [{"text": text} for _, _, text in made])
        self.about = {task["id"]: about for task, (about, _, _) in zip(tasks, made, strict=True)}
        self.what = {task["id"]: what for task, (_, what, _) in zip(tasks, made, strict=True)}
        self.text = {task["id"]: text for task, (_, _, text) in zip(tasks, made, strict=True)}
        flow.connect(self.project, extra_params=extra_params)
        flow.settle(self.project)

    def answer(self, task_id: int, choice: str | None = None) -> None:
        task = next(task for task in self.flow.studio.state.tasks_of(self.project["id"]) if task["id"] == task_id)
        self.flow.studio.submit(task, choice or self.about[task_id], control="about")

    def answer_one_of_each(self, task_ids: list[int]) -> None:
        """Answer tasks of as many groups; copies that are askable are asked once nothing else is left."""
        assert len({self.what[task_id] for task_id in task_ids}) == len(task_ids)
        for task_id in task_ids:
            self.answer(task_id)
        self.flow.settle(self.project)

    def label(self, n: int) -> list[int]:
        """Answer what Label Studio gives an annotator, refreshing after each."""
        asked = []
        for _ in range(n):
            task = self.flow.studio.next_task(self.project)
            assert task is not None
            self.answer(task["id"])
            self.flow.settle(self.project)
            asked.append(task["id"])
        return asked

    def copies(self, task_id: int) -> list[int]:
        return [other for other, what in self.what.items() if what == self.what[task_id]]


@pytest.fixture
def default(make_flow: MakeFlow) -> Flow:
    """An Exemplar with the settings that people have."""
    return make_flow(propagation="auto", queue="herding", classifier="neighbors", audit_share=4.0)


def test_groups_are_known_before_any_answer(default: Flow) -> None:
    project = Messages(default)
    found = default.snapshot(project.project)
    ids = found.task_ids
    groups = {frozenset(ids[found.leaders == leader].tolist()) for leader in found.leaders}
    assert groups == {frozenset(project.copies(task_id)) for task_id in project.what}
    assert status(default, project.project)["duplicates"] == {"groups": 30, "tasks": 90, "differ": 0, "used": True}


def test_one_picture_in_several_sizes_and_compressions_is_a_group(make_flow: MakeFlow) -> None:
    # Without audits, which have turns of their own: one of the eight could be one.
    flow = make_flow(propagation="auto", queue="herding", classifier="neighbors", audit_share=0.0)
    project = flow.studio.state.create_project({"title": "Pictures", "label_config": LABEL_CONFIG_OF_PICTURES})
    of: dict[str, int] = {}
    for seed in range(8):
        for i, copy in enumerate([drawing(seed), *copies(drawing(seed))[:4]]):
            file = io.BytesIO()
            copy.convert("RGB").save(file, "PNG")
            name = f"{project['id']}/{seed}-{i}.png"
            flow.studio.state.files[name] = file.getvalue()
            of[f"/data/upload/{name}"] = seed
    tasks = flow.studio.state.import_tasks(project["id"], [{"image": address} for address in of])
    flow.connect(project)
    flow.settle(project)
    found, seeds = flow.snapshot(project), {task["id"]: of[task["data"]["image"]] for task in tasks}
    groups = {frozenset(found.task_ids[found.leaders == leader].tolist()) for leader in found.leaders}
    assert groups == {frozenset(id_ for id_, of_ in seeds.items() if of_ == seed) for seed in range(8)}
    assert len({seeds[task_id] for task_id in flow.queue(project)[:8]}) == 8


@pytest.mark.parametrize("audit_share", [0.0, 4.0, 30.0])
def test_one_of_a_group_is_asked_and_all_are_labelled(make_flow: MakeFlow, audit_share: float) -> None:
    flow = make_flow(propagation="auto", queue="herding", classifier="neighbors", audit_share=audit_share)
    project = Messages(flow)
    asked = project.label(24)
    assert len({project.what[task_id] for task_id in asked}) == 24
    rows, found = flow.rows(project.project), flow.snapshot(project.project)
    for task_id in asked:
        for copy in set(project.copies(task_id)) - {task_id}:
            assert said(rows[copy]) == project.about[task_id]
            assert found.scores[found.row(copy)] >= 0.98
            assert rows[copy]["score"] > 0.9  # a confidence that has hardly moved stands as it was


def test_when_each_was_asked_once_nothing_is_asked_and_the_rest_has_rows(default: Flow) -> None:
    project = Messages(default)
    project.label(N_MESSAGES)
    rows = default.rows(project.project)
    assert default.queue(project.project) == []
    assert {task_id: said(row) for task_id, row in rows.items()} == project.about
    task = default.studio.next_task(project.project)
    assert task is not None  # Label Studio goes on with the least sure ones


def test_a_queue_of_few_groups_does_not_run_out_before_anything_is_predicted(default: Flow) -> None:
    project = default.studio.state.create_project({"title": "Few", "label_config": LABEL_CONFIG})
    texts = [f"The card {n} was declined at the {PLACES[n % 2]}" for n in range(60)]
    tasks = default.studio.state.import_tasks(project["id"], [{"text": text} for text in texts])
    default.connect(project, extra_params={"batch_size": 20, "names": "off"})
    default.settle(project)
    queue = default.queue(project)
    assert len(queue) == 20
    first = [texts[[task["id"] for task in tasks].index(task_id)].split()[-1] for task_id in queue[:2]]
    assert sorted(first) == ["shop", "station"]
    task = default.studio.next_task(project)
    default.studio.submit(task, "card", control="about")
    default.settle(project)
    assert len(default.queue(project)) == 1


def test_a_skipped_task_is_not_asked_again_through_its_copies(default: Flow) -> None:
    project = Messages(default)
    task = default.studio.next_task(project.project)
    default.studio.skip(task)
    default.settle(project.project)
    copies = project.copies(task["id"])
    assert not set(copies) & set(default.queue(project.project))


def test_a_new_copy_has_its_label_at_once(default: Flow) -> None:
    project = Messages(default)
    task_id = project.label(1)[0]
    text = project.text[task_id].replace("1", "5") + "!"
    (task,) = default.studio.state.import_tasks(project.project["id"], [{"text": text}])
    default.settle(project.project)
    row = default.rows(project.project)[task["id"]]
    assert (said(row), is_asked(row["score"])) == (project.about[task_id], False)


def test_conflicts_are_named_with_their_tasks_and_not_spread(default: Flow) -> None:
    project = Messages(default)
    asked = project.label(6)
    one = asked[0]
    other, third = sorted(set(project.copies(one)) - {one})
    wrong = next(about for about in ABOUT if about != project.about[one])
    project.answer(other, wrong)
    default.settle(project.project)
    found = default.snapshot(project.project)
    assert status(default, project.project)["duplicates"]["differ"] == 1
    assert found.distributions[found.row(third)].max() < 0.98

    id_ = project.project["id"]
    listed = list(duplicates(default.settings, id_))
    assert listed[0].endswith(
        "90 tasks in 30 groups of near-duplicates, asked once and labelled together; in 1 of them answers differ"
    )
    assert listed[1] == "3 tasks, 2 answered, differently: they are not labelled together"
    lines = {task_id: line for task_id in (one, other, third) for line in listed[2:5] if f"task={task_id} " in line}
    assert project.about[one] in lines[one] and wrong in lines[other]
    assert f"{default.studio.url}/projects/{id_}/data?task={third}" in lines[third]
    assert project.text[third] in lines[third]
    reported = [line for line in report(default.settings, id_) if line.startswith("Duplicates")]
    assert reported == [
        "Duplicates     90 tasks in 30 groups of near-duplicates, asked once and labelled together; in 1 of them "
        f"answers differ; `exemplar duplicates {id_}` names them"
    ]


def test_where_second_answers_keep_differing_groups_are_used_no_more(default: Flow) -> None:
    project = Messages(default)
    for one in sorted(project.what)[:4]:
        copies = project.copies(one)
        for copy, about in zip(copies[:2], ("card", "parcel"), strict=True):
            project.answer(copy, about)
    default.settle(project.project)
    now = status(default, project.project)["duplicates"]
    assert now == {"groups": 30, "tasks": 90, "differ": 4, "used": False}
    project.answer_one_of_each(sorted(project.what)[4:N_MESSAGES])
    assert status(default, project.project)["duplicates"]["used"] is False
    assert default.queue(project.project)


def test_off_each_is_asked_for_itself(default: Flow) -> None:
    project = Messages(default, duplicates="off")
    project.answer_one_of_each(sorted(project.what)[:N_MESSAGES])
    assert default.queue(project.project)
    assert "asked each for itself" in next(duplicates(default.settings, project.project["id"]))


def test_groups_outlive_a_restart_and_are_the_same_when_made_anew(make_flow: MakeFlow) -> None:
    options = {"propagation": "auto", "queue": "herding", "classifier": "neighbors"}
    flow = make_flow(**options)
    project = Messages(flow)
    before = flow.snapshot(project.project)
    again = make_flow(**options)
    project.answer(int(before.task_ids[3]))
    again.settle(project.project)
    after = again.snapshot(project.project)
    assert np.array_equal(before.leaders, after.leaders)
    again.forget()
    flow_anew = replace(again)
    flow_anew.connect(project.project)
    flow_anew.settle(project.project)
    assert np.array_equal(flow_anew.snapshot(project.project).leaders, before.leaders)


def test_the_estimate_says_that_near_duplicates_count_once(make_flow: MakeFlow) -> None:
    flow = make_flow(propagation="auto", queue="herding", classifier="neighbors", audit_share=50.0)
    project = Messages(flow)
    project.label(12)
    honesty: Json = flow.snapshot(project.project).facts.honesty
    assert honesty["accuracy"]["population"].endswith("drawn at random, near-duplicates counted once")
