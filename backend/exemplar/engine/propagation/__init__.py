"""From a few answers to all of a pool: spread, calibrated, and carried on to tasks outside it."""

from exemplar.engine.propagation.calibration import calibrated, fit_temperature, reliability, typical_mass
from exemplar.engine.propagation.classifier import (
    LinearClassifier,
    fit_classifier,
    fit_self_training,
    neighbor_proba,
)
from exemplar.engine.propagation.columns import Columns, empty_columns, leave_one_out
from exemplar.engine.propagation.inference import Inference, infer
from exemplar.engine.propagation.methods import (
    PROPAGATIONS,
    UNLABELED,
    closest,
    cluster_shares,
    node_shares,
    propagate,
)
from exemplar.engine.propagation.prepared import prepare_spreading
from exemplar.engine.propagation.priors import prior_of_names, prior_of_predictions, similarities
from exemplar.engine.propagation.push import Pusher
from exemplar.engine.propagation.spreading import ALPHA, spread
from exemplar.engine.propagation.together import Together, labelled_together, with_answers_of_groups
from exemplar.engine.propagation.weighing import Weight

__all__ = [
    "ALPHA",
    "PROPAGATIONS",
    "UNLABELED",
    "Columns",
    "Inference",
    "LinearClassifier",
    "Pusher",
    "Together",
    "Weight",
    "calibrated",
    "closest",
    "cluster_shares",
    "empty_columns",
    "fit_classifier",
    "fit_self_training",
    "fit_temperature",
    "infer",
    "labelled_together",
    "leave_one_out",
    "neighbor_proba",
    "node_shares",
    "prepare_spreading",
    "prior_of_names",
    "prior_of_predictions",
    "propagate",
    "reliability",
    "similarities",
    "spread",
    "typical_mass",
    "with_answers_of_groups",
]
