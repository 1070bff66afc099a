"""Bulk imports: many rows in one request, which is written down first, so that no row is made twice.

After each import Label Studio counts every row of the project anew, so that few requests are quicker than many. One
may take minutes, and goes on in Label Studio when its answer does not reach us any more: because this process was
killed, or because a proxy between us had waited long enough. Its rows then come all the same.
"""

import logging
import time
from functools import partial
from typing import Any

from exemplar.context import Project
from exemplar.errors import LabelStudioDownError, LabelStudioError
from exemplar.labelstudio.client import Client, NotReachedError
from exemplar.rows.ledger import Ledger
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Importing

logger = logging.getLogger(__name__)

# Rows of one request: more would take Label Studio more than half a gigabyte. Fewer after one that was cut off.
BULK = 100_000
FEWER, LEAST = 4, 2000
# Rows of a request that was cut off are waited for: so many seconds, and so many for each row. (A quiet Label
# Studio on SQLite takes 1 ms a row, and commits the rows before it counts them.)
PATIENCE, PATIENCE_A_ROW = 10.0, 0.005
LOOK_EVERY = 5.0
Json = dict[str, Any]


def import_rows(project: Project, rows: list[Json], ledger: Ledger) -> int:
    """Import the first of some rows of one generation; return how many these are."""
    rows = rows[: max(BULK // FEWER**ledger.n_cut_off, LEAST)]
    version = rows[0]["model_version"]
    if not project.client.dry_run:
        there = project.client.model_versions(project.id).get(version, 0)
        project.store.note_import(
            Importing(version=version, rows=len(rows), expected=there + len(rows), since=time.time())
        )
    ledger.import_(rows, partial(_request, project.client.another(), project.store, project.id))
    return len(rows)


def _request(client: Client, store: ProjectStore, project_id: int, rows: list[Json]) -> None:
    try:
        client.import_predictions(project_id, rows)
    except LabelStudioDownError as error:
        if isinstance(error, NotReachedError):
            store.end_import()
        raise  # Label Studio may still be at work on it
    except LabelStudioError:
        store.end_import()
        raise
    else:
        store.end_import()
    finally:
        client.close()


def may_still_come(project: Project, ledger: Ledger) -> bool:
    """Return whether rows of an import that was cut off are still to be waited for; if not, it is forgotten."""
    cut_off = project.store.importing()
    if cut_off is None:
        return False
    there = project.client.model_versions(project.id).get(cut_off.version, 0)
    if there >= cut_off.expected:
        project.store.end_import()
        ledger.forget()  # so that they are listed
        return True
    if time.time() - cut_off.since > PATIENCE + PATIENCE_A_ROW * cut_off.rows:
        project.store.end_import()
        ledger.n_cut_off += 1
        logger.warning("%s: an import of %d rows was cut off; fewer are tried next", project, cut_off.rows)
        return False
    project.store.note(doing=f"waiting for {cut_off.rows} rows, whose import was cut off")
    ledger.look_at = time.monotonic() + LOOK_EVERY
    return True
