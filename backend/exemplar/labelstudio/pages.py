"""The task list, page by page, and around the tasks that Label Studio itself fails to show."""

import logging
from collections.abc import Callable
from typing import Any

from exemplar.errors import LabelStudioDownError, LabelStudioError
from exemplar.labelstudio import reading
from exemplar.labelstudio.reading import Json

logger = logging.getLogger(__name__)

# At 1 000 tasks a page, Label Studio on SQLite answers 500 ("Expression tree is too large").
PAGE_SIZE = 500
# To a page with a task that it cannot write down (half a character in its data or in an annotation: it took these),
# Label Studio answers 500, always. Such a page is read in so many parts, and these again, down to single tasks.
PARTS = 10
# What fails for more tasks of a page than these is Label Studio, not the tasks.
MAX_UNSHOWN = 100
# Such a task is known to be there, and no more.
UNSHOWN = "unshown"
# A database that is busy fails as well: a single task is asked for so many seconds.
PATIENCE = 1.0

Get = Callable[..., Any]
"""Asks for a page by its parameters, and for how many seconds (by default as long as for anything)."""
Reduce = Callable[[list[Json]], list[Json]]
"""Makes of a page's tasks what is kept of them."""


def read_pages(
    get: Get,
    params: Json,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    reduce: Reduce = lambda tasks: tasks,
) -> list[Json]:
    """Return all tasks; one that moves between pages while we read is neither lost nor doubled."""
    params = {"page_size": PAGE_SIZE, **params}
    tasks: dict[int, Json] = {}
    page, n_none = 1, 0
    while True:
        found, none, total = read_page(get, params | {"page": page})
        tasks.update((task["id"], task) for task in reduce(found))
        n_none += none
        on_progress(len(tasks), total)
        if page * params["page_size"] >= total:
            break
        page += 1
    if n_none:
        logger.warning("Project %s: %d entries of its task list are no task", params["project"], n_none)
    if len(tasks) + n_none < total:
        read = f"read {len(tasks)} of {total} tasks, which changed meanwhile; trying again"
        raise LabelStudioDownError(f"Project {params['project']}: {read}")
    return list(tasks.values())


def read_page(get: Get, params: Json) -> tuple[list[Json], int, int]:
    """Return a page as ``reading.read_page`` does; a task that cannot be shown is ``UNSHOWN``.

    Raises
    ------
    LabelStudioError
        If it is Label Studio that fails.
    """
    try:
        return reading.read_page(get(params))
    except LabelStudioError as error:
        if not _is_of_a_task(error):
            raise
        ids, none, total = reading.read_page(get(params | {"include": "id"}))
        shown = {task["id"]: task for task in _shown(get, params)}
        unshown = [task["id"] for task in ids if task["id"] not in shown]
        if len(unshown) > MAX_UNSHOWN or len(unshown) == len(ids) > 1:
            raise
        logger.warning("Label Studio fails to show the tasks %s, which are left out: %s", unshown, error)
        return [shown.get(task["id"], {"id": task["id"], UNSHOWN: True}) for task in ids], none, total


def _shown(get: Get, params: Json) -> list[Json]:
    """Return the tasks of a page that fails, without those that fail alone."""
    page, size = params["page"], params["page_size"]
    part = size // PARTS if size % PARTS == 0 else 1
    found: list[Json] = []
    n_failed = 0
    for number in range((page - 1) * size // part + 1, page * size // part + 1):
        smaller = params | {"page": number, "page_size": part}
        try:
            found += reading.read_page(get(smaller, patience=PATIENCE if part == 1 else 0.0))[0]
        except LabelStudioError as error:
            if error.status_code == 404:  # beyond the last page
                break
            n_failed += 1
            if not _is_of_a_task(error) or n_failed > MAX_UNSHOWN:
                raise
            found += _shown(get, smaller) if part > 1 else []
    return found


def _is_of_a_task(error: LabelStudioError) -> bool:
    """Return whether a page failed, or was no JSON that anybody can read, while Label Studio is up."""
    return error.status_code in (200, 500)
