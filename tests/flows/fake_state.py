"""What the fake Label Studio holds, and the rules by which the real one (1.23.2) changes it.

Each rule was seen in a running Label Studio or read in its source; the places are named.
"""

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from label_studio_tools.core.label_config import parse_config

Json = dict[str, Any]

SAMPLINGS = ("Sequential sampling", "Uniform sampling", "Uncertainty sampling")
SETTABLE = (
    "title",
    "label_config",
    "model_version",
    "sampling",
    "show_collab_predictions",
    "maximum_annotations",
)


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class State:
    """Projects and what belongs to them, as dicts of the shape that the API answers.

    ``announce`` is called with project id, action and payload after each change that the real one tells its
    webhooks of. ``lock`` is held while rows are changed or gone through, and never while a webhook is sent.
    """

    def __init__(self) -> None:
        self.projects: dict[int, Json] = {}
        self.tasks: dict[int, Json] = {}
        self.annotations: dict[int, Json] = {}
        self.predictions: dict[int, Json] = {}
        self.backends: dict[int, Json] = {}
        self.webhooks: dict[int, Json] = {}
        self.files: dict[str, bytes] = {}
        self.clouds: dict[str, str] = {}  # where files in cloud storage are redirected to, by `fileuri`
        self.task_locks: dict[int, int] = {}
        self.lock = threading.RLock()
        self.announce: Callable[[int, str, Json], None] = lambda project_id, action, payload: None
        self.random = random.Random(0)
        self._counters: dict[str, count[int]] = defaultdict(lambda: count(1))
        self._now = datetime.now(UTC)

    def now(self) -> str:
        """Return the time as Label Studio writes it; no two moments are the same."""
        self._now = max(datetime.now(UTC), self._now + timedelta(microseconds=1))
        return f"{self._now:%Y-%m-%dT%H:%M:%S.%fZ}"

    def new_id(self, kind: str) -> int:
        return next(self._counters[kind])

    # -- projects ---------------------------------------------------------------------------------------

    def create_project(self, values: Json) -> Json:
        with self.lock:
            project = {
                "id": self.new_id("project"),
                "title": "",
                "label_config": "<View></View>",
                "model_version": "",
                "sampling": "Sequential sampling",
                "show_collab_predictions": True,
                "maximum_annotations": 1,
                "organization": 1,
                "created_at": self.now(),
                **values,
            }
            self.projects[project["id"]] = project
            return project

    def project(self, project_id: int) -> Json:
        if project_id not in self.projects:
            raise ApiError(404, "No Project matches the given query.")
        return self.projects[project_id]

    def delete_project(self, project_id: int) -> None:
        """Delete a project with all that belongs to it; no webhook tells of it."""
        with self.lock:
            del self.projects[self.project(project_id)["id"]]
            for rows in (self.tasks, self.annotations, self.predictions, self.backends, self.webhooks):
                for row in [row for row in rows.values() if row["project"] == project_id]:
                    del rows[row["id"]]

    def show_project(self, project: Json) -> Json:
        tasks = self.tasks_of(project["id"])
        return project | {
            "task_number": len(tasks),
            "num_tasks_with_annotations": sum(1 for task in tasks if self.answers(task["id"])),
            "total_predictions_number": len(self.predictions_of(project["id"])),
        }

    def patch_project(self, project_id: int, values: Json) -> Json:
        with self.lock:
            project = self.project(project_id)
            self._check_project(project, values)
            project |= {name: value for name, value in values.items() if name in SETTABLE}
            if values.get("show_collab_predictions") is False:  # ProjectSerializer.update
                project["model_version"] = ""
        self.announce(project_id, "PROJECT_UPDATED", {})
        return project

    def _check_project(self, project: Json, values: Json) -> None:
        if values.get("sampling", SAMPLINGS[0]) not in SAMPLINGS:
            raise ApiError(400, {"sampling": [f'"{values["sampling"]}" is not a valid choice.']})
        version = values.get("model_version") or ""
        titles = {backend["title"] for backend in self.backends_of(project["id"])}
        if version not in ("", project["model_version"], *titles, *self.model_versions(project["id"])):
            text = "Model version doesn't exist either as live model or as static predictions."
            raise ApiError(400, {"model_version": [text]})
        if "label_config" in values:
            controls = parse_config(values["label_config"])
            used = {
                (region["from_name"], region["to_name"])
                for task in self.tasks_of(project["id"])
                for annotation in self.annotations_of(task["id"])
                for region in annotation["result"]
                if isinstance(region, dict) and "from_name" in region
            }
            known = {(name, to_name) for name, tag in controls.items() for to_name in tag["to_name"]}
            if not used <= known:
                text = "Created annotations are incompatible with provided labeling schema, we found:\n"
                raise ApiError(400, {"label_config": [text + f"{sorted(used - known)}"]})

    # -- tasks ------------------------------------------------------------------------------------------

    def import_tasks(self, project_id: int, all_data: Sequence[Json]) -> list[Json]:
        with self.lock:
            tasks = [self._new_task(project_id, data) for data in all_data]
        self.announce(project_id, "TASKS_CREATED", {"tasks": tasks})
        return tasks

    def _new_task(self, project_id: int, values: Json) -> Json:
        """Make a task of its data, or of an object that has it as `data` (tasks/validation.py)."""
        now = self.now()
        root = values if isinstance(values, dict) and "data" in values else {"data": values}
        data, meta = root["data"], root.get("meta", {})
        # On SQLite the id of the last task is given again after its deletion (seen).
        task = {"id": 1 + max(self.tasks, default=0), "data": data, "meta": meta, "project": project_id}
        task |= {"created_at": now, "updated_at": now, "is_labeled": False, "overlap": 1}
        self.tasks[task["id"]] = task
        return task

    def task(self, task_id: int) -> Json:
        if task_id not in self.tasks:
            raise ApiError(404, "No Task matches the given query.")
        return self.tasks[task_id]

    def tasks_of(self, project_id: int) -> list[Json]:
        with self.lock:
            return [self.tasks[id_] for id_ in sorted(self.tasks) if self.tasks[id_]["project"] == project_id]

    def patch_task(self, task_id: int, data: Json, **values: Any) -> Json:
        """Change a task's data, or its meta; the real one tells no webhook of that (seen)."""
        with self.lock:
            task = self.task(task_id)
            task |= {"data": data, **values, "updated_at": self.now()}
            return task

    def delete_tasks(self, task_ids: Iterable[int]) -> None:
        with self.lock:
            gone = [self.tasks.pop(task_id) for task_id in task_ids]
            ids = {task["id"] for task in gone}
            for rows in (self.annotations, self.predictions):
                for row in [row for row in rows.values() if row["task"] in ids]:
                    del rows[row["id"]]
            for task_id in ids:
                self.task_locks.pop(task_id, None)
        for project_id in {task["project"] for task in gone}:
            deleted = [{"id": task["id"]} for task in gone if task["project"] == project_id]
            self.announce(project_id, "TASKS_DELETED", {"tasks": deleted})

    def show_task(self, task: Json) -> Json:
        with self.lock:
            rows = [row for row in self.predictions.values() if row["task"] == task["id"]]
            return task | {"annotations": self.annotations_of(task["id"]), "predictions": rows}

    def touch(self, task_id: int) -> None:
        self.task(task_id)["updated_at"] = self.now()

    # -- annotations ------------------------------------------------------------------------------------

    def annotations_of(self, task_id: int) -> list[Json]:
        # The newest comes first, as in the API.
        with self.lock:
            ids = sorted(self.annotations, reverse=True)
            return [self.annotations[id_] for id_ in ids if self._is_of(id_, task_id)]

    def _is_of(self, annotation_id: int, task_id: int) -> bool:
        return bool(self.annotations[annotation_id]["task"] == task_id)

    def answers(self, task_id: int) -> list[Json]:
        return [annotation for annotation in self.annotations_of(task_id) if not annotation["was_cancelled"]]

    def create_annotation(self, task_id: int, values: Json, user: int) -> Json:
        with self.lock:
            task = self.task(task_id)
            parent = values.get("parent_prediction")
            if parent is not None and parent not in self.predictions:
                raise ApiError(400, {"parent_prediction": [f'Invalid pk "{parent}" - object does not exist.']})
            annotation = self._new_annotation(task, values, user)
            self.touch(task_id)
            self.task_locks.pop(task_id, None)
            self._recount(task)
        self.announce(
            task["project"], "ANNOTATION_CREATED", {"annotation": self._event(annotation), "task": dict(task)}
        )
        return annotation

    def _new_annotation(self, task: Json, values: Json, user: int) -> Json:
        annotation = {
            "id": self.new_id("annotation"),
            "result": values.get("result", []),  # any JSON
            "was_cancelled": values.get("was_cancelled", False),
            "lead_time": values.get("lead_time"),
            "parent_prediction": values.get("parent_prediction"),
            "completed_by": user,
            "created_at": self.now(),
            "task": task["id"],
            "project": task["project"],
        }
        self.annotations[annotation["id"]] = annotation
        return annotation

    def _event(self, annotation: Json) -> Json:
        with self.lock:
            shown = self.predictions.get(annotation["parent_prediction"], {})
            return annotation | {"prediction": dict(shown)}

    def _recount(self, task: Json) -> None:
        task["is_labeled"] = len(self.answers(task["id"])) >= task["overlap"]

    def annotation(self, annotation_id: int) -> Json:
        if annotation_id not in self.annotations:
            raise ApiError(404, "No Annotation matches the given query.")
        return self.annotations[annotation_id]

    def patch_annotation(self, annotation_id: int, values: Json) -> Json:
        with self.lock:
            annotation = self.annotation(annotation_id)
            names = ("result", "was_cancelled", "lead_time")
            annotation |= {name: values[name] for name in names if name in values}
            task = self.task(annotation["task"])
            self.touch(task["id"])
            self._recount(task)
        self.announce(
            task["project"], "ANNOTATION_UPDATED", {"annotation": self._event(annotation), "task": dict(task)}
        )
        return annotation

    def delete_annotation(self, annotation_id: int) -> None:
        with self.lock:
            annotation = self.annotation(annotation_id)
            del self.annotations[annotation_id]
            task = self.task(annotation["task"])
            self.touch(task["id"])
            self._recount(task)
        self.announce(task["project"], "ANNOTATIONS_DELETED", {"annotations": [{"id": annotation_id}]})

    def accept_in_bulk(self, project_id: int, task_ids: Sequence[int], user: int) -> list[Json]:
        """Do "Create annotations from predictions": parent_prediction set, lead_time null (seen)."""
        with self.lock:
            rows = self.current_rows(project_id)
            tasks = [self.task(task_id) for task_id in task_ids if task_id in rows]
            made = []
            for task in tasks:
                row = rows[task["id"]]
                values = {"result": row["result"], "parent_prediction": row["id"]}
                made.append(self._new_annotation(task, values, user))
                self.touch(task["id"])
                self._recount(task)
        payload = {"annotation": [self._event(annotation) for annotation in made], "task": tasks}
        self.announce(project_id, "ANNOTATIONS_CREATED", payload)
        return made

    # -- predictions ------------------------------------------------------------------------------------

    def predictions_of(self, project_id: int) -> list[Json]:
        with self.lock:
            return [row for row in self.predictions.values() if row["project"] == project_id]

    def current_rows(self, project_id: int) -> dict[int, Json]:
        """Return the row of each task under ``project.model_version``, the latest of several."""
        version = self.project(project_id)["model_version"]
        return {row["task"]: row for row in self.predictions_of(project_id) if row["model_version"] == version}

    def create_prediction(self, values: Json) -> Json:
        with self.lock:
            if values.get("task") not in self.tasks:
                raise ApiError(400, {"task": [f'Invalid pk "{values.get("task")}" - object does not exist.']})
            row = self._new_prediction(values)
            self.touch(row["task"])
            return row

    def _new_prediction(self, values: Json) -> Json:
        now = self.now()
        row = {
            "id": self.new_id("prediction"),
            "result": values.get("result") or [],
            "score": values.get("score"),
            "cluster": values.get("cluster"),
            "model_version": values.get("model_version") or "undefined",
            "task": values["task"],
            "project": self.tasks[values["task"]]["project"],
            "created_at": now,
            "updated_at": now,
        }
        self.predictions[row["id"]] = row
        return row

    def patch_prediction(self, prediction_id: int, values: Json) -> Json:
        with self.lock:
            if prediction_id not in self.predictions:
                raise ApiError(404, "No Prediction matches the given query.")
            row = self.predictions[prediction_id]
            names = ("result", "score", "cluster", "model_version")
            row |= {name: values[name] for name in names if name in values} | {"updated_at": self.now()}
            self.touch(row["task"])
            return row

    def delete_prediction(self, prediction_id: int) -> None:
        with self.lock:
            self._forget_parents({prediction_id})
            self.touch(self.predictions.pop(prediction_id)["task"])

    def _forget_parents(self, prediction_ids: set[int]) -> None:
        for annotation in self.annotations.values():
            if annotation["parent_prediction"] in prediction_ids:
                annotation["parent_prediction"] = None

    def import_predictions(self, project_id: int, items: Sequence[Json]) -> int:
        """Create many; rows that do not fit are left out without a word (seen: score 1.5, -0.1, a wrong choice)."""
        with self.lock:
            project = self.project(project_id)
            for item in items:
                if self.tasks.get(item.get("task"), {}).get("project") != project_id:
                    raise ApiError(400, f'{item} contains invalid "task" field')
            controls = parse_config(project["label_config"])
            good = [item for item in items if _fits(item, controls)]
            for item in good:
                self._new_prediction({key: item.get(key) for key in ("task", "result", "score", "model_version")})
            return len(good)

    def model_versions(self, project_id: int) -> dict[str, int]:
        versions: dict[str, int] = defaultdict(int)
        for row in self.predictions_of(project_id):
            versions[row["model_version"]] += 1
        if current := self.project(project_id)["model_version"]:
            versions.setdefault(current, 0)
        return dict(versions)

    def delete_model_version(self, project_id: int, version: str) -> int:
        with self.lock:
            project = self.project(project_id)
            titles = {backend["title"] for backend in self.backends_of(project_id)}
            if project["model_version"] == version or project["model_version"] in titles:
                project["model_version"] = None
            gone = {row["id"] for row in self.predictions_of(project_id) if row["model_version"] == version}
            self._forget_parents(gone)
            for prediction_id in gone:
                del self.predictions[prediction_id]
            return len(gone)

    # -- connections ------------------------------------------------------------------------------------

    def backends_of(self, project_id: int) -> list[Json]:
        with self.lock:
            return [backend for backend in self.backends.values() if backend["project"] == project_id]

    def add_backend(self, backend: Json) -> None:
        with self.lock:
            self.backends[backend["id"]] = backend

    def delete_backend(self, backend_id: int) -> None:
        with self.lock:
            del self.backends[backend_id]

    def webhooks_of(self, project_id: int) -> list[Json]:
        with self.lock:
            return [hook for hook in self.webhooks.values() if hook["project"] == project_id]

    def create_webhook(self, values: Json) -> Json:
        with self.lock:
            hook = {"id": self.new_id("webhook"), "send_payload": True, "send_for_all_actions": True}
            hook |= {"headers": {}, "is_active": True, "actions": [], **values}
            self.webhooks[hook["id"]] = hook
            return hook

    def delete_webhook(self, webhook_id: int) -> None:
        with self.lock:
            if self.webhooks.pop(webhook_id, None) is None:
                raise ApiError(404, "No Webhook matches the given query.")

    # -- the queue --------------------------------------------------------------------------------------

    def take_next_task(self, project_id: int, user: int) -> Json | None:
        """Choose and lock a user's next task (projects/functions/next_task.py, overlap 1, no assignments)."""
        with self.lock:
            project = self.project(project_id)
            unsolved = [
                task
                for task in self.tasks_of(project_id)
                if not task["is_labeled"]
                and not any(annotation["completed_by"] == user for annotation in self.annotations_of(task["id"]))
            ]
            mine = [task for task in unsolved if self.task_locks.get(task["id"]) == user]
            free = [task for task in unsolved if task["id"] not in self.task_locks]
            task = mine[0] if mine else self._by_sampling(project, unsolved, free)
            if task is not None:
                self.task_locks[task["id"]] = user
            return task

    def _by_sampling(self, project: Json, unsolved: list[Json], free: list[Json]) -> Json | None:
        if project["sampling"] == "Sequential sampling":
            return next(iter(free), None)
        if project["sampling"] == "Uncertainty sampling":
            rows = self.current_rows(project["id"])
            if any(task["id"] in rows for task in unsolved):
                # If all of these are locked, there is no task, whatever else is unlabelled.
                scored = [task for task in free if task["id"] in rows]
                return min(scored, key=lambda task: _lowest_first(rows[task["id"]]["score"]), default=None)
        return self.random.choice(free) if free else None


def _lowest_first(score: float | None) -> float:
    return float("-inf") if score is None else score  # SQLite puts null first


def _fits(item: Json, controls: Json) -> bool:
    score = item.get("score")
    if score is not None and not 0 <= score <= 1:
        return False
    for region in item.get("result") or []:
        tag = controls.get(region.get("from_name"))
        if tag is None or region.get("to_name") not in tag["to_name"]:
            return False
        if not set(region.get("value", {}).get("choices", [])) <= set(tag["labels"]):
            return False
    return True
