"""Before the first answer: what the choices are called, what other models have predicted; and what is ticked."""

import logging

import numpy as np
import pytest

from exemplar.commands.report import report
from exemplar.rows import TOLERANCE, is_asked
from flows.conftest import Flow, MakeFlow, said
from flows.fake_label_studio import choices
from flows.fake_state import Json

WORDS = {
    topic: words.split()
    for topic, words in (
        ("music", "guitar melody singer concert chorus violin rhythm band album piano drummer orchestra"),
        ("cooking", "onion butter oven recipe soup garlic flour boil pepper kitchen sauce bake"),
        ("football", "goal striker referee penalty stadium league pass keeper match offside coach team"),
    )
}
TOPICS = tuple(WORDS)
N_EACH = 30


def text_of(topic: str, seed: int) -> str:
    """Return a sentence of a topic; every third names it, every fourth is of another one almost as much."""
    rng = np.random.default_rng([TOPICS.index(topic), seed])
    words = rng.choice(WORDS[topic], 5, replace=False).tolist()
    if seed % 4 == 1:
        other = TOPICS[(TOPICS.index(topic) + 1) % len(TOPICS)]
        words[3:] = rng.choice(WORDS[other], 2, replace=False).tolist()
    return " ".join([topic, *words] if seed % 3 == 0 else words)


TEXTS = [(topic, text_of(topic, seed)) for seed in range(N_EACH) for topic in TOPICS]


def config(*inside: str) -> str:
    return (
        '<View><Text name="text" value="$text"/><Choices name="topic" toName="text">'
        f"{''.join(inside)}</Choices></View>"
    )


NAMED = config(*(f'<Choice value="{topic}"/>' for topic in TOPICS))
MEANINGLESS = config(*(f'<Choice value="class {i}"/>' for i in range(len(TOPICS))))


def connected(make_flow: MakeFlow, label_config: str = NAMED, **changes: object) -> tuple[Flow, Json]:
    """Connect a project of texts; the settings are those of the product."""
    params = changes.pop("extra_params", {})
    defaults = {"propagation": "auto", "queue": "herding", "classifier": "neighbors"}
    flow = make_flow(**(defaults | changes))
    flow.extra_params = params
    project = flow.project(0, connected=False, label_config=label_config)
    flow.studio.state.import_tasks(project["id"], [{"text": text} for _, text in TEXTS])
    flow.connect(project)
    return flow, project


def topic_of(flow: Flow, task_id: int) -> str:
    return next(topic for topic, text in TEXTS if text == flow.studio.state.task(task_id)["data"]["text"])


def answer(flow: Flow, project: Json, n: int, *, names: dict[str, str] | None = None) -> None:
    for _ in range(n):
        task = flow.studio.next_task(project)
        assert task is not None
        topic = topic_of(flow, task["id"])
        flow.studio.submit(task, (names or {}).get(topic, topic), control="topic")


def share_right(flow: Flow, project: Json) -> float:
    rows = {task_id: row for task_id, row in flow.rows(project).items() if row["result"]}
    return float(np.mean([said(row) == topic_of(flow, task_id) for task_id, row in rows.items()]))


def predicted_by(flow: Flow, project: Json, version: str, *, n_wrong: int = 0, n: int = len(TEXTS)) -> None:
    """Leave predictions of another model in the project, of the first n tasks; so many of them wrong."""
    tasks = flow.studio.state.tasks_of(project["id"])[:n]
    for i, task in enumerate(tasks):
        topic = TOPICS.index(topic_of(flow, task["id"]))
        choice = f"class {(topic + (i < n_wrong)) % len(TOPICS)}"
        flow.studio.state.create_prediction(
            {"task": task["id"], "result": choices(choice, "topic"), "model_version": version, "score": 0.9}
        )


# ── Names ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_before_any_answer_the_names_of_the_choices_predict_all_tasks(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow)
    flow.settle(project)
    rows = flow.rows(project)
    assert len(rows) == len(TEXTS)
    assert share_right(flow, project) > 0.8
    confidences = [row["score"] for row in rows.values() if not is_asked(row["score"])]
    assert np.mean(confidences) < share_right(flow, project), "modest, for nothing has judged it"
    assert flow.snapshot(project).facts.n_answered == 0


