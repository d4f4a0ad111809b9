"""``veil imitate``: a policy from demonstrations, by the fit behind ``veil fit``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli import fitting, options
from veil.cli.imitation import POLICIES, WHOLE, Imitation, choice
from veil.cli.program import Refusal

ACTING = "Acting"
Demonstrations = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A recording (tree, slalom, pusht, veil collect, Minari, robomimic, LeRobot, zarr), or a table of steps.",
    ),
]
Chunk = Annotated[int | None, typer.Option("--chunk", help="Actions chosen at once; default: one by one.", min=1)]
Observations = Annotated[int, typer.Option("--observations", help="Observations that it acts by.", min=1)]
Latent = Annotated[str, typer.Option("--latent", help="When the latent is drawn: each step, or once an episode.")]
Execute = Annotated[
    int | None,
    typer.Option(
        "--execute", help="Actions of a chunk that are executed; default: half.", min=1, rich_help_panel=ACTING
    ),
]
Choose = Annotated[
    str | None,
    typer.Option(
        "--choose",
        help="sample, low-noise[:SCALE], likeliest[:CANDIDATES], mean[:DRAWS], coherent[:CANDIDATES].",
        rich_help_panel=ACTING,
    ),
]


def imitate(
    data: Demonstrations,
    out: options.RunToMake,
    policy: Annotated[str, typer.Option("--policy", help=", ".join(POLICIES) + ".")],
    chunk: Chunk = None,
    observations: Observations = 1,
    latent: Latent = "step",
    env: Annotated[
        str | None,
        typer.Option(
            "--env",
            help="Try the policy there ten times while it learns: tree, slalom, pusht, or a Gymnasium environment.",
            rich_help_panel=ACTING,
        ),
    ] = None,
    execute: Execute = None,
    choose: Choose = None,
    episodes: Annotated[
        str | None,
        typer.Option("--episodes", help="Those to learn from: first:N, last:N, or a split that DATA name."),
    ] = None,
    query: Annotated[
        str | None, typer.Option("--query", help="The actions; default: action, or all there are.")
    ] = None,
    evidence: Annotated[
        str | None, typer.Option("--evidence", help="What it sees; default: observation, or all there are.")
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", help="Of the latent of a cvae.", min=1, rich_help_panel=options.MODEL)
    ] = None,
    components: options.Components = None,
    covariance: options.Covariance = None,
    head: options.Head = None,
    hidden: options.Hidden = None,
    width: options.Width = None,
    depth: options.Depth = None,
    layers: options.Layers = None,
    knots: options.Knots = None,
    path: options.PathName = None,
    draws: options.Draws = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            help="As many steps as fit into so many; compiling and trials come on top.",
            rich_help_panel=options.LEARNING,
        ),
    ] = None,
    steps: options.Steps = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    average: options.Average = None,
    held_out: Annotated[
        float | None,
        typer.Option("--held-out", help="Fraction of the episodes to hold out.", rich_help_panel=options.LEARNING),
    ] = None,
    seed: options.Seed = 0,
    checkpoint_every: options.CheckpointEvery = None,
    resume: options.Resume = False,
    log: options.Log = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn a policy from demonstrations and write the run directory RUN.

    For example:  veil imitate tree --policy mdn --env tree --out runs/tree  and then  veil act runs/tree tree

    It is veil fit with a model, an objective and an optimiser that suit actions: of p(action | observation), or of
    chunks of actions, which are chosen at once. veil evaluate, report, sample and export work on RUN, too.
    """
    asked = dict(locals())
    from veil.data.core.columns import suggestion

    if policy not in POLICIES:
        raise Refusal(f"--policy: there is no {policy!r}; {suggestion(policy, list(POLICIES))}")
    if latent not in ("step", "episode"):
        raise Refusal(f"--latent: expected step or episode (a cvae's --dimensions are an option); got {latent!r}")
    if latent == "episode" and policy not in ("mdn", "cvae"):
        raise Refusal(f"--latent episode: a latent that can be kept have mdn and cvae; leave it out for {policy}")
    if minutes is not None and steps is not None:
        raise Refusal("--minutes, --steps: they say the same; leave one of them out")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise Refusal(f"--minutes: expected a positive number; got {minutes:g}")
    if held_out is not None and not 0 < held_out < 1:
        raise Refusal(f"--held-out: expected a fraction between 0 and 1; got {held_out:g}")
    if dimensions is not None and policy != "cvae":
        raise Refusal(f"--dimensions: they are of the latent of a cvae; leave them out for {policy}")
    if execute is not None and chunk is None:
        raise Refusal("--execute: of a chunk of actions; say how long chunks are with --chunk")
    if execute is not None and chunk is not None and execute > chunk:
        raise Refusal(f"--execute: a chunk has {chunk} actions (--chunk); got {execute}")
    if choose is not None and choice(choose) is not None and choose.partition(":")[0] == "coherent" and chunk is None:
        raise Refusal("--choose coherent: of chunks of actions; say how long they are with --chunk")
    model, given = POLICIES[policy]
    from veil.cli import reading
    from veil.data.recorded.opening import is_recording

    chunks = held = None
    words = query, evidence
    if reading.is_file(data) and is_recording(Path(data)):
        chunks, held, words = _of_recording(data, asked, policy in WHOLE)
    else:
        for name, value in (("--chunk", chunk), ("--episodes", episodes), ("--env", env)):
            if value is not None:
                raise Refusal(f"{name}: {data} is a table of steps and no recording; leave it out")
        if observations > 1 or latent == "episode":
            raise Refusal(f"--observations, --latent episode: {data} is a table of steps, without episodes")
    if env is not None:
        _check_env(env, data, chunks, words)
    act = {"policy": policy, "env": env, "execute": execute, "choose": choose}
    found = Imitation(asked, chunks, held, latent == "episode", minutes, act)
    own: tuple[str, ...] = (
        "out",
        "components",
        "covariance",
        "head",
        "hidden",
        "width",
        "depth",
        "layers",
        "knots",
        "path",
        "draws",
    )
    own += ("steps", "batch_size", "learning_rate", "seed", "checkpoint_every", "resume", "log", "force", "quiet")
    fit: dict[str, Any] = {name: asked[name] for name in own} | {"model": model, "data": data}
    fit |= {"query": words[0], "evidence": words[1], "average": average, "latent": dimensions and str(dimensions)}
    fit["held_out"] = held_out if held is None else None
    fit |= {name: value for name, value in given.items() if fit.get(name) is None}
    fitting.learn(fit, found)


