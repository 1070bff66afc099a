"""The project that a command names: what is known of it here, or why nothing is."""

from exemplar.errors import NothingLearnedError, UnknownProjectError
from exemplar.settings import Settings
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore
from exemplar.store.snapshot import Snapshot


def known_project(settings: Settings, project_id: int) -> ProjectStore:
    """Return what is kept of a project, closed ones too; of two hosts' the one known longest (``Home.known``).

    Raises
    ------
    UnknownProjectError
        If nothing is, saying whether it was disconnected, or what else MODEL_DIR holds.
    OSError
        If MODEL_DIR cannot be read.
    """
    home = Home(settings.model_dir, settings.label_studio_url)
    store = home.known(project_id)
    if store is not None:
        return store
    if home.folder.is_dir():
        list(home.folder.iterdir())  # raises if it is not ours to read: then nobody knows
    raise UnknownProjectError(str(project_id), _why_unknown(home, project_id))


def learned_project(settings: Settings, project_id: int) -> tuple[ProjectStore, Snapshot]:
    """Return what is kept of a project, and what was learned.

    Raises
    ------
    UnknownProjectError
        If the project is not known here.
    NothingLearnedError
        If there is no snapshot yet, saying what it waits for.
    """
    store = known_project(settings, project_id)
    snapshot = store.current()
    if snapshot is None:
        now = store.status()
        waits_for = now.problem or now.doing or "the backend has not looked at it yet: does `exemplar serve` run?"
        raise NothingLearnedError(f"Project {project_id} is connected, and nothing is learned yet: {waits_for}")
    return store, snapshot


def _why_unknown(home: Home, project_id: int) -> str:
    gone = home.disconnected(project_id)
    if gone is not None:
        return f"it was disconnected on {gone:%Y-%m-%d at %H:%M}; to go on, connect it again in Settings ▸ Model"
    others = sorted({int(store.folder.name.partition(".")[0]) for store in home.introduced()})
    if not others:
        return (
            f"MODEL_DIR={home.folder} holds no project at all. Set MODEL_DIR to the folder that the backend "
            "uses, or connect the project in Settings ▸ Model"
        )
    return (
        f"MODEL_DIR={home.folder} holds only {', '.join(map(str, others))}. Connect it in Settings ▸ Model, "
        "or set MODEL_DIR to the folder that its backend uses"
    )
