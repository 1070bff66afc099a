"""Which embedders there are, which can be had here, and which see a kind of values.

An embedder of ours is one line in ``exemplar.recipes.BUILT_IN``; others come by the entry point
``exemplar.features``. Each is made when it is first asked for, once for a process. One that cannot be made, or
fails on all that it is given, is out of order until the process ends, and the next recipe serves.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Any, BinaryIO

from exemplar.errors import EmbedderError
from exemplar.features.embedder import KINDS, Embedder, Fitted, PoolEmbedder, PoolModel, Vectors
from exemplar.recipes import BUILT_IN, TRANSFORMER, Recipe, plugins, read_recipe, written

logger = logging.getLogger(__name__)

# The recipes for each kind of values, the best first; the last takes nothing that could be missing.
DEFAULTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text": ("use + wordllama + ngrams", "use + ngrams", "wordllama + ngrams", "ngrams"),
        "image": ("lite0 + 0.5*hog", "hog + 0.7*colours + textures", "thumbnail"),
        "sound": ("logmel",),
        "row": ("table",),
    }
)
# How values are made of a file's bytes, for the kinds whose values are files; those of others stand in the task.
DECODERS: Mapping[str, str] = MappingProxyType(
    {"image": "exemplar.features.images:decode", "sound": "exemplar.features.sounds:decode"}
)

# Nothing counts less: its columns can be weighted anew, and tell apart what all others find alike.
LEAST_FACTOR = 0.05

AnyEmbedder = Embedder | PoolEmbedder
_lock = threading.RLock()
_made: dict[str, AnyEmbedder] = {}
_out_of_order: dict[str, str] = {}


@dataclass(frozen=True)
class Choice:
    """The embedders that see some values, by rising position of their columns, and why these."""

    embedders: tuple[AnyEmbedder, ...]
    weights: tuple[float, ...]
    why: str
    is_default: bool = False

    def weights_in(self, values: Sequence[Any]) -> tuple[float, ...]:
        """Return how much each counts in a pool of such values: as wanted, or by default as it says itself."""
        return self._by("weight_in", [values] * len(self.embedders))

    def weights_among(self, vectors: Sequence[Vectors]) -> tuple[float, ...]:
        """Return the same of a pool whose values are not at hand, by what each made of some of them."""
        return self._by("weight_among", vectors)

    def _by(self, method: str, given: Sequence[Any]) -> tuple[float, ...]:
        if not self.is_default or len(self.embedders) == 1:
            return self.weights
        return tuple(
            weight * max(getattr(one, method)(seen), LEAST_FACTOR) if hasattr(one, method) else weight
            for one, weight, seen in zip(self.embedders, self.weights, given, strict=True)
        )


def embedder(name: str) -> AnyEmbedder:
    """Return an embedder.

    Raises
    ------
    EmbedderError
        If it cannot be had here, saying why.
    """
    with _lock:
        if name not in _made and name not in _out_of_order:
            try:
                _made[name] = _checked(name, _maker(name)())
            except Exception as error:  # whatever a package that is missing or broken brings about
                put_out_of_order(name, f"{type(error).__name__}: {error}")
        if name in _out_of_order:
            raise EmbedderError(name, _out_of_order[name])
        return _made[name]


def put_out_of_order(name: str, why: str) -> None:
    """Do without an embedder until the process ends; it is logged once."""
    with _lock:
        if name not in _out_of_order:
            _out_of_order[name] = why
            logger.warning("The embedder %r cannot be had: %s", name, why)


def _maker(name: str) -> Callable[[], Any]:
    if name.startswith(TRANSFORMER):
        return partial(import_module("exemplar.features.transformer").Transformer, name)
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    if name not in plugins():
        raise LookupError("nothing of this name is installed")
    return plugins()[name].load()  # type: ignore[no-any-return]


def _checked(name: str, made: Any) -> AnyEmbedder:
    """Make sure that an embedder, somebody else's perhaps, is one."""
    if not isinstance(made, Embedder | PoolEmbedder):
        raise TypeError(
            "it has neither name, identity, kinds, n_features, batch_size and transform, "
            "nor name, identity, kinds, fit and restore"
        )
    if made.name != name:
        raise ValueError(f"it calls itself {made.name!r}: expected the name that it is registered by")
    if not isinstance(made.identity, str) or not made.identity:
        raise ValueError(f"its identity is {made.identity!r}: expected a text")
    unknown = sorted(set(made.kinds) - set(KINDS))
    if unknown or not made.kinds or isinstance(made.kinds, str):
        raise ValueError(f"its kinds are {made.kinds!r}: expected some of {', '.join(KINDS)}")
    if isinstance(made, Embedder):
        for attribute in ("n_features", "batch_size"):
            n = getattr(made, attribute)
            if not isinstance(n, int) or n < 1:
                raise ValueError(f"its {attribute} is {n!r}: expected a whole number from 1")
    return made


def choose(kind: str, recipe: Recipe = ()) -> Choice:
    """Return what sees values of a kind: of the wanted recipe all that takes them, or else the best that there is.

    Raises
    ------
    EmbedderError
        If nothing can be had that takes them.
    """
    wanted, missing = _available(kind, recipe)
    if wanted.embedders and not missing:
        return wanted
    reasons = list(missing)
    for text in DEFAULTS.get(kind, ()):
        choice, missing = _available(kind, read_recipe(text))
        if choice.embedders and not missing:
            before = f"{'; '.join(dict.fromkeys(reasons))}: " if reasons else ""
            return Choice(
                choice.embedders, choice.weights, f"{before}the default for {kind} is {text}", is_default=True
            )
        reasons += missing
    raise EmbedderError(kind, "; ".join(dict.fromkeys(reasons)) or f"no embedder takes {kind}")


def _available(kind: str, recipe: Recipe) -> tuple[Choice, list[str]]:
    """Return what of a recipe takes such values and can be had, and why the rest cannot."""
    there, weights, missing = [], [], []
    for term in recipe:
        try:
            one = embedder(term.name)
        except EmbedderError as error:
            missing.append(str(error))
            continue
        if kind not in one.kinds:
            continue
        if isinstance(one, PoolEmbedder) and kind in DECODERS:
            missing.append(
                f"{one.name} cannot be had: it learns from all values at once, files are read one by one"
            )
        else:
            there.append(one)
            weights.append(term.weight)
    return Choice(tuple(there), tuple(weights), f"wanted: {written({'': recipe})}"), missing


def decoder(kind: str) -> Callable[[BinaryIO], Any] | None:
    """Return what makes a value of a file's bytes; None for a kind whose values stand in the task itself."""
    if kind not in DECODERS:
        return None
    module, _, attribute = DECODERS[kind].partition(":")
    return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


def fitted(pool_embedder: PoolEmbedder, model: PoolModel) -> Fitted:
    """Return a model as the snapshot keeps it."""
    return Fitted(pool_embedder.name, pool_embedder.identity, model.facts, model.arrays)


def restored(kept: Fitted) -> PoolModel:
    """Return a model from what the snapshot has kept of it.

    Raises
    ------
    EmbedderError
        If its embedder cannot be had here, or is another one by now.
    """
    one = embedder(kept.embedder)
    if not isinstance(one, PoolEmbedder) or one.identity != kept.identity:
        raise EmbedderError(kept.embedder, f"{one.identity!r} is here, the model was fitted by {kept.identity!r}")
    return one.restore(kept.facts, kept.arrays)
