"""The command `exemplar`: thin commands over the library."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from exemplar import __version__
from exemplar.errors import ExemplarError, InputError, SettingError
from exemplar.settings import Settings, doubts, from_environment

Project = Annotated[int, typer.Argument(min=1, help="The project's number, as in its address /projects/7/.")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # else a paragraph keeps the line breaks of its docstring
    pretty_exceptions_show_locals=False,  # they hold keys and passwords
    help="Label fifty exemplars in Label Studio and get the rest of the pool nearly right.",
)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of EXEMPLAR_HOST.")] = None,
    port: Annotated[str | None, typer.Option(metavar="<int>", help="Port to listen on, instead of PORT.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, write nothing; log what would be written.")
    ] = False,
) -> None:
    """Run the ML backend that Label Studio connects to. Settings come from the environment (docs/settings.md)."""
    from exemplar.server.serve import serve as run_server

    run_server(_settings(host=host, port=port), dry_run=dry_run)


@app.command()
def demo(
    dataset: Annotated[
        str,
        typer.Option(metavar="<digits|messages|pictures>", help="What to annotate; each has its own project."),
    ] = "digits",
    autopilot: Annotated[
        bool, typer.Option("--autopilot", help="Let a simulated annotator answer 50 tasks of the queue.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of continuing.")] = False,
    directory: Annotated[Path, typer.Option(help="Where the demo keeps its data.")] = Path(".demo"),
    backend_url: Annotated[
        str, typer.Option(help="Address of the backend as your own Label Studio reaches it.")
    ] = "",
    hold: Annotated[bool, typer.Option(help="Stay up until Ctrl-C, or end when all is done.")] = True,
) -> None:
    """Set up Label Studio, the backend and something to annotate: digits, customers' messages, or drawn pictures.

    With LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY set, use that Label Studio instead of starting one.
    """
    from exemplar.demo.run import run_demo

    run_demo(
        dataset=dataset, autopilot=autopilot, fresh=fresh, directory=directory, backend_url=backend_url, hold=hold
    )


@app.command()
def disconnect(
    project: Project,
) -> None:
    """Take back all that Exemplar put into a project: its rows, webhook and connection; restore the sampling."""
    from exemplar.commands.disconnect import disconnect_project

    settings = _settings()
    taken = disconnect_project(settings, project)
    if taken is None:
        typer.echo(f"Project {project} is gone from Label Studio; what was kept of it here is deleted.")
        return
    typer.echo(
        f"Project {project}: removed {taken.rows} rows, {taken.webhooks} webhook(s) and {taken.backends} model "
        f"connection(s); sampling is {taken.sampling!r} again. No annotation was touched."
    )


@app.command()
def report(
    project: Project,
) -> None:
    """Say how right the predictions of a project are, as far as audits tell, and which answers look wrong."""
    from exemplar.commands.report import report as lines_of

    for line in lines_of(_settings(), project):
        typer.echo(line)


@app.command()
def features(
    project: Annotated[
        int | None,
        typer.Argument(min=1, help="The project's number, as in its address /projects/7/. Without it: all kinds."),
    ] = None,
) -> None:
    """List what can see the tasks, what it costs, and what is taken for each kind of values, and why."""
    from exemplar.commands.features import show_features

    show_features(_settings(), project)


@app.command()
def vectors(
    project: Project,
    file: Annotated[
        Path | None,
        typer.Argument(
            help=".npy with a file of ids beside it, .npz with ids and vectors, or Parquet.", dir_okay=False
        ),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(help="The ids that go with a .npy: one a line, a JSON list, a column of a CSV file, or .npy."),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            metavar="FIELD", help="The field of the tasks' data that the ids stand in; else task numbers."
        ),
    ] = "",
    forget: Annotated[bool, typer.Option("--forget", help="Take back the vectors that were given.")] = False,
) -> None:
    """Give a project vectors of your own, from a file: they alone are then what its tasks are seen by.

    A Parquet file has a column of lists, and one of ids that is called id, task_id, or as --by says. Vectors can
    also stand in the tasks themselves: EXEMPLAR_EMBEDDING_FIELD. One that cannot be used is left out, with why.
    """
    from exemplar.commands.vectors import forget_vectors, give_vectors

    _only_one("--forget", forget, "FILE", file is not None)
    if forget:
        typer.echo(forget_vectors(_settings(), project))
        return
    if file is None:
        raise typer.BadParameter("expected FILE, or --forget")
    for line in give_vectors(_settings(), project, file, ids=ids, by=by.removeprefix("$")):
        typer.echo(line)


@app.command()
def duplicates(
    project: Project,
) -> None:
    """List the tasks of a project that are nearly the same, in groups, and name the answers that differ in one."""
    from exemplar.commands.duplicates import duplicates as lines_of

    for line in lines_of(_settings(), project):
        typer.echo(line)


@app.command()
def accept(
    project: Project,
    promise: Annotated[
        str | None,
        typer.Option(
            metavar="PER CENT",
            help="How much of the set annotators would agree with: 95, 95% or 0.95. Per cent from 50, shares "
            "from 0.5, both below the whole. By default 95.",
        ),
    ] = None,
    min_confidence: Annotated[
        str | None,
        typer.Option(
            metavar="PER CENT",
            help="Freeze predictions that are so sure: 90, 90% or 0.9. What is above 1 is per cent, below 1 a "
            "share; 1 may be both and is refused: say 1% or 100%. By default all.",
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Freeze another set and end the last one; each may take half the risk."),
    ] = False,
    look: Annotated[bool, typer.Option("--look", help="Only show what would be frozen.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Freeze without asking.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the accepted labels to this CSV file.")] = None,
) -> None:
    """Accept predictions by a blind test: freeze them, let annotators answer a random draw, see the verdict.

    What would be frozen is shown first, with its chance to pass, and asked. The drawn tasks (59 for 95 %, 99 for
    97 %, 299 for 99 %) come first in the queue, without a pre-annotation. If all are answered as predicted, the
    frozen predictions agree with annotators as promised. Called again, it says how the test goes.
    """
    from exemplar.commands.accept import accept as accept_project
    from exemplar.commands.shares import confidence_of, promise_of

    _only_one("--look", look, "--yes", yes)
    _only_one("--save", save is not None, "--again", again)
    _only_one("--save", save is not None, "--look", look)
    said = accept_project(
        _settings(),
        project,
        promise=None if promise is None else promise_of(promise),
        min_confidence=None if min_confidence is None else confidence_of(min_confidence),
        again=again,
        save=save,
        agrees=partial(_agrees, look=look, yes=yes),
    )
    typer.echo(said)


def _agrees(shown: str, *, look: bool, yes: bool) -> bool:
    """Show what would be frozen, and ask; where nobody can be asked, ``--yes`` has to be given."""
    typer.echo(shown)
    if look or yes:
        return yes
    if not sys.stdin.isatty():
        raise InputError("Nothing was frozen: there is no terminal to ask at; --yes freezes without asking")
    return typer.confirm("Freeze them?")


def _only_one(one: str, is_one: bool, other: str, is_other: bool) -> None:
    if is_one and is_other:
        raise typer.BadParameter(f"{one} and {other} cannot be given together")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
) -> None:
    """Run before every command, and show the version if asked to."""
    if show:
        typer.echo(f"exemplar {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a command; an error of ours is a sentence, not a traceback."""
    try:
        app()
    except ExemplarError as error:
        typer.secho(f"exemplar: {error}", fg="red", err=True)
        sys.exit(2 if isinstance(error, SettingError) else 1)
    except OSError as error:  # of the machine: a disk that is full, a folder that may not be read
        typer.secho(f"exemplar: {error.filename or 'the machine'}: {error.strerror or error}", fg="red", err=True)
        sys.exit(1)


def _settings(**options: Any) -> Settings:
    settings = from_environment(**options)
    for doubt in doubts():
        typer.secho(f"exemplar: {doubt}", fg="yellow", err=True)
    return settings
