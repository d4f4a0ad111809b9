"""``veil collect``: episodes of a Gymnasium environment."""

from pathlib import Path
from typing import Annotated

import typer

from veil.cli import options


def collect(
    env: Annotated[str, typer.Argument(metavar="ENV", help="A Gymnasium environment, such as Pendulum-v1.")],
    out: Annotated[Path, typer.Option("--out", metavar="DATA", help="The folder to make, or to go on with.")],
    episodes: Annotated[int, typer.Option("--episodes", help="How many the folder is to hold.", min=1)],
    frames: Annotated[
        int | None, typer.Option("--frames", help="Keep what is rendered, as images of so many pixels a side.", min=1)
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", help="Cut episodes off after so many actions.", min=1)
    ] = None,
    seed: options.Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Delete the episodes that are there.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Play episodes with random actions, and keep them in a folder.

    For example:  veil collect Pendulum-v1 --episodes 100 --out pendulum  and then
    veil fit lds pendulum --query observation --evidence action --out run

    Stopped at any time, it leaves the episodes that were finished; the same command goes on.
    """
    from veil.control.collecting import collect as play
    from veil.host.progress import Progress

    with Progress(False if quiet else None, "collecting") as bar:
        found = play(
            env, episodes, out=out, seed=seed, frames=frames, max_steps=max_steps, force=force, watch=bar.update
        )
    if not quiet:
        typer.echo(f"{len(found)} episodes of {env} in {out}: {', '.join(found.parts)}")
