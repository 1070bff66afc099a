"""Views: what each object tag shows of a task, and what sees it."""

from collections.abc import Mapping
from dataclasses import dataclass

from exemplar.context import Project
from exemplar.features import (
    KINDS,
    AnyEmbedder,
    Block,
    Choice,
    Embedder,
    PoolEmbedder,
    choose,
    identity_of,
)
from exemplar.features.signatures import Print
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Task
from exemplar.project.own_vectors import Own
from exemplar.recipes import Recipe, read_recipes
from exemplar.settings import Settings

PRINTS = Print()


@dataclass(frozen=True)
class View:
    """One object tag: its name, the field of a task's data that it shows, and the kind of values there."""

    name: str
    field: str
    kind: str

    def value(self, task: Task) -> str:
        """Return what a task shows here: a text, or the address of a file."""
        return task.value or ""


@dataclass(frozen=True)
class Sight:
    """What sees a project's tasks: the blocks of its X, by whose they are, and which choice, by view.

    Where the tasks have vectors of the user's own, those are the only block, and nobody's.
    """

    views: tuple[View, ...]
    blocks: tuple[Block, ...]
    embedders: Mapping[Block, AnyEmbedder]
    choices: Mapping[str, Choice]
    own: Own = Own()

    @property
    def identity(self) -> str:
        """Return what kind of vectors the tasks get."""
        return identity_of(self.blocks)

    @property
    def why(self) -> dict[str, str]:
        """Return why these see them, by view."""
        return {view: choice.why for view, choice in self.choices.items()}

    def given(self, view: View) -> list[Embedder]:
        """Return the embedders of a view whose vectors are the same in every pool, and kept.

        Of pictures their prints are among them, whatever is learned from: they tell near-duplicates.
        """
        found = (one for block, one in self.embedders.items() if block.view == view.name)
        prints: list[Embedder] = [PRINTS] if view.kind == "image" else []
        return [*(one for one in found if isinstance(one, Embedder)), *prints]

    def fitted(self) -> list[tuple[Block, PoolEmbedder]]:
        """Return what is fitted on the pool."""
        return [(block, one) for block, one in self.embedders.items() if isinstance(one, PoolEmbedder)]


def views_of(labeling: Labeling) -> tuple[View, ...]:
    """Return what a project's label config shows of its tasks."""
    return (View(labeling.object, labeling.field, labeling.kind),)


def sight_of(settings: Settings, labeling: Labeling, own: Own) -> Sight:
    """Return what sees the tasks of a project: their own vectors, or else by its settings and what can be had here.

    Raises
    ------
    EmbedderError
        If nothing can be had for a view.
    """
    if own.length:
        block, choice = own.block(), Choice((), (1.0,), own.said)
        return Sight((View(block.view, block.field, block.kind),), (block,), {}, {block.view: choice}, own)
    recipes, views = read_recipes(settings.features), views_of(labeling)
    embedders: dict[Block, AnyEmbedder] = {}
    choices = {}
    for view in views:
        choice = choose(view.kind, _recipe(recipes, view))
        choices[view.name] = choice
        is_alone = len(views) == len(choice.embedders) == 1
        for one, weight in zip(choice.embedders, choice.weights, strict=True):
            embedders[_block(view, one, weight, is_alone=is_alone)] = one
    return Sight(views, tuple(embedders), embedders, choices, own)


def _recipe(recipes: Mapping[str, Recipe], view: View) -> Recipe:
    """Return the recipe that is wanted for a view: by its name, its kind, or for all.

    A text's tag may be called "image": in a recipe that is the kind.
    """
    names = (view.kind, "") if view.name in KINDS else (view.name, view.kind, "")
    return next((recipes[name] for name in names if name in recipes), ())


def _block(view: View, one: AnyEmbedder, weight: float, *, is_alone: bool) -> Block:
    return Block(
        view=view.name,
        field=view.field,
        kind=view.kind,
        embedder=one.name,
        identity=one.identity,
        weight=weight,
        n_features=one.n_features if isinstance(one, Embedder) else 0,
        keeps_length=is_alone and getattr(one, "keeps_length", False),
    )


def whose_files(project: Project, organization: int | None) -> str:
    """Return whose files a project's addresses name: another organization of Label Studio may not see them."""
    return f"{project.connection.url} {organization}"
