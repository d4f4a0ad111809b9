"""``veil diagnose``: what may be wrong with an agent's run, by name, and how well its world model predicts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from veil.cli import agency, options
from veil.cli.acting import FILMS, PICTURES, check_picture
from veil.cli.certifying import print_result
from veil.cli.program import Refusal
from veil.cli.waiting import waiting

FILMED, STEPS = 4, 50  # episodes of a film, and steps of each


def diagnose(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run of veil train-agent.")],
    episodes: Annotated[
        int,
        typer.Option(
            "--episodes", help="How many the agent plays to be predicted; 0: the newest of the run instead.", min=0
        ),
    ] = 10,
    horizon: Annotated[int, typer.Option("--horizon", help="Steps that are predicted, open loop.", min=1)] = 15,
    film: Annotated[
        Path | None,
        typer.Option("--film", metavar="FILE", help="A .gif or .mp4: frames above, what is dreamt below."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A .png of likelihood and rewards by horizon.")
    ] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Look for faults in the agent of RUN, name them, and say how well its world model predicts.

    For example:  veil diagnose runs/pendulum --film dreams.gif --out horizons.png

    It ends with 0 whatever it finds: with --json, "faults" and "doubts" are names, "findings" have the evidence.
    """
    check_picture("--film", film, FILMS)
    check_picture("--out", out, PICTURES)
    asked, skill = agency.opened(run)
    if film is not None and asked["frames"] is None:
        raise Refusal("--film: this agent sees no frames; train one with --frames 32")
    import jax
    import numpy as np

    from veil.control import diagnosis, play
    from veil.control.agent.model_based import EPISODES
    from veil.data import Recording, recording

    kept = recording(run / EPISODES)
    known = Recording(kept.episodes[: len(skill.returns)], kept.categories, str(run), kept.about, kept.angles)
    key, fresh = jax.random.key(seed), None
    with waiting("playing", quiet):
        world = agency.world_of(asked)
        limit = None if world.spec is None else world.spec.max_episode_steps
        if episodes:
            number = np.arange(episodes)
            played = play([world], replace(skill, exploring=False), number.tolist(), _apart(seed, asked["seed"]))
            fresh = replace(known, episodes=played)
        world.close()
    with waiting("looking", quiet):
        found = diagnosis.diagnose(
            skill,
            known,
            key=key,
            fresh=fresh,
            episodes=episodes or 10,
            horizon=horizon,
            random=asked["random"],
            repeat=asked["repeat"],
            limit=limit,
            name=str(run),
        )
    if film is not None:
        with waiting("filming", quiet):
            some = (known if fresh is None else fresh).episodes
            chosen = list(some)[-FILMED:] if fresh is None else list(some)[:FILMED]
            diagnosis.film(film, skill, chosen, key=key, steps=STEPS)
    if out is not None:
        from veil.report.diagnosed import picture

        picture(found).savefig(out)
    if as_json:
        typer.echo(json.dumps({"run": str(run), **found.as_dict()}, allow_nan=False))
        return
    print_result(f"{found.name}: {found.episodes}", found, found.findings)
    typer.echo(f"faults: {', '.join(found.faults) or 'none'}; doubts: {', '.join(found.doubts) or 'none'}")
    for place in (film, out):
        if place is not None and not quiet:
            typer.echo(f"written to {place}")


def _apart(seed: int, learned: int) -> int:
    """A seed whose episodes are not those that were learned from."""
    return seed + learned + 1_000_003
