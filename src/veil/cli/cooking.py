"""``veil intent`` of people who cook together: which sub-goal they are after, step by step (``--world overcooked``)."""

import json
from pathlib import Path
from typing import Any

import typer

from veil.cli.program import COMMAND, Refusal
from veil.cli.using import write_table
from veil.cli.waiting import waiting

WORLD = "overcooked"


def kitchen_of(source: str) -> str:
    """The kitchen of DATA. Raises Refusal for what is none."""
    from veil.data.bundled.overcooked import KITCHENS, PREFIX

    if source.removeprefix(PREFIX) not in KITCHENS or not source.startswith(PREFIX):
        names = ", ".join(PREFIX + name for name in KITCHENS)
        raise Refusal(f"DATA: with --world {WORLD} it is one of {names}; got {source!r}")
    return source.removeprefix(PREFIX)


def learn(
    source: str, out: Path, steps: int | None, seed: int, force: bool, quiet: bool, asked: dict[str, Any]
) -> None:
    """Learn sub-goals from the games to learn from, score the held-out ones, and write the run."""
    import jax
    import numpy as np

    from veil.control.worlds import subgoals
    from veil.data.bundled.overcooked import trials
    from veil.evaluation.likelihood import log_prob
    from veil.host.files import json_line
    from veil.saved import folders, runs, unfinished

    name = kitchen_of(source)
    unfinished.check_free(out, force)  # before anything is learned
    games = trials(name)
    count = steps or 150
    with jax.enable_x64(True), waiting("learning", quiet):
        model = subgoals.learn(
            [game for game in games if not game.held_out], key=jax.random.key(seed), steps=count, progress=False
        )
        total, decisions = 0.0, 0
        every = [
            each for game in games if game.held_out for player in range(2) for each in subgoals.errands(game, player)
        ]
        for held, one in enumerate(model.models):
            some = [each for each in every if each.held == held]
            if some and one is not None:
                total += float(np.sum(log_prob(one, subgoals.observed(some))))
                decisions += sum(len(each.steps) for each in some)
        with unfinished.creating(out, force) as folder:
            folders.save(folder, model)
            (folder / runs.METRICS).write_text(json_line({"held_out": total / decisions, "step": count}), "utf-8")
            kept: dict[str, Any] = {"world": WORLD, "kinds": sorted(set(model.kinds.tolist())), "reward": "goals"}
            configuration = runs.configuration(
                model="intent",
                options=kept,
                data={
                    "source": source,
                    "name": source,
                    "rows": len(every),
                    "query": ["action"],
                    "evidence": ["place", "facing"],
                    "query_shape": [1],
                    "evidence_shape": [3],
                },
                fit={"seed": seed, "steps": count, "objective": "marginal"},
                precision="float64",
                command=COMMAND.get(),
                asked=asked,
            )
            runs.write_config(folder, configuration)
    if not quiet:
        typer.echo(f"sub-goals of {source}: {sum(not game.held_out for game in games)} games to learn from")
        typer.echo(f"held-out pairs: {total / decisions:.5g} nats per step that moves (exact), {decisions} of them")
        typer.echo(f"written to {out}")


def infer(
    run: Path, source: str, out: Path | None, as_json: bool, film: Path | None, filmed: int | None, quiet: bool
) -> None:
    """Which sub-goal each player is after at every step of every game, given the steps before."""
    if not (quiet or as_json) and out is None and film is None:
        raise Refusal("--out, --film, --json: say where what is inferred of all steps shall go")
    import jax
    import numpy as np

    from veil.control.worlds import subgoals
    from veil.data.bundled.overcooked import SECONDS, trials
    from veil.saved import folders

    name = kitchen_of(source)
    games = trials(name)
    with jax.enable_x64(True), waiting("working", quiet):
        model: Any = folders.load(run)
        if model.name != name:
            raise Refusal(f"DATA: the run is of the kitchen {model.name}; got {source!r}")
        words = sorted(set(model.kinds.tolist()))
        number = next(i for i, game in enumerate(games) if game.held_out) if filmed is None else filmed
        if number >= len(games):
            raise Refusal(f"--filmed: {source} has {len(games)} games, numbered from 0; got {number}")
        if film is not None:
            game = games[number]
            every_other = range(0, len(game) + 1, 2)
            subgoals.film(game, model.beliefs(game), film, every_other, rate=round(0.5 / SECONDS))
        rows: list[dict[str, Any]] = []
        wanted = range(len(games)) if out is not None or as_json else ()
        for each in wanted:
            for player in range(2):
                belief = model.belief(games[each], player)
                shares = np.stack([belief[:, model.kinds == word].sum(1) for word in words], 1)
                rows.append({"game": each, "player": player, "posterior": shares})
    if out is not None:
        table: list[tuple[str, Any]] = [
            (part, np.concatenate([np.full(len(each["posterior"]), each[part]) for each in rows]))
            for part in ("game", "player")
        ]
        table.append(("step", np.concatenate([np.arange(len(each["posterior"])) for each in rows])))
        whole = np.concatenate([each["posterior"] for each in rows])
        table += list(zip(words, whole.T, strict=True))
        write_table(out, [*table, ("most_likely", np.array(words)[whole.argmax(1)])], quiet or as_json)
    if as_json:
        found = [
            {**each, "posterior": each["posterior"].tolist(), "most_likely": words[int(each["posterior"][-1].argmax())]}
            for each in rows
        ]
        typer.echo(json.dumps({"run": str(run), "kinds": words, "online": True, "episodes": found}, allow_nan=False))
    elif not quiet and film is not None:
        typer.echo(f"film of game {number} written to {film}")
