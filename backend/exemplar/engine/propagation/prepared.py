"""The graph of a geometry, made ready for answers to spread over; ready for as long as the geometry lives."""

from exemplar.engine.geometry import Geometry
from exemplar.engine.kept import kept_with_it
from exemplar.engine.propagation.push import Pusher
from exemplar.engine.propagation.spreading import Spreader


def prepare_spreading(geometry: Geometry) -> None:
    """Derive now what the first answers would wait for.

    Examples
    --------
    >>> from exemplar.engine.geometry import survey
    >>> prepare_spreading(survey([[0], [1], [9]]))
    """
    spreader(geometry)
    pusher(geometry)


@kept_with_it
def spreader(geometry: Geometry) -> Spreader:
    """Return the graph as answers are spread over it, kept because most classes outlive an answer."""
    return Spreader(geometry.graph.affinity)


@kept_with_it
def pusher(geometry: Geometry) -> Pusher:
    """Return the graph as single answers are pushed over it."""
    return Pusher(geometry.graph.affinity)
