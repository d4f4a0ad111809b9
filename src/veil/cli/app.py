"""The commands. Their modules import JAX, and all of veil that needs it, only when one runs."""

from typing import Annotated

import typer

from veil.cli import (
    acting,
    agents,
    certifying,
    collecting,
    diagnosing,
    exploring,
    exporting,
    fitting,
    forecasting,
    imitating,
    intending,
    listing,
    pages,
    solving,
    using,
    versions,
)
from veil.cli.program import Program

app = typer.Typer(cls=Program, add_completion=False, rich_markup_mode="rich")
FIT, ACT, LOOK = "Models and data", "Acting", "Pages and programs"
app.command("models", rich_help_panel=FIT)(listing.models)
app.command("data", rich_help_panel=FIT)(listing.data)
app.command("fit", rich_help_panel=FIT)(fitting.fit)
app.command("evaluate", rich_help_panel=FIT)(using.evaluate)
app.command("log-prob", rich_help_panel=FIT)(using.log_prob)
app.command("sample", rich_help_panel=FIT)(using.sample)
app.command("infer", rich_help_panel=FIT)(using.infer)
app.command("forecast", rich_help_panel=FIT)(forecasting.forecast)
app.command("imitate", rich_help_panel=ACT)(imitating.imitate)
app.command("act", rich_help_panel=ACT)(acting.act)
app.command("certify", rich_help_panel=ACT)(certifying.certify)
app.command("solve", rich_help_panel=ACT)(solving.solve)
app.add_typer(intending.app, name="intent", rich_help_panel=ACT)
app.command("collect", rich_help_panel=ACT)(collecting.collect)
app.command("train-agent", rich_help_panel=ACT)(agents.train_agent)
app.command("play", rich_help_panel=ACT)(agents.play)
app.command("diagnose", rich_help_panel=ACT)(diagnosing.diagnose)
app.command("explore", rich_help_panel=ACT)(exploring.explore)
app.command("report", rich_help_panel=LOOK)(pages.report)
app.command("tour", rich_help_panel=LOOK)(pages.tour)
app.command("export", rich_help_panel=LOOK)(exporting.export)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(versions())
        raise typer.Exit()
    return wanted


@app.callback()
def veil(
    version: Annotated[bool, typer.Option("--version", help="Print it.", callback=_version, is_eager=True)] = False,
) -> None:
    """Latent variable models: fit them to data, evaluate them, draw from them, infer what is hidden.

    For example:  veil fit mixture faithful --components 2 --out runs/geyser  and then  veil report runs/geyser
    """
