"""Audits from the queue to the report, with the default method."""

from exemplar.commands.report import report
from flows.conftest import Flow, MakeFlow, said, truth
from flows.fake_state import Json


def connected(make_flow: MakeFlow, *, share: float) -> tuple[Flow, Json]:
    flow = make_flow(propagation="graph", queue="herding", classifier="neighbors", audit_share=share)
    flow.extra_params = {}
    project = flow.project(300)
    flow.settle(project)
    return flow, project


def test_audits_are_served_blind_by_label_studio_and_by_us(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, share=20.0)
    blind = 0
    for _ in range(25):
        task = flow.studio.next_task(project)
        frozen = {entry.task for entry in flow.store(project).audit_log() if entry.kind == "frozen"}
        if task["id"] in frozen:
            blind += 1
            assert said(flow.rows(project)[task["id"]]) is None
            [answer] = flow.predict(project, [{"id": task["id"], "data": task["data"]}])
            assert answer["result"] == []
        flow.studio.submit(task, truth(task))
        flow.settle(project)
    assert blind == 3  # the 15th, 20th and 25th


def test_the_report_tells_the_accuracy_from_thirty_audits_on(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, share=50.0)
    for _ in range(15):
        flow.label(project, 5)
        flow.settle(project)
    lines = "\n".join(report(flow.settings, project["id"]))
    assert "75 of 300 tasks answered" in lines
    found = flow.snapshot(project).facts.honesty["accuracy"]
    assert found["is_shown"]
    assert f"{found['n_right']} of {found['n_audits']} audits right" in lines
    status = flow.call("GET", "/").json()["projects"][flow.key(project)]
    assert status["honesty"]["accuracy"] == found


def test_a_deleted_answer_of_an_audit_takes_it_out_of_the_estimate(make_flow: MakeFlow) -> None:
    flow, project = connected(make_flow, share=50.0)
    flow.label(project, 20)
    flow.settle(project)
    before = flow.snapshot(project).facts.honesty["accuracy"]["n_audits"]
    frozen = [entry.task for entry in flow.store(project).audit_log() if entry.kind == "frozen"]
    audited = next(id_ for id_ in frozen if flow.studio.state.annotations_of(id_))
    flow.studio.state.delete_annotation(flow.studio.state.annotations_of(audited)[0]["id"])
    flow.settle(project)
    assert flow.snapshot(project).facts.honesty["accuracy"]["n_audits"] == before - 1
