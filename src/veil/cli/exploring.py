"""``veil explore``: somebody looks for what is new, in DeepSea or in any environment of Gymnasium."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import novelty, options
from veil.cli.acting import FILMS
from veil.cli.agents import _in
from veil.cli.program import Refusal

AGENTS = ("q", "ppo", "sac", "plan")
NEW, LEARNING = "What is new", "Learning"
FILE, ACTOR, RUN, FORMAT, VERSION = "explored.json", "actor", "run", "veil exploration", 1
EPISODES = {"q": 10_000, "plan": 30}  # where they are not said
SEA = "deep-sea"


def explore(
    env: Annotated[
        str, typer.Argument(metavar="ENV", help="deep-sea, or a Gymnasium environment, such as MountainCar-v0.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The folder to make.")],
    agent: Annotated[
        str | None,
        typer.Option("--agent", help="q (tables; of deep-sea), ppo, sac (real actions), or plan (a world model)."),
    ] = None,
    bonus: Annotated[str, _in(NEW, "--bonus", novelty.HELP)] = "count",
    weight: Annotated[
        float | None, _in(NEW, "--weight", "Of the bonus beside rewards; default: of q 1 / rows, of others 1.", min=0.0)
    ] = None,
    episodes: Annotated[
        int | None, _in(LEARNING, "--episodes", "Of q at most so many (10000), of plan in all (30).", min=2)
    ] = None,
    steps: Annotated[int, _in(LEARNING, "--steps", "Of ppo and sac, in all.", min=1)] = 100_000,
    together: Annotated[int, _in(LEARNING, "--together", "Of ppo: environments side by side.", min=1)] = 8,
    size: Annotated[int, typer.Option("--size", help="Of deep-sea: its rows.", min=2)] = 10,
    stochastic: Annotated[
        bool, typer.Option("--stochastic", help="Of deep-sea: with wind, and noisy rewards.")
    ] = False,
    film: Annotated[
        Path | None, typer.Option("--film", metavar="FILE", help="Of q: a .gif or .mp4 of the map of visits, growing.")
    ] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Delete what is in RUN.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Let somebody explore ENV who is told what is new, and write the run RUN.

    For example:  veil explore deep-sea --size 20 --out runs/sea

    and without a bonus  veil explore deep-sea --size 20 --bonus none --out runs/lost

    The bonus of a step is of what was learned before it. In deep-sea a treasure of 1 is found by who goes the right way
    at every row; solved is by bsuite's rule. RUN has explored.json, a picture, and what was learned.
    """
    from veil.data.core.columns import suggestion

    agent = agent or ("q" if env == SEA else "ppo")
    if agent not in AGENTS:
        raise Refusal(f"--agent: there is no {agent!r}; {suggestion(agent, AGENTS)}")
    if agent == "q" and env != SEA:
        raise Refusal("--agent q: its tables are of deep-sea; others learn by --agent ppo or sac")
    novelty.check(bonus)
    if agent == "plan" and env == SEA:
        raise Refusal("--agent plan: states that are numbered are no vectors; explore deep-sea by --agent q or ppo")
    if agent == "q" and bonus not in ("none", "count"):
        raise Refusal(f"--bonus {bonus}: tables know counts; --bonus count, or none")
    if agent != "q" and film is not None:
        raise Refusal("--film: it is of deep-sea's map, with --agent q; leave it out")
    if film is not None and film.suffix not in FILMS:
        raise Refusal(f"--film: expected a file that ends in {' or '.join(FILMS)}; got {film.name!r}")
    _begin(out, force)
    begun = time.perf_counter()
    asked = {"env": env, "agent": agent, "bonus": bonus, "weight": weight, "seed": seed}
    episodes = episodes or EPISODES.get(agent)
    if agent == "q":
        asked |= {"size": size, "stochastic": stochastic, "episodes": episodes}
        told = _searched(asked, out, film, quiet)
    elif agent == "plan":
        asked |= {"episodes": episodes}
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

    from veil.control.exploration.searching import counting, search
    from veil.control.exploration.tabular import QLearning
    from veil.control.worlds.deep_sea import DeepSea
    from veil.host.progress import Progress
    from veil.report import explored

    sea = DeepSea(asked["size"], asked["stochastic"])
    learner = counting(sea, asked["weight"]) if asked["bonus"] == "count" else QLearning(random=0.1)
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
        bonus = novelty.bonus_of(asked["bonus"], world, rows=asked["agent"] == "plan")
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
    if asked["agent"] == "q":
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
