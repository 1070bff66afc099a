"""What tells how right we are: audits, the rule to accept a set by, answers that look wrong, when to stop."""

from exemplar.engine.evidence.acceptance import (
    PROMISES,
    AcceptTest,
    alpha_of,
    chance_to_pass,
    draw,
    judge,
    sample_size,
)
from exemplar.engine.evidence.audits import (
    MIN_AUDITS,
    AccuracyEstimate,
    Agreement,
    agreement,
    clopper_pearson,
    estimate_accuracy,
    hash_ranks,
    is_audit,
    leave_one_out_rate,
)
from exemplar.engine.evidence.contradictions import Conflict, Suspect, conflicts, suspects, suspicion
from exemplar.engine.evidence.stopping import (
    Advice,
    Checkpoint,
    advice,
    expected_gain,
    fixed_sample,
    is_due,
    kappa,
)

__all__ = [
    "MIN_AUDITS",
    "PROMISES",
    "AcceptTest",
    "AccuracyEstimate",
    "Advice",
    "Agreement",
    "Checkpoint",
    "Conflict",
    "Suspect",
    "advice",
    "agreement",
    "alpha_of",
    "chance_to_pass",
    "clopper_pearson",
    "conflicts",
    "draw",
    "estimate_accuracy",
    "expected_gain",
    "fixed_sample",
    "hash_ranks",
    "is_audit",
    "is_due",
    "judge",
    "kappa",
    "leave_one_out_rate",
    "sample_size",
    "suspects",
    "suspicion",
]
