"""`exemplar features`: which embedders there are, what each costs, what is taken, and why."""

from collections import Counter
from collections.abc import Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from exemplar.commands.known import learned_project
from exemplar.errors import EmbedderError
from exemplar.features import DEFAULTS, KINDS, AnyEmbedder, Embedder, choose, columns_of, embedder
from exemplar.project.own_vectors import is_own, own_of, source_of
from exemplar.project.priors import NO_NAMES
from exemplar.project.views import Sight, sight_of
from exemplar.recipes import Recipe, names, read_recipes
from exemplar.settings import Settings, for_project
from exemplar.store.project_store import ProjectStore
from exemplar.store.snapshot import Facts, Snapshot


def show_features(settings: Settings, project_id: int | None, console: Console | None = None) -> None:
    """Print what there is; of one project what is taken for its views, else for each kind of values.

    Raises
    ------
    UnknownProjectError, NothingLearnedError
        If the project is not known here, or nothing is learned of it yet.
    """
    console = console or Console()
    if project_id is None:
        for part in (_embedders(read_recipes(settings.features)), _by_kind(read_recipes(settings.features))):
            console.print(part)
        return
    store, snapshot = learned_project(settings, project_id)
    connection = store.connection()
    own = for_project(settings, connection.extra_params if connection else None)
    for lines in _of_project(store, own, snapshot):
        console.print(lines)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in NUMBERS else "left", overflow="fold")
    return table


# So many reasons why tasks are left out are shown.
N_REASONS = 5
NUMBERS = ("width", "per second", "MB", "weight")


def _embedders(recipes: dict[str, Recipe]) -> Table:
    table = _table("Embedders", "name", "sees", "width", "per second", "MB", "what it does")
    wanted = [term.name for recipe in recipes.values() for term in recipe]
    for name in dict.fromkeys([*names(), *wanted]):
        try:
            table.add_row(*_row(embedder(name)))
        except EmbedderError as error:
            table.add_row(Text(name), "", "", "", "", Text(str(error), "yellow"))
    return table


def _row(one: AnyEmbedder) -> list[Text]:
    """Return what an embedder is and costs, as far as it says; somebody else's need not."""
    width = f"{one.n_features}" if isinstance(one, Embedder) else "fitted"
    speed, memory = (_number(getattr(one, attribute, None)) for attribute in ("per_second", "megabytes"))
    cells = (one.name, ", ".join(one.kinds), width, speed, memory, str(getattr(one, "about", one.identity)))
    return [Text(cell) for cell in cells]


def _number(measured: float | None) -> str:
    return "–" if measured is None else f"{measured:,.0f}".replace(",", " ")


def _by_kind(recipes: dict[str, Recipe]) -> Table:
    table = _table("Taken", "kind", "embedders", "why")
    for kind in KINDS:
        if kind not in DEFAULTS:
            continue
        recipe = recipes.get(kind, recipes.get("", ()))
        try:
            choice = choose(kind, recipe)
        except EmbedderError as error:
            table.add_row(kind, Text("none", "red"), Text(str(error)))
            continue
        taken = zip(choice.weights, choice.embedders, strict=True)
        table.add_row(kind, _sum([(weight, one.name) for weight, one in taken]), Text(choice.why))
    return table


def _of_project(store: ProjectStore, settings: Settings, snapshot: Snapshot) -> Iterator[RenderableType]:
    facts = snapshot.facts
    source = source_of(store, settings)
    wanted = sight_of(settings, facts.labeling, own_of(source, snapshot.tasks))
    table = _table(
        f"Project {store.project_id}: {snapshot.geometry.X.shape[1]} columns", "view", "block", "weight", "columns"
    )
    for block, columns in zip(facts.blocks, columns_of(facts.blocks), strict=True):
        where = f"{columns.start} to {columns.stop - 1}"
        shown = block.field if is_own([block]) else f"${block.field}, {block.kind}"
        table.add_row(Text(f"{block.view} ({shown})"), block.embedder, f"{block.weight:.2g}", where)
    yield table
    yield _views(wanted)
    yield from _of_own(wanted, settings, facts)
    if source.identity != facts.own_source:
        yield Text(
            "Vectors of your own are looked for elsewhere since; the next refresh reads the tasks anew.", "yellow"
        )
    elif wanted.identity != facts.features:
        yield Text("Others are taken since; the next refresh embeds the tasks anew.", "yellow")


def _of_own(sight: Sight, settings: Settings, facts: Facts) -> Iterator[Text]:
    """Yield what is to be said of the user's own vectors, beside that they are taken."""
    if not sight.own.length:
        if sight.own.said:
            yield Text(f"Your own vectors are not taken: {sight.own.said}.", "yellow")
        return
    if settings.names and facts.labeling.kind == "text":
        yield Text(f"{NO_NAMES[0].upper()}{NO_NAMES[1:]}.")
    why = Counter(facts.unreadable.values())
    for reason, n in why.most_common(N_REASONS):
        yield Text(f"{n} left out: {reason}", "yellow")
    if len(why) > N_REASONS:
        yield Text(
            f"{sum(why.values()) - sum(n for _, n in why.most_common(N_REASONS))} more for other reasons", "yellow"
        )


def _views(sight: Sight) -> Table:
    table = _table("Taken", "view", "embedders", "why")
    for view, why in sight.why.items():
        blocks = [(block.weight, block.embedder) for block in sight.blocks if block.view == view]
        table.add_row(Text(view), _sum(blocks), Text(why))
    return table


def _sum(terms: list[tuple[float, str]]) -> Text:
    return Text(" + ".join(name if weight == 1 else f"{weight:g}*{name}" for weight, name in terms))
