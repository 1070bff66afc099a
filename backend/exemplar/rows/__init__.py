"""Our rows in Label Studio: what should stand there (plan), what does (ledger), and the writes between (writing).

``scores`` says what a row's score means, and nobody else compares one; ``manage`` is what we change in a project
besides rows; ``reconcile`` brings all of it in line with a snapshot.
"""

from exemplar.rows.former import is_look_due
from exemplar.rows.generation import RETIRED, generation_name, generation_number, proof_name
from exemplar.rows.ledger import Ledger
from exemplar.rows.manage import SECRET_HEADER, Disconnected, disconnect, is_managed
from exemplar.rows.plan import NOTHING, TOLERANCE, Row
from exemplar.rows.reconciliation import highest_generation, reconcile
from exemplar.rows.scores import SAME, confidence_scores, draw_scores, is_asked, queue_scores
from exemplar.rows.standing import check_connection, why_not_found

__all__ = [
    "NOTHING",
    "RETIRED",
    "SAME",
    "SECRET_HEADER",
    "TOLERANCE",
    "Disconnected",
    "Ledger",
    "Row",
    "check_connection",
    "confidence_scores",
    "disconnect",
    "draw_scores",
    "generation_name",
    "generation_number",
    "highest_generation",
    "is_asked",
    "is_look_due",
    "is_managed",
    "proof_name",
    "queue_scores",
    "reconcile",
    "why_not_found",
]
