"""``veil explore``: somebody looks for what is new, in DeepSea or in any environment of Gymnasium."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import novelty, options
from veil.cli.acting import FILMS
from veil.cli.options import on
from veil.cli.program import Refusal

NEW, LEARNING = "What is new", "Learning"
FILE, ACTOR, RUN, FORMAT, VERSION = "explored.json", "actor", "run", "veil exploration", 1
EPISODES, FEW = 10_000, 30  # of deep-sea and of plan, where they are not said
SEA = "deep-sea"


def explore(
    env: Annotated[
        str, typer.Argument(metavar="ENV", help="deep-sea, or a Gymnasium environment, such as MountainCar-v0.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The folder to make.")],
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent",
            help="Of deep-sea: q (tables), k-learning, posterior-sampling (models in tables), bootstrapped (networks). "
            "Of environments: ppo, sac, maxinfo (real actions), bootstrapped (choices), plan (a world model).",
        ),
    ] = None,
    bonus: Annotated[
        str | None,
        on(
            NEW, "--bonus", f"{novelty.HELP} Default: count, but none for k-learning, posterior-sampling, bootstrapped."
        ),
    ] = None,
    weight: Annotated[
        float | None,
        on(
            NEW,
            "--weight",
            "Of the bonus beside rewards; default: in deep-sea 1 / rows, of maxinfo learned, else 1.",
            min=0.0,
        ),
    ] = None,
    members: Annotated[
        int | None,
        on(NEW, "--members", "Of bootstrapped: networks (default: 20, in deep-sea with counts 1).", min=1),
    ] = None,
    prior: Annotated[
        float | None,
        on(NEW, "--prior", "Of bootstrapped: how large priors are (default: 3, with counts 0).", min=0.0),
    ] = None,
    episodes: Annotated[
        int | None,
        on(LEARNING, "--episodes", "In deep-sea at most so many (10000), of plan in all (30).", min=2),
    ] = None,
    steps: Annotated[int, on(LEARNING, "--steps", "Of environments, in all.", min=1)] = 100_000,
    together: Annotated[int, on(LEARNING, "--together", "Of ppo: environments side by side.", min=1)] = 8,
    size: Annotated[int, typer.Option("--size", help="Of deep-sea: its rows.", min=2)] = 10,
    stochastic: Annotated[
        bool, typer.Option("--stochastic", help="Of deep-sea: with wind, and noisy rewards.")
    ] = False,
    film: Annotated[
        Path | None,
        typer.Option("--film", metavar="FILE", help="Of deep-sea: a .gif or .mp4 of the map of visits, growing."),
    ] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Delete what is in RUN.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Let somebody explore ENV who is told what is new, and write the run RUN.

    For example:  veil explore deep-sea --size 20 --out runs/sea

    and without a bonus  veil explore deep-sea --size 20 --bonus none --out runs/lost

    or networks, from pictures  veil explore deep-sea --size 20 --agent bootstrapped --out runs/networks

    The bonus of a step is of what was learned before it. In deep-sea a treasure of 1 is found by who goes the right way
    at every row; solved is by bsuite's rule. RUN has explored.json, a picture, and of environments what was learned.
    """
    agent = agent or ("q" if env == SEA else "ppo")
    bonus = novelty.checked(agent, bonus, env == SEA)
    searches = env == SEA and agent in novelty.SEARCHERS
    if weight is not None and bonus == "none":
        raise Refusal("--weight: it is of a bonus, and there is none; leave it out, or say --bonus")
    for name, given in (("members", members), ("prior", prior)):
        if given is not None and agent != "bootstrapped":
            raise Refusal(f"--{name}: it is of --agent bootstrapped; leave it out")
    if film is not None and not searches:
        raise Refusal("--film: it is of deep-sea's map, with an agent that plays there; leave it out")
    if film is not None and film.suffix not in FILMS:
        raise Refusal(f"--film: expected a file that ends in {' or '.join(FILMS)}; got {film.name!r}")
    _begin(out, force)
    begun = time.perf_counter()
    asked = {"env": env, "agent": agent, "bonus": bonus, "weight": weight, "seed": seed}
    if agent == "bootstrapped":
        asked |= {"members": members, "prior": prior}
    if searches:
        asked |= {"size": size, "stochastic": stochastic, "episodes": episodes or EPISODES}
        told = _searched(asked, out, film, quiet)
    elif agent == "plan":
        asked |= {"episodes": episodes or FEW}
        told = _learned(asked, out, quiet)
    else:
        asked |= {"steps": steps, "together": together, "size": size, "stochastic": stochastic}
        told = _learned(asked, out, quiet)
    told |= {"run": str(out), "seconds": round(time.perf_counter() - begun, 1)}
    _write(out, asked, told)
    if as_json:
        from veil.host.files import plain

        typer.echo(json.dumps(plain(told), allow_nan=False))
    elif not quiet:
        typer.echo(_words(asked, told))
        typer.echo(f"written to {out}" + (f" and {film}" if film is not None else ""))


