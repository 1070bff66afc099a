"""The routes for people and monitors: how every project is, and the API's own pages."""

import heapq
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from exemplar import __version__
from exemplar.rows import generation_name
from exemplar.server import messages
from exemplar.server.protocol import Model
from exemplar.server.setup import served_version
from exemplar.store.project_store import ProjectStore
from exemplar.store.reading import Notes
from exemplar.store.snapshot import DuplicatesFound

# So many of the tasks that are left out are shown.
N_LEFT_OUT = 10

SWAGGER_UI = ("swagger-ui-bundle.js", "swagger-ui.css")

router = APIRouter()


@router.get("/health", responses=messages.refusals())
async def health() -> messages.HealthResponse:
    """Tell that we are up; never guarded."""
    return messages.HealthResponse()


@router.get("/", responses=messages.refusals())
def status(model: Model) -> messages.StatusResponse:
    """Show every project: what is known, what is being done, what went wrong."""
    trouble = model.disk.trouble()
    projects = {store.folder.name: project_status(store, trouble) for store in model.home.introduced()}
    refused = [
        messages.RefusedProject(project=one.key, label_studio=one.url, why=one.why, at=one.at)
        for one in model.home.introductions.refused()
    ]
    return messages.StatusResponse(version=__version__, problem=trouble, projects=projects, refused=refused)


@router.get("/metrics", response_model=None, responses=messages.refusals() | {200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Show the same for Prometheus."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/versions", responses=messages.refusals(404))
def versions(model: Model, project: str | None = None) -> messages.VersionsResponse:
    """List the generations that are served; Label Studio 1.23.2 asks without naming the project."""
    stores = [model.home.find(project)] if project else model.home.stores()
    return messages.VersionsResponse(versions=sorted({served_version(store) for store in stores}))


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> dict[str, Any]:
    """Describe the API; FastAPI's own route cannot ask for a password."""
    schema: dict[str, Any] = request.app.openapi()
    if not request.app.state.settings.basic_auth_pass:
        return schema
    schemes = {"securitySchemes": {"basic": {"type": "http", "scheme": "basic"}}}
    health = {"get": schema["paths"]["/health"]["get"] | {"security": []}}
    return schema | {
        "security": [{"basic": []}],
        "components": schema["components"] | schemes,
        "paths": schema["paths"] | {"/health": health},
    }


@router.get("/docs", include_in_schema=False)
def docs() -> HTMLResponse:
    """Show that description as a page, which asks nobody else for its parts."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Exemplar",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="favicon.ico",
    )


@router.get("/docs/{part}", include_in_schema=False)
def docs_part(part: str) -> FileResponse:
    """Give a part of that page: Swagger UI, as flask-swagger-ui packs it; nothing of Flask is loaded for it."""
    package = find_spec("flask_swagger_ui")
    if part not in SWAGGER_UI or package is None or package.origin is None:
        raise HTTPException(404, "Not Found")
    return FileResponse(Path(package.origin).parent / "dist" / part)


@router.get("/favicon.ico", include_in_schema=False)
def favicon() -> Response:
    """Have no icon; browsers ask unasked."""
    return Response(status_code=204)


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
        shown=facts.n_shown if facts else 0,
        priors={believed.of: believed.counts for believed in facts.priors} if facts else {},
        left_out=len(facts.unreadable) if facts else len(notes.tasks),
        left_out_first=_left_out(facts.unreadable if facts else {}, notes),
        unread=notes.n_unread,
        hosts_left_alone={host: str(_iso(until)) for host, until in notes.hosts.items() if until > time.time()},
        not_used={why: found.n for why, found in facts.not_used.items()} if facts else {},
        duplicates=messages.Duplicates(**asdict(facts.duplicates if facts else DuplicatesFound())),
        pending_rows=now.pending_rows,
        webhooks=store.number("webhooks"),
        orders=store.number("orders"),
        audit_log=store.audit_trouble(),
        own_vectors=facts.own_vectors if facts else "",
        honesty=facts.honesty if facts else None,
    )
