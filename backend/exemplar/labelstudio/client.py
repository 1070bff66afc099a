"""The part of Label Studio's API that Exemplar uses, over httpx.

Not label-studio-sdk, which would be the obvious choice: it brings 360 MB (OpenCV, pandas, NLTK, a code
formatter), pins numpy, builds a pydantic object for every task that is read, and repeats a POST after a 5xx,
which makes a second row. What is needed of it is small: two kinds of credentials (``auth.py``), paging with
counts that are checked, and retries that are safe.
"""

import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import httpx
import orjson
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from exemplar.errors import CredentialsError, LabelStudioDownError, LabelStudioError
from exemplar.failpoints import reach, reach_soon
from exemplar.hosts.connecting import no_cookies
from exemplar.labelstudio import reading
from exemplar.labelstudio.auth import authentication
from exemplar.labelstudio.pages import PAGE_SIZE, Reduce, read_page, read_pages
from exemplar.labelstudio.reading import Json

logger = logging.getLogger(__name__)

# Every field that the sync reads, of the task and of its annotations: `include` filters both by name.
TASK_FIELDS = (
    "id,data,meta,updated_at,annotations,result,was_cancelled,parent_prediction,lead_time,completed_by,created_at"
)
# Seconds for a bulk import: of 100 000 rows it takes some minutes, and more while annotators are at work.
IMPORT_TIMEOUT = 3600.0
# What is read of a project; all of it takes Label Studio several times as long, because it counts the tasks again.
PROJECT_FIELDS = (
    "id,title,created_at,label_config,task_number,model_version,sampling,show_collab_predictions,organization"
)
# What it says of local and private addresses, unless it is started with SSRF_PROTECTION_ENABLED=false.
REFUSED_ADDRESS = "resolves to a reserved network address"


@cache
def tls() -> ssl.SSLContext:
    """Return the one TLS context of the process: to make one takes 20 ms."""
    return httpx.create_ssl_context()


def _limits(url: str) -> httpx.Limits:
    """Return how many connections to keep open: without TLS none.

    Label Studio's own server sends the head of an answer and then its body; on a connection that is kept, the body
    waits 40 ms for the head to be acknowledged (Nagle's algorithm against delayed acknowledgement).
    """
    return httpx.Limits(max_keepalive_connections=0 if url.startswith("http://") else None)


