"""A snapshot's arrays by name: which are small and its own, and which are big and shared with other snapshots."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.engine import Checkpoint, Clustering, Columns, Geometry, LinearClassifier, NeighborGraph, Projection
from exemplar.features import Fitted
from exemplar.labelstudio.tasks import Task
from exemplar.store.files import Signature, signature_of
from exemplar.store.snapshot import Facts, KeptModel, Snapshot, tasks_from_json

GEOMETRY = (
    "X",
    "Z",
    "projection_mean",
    "projection_components",
    "centers",
    "cluster_ids",
    "distances",
    "node_of",
    "node_rows",
    "neighbors",
    "neighbor_distances",
)
PRIOR = "prior_"
DUPLICATES = ("signatures", "leaders")
MODEL = "model"
# Readers keep the geometries of so many projects, and what was derived from them.
KEPT_GEOMETRIES = 8
Array = NDArray[Any]


def arrays_of(snapshot: Snapshot) -> dict[str, Array]:
    """Return all arrays of a snapshot by the names of their files."""
    columns = snapshot.columns
    arrays: dict[str, Array] = {
        "task_ids": snapshot.task_ids,
        "signatures": snapshot.signatures,
        "leaders": snapshot.leaders,
        "distributions": snapshot.distributions,
        "choices": snapshot.choices,
        "scores": snapshot.scores,
        "blind": snapshot.blind,
        "faint": snapshot.faint,
        **_checkpoint_arrays(snapshot.checkpoints),
        "column_nodes": columns.nodes,
        "column_indptr": columns.indptr,
        "column_indices": columns.indices,
        "column_values": columns.values,
        **_geometry_arrays(snapshot.geometry),
    }
    arrays |= {f"{PRIOR}{i}": prior for i, prior in enumerate(snapshot.priors)}
    if snapshot.classifier:
        arrays |= {
            "coef": snapshot.classifier.coef,
            "intercept": snapshot.classifier.intercept,
            "classes": snapshot.classifier.classes,
        }
    for number, model in enumerate(snapshot.models.values()):
        arrays |= {model_part(number, name): array for name, array in model.arrays.items()}
    return arrays


def is_shared(part: str) -> bool:
    """Return whether snapshots share a part: it is big, and seldom another one."""
    return part in (*GEOMETRY, *DUPLICATES) or part.startswith((f"{MODEL}-", PRIOR))


def model_part(number: int, array: str = "") -> str:
    """Return the name of a fitted model's part: of one of its arrays, or of all else."""
    return f"{MODEL}-{number}-{array}" if array else f"{MODEL}-{number}"


def kept_models(models: Mapping[str, Fitted]) -> list[KeptModel]:
    """Return what is kept of models beside their arrays."""
    return [
        KeptModel(
            block=block,
            embedder=model.embedder,
            identity=model.identity,
            facts=dict(model.facts),
            arrays=tuple(model.arrays),
        )
        for block, model in models.items()
    ]


def models_of(kept: Sequence[KeptModel], parts: Mapping[str, Path]) -> dict[str, Fitted]:
    """Return the models whose parts these are."""
    return {
        model.block: Fitted(
            model.embedder,
            model.identity,
            model.facts,
            {name: mapped(parts[model_part(number, name)]) for name in model.arrays},
        )
        for number, model in enumerate(kept)
    }


def _checkpoint_arrays(checkpoints: tuple[Checkpoint, ...]) -> dict[str, Array]:
    if not checkpoints:
        return {}
    return {
        "checkpoint_labels": np.array([checkpoint.n_labels for checkpoint in checkpoints]),
        "checkpoint_accuracies": np.array([checkpoint.expected_accuracy for checkpoint in checkpoints]),
        "checkpoint_predictions": np.stack([checkpoint.predictions for checkpoint in checkpoints]),
    }


def _checkpoints(arrays: dict[str, Array]) -> tuple[Checkpoint, ...]:
    if "checkpoint_labels" not in arrays:
        return ()
    parts = (arrays[f"checkpoint_{part}"] for part in ("labels", "predictions", "accuracies"))
    return tuple(Checkpoint(int(n), predictions, float(a)) for n, predictions, a in zip(*parts, strict=True))


def _geometry_arrays(geometry: Geometry) -> dict[str, Array]:
    graph, clustering, projection = geometry.graph, geometry.clustering, geometry.projection
    arrays: dict[str, Array] = {
        "X": geometry.X,
        "centers": clustering.centers,
        "cluster_ids": clustering.cluster_ids,
        "distances": clustering.distances,
        "node_of": graph.node_of,
        "node_rows": graph.rows,
        "neighbors": graph.neighbors,
        "neighbor_distances": graph.distances,
    }
    if projection:
        arrays |= {
            "Z": geometry.Z,
            "projection_mean": projection.mean,
            "projection_components": projection.components,
        }
    return arrays


def assemble(
    facts: Facts,
    tasks: tuple[Task, ...],
    models: Mapping[str, Fitted],
    arrays: dict[str, Array],
    geometry: Geometry,
) -> Snapshot:
    """Return the snapshot whose parts these are."""
    classifier = None
    if "coef" in arrays:
        classifier = LinearClassifier(arrays["coef"], arrays["intercept"], arrays["classes"])
    return Snapshot(
        facts=facts,
        tasks=tasks,
        task_ids=arrays["task_ids"],
        geometry=geometry,
        signatures=arrays["signatures"],
        leaders=arrays["leaders"],
        distributions=arrays["distributions"],
        columns=Columns(
            arrays["column_nodes"], arrays["column_indptr"], arrays["column_indices"], arrays["column_values"]
        ),
        classifier=classifier,
        models=models,
        choices=arrays["choices"],
        scores=arrays["scores"],
        blind=arrays["blind"],
        faint=arrays["faint"],
        checkpoints=_checkpoints(arrays),
        priors=tuple(arrays[f"{PRIOR}{i}"] for i in range(len(facts.priors))),
    )


def mapped(path: Path) -> Array:
    """Return an array as it stands on disk, read when it is used."""
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def read_geometry(paths: dict[str, Path], recall: float) -> Geometry:
    """Return the geometry in these files: the same one for as long as they stay.

    What a reader derives from it (the affinity matrix, the queue's kernel) thus outlives an annotation.
    """
    return _read_geometry(tuple((part, path, signature_of(path)) for part, path in paths.items()), recall)


@lru_cache(KEPT_GEOMETRIES)
def _read_geometry(paths: tuple[tuple[str, Path, Signature], ...], recall: float) -> Geometry:
    arrays = {name: mapped(path) for name, path, _ in paths}
    projection = None
    if "projection_mean" in arrays:
        projection = Projection(arrays["projection_mean"], arrays["projection_components"])
    return Geometry(
        arrays["X"],
        arrays["Z"] if projection else arrays["X"],
        projection,
        Clustering(arrays["centers"], arrays["cluster_ids"], arrays["distances"]),
        NeighborGraph(
            arrays["node_of"], arrays["node_rows"], arrays["neighbors"], arrays["neighbor_distances"], recall
        ),
    )


def read_tasks(path: Path) -> tuple[Task, ...]:
    """Return the tasks in a file, without their annotations; it is read once for as long as it stays."""
    return _read_tasks(path, signature_of(path))


@lru_cache(KEPT_GEOMETRIES)
def _read_tasks(path: Path, signature: Signature) -> tuple[Task, ...]:
    return tasks_from_json(path.read_bytes())
