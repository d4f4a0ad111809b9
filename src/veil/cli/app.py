"""The commands. Their modules import JAX, and all of veil that needs it, only when one runs."""

from typing import Annotated

import typer

from veil.cli import certifying, collecting, exporting, fitting, forecasting, listing, pages, using
from veil.cli.program import Program

app = typer.Typer(cls=Program, add_completion=False, rich_markup_mode="rich")
app.command("models")(listing.models)
app.command("data")(listing.data)
app.command("fit")(fitting.fit)
app.command("evaluate")(using.evaluate)
app.command("log-prob")(using.log_prob)
app.command("sample")(using.sample)
app.command("infer")(using.infer)
app.command("forecast")(forecasting.forecast)
app.command("certify")(certifying.certify)
app.command("collect")(collecting.collect)
app.command("export")(exporting.export)
app.command("report")(pages.report)
app.command("tour")(pages.tour)


def _version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"veil {version('veil')} (jax {version('jax')})")
        raise typer.Exit()
    return wanted


@app.callback()
def veil(
    version: Annotated[bool, typer.Option("--version", help="Print it.", callback=_version, is_eager=True)] = False,
) -> None:
    """Latent variable models: fit them to data, evaluate them, draw from them, infer what is hidden.

    For example:  veil fit mixture faithful --components 2 --out runs/geyser  and then  veil report runs/geyser
    """