def _of_recording(source: str, asked: dict[str, Any], repeat: bool) -> Any:
    """What is learned from, what is held out, and the parts that are actions and observations."""
    import numpy as np

    from veil.cli.reading import Chunks, names
    from veil.data.recorded.opening import recording

    found = recording(Path(source))
    chosen = None if asked["episodes"] is None else _numbers(asked["episodes"], found)
    horizon, held = asked["chunk"], None
    how = Chunks(asked["observations"], horizon, repeat and horizon is not None, chosen)
    if asked["held_out"] is not None:
        order = np.random.default_rng(asked["seed"]).permutation(chosen or range(len(found))).tolist()
        count = max(1, round(asked["held_out"] * len(order)))
        if count >= len(order):
            raise Refusal(f"--held-out: {len(order)} episodes are too few to hold {asked['held_out']:g} of them out")
        how, held = how._replace(episodes=sorted(order[count:])), how._replace(episodes=sorted(order[:count]))
    first = found.episodes[0]
    plain = {name for name, array in first.observations.items() if array.dtype.kind in "biuf"}
    given: list[str] = []
    for option, role, usual, parts in (
        ("--query", "query", "action", [name for name in first.actions if name not in ("played", "expert")]),
        ("--evidence", "evidence", "observation", [name for name in first.observations if name in plain]),
    ):
        words = names(asked[role], option) or ([usual] if usual in parts else parts)
        wrong = [word for word in words if word not in parts]
        if wrong or not words:
            there = ", ".join(parts) or "none"
            kind = "actions" if role == "query" else "observations"
            raise Refusal(f"{option}: {source} has no {' and no '.join(wrong) or kind} among its {kind} ({there})")
        given.append(",".join(f'"{word}"' if "," in word else word for word in words))
    return how, held, tuple(given)


def _numbers(words: str, found: Any) -> list[int] | Any:
    """The numbers of episodes that are first, last, or in a split."""
    which, colon, number = words.partition(":")
    if not colon:
        splits = dict(found.about.get("splits", {}))
        if which not in splits:
            known = f", or one of {', '.join(splits)}" if splits else ""
            raise Refusal(f"--episodes: expected first:N or last:N{known}; got {words!r}")
        return [int(each) for each in splits[which]]
    if which not in ("first", "last") or not number.isdecimal() or not 0 < int(number) <= len(found):
        raise Refusal(f"--episodes: expected first:N or last:N, N from 1 to {len(found)}; got {words!r}")
    every = list(range(len(found)))
    return every[: int(number)] if which == "first" else every[-int(number) :]


def _check_env(env: str, source: str, chunks: Any, words: Any) -> None:
    """Raise ValueError, before anything is learned, where the environment is not that of the recording."""
    from veil.cli import reading
    from veil.control.trials import check_environment

    first = chunks._replace(episodes=(chunks.episodes or [0])[:1])
    asked = reading.names(words[0], "--query"), reading.names(words[1], "--evidence")
    data: Any = reading.open_data(source, *asked, chunks=first)
    check_environment(env, data.view)
