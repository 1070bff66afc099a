"""Which tasks are worth asking, and in which order: query strategies, and the queue that they plan."""

from exemplar.engine.query.herding import Herding
from exemplar.engine.query.kernel import bandwidth
from exemplar.engine.query.planning import STRATEGIES, n_starters, plan_queue, prepare_queue
from exemplar.engine.query.selection import representatives
from exemplar.engine.query.strategies import random_order
from exemplar.engine.query.typicality import typiclust
from exemplar.engine.query.uncertainty import margin_uncertainty

__all__ = [
    "STRATEGIES",
    "Herding",
    "bandwidth",
    "margin_uncertainty",
    "n_starters",
    "plan_queue",
    "prepare_queue",
    "random_order",
    "representatives",
    "typiclust",
]
