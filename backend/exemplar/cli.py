"""The command `exemplar`: thin commands over the library."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from exemplar import __version__
from exemplar.errors import ExemplarError, SettingError
from exemplar.settings import Settings, doubts, from_environment

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
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
    """Set up Label Studio, the backend and 1 400 digits, ready to annotate.

    With LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY set, use that Label Studio instead of starting one.
    """
    from exemplar.demo.run import run_demo

    run_demo(autopilot=autopilot, fresh=fresh, directory=directory, backend_url=backend_url, hold=hold)


@app.command()
def disconnect(
    project: Annotated[int, typer.Argument(help="The project's number, as in its address /projects/7/.")],
) -> None:
    """Take back all that Exemplar put into a project: its rows, webhook and connection; restore the sampling."""
    from exemplar.commands.disconnect import disconnect_project

    settings = _settings()
    taken = disconnect_project(settings, project)
    typer.echo(
        f"Project {project}: removed {taken.rows} rows, {taken.webhooks} webhook(s) and {taken.backends} model "
        f"connection(s); sampling is {taken.sampling!r} again. No annotation was touched."
    )


@app.command()
def report(
    project: Annotated[int, typer.Argument(help="The project's number, as in its address /projects/7/.")],
) -> None:
    """Say how right the predictions of a project are, as far as audits tell, and which answers look wrong."""
    from exemplar.commands.report import report as lines_of

    for line in lines_of(_settings(), project):
        typer.echo(line)


@app.command()
def accept(
    project: Annotated[int, typer.Argument(help="The project's number, as in its address /projects/7/.")],
    promise: Annotated[float, typer.Option(help="Per cent of the set that annotators would agree with.")] = 95,
    min_confidence: Annotated[float, typer.Option(help="Freeze predictions that are so sure, 0 to 1.")] = 0.0,
    again: Annotated[
        bool, typer.Option("--again", help="Freeze another set; each may take half the risk of the one before.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(help="Write the accepted labels to this CSV file.", dir_okay=False)
    ] = None,
) -> None:
    """Accept predictions by a blind test: freeze them, let annotators answer a random draw, see the verdict.

    The drawn tasks (59 for 95 %, 99 for 97 %, 299 for 99 %) come first in the queue, without a pre-annotation.
    If all are answered as predicted, the frozen predictions agree with annotators as promised.
    """
    from exemplar.commands.accept import accept as accept_project

    said = accept_project(
        _settings(), project, promise=promise / 100, min_confidence=min_confidence, again=again, save=save
    )
    typer.echo(said)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
) -> None:
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


def _settings(**options: Any) -> Settings:
    settings = from_environment(**options)
    for doubt in doubts():
        typer.secho(f"exemplar: {doubt}", fg="yellow", err=True)
    return settings
