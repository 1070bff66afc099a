"""The routes for people and monitors: how every project is, and the API's own pages."""

import heapq
import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from exemplar import __version__
from exemplar.rows import generation_name
from exemplar.server import messages
from exemplar.server.auth import guard
from exemplar.server.protocol import Model
from exemplar.server.setup import served_version
from exemplar.store.project_store import ProjectStore
from exemplar.store.reading import Notes

# So many of the tasks that are left out are shown.
N_LEFT_OUT = 10

router = APIRouter()
GUARDED = [Depends(guard)]


@router.get("/health")
def health() -> dict[str, str]:
    """Tell that we are up; never guarded."""
    return {"status": "UP", "model_class": "ExemplarModel"}


@router.get("/", dependencies=GUARDED)
def status(model: Model) -> messages.StatusResponse:
    """Show every project: what is known, what is being done, what went wrong."""
    trouble = model.disk.trouble()
    projects = {store.folder.name: project_status(store, trouble) for store in model.home.introduced()}
    return messages.StatusResponse(version=__version__, problem=trouble, projects=projects)


@router.get("/metrics", dependencies=GUARDED, response_class=Response)
def metrics(request: Request) -> Response:
    """Show the same for Prometheus."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/versions", dependencies=GUARDED)
def versions(model: Model, project: str | None = None) -> messages.VersionsResponse:
    """List the generations that are served; Label Studio 1.23.2 asks without naming the project."""
    stores = [model.home.find(project)] if project else model.home.stores()
    return messages.VersionsResponse(versions=sorted({served_version(store) for store in stores}))


@router.get("/openapi.json", dependencies=GUARDED, include_in_schema=False)
def openapi(request: Request) -> dict[str, Any]:
    """Describe the API; FastAPI's own route cannot ask for a password."""
    schema: dict[str, Any] = request.app.openapi()
    return schema


@router.get("/docs", dependencies=GUARDED, include_in_schema=False)
def docs() -> HTMLResponse:
    """Show that description as a page."""
    return get_swagger_ui_html(openapi_url="openapi.json", title="Exemplar")


def _left_out(in_snapshot: dict[int, str], notes: Notes) -> list[messages.LeftOutTask]:
    """Return some of the tasks that are left out, for good first."""
    again_at = {task_id: left_out.again_at for task_id, left_out in notes.tasks.items()}
    why = in_snapshot | {task_id: left_out.why for task_id, left_out in notes.tasks.items()}
    first = heapq.nsmallest(N_LEFT_OUT, why, key=lambda task_id: (again_at.get(task_id) or 0.0, task_id))
    return [
        messages.LeftOutTask(task=task_id, why=why[task_id], again_at=_iso(again_at.get(task_id)))
        for task_id in first
    ]


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def project_status(store: ProjectStore, trouble: str | None = None) -> messages.ProjectStatus:
    """Return one project as ``GET /`` shows it; ``trouble`` with the disk stops them all."""
    now, facts, notes = store.status(), store.facts(), store.reading.notes()
    return messages.ProjectStatus(
        state="failed" if trouble else now.state,
        doing=now.doing,
        problem=trouble or now.problem,
        generation=generation_name(facts.generation) if facts else None,
        snapshot=facts.number if facts else None,
        tasks=facts.n_tasks if facts else 0,
        answered=facts.n_answered if facts else 0,
        pre_annotated=facts.n_pre_annotated if facts else 0,
        left_out=len(facts.unreadable) if facts else len(notes.tasks),
        left_out_first=_left_out(facts.unreadable if facts else {}, notes),
        unread=notes.n_unread,
        hosts_left_alone={host: str(_iso(until)) for host, until in notes.hosts.items() if until > time.time()},
        not_used={why: found.n for why, found in facts.not_used.items()} if facts else {},
        pending_rows=now.pending_rows,
        webhooks=store.number("webhooks"),
        orders=store.number("orders"),
        audit_log=store.audit_trouble(),
        honesty=facts.honesty if facts else None,
    )
