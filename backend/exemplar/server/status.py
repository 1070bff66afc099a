"""The routes for people and monitors: how every project is, and the API's own pages."""

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


def project_status(store: ProjectStore, trouble: str | None = None) -> messages.ProjectStatus:
    """Return one project as ``GET /`` shows it; ``trouble`` with the disk stops them all."""
    now, facts = store.status(), store.facts()
    return messages.ProjectStatus(
        state="failed" if trouble else now.state,
        doing=now.doing,
        problem=trouble or now.problem,
        generation=generation_name(facts.generation) if facts else None,
        snapshot=facts.number if facts else None,
        tasks=facts.n_tasks if facts else 0,
        answered=facts.n_answered if facts else 0,
        pre_annotated=facts.n_pre_annotated if facts else 0,
        left_out=len(facts.unreadable) if facts else 0,
        not_used={why: found.n for why, found in facts.not_used.items()} if facts else {},
        pending_rows=now.pending_rows,
        webhooks=store.number("webhooks"),
        orders=store.number("orders"),
        audit_log=store.audit_trouble(),
        honesty=facts.honesty if facts else None,
    )
