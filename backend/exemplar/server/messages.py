"""Requests and responses of the protocol, as Label Studio 1.23.2 sends and expects them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

FULL_NAME = r"^[0-9]{1,18}\.[0-9]{1,18}$"
ID_OR_FULL_NAME = r"^[0-9]{1,18}(\.[0-9]{1,18})?$"
# Of a webhook's address; empty, it names no project.
NAMED = r"^([0-9]{1,18}(\.[0-9]{1,18})?)?$"


class Message(BaseModel):
    """A message in which fields that other versions of Label Studio add are no error."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class SetupRequest(Message):
    """What Label Studio sends when a model is connected, and when it wants to know whether we are there."""

    project: str = Field(examples=["1.1795417266"], description="`<id>.<created>`", pattern=FULL_NAME)
    label_config: str = Field(alias="schema", description="the label config, as XML")
    hostname: str = ""
    access_token: str = ""
    extra_params: dict[str, Any] | str | None = None


class SetupResponse(Message):
    """Which model version is served."""

    model_version: str = Field(examples=["exemplar-1"])


class PredictRequest(Message):
    """Tasks that Label Studio wants pre-annotations of."""

    tasks: list[Any]
    project: str = Field(examples=["1.1795417266"])
    label_config: str | None = None
    params: dict[str, Any] | None = Field(
        None, description="with show_all: true, also what is too unsure to be ticked is told"
    )


class Prediction(Message):
    """The pre-annotation of one task."""

    result: list[dict[str, Any]]
    score: float
    model_version: str


class PredictResponse(Message):
    """One pre-annotation for each task, in order."""

    results: list[Prediction]


ProjectId = Annotated[int, Field(ge=0, lt=10**18)]
ProjectName = Annotated[str, Field(pattern=ID_OR_FULL_NAME)]


class EventProject(BaseModel):
    """The project that a webhook speaks of."""

    model_config = ConfigDict(extra="allow")

    id: int = Field(ge=0, lt=10**18)


class WebhookRequest(BaseModel):
    """Something changed in Label Studio; only what and where is read."""

    model_config = ConfigDict(extra="allow")

    action: str = Field(examples=["ANNOTATION_CREATED"])
    project: EventProject | ProjectId | ProjectName | None = None


class WebhookResponse(Message):
    """That it was noted, and the job that follows."""

    status: str = "noted"
    job: str | None = None


class ValidateRequest(Message):
    """A label config to be looked at."""

    config: str


class ValidateResponse(Message):
    """What we would classify with a label config."""

    control: str
    classes: list[str]


class TrainRequest(Message):
    """Which project to learn anew."""

    project: str = Field(pattern=ID_OR_FULL_NAME)


class DeleteRequest(Message):
    """Which project to forget."""

    project: str


class JobRequest(Message):
    """Which job to tell of."""

    job: str = Field(examples=["1.1795417266:3"], description="as Start Training answered", pattern=":[0-9]{1,18}$")


class JobResponse(Message):
    """How a job stands."""

    job_status: str = Field(examples=["queued", "started", "finished", "failed"])
    error: str | None = None


class VersionsResponse(Message):
    """The model versions of a project."""

    versions: list[str]


class NotSupported(Message):
    """A route of Label Studio's that means nothing here, and why."""

    status: str = "not supported"
    detail: str


class LeftOutTask(Message):
    """A task that is left out, why, and when it is tried again by itself (an ISO time)."""

    task: int
    why: str
    again_at: str | None


class Duplicates(Message):
    """How many groups of near-duplicates there are, of how many tasks, and in how many answers differ."""

    groups: int
    tasks: int
    differ: int
    used: bool = Field(description="false where they are asked each for itself")


class ProjectStatus(Message):
    """One project as ``GET /`` shows it."""

    state: str = Field(examples=["starting", "ready", "failed", "closed"])
    doing: str | None
    problem: str | None
    generation: str | None
    snapshot: int | None
    tasks: int
    answered: int
    pre_annotated: int = Field(description="tasks with a prediction, whether it is shown or not")
    shown: int = Field(description="how many of these predictions are sure enough to be shown")
    priors: dict[str, str] = Field(description="what is believed before any answer, and what it counts now")
    left_out: int
    not_used: dict[str, int] = Field(
        description="how many answers are not used, or not all of them, by reason",
        examples=[{"names a label that the label config does not have": 12}],
    )
    left_out_first: list[LeftOutTask] = Field(description="some of them, those for good first")
    unread: int = Field(description="tasks whose files are still to be read")
    hosts_left_alone: dict[str, str] = Field(description="hosts that do not answer, and until when (an ISO time)")
    duplicates: Duplicates = Field(description="tasks that are nearly the same, asked once and labelled together")
    pending_rows: int
    webhooks: int
    orders: int
    audit_log: str | None = Field(description="what of the audit log is not used")
    own_vectors: str = Field(description="whether the tasks are seen by vectors of the user's own, or why not")
    honesty: dict[str, Any] | None = Field(description="how right we are, as far as that is known")


class RefusedProject(Message):
    """A project that somebody introduced, and that Label Studio did not confirm."""

    project: str
    label_studio: str
    why: str
    at: float = Field(description="seconds since the epoch")


class StatusResponse(Message):
    """All projects, as ``GET /`` shows them."""

    status: str = "UP"
    model_class: str = "ExemplarModel"
    version: str
    problem: str | None = Field(None, description="what is wrong with MODEL_DIR")
    projects: dict[str, ProjectStatus]
    refused: list[RefusedProject] = Field(description="introduced in the last minutes, and not confirmed")


class Refusal(Message):
    """What every refusal says, in one sentence."""

    error: str


class HealthResponse(Message):
    """That we are up."""

    status: str = "UP"
    model_class: str = "ExemplarModel"


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of a route, those of every route (see ``door``) among them."""
    return {status: {"model": Refusal, "description": WHY[status]} for status in sorted({*EVERYWHERE, *statuses})}


WHY = {
    400: "no HTTP, or a body that ended before its end",
    401: "the password is missing or wrong",
    403: "a page of another site asks, or a stranger where only this machine may see",
    404: "no such project is known here",
    408: "the request did not come to its end in time",
    413: "more than the route takes",
    415: "the body is no JSON, or compressed",
    421: "the Host is not a name of this backend",
    422: "what is asked cannot be used; the sentence says why",
    424: "Label Studio refuses our API key, or there is none",
    429: "too many wrong passwords from this address",
    431: "the head is longer than 64 KiB",
    500: "a defect; the log tells more",
    503: "too much at once, or MODEL_DIR cannot be written",
}
EVERYWHERE = (400, 401, 403, 408, 413, 415, 421, 429, 431, 500, 503)