class Client:
    """A connection to one Label Studio.

    Parameters
    ----------
    url : str
        Its address, a path prefix included.
    api_key : str
        Legacy token or personal access token.
    patience : float
        Seconds for which a request is tried again while Label Studio does not answer.
    timeout : float
        Seconds that one request may take.
    dry_run : bool
        Log each write instead of sending it.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        patience: float = 10.0,
        timeout: float = 60.0,
        dry_run: bool = False,
    ) -> None:
        if not api_key:
            raise CredentialsError(
                "No API key for Label Studio: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY for the backend"
            )
        self.url = url.rstrip("/")
        self.dry_run = dry_run
        self._api_key = api_key
        self._patience = patience
        self.auth = authentication(self.url, api_key)
        self._http = httpx.Client(
            base_url=self.url,
            auth=self.auth,
            timeout=httpx.Timeout(timeout, connect=min(5.0, timeout)),
            verify=tls(),
            limits=_limits(self.url),
            cookies=no_cookies(),
        )

    def another(self) -> "Client":
        """Return a second connection to the same Label Studio, for requests that outlive this one."""
        return Client(self.url, self._api_key, patience=self._patience, dry_run=self.dry_run)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def whoami(self) -> Json:
        """Return ``email`` and ``organization`` of the key's user; see ``read_user``."""
        return reading.read_user(self._get("/api/current-user/whoami"))

    # -- projects ---------------------------------------------------------------------------------------

    def project(self, project_id: int) -> Json:
        """Return a project's facts; see ``read_project``."""
        return reading.read_project(self._get(f"/api/projects/{project_id}", include=PROJECT_FIELDS))

    def projects(self) -> Iterator[Json]:
        """Yield ``id``, ``model_version`` and ``created`` of every project that the key can see."""
        page = 1
        while True:
            answer = self._get(
                "/api/projects", include="id,model_version,created_at", page=page, page_size=PAGE_SIZE
            )
            found = reading.read_projects(answer)
            yield from found
            if not found or not answer.get("next"):
                return
            page += 1

    def set_project(self, project_id: int, **values: Any) -> None:
        """Change settings of a project."""
        self._write("PATCH", f"/api/projects/{project_id}", values)

    def model_versions(self, project_id: int) -> dict[str, int]:
        """Return how many predictions the project has under each name."""
        return reading.read_counts(self._get(f"/api/projects/{project_id}/model-versions"))

    def delete_model_version(self, project_id: int, version: str) -> None:
        """Delete all predictions of a project that stand under a name."""
        self._write("DELETE", f"/api/projects/{project_id}/model-versions", {"model_version": version})

    # -- tasks ------------------------------------------------------------------------------------------

    def tasks(
        self,
        project_id: int,
        *,
        since: str | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        reduce: Reduce = lambda tasks: tasks,
    ) -> list[Json]:
        """Return the tasks, annotations included, that were updated after ``since`` (an ISO time), or all.

        Of each page what ``reduce`` makes of it is kept.
        """
        query = {}
        if since is not None:
            newer = {
                "filter": "filter:tasks:updated_at",
                "operator": "greater",
                "type": "Datetime",
                "value": since,
            }
            query = {"query": orjson.dumps({"filters": {"conjunction": "and", "items": [newer]}}).decode()}
        params = {"project": project_id, "fields": "all", "include": TASK_FIELDS, **query}
        return read_pages(self._page, params, on_progress, reduce)

    def sample_tasks(self, project_id: int, *, total: int, pages: int, page_size: int) -> list[Json]:
        """Return tasks from pages spread evenly over the project's ``total``."""
        step = max(1, total // page_size // pages)
        params = {"project": project_id, "fields": "all", "include": TASK_FIELDS, "page_size": page_size}
        read = [read_page(self._page, params | {"page": 1 + page * step}) for page in range(pages)]
        return [task for tasks, *_ in read for task in tasks]

    def task_ids(self, project_id: int) -> set[int]:
        """Return the ids of all tasks of a project."""
        return {task["id"] for task in read_pages(self._page, {"project": project_id, "include": "id"})}

    def _page(self, params: Json, patience: float | None = None) -> Any:
        return self._json(self._retried("GET", "/api/tasks", patience=patience, params=params))

    # -- predictions ------------------------------------------------------------------------------------

    def predictions(self, project_id: int) -> list[Json]:
        """Return all predictions of a project; see ``read_predictions``."""
        return reading.read_predictions(self._get("/api/predictions", project=project_id))

    def create_prediction(self, prediction: Json) -> Json:
        """Create one, and return it with its id; without one in a dry run."""
        answer = self._write("POST", "/api/predictions", prediction)
        if answer is None and self.dry_run:
            return {"id": None, **prediction}
        created = reading.read_predictions([answer])
        if not created:
            raise LabelStudioError(
                f"Label Studio answered POST /api/predictions with {answer!r:.100}: expected a row"
            )
        return created[0]

    def import_predictions(self, project_id: int, predictions: Sequence[Json]) -> None:
        """Create many at once; Label Studio recounts every task of the project for it."""
        answer = self._write(
            "POST", f"/api/projects/{project_id}/import/predictions", list(predictions), timeout=IMPORT_TIMEOUT
        )
        created = reading.mapping(answer).get("created")
        if answer is not None and created != len(predictions):
            raise LabelStudioError(f"Project {project_id}: created {created} of {len(predictions)} predictions")

    def patch_prediction(self, prediction_id: int, **values: Any) -> None:
        """Change parts of a prediction."""
        self._write("PATCH", f"/api/predictions/{prediction_id}", values)

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete one prediction."""
        self._write("DELETE", f"/api/predictions/{prediction_id}")

    def parent_predictions(self, task_id: int) -> set[int]:
        """Return the predictions that a task's annotations name as what they were made from."""
        annotations = self._get(f"/api/tasks/{task_id}/annotations/")
        return {annotation["parent_prediction"] for annotation in annotations} - {None}

    # -- connections ------------------------------------------------------------------------------------

    def backends(self, project_id: int) -> list[Json]:
        """Return the project's model connections; Label Studio calls /setup of each of them for this."""
        return reading.read_backends(self._get("/api/ml", project=project_id))

    def delete_backend(self, backend_id: int) -> None:
        """Delete a model connection."""
        self._write("DELETE", f"/api/ml/{backend_id}")

    def webhooks(self, project_id: int) -> list[Json]:
        """Return the webhooks of a project; see ``read_webhooks``."""
        return reading.read_webhooks(self._get("/api/webhooks", project=project_id))

    def create_webhook(self, **values: Any) -> None:
        """Create a webhook."""
        self._write("POST", "/api/webhooks", values)

    def patch_webhook(self, webhook_id: int, **values: Any) -> None:
        """Change parts of a webhook."""
        self._write("PATCH", f"/api/webhooks/{webhook_id}", values)

    def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook."""
        self._write("DELETE", f"/api/webhooks/{webhook_id}")

    # -- requests ---------------------------------------------------------------------------------------

    def _get(self, path: str, **params: Any) -> Any:
        return self._json(self._retried("GET", path, params=params))

    def _write(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if self.dry_run:
            shown = f"{len(body)} predictions" if isinstance(body, list) else body or ""
            logger.info("Dry run: would %s %s %s", method, path, shown)
            return None
        content = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"} if content else None
        reach("request.before", method)
        reach_soon("request.during", method)
        response = self._retried(method, path, content=content, headers=headers, **options)
        reach("request.after", method)
        return self._json(response)

    def _retried(self, method: str, path: str, *, patience: float | None = None, **kwargs: Any) -> httpx.Response:
        """Send, and again with backoff while that is safe: a POST only if it never reached Label Studio."""
        again = LabelStudioDownError if method != "POST" else NotReachedError
        for attempt in Retrying(
            retry=retry_if_exception_type(again),
            wait=wait_exponential(multiplier=0.2, max=5) + wait_random(0, 0.2),
            stop=stop_after_delay(self._patience if patience is None else min(patience, self._patience)),
            reraise=True,
        ):
            with attempt:
                response = self._send(method, path, **kwargs)
                if response.status_code == 429 or response.status_code >= 500:
                    raise LabelStudioDownError(
                        f"Label Studio at {self.url} answered {method} {path} with {response.status_code}"
                        f"{_explanation(response)}",
                        status_code=response.status_code,
                    )
        return response

    def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **kwargs)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotReachedError(f"Label Studio at {self.url} cannot be reached: {error}") from error
        except httpx.TransportError as error:
            raise LabelStudioDownError(
                f"Label Studio at {self.url} did not answer {method} {path}: {type(error).__name__}"
            ) from error

    def _json(self, response: httpx.Response) -> Any:
        request = response.request
        # So it answers to a webhook of ours, which it has checked apart from the connection: no matter of the key.
        if response.status_code == 403 and REFUSED_ADDRESS in response.text:
            raise LabelStudioError(
                f"Label Studio at {self.url} refuses webhooks to this backend's address: start it with "
                "SSRF_PROTECTION_ENABLED=false, too; until then changes are found by polling"
            )
        if response.status_code in (401, 403):
            raise CredentialsError(
                f"Label Studio at {self.url} refused the API key (status {response.status_code}): set "
                "LABEL_STUDIO_API_KEY to a token from Account & Settings of a user who may change the project"
            )
        if response.status_code >= 300:
            raise LabelStudioError(
                f"{self.url} answered {request.method} {request.url.path} with {response.status_code}"
                f"{_explanation(response)}",
                status_code=response.status_code,
            )
        if not response.content:
            return None
        try:
            return reading.parse(response.content)
        except ValueError as error:
            raise LabelStudioError(
                f"{self.url} answered {request.url.path} with no JSON: is LABEL_STUDIO_URL Label Studio's address?",
                status_code=response.status_code,
            ) from error


def _explanation(response: httpx.Response) -> str:
    """Return what an error says in one line; a page of HTML instead says that this is no API."""
    try:
        said = reading.parse(response.content)
    except ValueError:
        is_down = response.status_code == 429 or response.status_code >= 500
        return "" if is_down else " and no JSON: is LABEL_STUDIO_URL Label Studio's address?"
    if isinstance(said, dict):
        said = said.get("detail") or said
    return f": {' '.join(str(said).split())[:300]}"


class NotReachedError(LabelStudioDownError):
    """The request never reached Label Studio, so that even a POST may be sent again."""
