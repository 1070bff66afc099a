"""Vectors of the user's own on a real Label Studio: in `meta`, in a field, and edited there."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from conftest import Backend
from e2e.annotators import all_tasks, connect, rows, wait_for, wait_until_ready, wait_until_settled
from exemplar.store.home import Home
from exemplar.store.snapshot import Snapshot

Json = dict[str, Any]
N, LENGTH = 60, 16
CONFIG = """<View><Text name="text" value="$text"/><Choices name="choice" toName="text"><Choice value="warm"/>
<Choice value="cold"/></Choices></View>"""


def vector(i: int) -> list[float]:
    """Return what tells the i-th task's class, which its text does not."""
    noise = np.random.default_rng(i).normal(0, 0.3, LENGTH)
    return [float(x) for x in 5 * np.eye(LENGTH)[i % 2] + noise]


def truth(i: int) -> str:
    return ("warm", "cold")[i % 2]


def snapshot_of(backend: Backend, project: Json) -> Snapshot:
    [store] = Home(backend.models).with_id(project["id"])
    snapshot = store.current()
    assert snapshot is not None
    return snapshot


def in_meta(i: int) -> Json:
    return {"data": {"text": f"w{i}"}, "meta": {"embedding": vector(i)}}


def in_base64(i: int) -> Json:
    return {"data": {"text": f"w{i}", "emb": base64.b64encode(np.array(vector(i), "<f4").tobytes()).decode()}}


@pytest.mark.parametrize(("task", "params"), [(in_meta, {}), (in_base64, {"embedding_field": "emb"})])
def test_tasks_are_seen_by_their_own_vectors(
    task: Callable[[int], Json], params: Json, api: httpx.Client, backend: Backend
) -> None:
    project = api.post("/api/projects/", json={"title": "Own", "label_config": CONFIG}).raise_for_status().json()
    odd = task(0) | {"data": {"text": "odd", "emb": "[0, 0]"}, "meta": {"embedding": [1, "2"]}}
    every = json.dumps([*map(task, range(N)), odd])
    files = {"tasks.json": ("tasks.json", every, "application/json")}  # as people do: a file
    api.post(f"/api/projects/{project['id']}/import", files=files).raise_for_status()
    connect(api, project, backend, extra_params=params)
    wait_until_ready(backend, project)
    tasks = [one for _, one in sorted(all_tasks(api, project).items())]
    snapshot = snapshot_of(backend, project)
    assert [block.kind for block in snapshot.facts.blocks] == ["vector"]
    assert list(snapshot.facts.unreadable) == [tasks[-1]["id"]]
    expected = np.array([vector(i) for i in range(N)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(snapshot.geometry.X, expected, atol=1e-6)

    for i in range(6):
        value = {"choices": [truth(i)]}
        result = [{"id": "x", "from_name": "choice", "to_name": "text", "type": "choices", "value": value}]
        body = {"result": result, "lead_time": 2.5}
        api.post(f"/api/tasks/{tasks[i]['id']}/annotations/", json=body).raise_for_status()
    wait_until_settled(backend, project, answered=6)
    current = rows(api, project)
    told = [(current[one["id"]]["result"], truth(i)) for i, one in enumerate(tasks[6:N], 6)]
    shown = [(said[0]["value"]["choices"], [right]) for said, right in told if said]
    assert len(shown) >= N - 6 - 5, "all but audits, which are asked blind"
    assert all(said == right for said, right in shown)

    # As Label Studio sends a task to /predict, with another vector, and by another name: outside the pool.
    other = json.loads(json.dumps(tasks[7])) | {"id": 10**6}
    other["meta"] = in_meta(100).get("meta") if "embedding" in (other.get("meta") or {}) else {}
    other["data"] |= {"emb": in_base64(100)["data"]["emb"]} if params else {}
    key = next(iter(Home(backend.models).with_id(project["id"]))).folder.name
    body = {"tasks": [tasks[7], other], "project": key, "label_config": project["label_config"], "params": {}}
    answers = httpx.post(f"{backend.url}/predict", json=body, timeout=30, trust_env=False).json()["results"]
    assert [answer["result"][0]["value"]["choices"] for answer in answers] == [[truth(7)], [truth(100)]]

    # Edited, it is a task that changed.
    edited = task(101)
    change = {"data": edited["data"]} if params else {"meta": edited["meta"]}
    api.patch(f"/api/tasks/{tasks[8]['id']}/", json=change).raise_for_status()
    backend_key = {"action": "TASKS_CREATED", "project": {"id": project["id"]}, "tasks": []}
    httpx.post(f"{backend.url}/webhook", json=backend_key, timeout=30, trust_env=False)

    def is_taken_in() -> bool:
        X = snapshot_of(backend, project).geometry.X
        return bool(np.allclose(X[8], np.array(vector(101)) / np.linalg.norm(vector(101)), atol=1e-5))

    wait_for(is_taken_in, "the edited vector to be taken in")
    api.delete(f"/api/projects/{project['id']}/")
