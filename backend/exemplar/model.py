"""ExemplarModel: Exemplar as the class of the label-studio-ml package.

Our own server calls it for /predict and /webhook; label-studio-ml's ``init_app(ExemplarModel)`` serves it as well,
for people who run such servers already. There settings come from the environment, too, and each event
refreshes the project in label-studio-ml's job process.
"""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from label_studio_ml.model import LabelStudioMLBase

from exemplar.context import open_project
from exemplar.errors import InputError, UnknownProjectError
from exemplar.jobs import run_once
from exemplar.labelstudio.reading import integer, mapping
from exemplar.project.introduction import confirm, project_key
from exemplar.project.serve import Snapshots, predict
from exemplar.settings import Settings, from_environment
from exemplar.store.disk import Disk
from exemplar.store.home import FULL_NAME, Home
from exemplar.store.introductions import Introduction
from exemplar.store.project_store import ProjectStore

logger = logging.getLogger(__name__)

START_TRAINING = "START_TRAINING"
_ID = re.compile(r"[0-9]{1,18}")
Json = dict[str, Any]


class ExemplarModel(LabelStudioMLBase):  # type: ignore[misc]  # label-studio-ml has no types
    """The face of all projects: predictions from snapshots, events to dirty numbers.

    Parameters
    ----------
    label_config : str, optional
        The project's label config, as label-studio-ml's manager passes it.
    settings : Settings, optional
        By default those of the environment.
    **kwargs
        Whatever else label-studio-ml passes: ``train_output``, ``hostname``, ``access_token``.
    """

    def __init__(self, label_config: str | None = None, settings: Settings | None = None, **kwargs: Any) -> None:
        super().__init__(label_config=label_config, **kwargs)
        # A server that is not ours does not tell where it listens: its neighbours may reach it.
        self.settings = settings or replace(from_environment(), host="")
        self.home = Home(self.settings.model_dir, self.settings.label_studio_url)
        self.disk = Disk(self.settings.model_dir)
        self._snapshots = Snapshots()

    def predict(self, tasks: Sequence[Json], project: str | None = None, **kwargs: Any) -> list[Json]:
        """Return exactly one prediction a task, in order.

        Parameters
        ----------
        tasks : sequence of dict
            Tasks as Label Studio sends them.
        project : str, optional
            Its full name ``<id>.<created>``; label-studio-ml's server does not pass it on, then the tasks'
            own project id has to do.
        **kwargs
            ``label_config``; ``until``, the time of ``time.monotonic`` at which to answer with what there is; and
            ``show_all``, to be told also what is too unsure to be ticked.

        Raises
        ------
        UnknownProjectError
            If the project was never set up here.
        """
        store = self._store(tasks, project)
        opened = open_project(store, self.settings)
        try:
            snapshot = self._snapshots.current(store)
            label_config = kwargs.get("label_config") or self.label_config
            until, show_all = kwargs.get("until"), kwargs.get("show_all", False)
            return predict(opened, snapshot, tasks, label_config, until=until, show_all=show_all)
        finally:
            opened.close()

    def note(self, event: str, data: Mapping[str, Any]) -> list[ProjectStore]:
        """Take in a webhook: a hint that something changed, never data. Costs one byte on disk.

        Without a payload no project is named, so all may have changed. A project that has disconnected us may be
        among them: nobody looks at its numbers.
        """
        stores = list(self.home.introduced(_named(data)))
        if not stores:
            self._note_stranger()
        for store in stores:
            self.disk.raise_number(store, "orders" if event == START_TRAINING else "webhooks")
            if event.startswith("ANNOTATION"):
                with suppress(OSError):  # a full disk: it tells only how to pace
                    store.note_annotation()
        return stores

    def _note_stranger(self) -> None:
        with suppress(OSError):  # a full disk: the next webhook of that project tells again
            self.home.note_stranger()

    def known(self, data: Mapping[str, Any]) -> list[ProjectStore]:
        """Return the projects that an event speaks of, as far as they are known here."""
        return list(self.home.stores(_named(data)))

    def fit(self, tasks: Sequence[Json] = (), workdir: str | None = None, **kwargs: Any) -> Json:
        """Refresh the project that an event names, here and now; what label-studio-ml's job process calls."""
        data = mapping(kwargs.get("data"))
        stores = self._introduced(data)
        kind = "orders" if kwargs.get("event") == START_TRAINING else "webhooks"
        for store in stores:
            number, outcome = store.raise_number(kind), None
            # There each event has a process of its own: another may be at it, and not know of this one yet.
            while outcome is None or outcome.pending or outcome.unread or getattr(store.done(), kind) < number:
                outcome = run_once(store, self.settings)
                if outcome is None:
                    time.sleep(0.2)
        return {"projects": [store.folder.name for store in stores]}

    def process_event(self, event: str, data: Json, job_id: str, additional_params: Json) -> Json:
        """Take in an event under label-studio-ml's own server; every kind may change what we know."""
        return self.fit((), event=event, data=data, job_id=job_id)

    def _store(self, tasks: Sequence[Json], project: str | None) -> ProjectStore:
        if project is not None:
            return self.home.find(project)
        ids = {integer(mapping(task).get("project")) for task in tasks}
        stores = [store for id_ in ids if id_ is not None for store in self.home.with_id(id_)]
        if len(stores) != 1:
            raise UnknownProjectError(", ".join(map(str, ids)) or "without a name")
        return stores[0]

    def _introduced(self, data: Mapping[str, Any]) -> list[ProjectStore]:
        """Return the stores of the event's project; label-studio-ml's /setup introduces none, so that this asks."""
        project = data.get("project")
        if not self.known(data) and isinstance(project, dict) and "created_at" in project:
            said = Introduction(
                key=project_key(project),
                url=self.settings.label_studio_url or self.hostname,
                hostname=self.hostname,
                access_token="" if self.settings.label_studio_api_key else self.access_token,
            )
            confirm(self.settings, self.home, said)
        return self.known(data)


def _named(data: Mapping[str, Any]) -> str:
    """Return which full names an event speaks of, as a pattern; any, if it has neither payload nor address."""
    project = data.get("project")
    if project is None:
        return "*"
    if isinstance(project, dict):
        project = project.get("id")
    if isinstance(project, int) and not isinstance(project, bool):
        project = str(project) if 0 <= project < 10**18 else None
    if isinstance(project, str) and FULL_NAME.fullmatch(project):
        return project
    if isinstance(project, str) and _ID.fullmatch(project):
        return f"{int(project)}.*"
    raise InputError(f"project={str(data['project'])[:100]!r}: expected a project of Label Studio with its id")
