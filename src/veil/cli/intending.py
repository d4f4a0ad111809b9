"""``veil intent``: what somebody wants, from what they did: ``fit`` learns it, ``infer`` tells it of each episode."""

import json
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import cooking, fitting, options, people, runs, tables, worlds
from veil.cli.program import COMMAND, Refusal, notes
from veil.cli.running import Running
from veil.cli.using import check_file, write_table
from veil.cli.waiting import waiting

STEPS, RATE = 500, 3e-2  # of several kinds, which climb by gradients
MOST_FRAMES = 200

app = typer.Typer(no_args_is_help=True, help="What somebody is trying to do, from what they did.")

Decisions = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A table with a row a decision: the columns state and action (numbers from 0), of a world with a horizon "
        "step, too; veil solve --walks makes one. With --world overcooked: overcooked-cramped-room, ...",
    ),
]
World = Annotated[
    str,
    typer.Option(
        "--world",
        metavar="WORLD",
        help="A map (.txt), tables (.npz), rooms, as in veil solve; or overcooked.",
    ),
]
Reward = Annotated[
    str,
    typer.Option(
        "--reward",
        help="goals (of a map: which one, how common each, how rational people are), table (a number a state), linear "
        "(in features), mlp (a network of features).",
    ),
]
Kinds = Annotated[int, typer.Option("--kinds", help="How many kinds of people there may be.", min=1)]
Changes = Annotated[bool, typer.Option("--changes", help="What somebody wants may change on the way.")]
Rationalities = Annotated[
    str | None, typer.Option("--rationalities", help="Of goals, scales to infer with the goal: 0.3,1,3.")
]
Features = Annotated[
    str | None,
    typer.Option("--features", help="Of a map, its characters that may be worth something; default: all but floor."),
]
Hidden = Annotated[str | None, typer.Option("--hidden", help=f"Sizes of the network of mlp: {people.HIDDEN}.")]
State = Annotated[str, typer.Option("--state", help="The column of states; with a horizon also that of steps: s,t.")]
Action = Annotated[str, typer.Option("--action", help="The column of actions.")]
Picture = Annotated[Path | None, typer.Option("--picture", metavar="FILE", help="Of a map, the rewards: a .png.")]
Online = Annotated[bool, typer.Option("--online", help="After each decision, by what was seen up to it.")]
File = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="A table to write, too.")]
Film = Annotated[
    Path | None, typer.Option("--film", metavar="FILE", help="Of a map, the belief as it sharpens: .gif or .mp4.")
]
Which = Annotated[
    int | None,
    typer.Option("--filmed", help="Which episode of DATA (of overcooked: which game) it shows.", min=0),
]


