"""Which tasks are alike, and how much: exact and sketched search for the nearest, and the graph that links them."""

from exemplar.engine.neighbors.duplicates import group_by_all, group_by_keys, group_by_prints
from exemplar.engine.neighbors.graph import NeighborGraph, build_graph, neighbors_outside
from exemplar.engine.neighbors.updating import NEW, update_graph

__all__ = [
    "NEW",
    "NeighborGraph",
    "build_graph",
    "group_by_all",
    "group_by_keys",
    "group_by_prints",
    "neighbors_outside",
    "update_graph",
]