def _searched(asked: dict[str, Any], out: Path, film: Path | None, quiet: bool) -> dict[str, Any]:
    import jax

    from veil.control.exploration.searching import search
    from veil.control.worlds.deep_sea import DeepSea
    from veil.host.progress import Progress
    from veil.report import explored

    sea = DeepSea(asked["size"], asked["stochastic"])
    learner = novelty.SEARCHERS[asked["agent"]](sea, asked)
    with Progress(False if quiet else None, "exploring") as bar:
        found = search(sea, learner, jax.random.key(asked["seed"]), most=asked["episodes"], watch=bar.update)
    explored.map_of(found).savefig(out / "visits.png")
    if film is not None:
        explored.write_growth(film, found)
    solved = found.solved
    return {
        "solved": solved is not None,
        "episodes_to_solve": solved,
        "episodes": len(found.returns),
        "coverage": found.coverage,
        "return_mean": float(found.returns[-100:].mean()),
        "beats_chance": sea.beats_chance(solved),
    }


def _learned(asked: dict[str, Any], out: Path, quiet: bool) -> dict[str, Any]:
    import jax
    import numpy as np

    from veil.host.progress import Progress
    from veil.report import style
    from veil.saved.folders import save

    key_bonus, key_learn = jax.random.split(jax.random.key(asked["seed"]))
    making = novelty.making(asked)
    world = making()
    try:
        agent = asked["agent"]
        bonus = novelty.bonus_of(asked["bonus"], world, rows=agent == "plan", before=agent == "bootstrapped")
    finally:
        world.close()
    weight = 1.0 if asked["weight"] is None else asked["weight"]
    with Progress(False if quiet else None, "exploring") as bar:
        run = novelty.PLAYERS[asked["agent"]]
        told = {**asked, "folder": out / RUN}
        actor, returns, ends = run(making, bonus, weight, told, key_bonus, key_learn, bar.update)
    save(out / ACTOR, actor)
    with style.figure(panel=(5.0, 3.2)) as (picture, (panel,)):
        panel.plot(ends, returns, ".", markersize=3)
        style.label(panel, x=("step", "number"), y=("return of an episode", "reward"), title="While it explored")
    picture.savefig(out / "returns.png")
    earned = np.flatnonzero(np.asarray(returns) > 0)
    return {
        "episodes": len(returns),
        "environment_steps": asked.get("steps") or int(ends[-1]),
        "return_mean": float(np.mean(returns[-20:])) if len(returns) else None,
        "first_reward": int(ends[earned[0]]) if len(earned) else None,
    }


def _words(asked: dict[str, Any], told: dict[str, Any]) -> str:
    who = f"{asked['agent']} with {'no bonus' if asked['bonus'] == 'none' else asked['bonus']} in {asked['env']}"
    if "solved" in told:
        end = f"solved in episode {told['episodes_to_solve']}" if told["solved"] else "not solved"
        return f"{who}, {asked['size']} rows: {end}, {told['coverage']:.0%} of the states seen, {told['seconds']:.0f} s"
    first = "never" if told["first_reward"] is None else f"after {told['first_reward']} steps"
    mean = "no episode was over" if told["return_mean"] is None else f"return {told['return_mean']:.2f} at the end"
    return f"{who}: {mean}, an episode earned something first {first}, {told['seconds']:.0f} s"


def _begin(out: Path, force: bool) -> None:
    """Make the folder; refuse one with other things, or another run without --force."""
    import shutil

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not force:
            raise Refusal(
                f"--out: {out} exists and holds other things; choose another place, or begin anew with --force"
            )
        if not out.is_dir() or not (out / FILE).is_file():
            raise Refusal(f"--out: {out} is no run of veil explore, and is not deleted; choose another place")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)


def _write(out: Path, asked: dict[str, Any], told: dict[str, Any]) -> None:
    from veil.host.files import plain, write_atomically

    record = {"format": FORMAT, "version": VERSION, "asked": asked, "found": plain(told)}
    write_atomically(out / FILE, (json.dumps(record, indent=1) + "\n").encode())