def test_tasks_that_were_never_shown_to_us_are_predicted_by_names_too(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow)
    flow.settle(project)
    asked = [{"id": 1000 + i, "data": {"text": text_of(topic, 100 + i)}} for i, topic in enumerate(TOPICS)]
    assert [said(answer) for answer in flow.predict(project, asked)] == list(TOPICS)


@pytest.mark.parametrize(
    ("label_config", "changes"),
    [
        (MEANINGLESS, {}),
        (config('<Choice value="A"/>', '<Choice value="B"/>', '<Choice value="C"/>'), {}),
        (NAMED, {"names": False}),
        (NAMED, {"propagation": "clusters"}),
    ],
    ids=["class 0, class 1", "A, B", "EXEMPLAR_NAMES=off", "another method"],
)
def test_where_names_say_nothing_nothing_is_predicted_before_an_answer(
    make_flow: MakeFlow, label_config: str, changes: dict[str, object]
) -> None:
    flow, project = connected(make_flow, label_config, **changes)
    flow.settle(project)
    rows = flow.rows(project)
    assert 0 < len(rows) < len(TEXTS)
    assert all(is_asked(row["score"]) and not row["result"] for row in rows.values())


def test_words_that_describe_the_choices_stand_in_for_their_names(make_flow: MakeFlow) -> None:
    words = {f"class {i}": " ".join(WORDS[topic][:4]) for i, topic in enumerate(TOPICS)}
    flow, project = connected(make_flow, MEANINGLESS, extra_params={"descriptions": words})
    flow.settle(project)
    right = [
        said(row) == f"class {TOPICS.index(topic_of(flow, task_id))}" for task_id, row in flow.rows(project).items()
    ]
    assert np.mean(right) > 0.8


def test_another_hint_makes_the_names_be_read_anew_and_no_new_generation(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, MEANINGLESS)
    flow.settle(project)
    hinted = config(
        *(f'<Choice value="class {i}" hint="{topic} {WORDS[topic][0]}"/>' for i, topic in enumerate(TOPICS))
    )
    flow.studio.state.patch_project(project["id"], {"label_config": hinted})
    flow.settle(project)
    assert project["model_version"] == "exemplar-1"
    assert len(flow.rows(project)) == len(TEXTS)


def test_answers_decide_what_stays_of_the_names(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, NAMED)
    flow.settle(project)
    [names] = flow.snapshot(project).facts.priors
    assert (names.of, names.answers, names.share) == ("names", 1.0, 0.0)
    # The annotators mean something else by these words.
    turned = dict(zip(TOPICS, (*TOPICS[1:], TOPICS[0]), strict=True))
    for _ in range(6):
        answer(flow, project, 2, names=turned)
        flow.settle(project)
    [names] = flow.snapshot(project).facts.priors
    assert names.answers == 0
    rest = [
        row for task, row in flow.rows(project).items() if not flow.studio.state.answers(task) and row["result"]
    ]
    assert np.mean([said(row) == turned[topic_of(flow, row["task"])] for row in rest]) > 0.8
    assert "Believed       names of choices count as nothing" in "\n".join(report(flow.settings, project["id"]))


def test_the_same_answers_give_the_same_rows_after_model_dir_is_lost(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow)
    flow.settle(project)
    answer(flow, project, 5)
    flow.settle(project)
    before = flow.snapshot(project)
    flow.forget()
    flow.connect(project)
    flow.settle(project)
    after = flow.snapshot(project)
    np.testing.assert_array_equal(after.distributions, before.distributions)
    np.testing.assert_array_equal(after.faint, before.faint)


def test_images_have_no_names_prior(make_flow: MakeFlow) -> None:
    flow = make_flow(propagation="auto")
    project = flow.project()
    flow.settle(project)
    assert flow.snapshot(project).facts.priors == ()


# ── Other models' predictions ───────────────────────────────────────────────────────────────────────────────


