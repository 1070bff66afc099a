"""Arrays in, arrays out: geometry, propagation, queue, classifier, honesty, evaluation.

The engine imports numpy, scipy and scikit-learn, and knows nothing of Label Studio, HTTP, files or
settings. All of it is usable from a notebook.
"""

from exemplar.engine.acceptance import PROMISES, AcceptTest, draw, judge, sample_size
from exemplar.engine.audits import (
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
from exemplar.engine.calibration import calibrated, fit_temperature, reliability, typical_mass
from exemplar.engine.classifier import LinearClassifier, fit_classifier, fit_self_training, neighbor_proba
from exemplar.engine.clustering import Clustering, assign, cluster, default_n_clusters
from exemplar.engine.columns import Columns, empty_columns, leave_one_out
from exemplar.engine.estimators import BigKMeans, PropagationClassifier
from exemplar.engine.evaluation import textbook_ladder
from exemplar.engine.geometry import Geometry, resurvey, survey
from exemplar.engine.inference import Inference, infer
from exemplar.engine.neighbors import NEW, NeighborGraph, build_graph, neighbors_outside, update_graph
from exemplar.engine.planning import STRATEGIES, n_starters, plan_queue, prepare_queue
from exemplar.engine.prepared import prepare_spreading
from exemplar.engine.projection import Projection, fit_projection
from exemplar.engine.propagation import PROPAGATIONS, UNLABELED, closest, cluster_shares, node_shares, propagate
from exemplar.engine.push import Pusher
from exemplar.engine.selection import representatives
from exemplar.engine.spreading import spread
from exemplar.engine.stopping import Advice, Checkpoint, advice, expected_gain, fixed_sample, is_due, kappa
from exemplar.engine.suspects import Conflict, Suspect, conflicts, suspects, suspicion

__all__ = [
    "MIN_AUDITS",
    "NEW",
    "PROMISES",
    "PROPAGATIONS",
    "STRATEGIES",
    "UNLABELED",
    "AcceptTest",
    "AccuracyEstimate",
    "Advice",
    "Agreement",
    "BigKMeans",
    "Checkpoint",
    "Clustering",
    "Columns",
    "Conflict",
    "Geometry",
    "Inference",
    "LinearClassifier",
    "NeighborGraph",
    "Projection",
    "PropagationClassifier",
    "Pusher",
    "Suspect",
    "advice",
    "agreement",
    "assign",
    "build_graph",
    "calibrated",
    "clopper_pearson",
    "closest",
    "cluster",
    "cluster_shares",
    "conflicts",
    "default_n_clusters",
    "draw",
    "empty_columns",
    "estimate_accuracy",
    "expected_gain",
    "fit_classifier",
    "fit_projection",
    "fit_self_training",
    "fit_temperature",
    "fixed_sample",
    "hash_ranks",
    "infer",
    "is_audit",
    "is_due",
    "judge",
    "kappa",
    "leave_one_out",
    "leave_one_out_rate",
    "n_starters",
    "neighbor_proba",
    "neighbors_outside",
    "node_shares",
    "plan_queue",
    "prepare_queue",
    "prepare_spreading",
    "propagate",
    "reliability",
    "representatives",
    "resurvey",
    "sample_size",
    "spread",
    "survey",
    "suspects",
    "suspicion",
    "textbook_ladder",
    "typical_mass",
    "update_graph",
]
