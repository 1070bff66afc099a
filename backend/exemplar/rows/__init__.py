"""Our rows in Label Studio: what should stand there (plan), what does (ledger), and the writes between (writing).

``manage`` is what we change in a project besides rows; ``reconcile`` brings all of it in line with a snapshot.
"""

from exemplar.rows.generation import RETIRED, generation_name, generation_number
from exemplar.rows.ledger import Ledger
from exemplar.rows.manage import SECRET_HEADER, Disconnected, disconnect, is_managed
from exemplar.rows.plan import TOLERANCE, Row
from exemplar.rows.reconciliation import highest_generation, reconcile

__all__ = [
    "RETIRED",
    "SECRET_HEADER",
    "TOLERANCE",
    "Disconnected",
    "Ledger",
    "Row",
    "disconnect",
    "generation_name",
    "generation_number",
    "highest_generation",
    "is_managed",
    "reconcile",
]
