"""``veil models`` and ``veil data``: what there is."""

from typing import Annotated, Any

import typer


def models(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Show this one's options.")] = None,
) -> None:
    """List the models; with a name, its options."""
    from veil.cli import catalogue

    if name is None:
        width = max(map(len, catalogue.MODELS))
        for entry in catalogue.MODELS.values():
            typer.echo(f"{entry.name:<{width}}  {entry.what}")
        return
    entry = catalogue.entry(name)
    typer.echo(f"{entry.name}: {entry.what}")
    says = {True: "needs evidence columns", False: "takes no evidence columns", None: "evidence columns as you like"}
    typer.echo(says[entry.conditional])
    for option, default in entry.options.items():
        words = entry.words(option)
        choice = f"  (one of {', '.join(words)})" if words else ""
        typer.echo(f"  --{option} {'' if default is None else text(default)}{choice}")


def text(default: Any) -> str:
    """A default as it is written on the command line."""
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def data() -> None:
    """List the data sets known by name."""
    from veil.data import available

    examples = available()
    width = max(len(example.name) for example in examples)
    for example in examples:
        columns = ", ".join(example.columns)
        state = f"{example.rows} rows of {columns}" if example.present else f"NOT HERE; get it with: {example.command}"
        typer.echo(f"{example.name:<{width}}  {example.what}; {state}")
