"""Arrays in, arrays out: clusters, selection, propagation, classifier, evaluation.

The engine imports numpy, scipy and scikit-learn, and knows nothing of Label Studio, HTTP, files or
settings. All of it is usable from a notebook.
"""

from exemplar.engine.classifier import LinearClassifier, fit_classifier
from exemplar.engine.clusters import Clustering, assign, cluster, default_n_clusters
from exemplar.engine.evaluation import textbook_ladder
from exemplar.engine.propagation import UNLABELED, closest, propagate
from exemplar.engine.selection import representatives

__all__ = [
    "UNLABELED",
    "Clustering",
    "LinearClassifier",
    "assign",
    "closest",
    "cluster",
    "default_n_clusters",
    "fit_classifier",
    "propagate",
    "representatives",
    "textbook_ladder",
]
