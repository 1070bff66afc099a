"""Recipes: which embedders see a view, and how much each counts, as people write it: ``use + 0.5*ngrams``.

``auto`` leaves it to us. Several views take a recipe each, by the name of their tag or their kind of values:
``photo: lite0 + 0.7*hog; text: use``. The names stand here, so that settings can be checked; nothing is loaded. A
model in a folder is called by that: ``transformer:/models/minilm``; no ``+``, ``*`` or ``;`` stands in its path.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

AUTO = "auto"
GROUP = "exemplar.features"
# By name, where an embedder of ours is made.
BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "lite0": "exemplar.features.images.efficientnet:EfficientNetLite0",
        "hog": "exemplar.features.images.hog:Hog",
        "colours": "exemplar.features.images.colours:Colours",
        "textures": "exemplar.features.images.textures:Textures",
        "thumbnail": "exemplar.features.images.thumbnail:Thumbnail",
        "use": "exemplar.features.texts.use:UniversalSentenceEncoder",
        "wordllama": "exemplar.features.texts.wordllama:WordLlama",
        "ngrams": "exemplar.features.texts.ngrams:CharacterNgrams",
        "words": "exemplar.features.texts.words:Words",
        "logmel": "exemplar.features.sounds:LogMel",
        "table": "exemplar.features.table:Table",
    }
)
MAX_WEIGHT = 100.0
TRANSFORMER = "transformer:"
_TERM = re.compile(rf"(?:(\d+\.?\d*|\.\d+)\s*\*\s*)?([a-z][a-z0-9_-]*|{TRANSFORMER}[^\s+*;][^+*;]*)", re.ASCII)


@dataclass(frozen=True)
class Term:
    """One embedder of a recipe, and the length of its block's rows."""

    name: str
    weight: float = 1.0

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{self.weight:g}*{self.name}"


Recipe = tuple[Term, ...]


@cache
def plugins() -> Mapping[str, EntryPoint]:
    """Return the embedders that other packages bring, by name; ours come first where a name is taken."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return MappingProxyType({name: point for name, point in sorted(found.items()) if name not in BUILT_IN})


def names() -> tuple[str, ...]:
    """Return the names of all embedders that there are, whether they can be had or not."""
    return (*BUILT_IN, *plugins())


def read_recipe(text: str) -> Recipe:
    """Read the recipe of one view; an empty one is for ``auto``.

    >>> [str(term) for term in read_recipe("words + 0.50 * thumbnail")]
    ['words', '0.5*thumbnail']

    Raises
    ------
    ValueError
        With what was expected instead.
    """
    if text.strip() == AUTO:
        return ()
    recipe = tuple(_term(part) for part in text.split("+"))
    if len({term.name for term in recipe}) < len(recipe):
        raise ValueError("each embedder once")
    return recipe


def _term(part: str) -> Term:
    found = _TERM.fullmatch(part.strip())
    if not found:
        raise ValueError("auto, or embedders and their weights, as words or use + 0.5*ngrams")
    weight, name = float(found[1] or 1), found[2]
    if name not in names() and not name.startswith(TRANSFORMER):
        raise ValueError(f"embedders that there are ({', '.join(names())}), not {name!r}")
    if not 0 < weight <= MAX_WEIGHT:
        raise ValueError(f"weights above 0 and up to {MAX_WEIGHT:g}, not {found[1]}")
    return Term(name, weight)


def read_recipes(text: str) -> dict[str, Recipe]:
    """Read the recipes of a project's views by their tag or kind; one without a name is for all of them.

    Raises
    ------
    ValueError
        With what was expected instead.
    """
    parts = [_parted(part) for part in text.split(";")]
    recipes = {view.strip(): read_recipe(recipe) for view, recipe in parts}
    if len(recipes) < len(parts):
        raise ValueError("one recipe for each view")
    if len(recipes) > 1 and "" in recipes:
        raise ValueError("a name before each recipe where there are several, as image: words; text: use")
    return recipes


def _parted(part: str) -> tuple[str, str]:
    """Return the name of a view, empty for none, and its recipe; the colon in a model's name parts nothing."""
    before, colon, model = part.partition(TRANSFORMER)
    view, _, recipe = before.rpartition(":")
    return view, recipe + colon + model


def written(recipes: Mapping[str, Recipe]) -> str:
    """Return recipes in their one spelling.

    >>> written(read_recipes(" text :words+.5*thumbnail;photo: auto"))
    'photo: auto; text: words + 0.5*thumbnail'
    """
    spelt = {view: " + ".join(map(str, recipe)) or AUTO for view, recipe in sorted(recipes.items())}
    return "; ".join(f"{view}: {recipe}" if view else recipe for view, recipe in spelt.items())