@app.command("fit")
def fit(
    data: Decisions,
    world: World,
    out: options.RunToMake,
    reward: Reward = "goals",
    kinds: Kinds = 1,
    changes: Changes = False,
    rationalities: Rationalities = None,
    features: Features = None,
    hidden: Hidden = None,
    slip: worlds.Slip = 0.0,
    discount: worlds.Discount = None,
    horizon: worlds.Horizon = None,
    state: State = "state",
    action: Action = "action",
    weight: options.Weight = None,
    episode: Annotated[
        str, typer.Option("--episode", help="The column that says whose decision a row is.")
    ] = "episode",
    time: options.Time = None,
    steps: options.Steps = None,
    seed: options.Seed = 0,
    picture: Picture = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn what people want from their decisions in a known WORLD, and write the run directory RUN.

    For example:  veil solve rooms --slip 0.1 --goal A,B,C,D --walks 500 --out walks.csv  then
    veil intent fit walks.csv --world rooms --slip 0.1 --out runs/rooms  and  veil intent infer runs/rooms walks.csv

    People act soft-optimally for a reward (maximum causal entropy), and the fit maximises the likelihood of what they
    did: inverse reinforcement learning. veil evaluate, log-prob, infer, report work on RUN, too. With --world
    overcooked it learns which sub-goals (onion, pot, dish, serve, counter) cooks are after from their steps.
    """
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in locals().items()}
    if world == cooking.WORLD:
        own = ("data", "world", "out", "steps", "seed", "force", "quiet")
        usual = {name: option.default for name, option in signature(fit).parameters.items()}
        for name, value in asked.items():
            if name not in own and value != usual[name]:
                raise Refusal(
                    f"--{name}: with --world {world} everything but --steps and --seed is known; leave it out"
                )
        cooking.learn(data, out, steps, seed, force, quiet, asked)
        return
    from veil.data.core.columns import suggestion

    if reward not in people.REWARDS:
        raise Refusal(f"--reward: there is no {reward!r}; {suggestion(reward, people.REWARDS)}")
    for option, value, where in (
        ("--rationalities", rationalities, ("goals",)),
        ("--features", features, ("linear", "mlp")),
        ("--hidden", hidden, ("mlp",)),
    ):
        if value is not None and reward not in where:
            raise Refusal(f"{option}: it is of --reward {' and '.join(where)}; leave it out for {reward}")
    if changes and reward != "goals" and kinds == 1:
        raise Refusal("--changes: people of one kind have nothing to change; see --kinds")
    if reward == "goals" and kinds > 1:
        raise Refusal("--kinds: with --reward goals the kinds are the goals; leave it out")
    if picture is not None and (picture.suffix != ".png" or not picture.parent.is_dir()):
        raise Refusal(f"--picture: expected a .png in a folder that exists; got {picture}")
    import jax

    from veil.saved import runs as saved
    from veil.saved import unfinished

    unfinished.check_free(out, force)
    opened = worlds.opened(world, discount, horizon, slip, seed)
    if opened.grid is None and (reward == "goals" or features is not None or picture is not None):
        what = "--reward goals" if reward == "goals" else "--features" if features is not None else "--picture"
        raise Refusal(f"{what}: only of a map; {world} has tables, whose own features are the array of this name")
    with notes(quiet), jax.enable_x64(True):
        key, key_start, key_evaluate = jax.random.split(jax.random.key(seed), 3)
        opened = worlds.opened(world, discount, horizon, slip, seed)  # once more, in this precision
        names, model = people.model(opened, reward, kinds, changes, rationalities, features, hidden, key_start)
        with waiting("reading", quiet):
            read, how, columns = people.read(data, model, state, action, weight, episode, time)
        people.check(read, opened.problem)
        model = people.begun(model, read, key_start, quiet)
        with unfinished.creating(out, force) as folder:
            result = _fitted(model, read, folder, steps, key, quiet)
            with waiting("evaluating", quiet):
                evaluation = fitting._evaluate(result, read, key_evaluate)
            fitting._finish(folder, result, evaluation)
            kept: dict[str, Any] = {
                "world": world,
                "map": opened.text,
                "slip": slip,
                "discount": float(opened.problem.discount),
                "horizon": opened.problem.horizon,
                "reward": reward,
                "kinds": names,
            }
            record = fitting._data_record(data, read, weight, evaluation.rows, None, how, columns)
            configuration = saved.configuration(
                model="intent",
                options=kept,
                data=record,
                fit={"seed": seed, "steps": steps, "objective": "marginal"},
                precision="float64",
                command=COMMAND.get(),
                asked=asked,
            )
            saved.write_config(folder, configuration)
        if picture is not None:
            _drawn(picture, opened.grid, result, names)
    if quiet:
        return
    one = "decision" if how is None else "episode"
    status = result.status
    typer.echo(f"{reward} of {read.name}: {status.reason} after {status.steps} steps")
    for line in _found(result.model, names, opened):
        typer.echo(line)
    typer.echo(
        f"log-likelihood {evaluation.log_likelihood:.4f} nats (exact), {evaluation.log_likelihood_per_datum:.6g} per "
        f"{one}\nwritten to {out}"
    )


@app.command("infer")
def infer(
    run: options.RunToUse,
    data: Decisions,
    online: Online = False,
    out: File = None,
    as_json: options.AsJson = False,
    film: Film = None,
    filmed: Which = None,
    query: options.OtherQuery = None,
    evidence: options.OtherEvidence = None,
    episode: options.OtherEpisode = None,
    time: options.OtherTime = None,
    quiet: options.Quiet = False,
) -> None:
    """What each episode's person wants: the exact posterior over goals, or kinds, given all that they did.

    With --online after each decision, given what was done up to it, and log p of the decision given those before it;
    of what may change (--changes) without it, too, but given all that was done.
    """
    if out is not None:
        check_file(out, data)
    if film is not None and film.suffix not in (".gif", ".mp4"):
        raise Refusal(f"--film: expected a file that ends in .gif or .mp4; got {film.name!r}")
    if film is not None and not film.parent.is_dir():
        raise Refusal(f"--film: the folder {film.parent} does not exist; create it first")
    import numpy as np

    from veil.model import OfSequences
    from veil.saved import runs as saved
    from veil.zoo.switching_intent import SwitchingIntent

    if (saved.read(run).config["model"].get("options") or {}).get("world") == cooking.WORLD:
        cooking.infer(run, data, out, as_json, film, filmed, quiet)
        return
    filmed = filmed or 0
    with runs.opened(run, quiet) as (opened, fit):
        kept = opened.config["model"].get("options") or {}
        if opened.model_name != "intent":
            raise Refusal(f"{run} is a {opened.model_name}, and no run of veil intent fit; use veil infer")
        turns = isinstance(fit.model, SwitchingIntent)
        if not isinstance(fit.model, OfSequences):
            raise Refusal("this run has people of one kind, so that there is nothing to infer; see veil report RUN")
        if film is not None and kept.get("map") is None:
            raise Refusal("--film: only a map has one; leave it out")
        from veil.verbs.inference import infer as deduce

        rows = runs.data(opened, data, query, evidence, False, False, episode, time)
        people.check(rows, people.one(fit.model).problem)
        if film is not None and filmed >= len(rows):
            raise Refusal(f"--filmed: {data} has {len(rows)} episodes, numbered from 0; got {filmed}")
        known = runs.places(opened, data, False, episode, time)
        steps = deduce(fit, rows, filtered=True) if online or film is not None else None
        found = steps if online else deduce(fit, rows)
        assert found is not None
    each_step = online or turns
    names = [str(each) for each in kept["kinds"]]
    mask = tables.mask_of(rows)
    there = np.ones(rows.query.shape[:2], bool) if mask is None else mask
    episodes = np.arange(len(rows)) if known is None else known.sequence
    if film is not None:
        _filmed(film, kept, names, rows, there, steps, filmed)
    if out is not None:
        if each_step:
            columns = tables.inferred(found, mask, known)
            columns = [(names[int(name[6:])] if name.startswith("state_") else name, each) for name, each in columns]
        else:
            columns = [("sequence", episodes), *zip(names, np.asarray(found.probabilities).T, strict=True)]
            columns.append(("most_likely", found.most_likely))
        columns = [(name, np.array(names)[each] if name in ("most_likely", "path") else each) for name, each in columns]
        write_table(out, columns, quiet or as_json)
    if as_json:
        typer.echo(json.dumps(_object(run, names, episodes, found, there, each_step), allow_nan=False))
        return
    if not quiet:
        if out is None:
            _said(names, episodes, found, there, each_step)
        if film is not None:
            typer.echo(f"film written to {film}")


# -- fitting -----------------------------------------------------------------------------------------------------------


def _fitted(model: Any, data: Any, folder: Path, steps: int | None, key: Any, quiet: bool) -> Any:
    from veil.learning.choices import default_optimiser, usual_curvature

    given = {"key": key, "progress": False if quiet else None, "steps": steps}
    if usual_curvature(model, False) is None:  # several kinds come apart by small steps
        given |= {"steps": steps or STEPS, "optimiser": default_optimiser(steps or STEPS, RATE)}
    return Running(0.0, False, None, None, None, None, None).fit(model, data, folder, given)


def _found(model: Any, names: list[str], opened: worlds.Opened) -> list[str]:
    """What was found, in words."""
    import numpy as np

    from veil.parts.rewards import KnownReward, LinearReward

    person = people.one(model)
    shares = np.exp(np.asarray(person.logits) - np.logaddexp.reduce(np.asarray(person.logits)))
    lines = []
    if len(names) > 1:
        common = ", ".join(f"{name} {share:.3f}" for name, share in zip(names, shares, strict=True))
        lines.append(f"how common: {common}")
    if isinstance(person.reward, KnownReward):
        lines.append(f"rationality {float(np.exp(person.reward.log_rationality)):.4g} (1: rewards are nats)")
    if isinstance(person.reward, LinearReward):
        lines += [
            f"weights of {name} (nats): " + ", ".join(f"{weight:.4g}" for weight in weights)
            for name, weights in zip(names, np.asarray(person.reward.weights), strict=True)
        ]
    return lines


def _drawn(path: Path, grid: Any, result: Any, names: list[str]) -> None:
    """The expected reward of each state of each kind, with where one would go."""
    import numpy as np

    from veil.parts.decisions import expected_reward
    from veil.report import style
    from veil.report.grid_plots import walk

    person = people.one(result.model)
    rewards = [np.asarray(expected_reward(grid.problem.transitions, each)) for each in person.reward.tables()]
    policies = np.exp(np.asarray(person.log_policies()))
    policies = policies if policies.ndim == 3 else policies[:, 0]
    size = 0.5 * grid.shape[1] + 2.0, 0.5 * grid.shape[0] + 1.0
    with style.figure(1, len(rewards), panel=size) as (figure, panels):
        for panel, name, reward, policy in zip(panels, names, rewards, policies, strict=True):
            words = f"{name}: what is earned next, and where one would go"
            walk(figure, panel, grid, np.sum(policy * reward, -1), policy, "reward", words)
    figure.savefig(path)


# -- inferring ---------------------------------------------------------------------------------------------------------


def _object(run: Path, names: list[str], episodes: Any, found: Any, there: Any, each_step: bool) -> dict[str, Any]:
    each = []
    for n, episode in enumerate(episodes.tolist()):
        now = there[n] if each_step else ...
        entry = {"episode": episode, "posterior": found.probabilities[n][now].tolist()}
        entry["most_likely"] = names[int(found.most_likely[n][there[n]][-1] if each_step else found.most_likely[n])]
        if found.log_likelihood is not None:
            entry["log_likelihood"] = found.log_likelihood[n][there[n]].tolist()
        each.append(entry)
    return {
        "run": str(run),
        "kinds": names,
        "online": found.log_likelihood is not None,
        "unit": "nats",
        "episodes": each,
    }


def _said(names: list[str], episodes: Any, found: Any, there: Any, each_step: bool) -> None:
    """A table of a few episodes."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title="What each wants: posterior probabilities", title_justify="left")
    for name in ("episode", "decisions", *names, "most likely"):
        table.add_column(name, justify="right")
    for n in range(min(len(episodes), 20)):
        count = int(np.sum(there[n]))
        moments = sorted({1, max(1, count // 2), count}) if each_step else [count]
        for moment in moments:
            now = found.probabilities[n][np.flatnonzero(there[n])[moment - 1]] if each_step else found.probabilities[n]
            shares = [f"{share:.3f}" for share in now]
            table.add_row(str(episodes[n]), str(moment), *shares, names[int(np.argmax(now))])
    Console().print(table)
    if len(episodes) > 20:
        typer.echo(f"and {len(episodes) - 20} more; --out FILE writes all of them, --json prints them")


def _filmed(path: Path, kept: Any, names: list[str], rows: Any, there: Any, steps: Any, number: int) -> None:
    from veil.host.films import write_film
    from veil.report.grid_plots import film

    changed = {"discount": kept["discount"], "horizon": kept["horizon"]}
    world = worlds.of_map(kept["map"], kept["slip"], changed).grid
    now = there[number].nonzero()[0][:MOST_FRAMES]
    cells = world.places[rows.evidence[number, now, 0].astype(int)]
    letters = [name.split(" ")[0] for name in names] if kept["reward"] == "goals" else ()
    write_film(path, film(world, cells, steps.probabilities[number, now], names, letters), rate=3)