def test_predictions_of_another_model_are_offered_and_not_believed_unasked(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    flow, project = connected(make_flow, MEANINGLESS)
    predicted_by(flow, project, "gpt-4")
    flow.settle(project)
    assert '{"priors":{"model_version":"gpt-4"}}' in caplog.text
    assert [believed.of for believed in flow.snapshot(project).facts.priors] == ["names"]
    assert len(flow.rows(project)) < len(TEXTS)


@pytest.mark.parametrize("n", [len(TEXTS), 45])
def test_predictions_of_another_model_are_believed_where_the_extra_params_say_so(
    make_flow: MakeFlow, n: int
) -> None:
    flow, project = connected(make_flow, MEANINGLESS, extra_params={"priors": {"model_version": "gpt-4"}})
    predicted_by(flow, project, "gpt-4", n_wrong=9, n=n)
    theirs = [row for row in flow.studio.state.predictions_of(project["id"]) if row["model_version"] == "gpt-4"]
    flow.settle(project)
    rows = flow.rows(project)
    assert len(rows) == len(TEXTS)
    right = [said(row) == f"class {TOPICS.index(topic_of(flow, task_id))}" for task_id, row in rows.items()]
    assert np.mean(right) > 0.85
    assert theirs == [
        row for row in flow.studio.state.predictions_of(project["id"]) if row["model_version"] == "gpt-4"
    ]


def test_names_and_another_model_are_believed_together(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, NAMED, extra_params={"priors": {"model_version": ["gpt-4"]}})
    tasks = flow.studio.state.tasks_of(project["id"])
    for task in tasks:
        result = choices(topic_of(flow, task["id"]), "topic")
        flow.studio.state.create_prediction({"task": task["id"], "result": result, "model_version": "gpt-4"})
    flow.settle(project)
    answer(flow, project, 3)
    flow.settle(project)
    assert [believed.of for believed in flow.snapshot(project).facts.priors] == ["names", "gpt-4"]
    assert share_right(flow, project) > 0.9
    status = flow.call("GET", "/").json()["projects"][flow.key(project)]
    assert set(status["priors"]) == {"names", "gpt-4"}


def test_our_own_rows_are_never_believed(make_flow: MakeFlow, caplog: pytest.LogCaptureFixture) -> None:
    flow, project = connected(make_flow, MEANINGLESS, extra_params={"priors": "exemplar-1"})
    flow.settle(project)
    assert [believed.of for believed in flow.snapshot(project).facts.priors] == ["names"]
    assert "is a generation of ours, which is not believed" in caplog.text


def test_predictions_of_unknown_choices_are_counted_and_not_used(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    flow, project = connected(make_flow, MEANINGLESS, extra_params={"priors": {"model_version": "gpt-4"}})
    predicted_by(flow, project, "gpt-4")
    odd = [row for row in flow.studio.state.predictions_of(project["id"]) if row["model_version"] == "gpt-4"][:7]
    for row, result in zip(odd, [[], None, "x", [{}], [{"value": 3}], choices("no such", "topic"), 0], strict=True):
        row["result"] = result
    flow.settle(project)
    assert f"for {len(TEXTS) - 7} tasks; 7 more name none of the choices" in caplog.text


def test_an_answer_reads_other_models_predictions_no_second_time(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    flow, project = connected(make_flow, MEANINGLESS, extra_params={"priors": {"model_version": "gpt-4"}})
    predicted_by(flow, project, "gpt-4")
    flow.settle(project)
    answer(flow, project, 2, names={topic: f"class {i}" for i, topic in enumerate(TOPICS)})
    flow.settle(project)
    assert caplog.text.count("believed at first for") == 1
    flow.store(project).raise_number("orders")  # Start Training
    flow.settle(project)
    assert caplog.text.count("believed at first for") == 2


# ── What is ticked ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n_answers", [0, 1, 6])
def test_rows_and_predict_tick_from_the_same_confidence_on(make_flow: MakeFlow, n_answers: int) -> None:
    flow, project = connected(make_flow, shown_from=0.7)
    flow.settle(project)
    answer(flow, project, n_answers)
    flow.settle(project)
    rows, n_empty = flow.rows(project), 0
    for task_id, row in rows.items():
        if not is_asked(row["score"]) and not flow.studio.state.answers(task_id):
            assert bool(row["result"]) == (row["score"] >= 0.7), row
            n_empty += not row["result"]
    assert n_empty, "or this shows nothing"
    asked = [{"id": task["id"], "data": task["data"]} for task in flow.studio.state.tasks_of(project["id"])]
    for answered, task in zip(flow.predict(project, asked), asked, strict=True):
        row = rows[task["id"]]
        assert said(answered) == said(row)
        assert abs(answered["score"] - row["score"]) <= TOLERANCE
    # Tasks outside the pool with the same texts as tasks in it.
    outside = [{"data": task["data"]} for task in asked]
    for answered in flow.predict(project, outside):
        assert bool(answered["result"]) == (answered["score"] >= 0.7)


def test_who_wants_to_know_is_told_what_is_too_unsure_to_be_ticked(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, shown_from=1.0)
    flow.settle(project)
    tasks = flow.studio.state.tasks_of(project["id"])
    asked = [{"id": task["id"], "data": task["data"]} for task in tasks] + [{"data": tasks[0]["data"]}]
    assert {said(answer) for answer in flow.predict(project, asked)} == {None}
    told = [said(answer) for answer in flow.predict(project, asked, show_all=True)]
    assert None not in told


def test_a_floor_of_zero_ticks_all(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, shown_from=0.7, extra_params={"shown_from": 0})
    flow.settle(project)
    assert all(row["result"] for row in flow.rows(project).values())


def test_after_the_very_first_answer_nothing_is_ticked_with_it(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, MEANINGLESS, shown_from=0.6)
    flow.settle(project)
    answer(flow, project, 1, names={topic: f"class {i}" for i, topic in enumerate(TOPICS)})
    flow.settle(project)
    rows = flow.rows(project)
    assert len(rows) == len(TEXTS)
    ticked = [task_id for task_id, row in rows.items() if row["result"]]
    assert [bool(flow.studio.state.answers(task_id)) for task_id in ticked] == [True]


def test_another_floor_is_followed_by_the_rows(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, shown_from=1.0)
    flow.settle(project)
    assert not any(row["result"] for row in flow.rows(project).values())
    [backend] = flow.studio.state.backends_of(project["id"])
    backend["extra_params"] = {"shown_from": 0}
    flow.connect(project, extra_params={"shown_from": 0})
    flow.settle(project)
    assert all(row["result"] for row in flow.rows(project).values())


def test_report_and_status_count_what_is_shown_and_all(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, shown_from=0.7)
    flow.settle(project)
    answer(flow, project, 3)
    flow.settle(project)
    facts = flow.snapshot(project).facts
    assert 0 < facts.n_shown < facts.n_pre_annotated == len(TEXTS)
    lines = "\n".join(report(flow.settings, project["id"]))
    assert f"3 of {len(TEXTS)} tasks answered, {len(TEXTS)} predicted" in lines
    assert f"{facts.n_shown} of the predictions, at least 70% sure, are ticked" in lines
    assert "names of choices count as" in lines
    status = flow.call("GET", "/").json()["projects"][flow.key(project)]
    assert (status["pre_annotated"], status["shown"]) == (len(TEXTS), facts.n_shown)
    assert (
        f'exemplar_shown{{project="{flow.key(project)}"}} {facts.n_shown:.1f}' in flow.call("GET", "/metrics").text
    )


def test_what_is_not_ticked_is_no_agreement(make_flow: MakeFlow) -> None:
    """Agreement is of pre-annotations that annotators saw."""
    flow, project = connected(make_flow, shown_from=1.0)
    flow.settle(project)
    answer(flow, project, 10)
    flow.settle(project)
    assert not [entry for entry in flow.store(project).audit_log() if entry.kind == "seen"]
    assert flow.snapshot(project).facts.honesty["agreement"]["n"] == 0
