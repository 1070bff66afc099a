"""Which tasks are alike, and how much: exact and sketched search for the nearest, and the graph that links them."""

from exemplar.engine.neighbors.graph import NeighborGraph, build_graph, neighbors_outside
from exemplar.engine.neighbors.updating import NEW, update_graph

__all__ = ["NEW", "NeighborGraph", "build_graph", "neighbors_outside", "update_graph"]
