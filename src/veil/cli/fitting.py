"""``veil fit``: a model and data in, a run directory out."""

from collections.abc import Mapping
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import typer

from veil.cli import options
from veil.cli.imitation import Imitation
from veil.cli.learning import Asked, choose
from veil.cli.program import COMMAND, Refusal, notes
from veil.cli.resuming import NOT_OF_THE_FIT, begun, check_same, going_on
from veil.cli.running import Running
from veil.cli.waiting import waiting

MOST_SOLVED = 1000  # rows of whose log p an equation is solved behind a fit: veil evaluate has all of them
OF_MODELS = (
    "components", "covariance", "head", "gate", "experts", "hidden", "activation", "start", "latent", "decoder",
    "memory", "width", "depth", "layers", "knots", "path", "draws",
)  # fmt: skip


def fit(
    model: options.ModelName,
    data: options.DataSource,
    out: options.RunToMake,
    query: options.Query = None,
    evidence: options.Evidence = None,
    weight: options.Weight = None,
    episode: options.Episode = None,
    time: options.Time = None,
    window: options.Window = None,
    stream: options.Stream = False,
    block_rows: options.BlockRows = None,
    bad: options.Bad = None,
    image_size: options.ImageSize = None,
    components: options.Components = None,
    covariance: options.Covariance = None,
    head: options.Head = None,
    gate: options.Gate = None,
    experts: options.Experts = None,
    hidden: options.Hidden = None,
    activation: options.Activation = None,
    start: options.Start = None,
    latent: options.Latent = None,
    decoder: options.Decoder = None,
    memory: options.Memory = None,
    width: options.Width = None,
    depth: options.Depth = None,
    layers: options.Layers = None,
    knots: options.Knots = None,
    path: options.PathName = None,
    draws: options.Draws = None,
    posterior: options.Posterior = None,
    refine_steps: options.RefineSteps = None,
    objective: options.Objective = None,
    gradient: options.Gradient = None,
    samples: options.Samples = None,
    beta: options.Beta = None,
    warm_up: options.WarmUp = None,
    free_nats: options.FreeNats = None,
    kl_balance: options.KLBalance = None,
    steps: options.Steps = None,
    batch_size: options.BatchSize = None,
    carry: options.Carry = False,
    learning_rate: options.LearningRate = None,
    average: options.Average = None,
    restarts: options.Restarts = 1,
    tolerance: options.Tolerance = None,
    held_out: options.HeldOut = None,
    seed: options.Seed = 0,
    precision: options.Precision = None,
    select: options.Select = None,
    criterion: options.Criterion = None,
    checkpoint_every: options.CheckpointEvery = None,
    resume: options.Resume = False,
    log: options.Log = None,
    mixed_precision: options.MixedPrecision = False,
    devices: options.Devices = None,
    coordinator: options.Coordinator = None,
    processes: options.Processes = None,
    process: options.Process = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Fit MODEL to DATA and write the run directory RUN.

    For example:  veil fit mixture faithful --components 2 --covariance full --restarts 10 --out runs/geyser

    A fit that was stopped, by Ctrl-C or by force, goes on by the same command with --resume; --steps may be others:
    with more a fit, finished or not, becomes longer, and with no more than were taken it ends where it is.
    """
    learn(locals())


def learn(given: Mapping[str, Any], policy: Imitation | None = None) -> None:
    """Do what the options of ``veil fit`` say, by name (those left out have their defaults), for a ``policy`` too."""
    named = given if policy is None else policy.asked
    wanted = {name: value for name, value in named.items() if value is not None and name not in NOT_OF_THE_FIT}
    defaults = {name: option.default for name, option in signature(fit).parameters.items()}
    words = SimpleNamespace(**{**defaults, **{name: value for name, value in given.items() if name in defaults}})
    model, data, out, quiet, steps = words.model, words.data, Path(words.out), words.quiet, words.steps
    decoder, stream, bad, window, carry = words.decoder, words.stream, words.bad, words.window, words.carry
    select, held_out, seed = words.select, words.held_out, words.seed

    import jax

    from veil.cli import reading, selecting
    from veil.cli.shapes import IMAGES, with_shapes
    from veil.data import Data
    from veil.host.files import json_line
    from veil.learning.result import in_a_row
    from veil.model import Stepwise
    from veil.saved import runs, unfinished

    options_given: dict[str, Any] = {name: vars(words)[name] for name in OF_MODELS if vars(words)[name] is not None}
    if words.hidden is not None:
        options_given["hidden"] = _sizes(words.hidden)
    entry = _entry(model, options_given)
    done = None
    if words.resume and unfinished.is_finished(out):
        run = runs.read(out)
        check_same(out, run.config.get("asked"), wanted)
        with jax.enable_x64(run.precision == "float64"):
            done = run.load()
        if steps is None or steps <= done.status.steps:
            if not quiet:
                more = "" if done.status.converged else "; --steps with more makes it longer"
                typer.echo(f"{out} is finished, after {done.status.steps} steps; there is nothing to resume{more}")
            return
    taken = 0 if done is None else done.status.steps
    asked = Asked(
        **{
            each.name: vars(words)[each.name] for each in fields(Asked) if each.name not in ("steps", "mixed_precision")
        },
        steps=steps and steps - taken,
        mixed_precision=words.mixed_precision or None,
    )
    if decoder is not None and (decoder in IMAGES or "=" in decoder):  # of which shapes the data say
        del options_given["decoder"]
    candidates = selecting.candidates(entry, options_given, select) if select is not None else {"": options_given}
    if words.block_rows is not None and not stream:
        raise Refusal("--block-rows: only --stream reads in blocks")
    if bad not in (None, "refuse", "skip"):
        raise Refusal(f"--bad: expected refuse or skip; got {bad!r}")
    for option, value in (("--bad", bad), ("--image-size", words.image_size)):
        if value is not None and not stream:
            raise Refusal(f"{option}: it is about streams; add --stream")
    if words.criterion is not None and select is None:
        raise Refusal("--criterion: only --select chooses by one")
    if stream and select is not None:
        raise Refusal("--select: it needs the data in memory; leave --stream out")
    if stream and held_out is not None:
        raise Refusal("--held-out: a stream cannot be split")
    if carry and window is None:
        raise Refusal("--carry: from one window to the next; say how long they are with --window")
    how: Any = reading.Sequences(words.episode, words.time, None if carry else window)
    if not isinstance(entry.build(next(iter(candidates.values()))), Stepwise):
        for option, value in (("--episode", words.episode), ("--time", words.time), ("--window", window)):
            if value is not None:
                raise Refusal(f"{option}: {entry.name} is a model of single rows; leave it out")
        how = reading.Sequences() if policy is not None and policy.per_episode else None
    if held_out is not None and not 0 < held_out < 1:
        raise Refusal(f"--held-out: expected a fraction between 0 and 1; got {held_out:g}")
    running = Running(
        words.checkpoint_every,
        words.resume,
        words.log,
        words.devices,
        words.coordinator,
        words.processes,
        words.process,
    )
    running.check(select)
    running.meet()
    quiet = quiet or not running.leads
    if running.leads:
        unfinished.check_free(out, words.force or taken > 0)

    with notes(quiet):
        plain = reading.Blocks()
        size = reading.image_size(words.image_size)
        blocks = reading.Blocks(words.block_rows or plain.rows, bad or plain.bad, size) if stream else None
        with waiting("reading", quiet):
            asked_for = reading.names(words.query, "--query"), reading.names(words.evidence, "--evidence")
            parts = policy.chunks if policy is not None else None
            found = reading.open_data(data, *asked_for, words.weight, blocks, how, chunks=parts)
            if policy is not None and policy.held is not None:
                held_out = reading.open_data(data, *asked_for, words.weight, blocks, how, chunks=policy.held)
        _check_roles(entry, data, found, blocks, how is not None)
        candidates = {name: with_shapes(entry, chosen, decoder, found) for name, chosen in candidates.items()}
        models = {name: entry.build(chosen) for name, chosen in candidates.items()}
        if policy is not None:
            models = {name: policy.made(made, found) for name, made in models.items()}
        learning = choose(next(iter(models.values())), asked, found.evidence_shape is not None)
        _refuse_missing(next(iter(models.values())), found)
        precision = words.precision or ("float32" if learning.by_gradients else "float64")
        if precision not in runs.PRECISIONS:
            raise Refusal(f"--precision: expected one of {', '.join(runs.PRECISIONS)}; got {precision!r}")
        if policy is not None and policy.minutes is not None:
            with waiting("measuring", quiet):
                steps = policy.steps(models[""], found, {**learning.arguments, "batch_size": words.batch_size}, seed)
            asked = replace(asked, steps=steps)
            learning = choose(models[""], asked, found.evidence_shape is not None)
        settings = {"steps": steps and steps - taken, "batch_size": words.batch_size, "tolerance": words.tolerance}
        settings |= {"window": window if carry else None, "restarts": 1 if taken else words.restarts}
        settings = {name: value for name, value in settings.items() if value is not None}
        with jax.enable_x64(precision == "float64"), running.place(out, words.force or taken > 0) as folder:
            if running.leads:
                begun(out, folder, wanted, taken)
            key = jax.random.key(seed)
            arguments = {**settings, **learning.arguments, "key": key, "progress": False if quiet else None}
            if select is None:
                arguments |= {"held_out": held_out} | ({} if policy is None else policy.looks(quiet))
                if done is not None:
                    arguments |= going_on(done, arguments)
                chosen, result = "", running.fit(done.model if done else models[""], found, folder, arguments, taken)
                result = result if done is None else in_a_row(done, result)
                if not running.leads:
                    return
            else:
                selection = selecting.choose(models, found, words.criterion, held_out, arguments)
                chosen, result = selection.best, selection.fit
                (folder / runs.METRICS).write_text("".join(map(json_line, selecting.metrics(selection))), "utf-8")
                (folder / selecting.FILE).write_text(json_line(selecting.record(selection)), "utf-8")
            with waiting("evaluating", quiet):
                evaluation = _evaluate(result, found, jax.random.fold_in(key, 1))
            _finish(folder, result, evaluation)
            record = {**settings, **asked.record(), "objective": learning.name, "steps": steps}
            same = ("restarts", "held_out", "select", "criterion", "stream", "devices", "processes")
            record |= {name: vars(words)[name] for name in same}
            record |= {"bad": bad, "image_size": size, "window": window, "carry": carry or None}
            runs.write_config(
                folder,
                runs.configuration(
                    model=entry.name,
                    options=candidates[chosen],
                    data=_data_record(data, found, words.weight, evaluation.rows, blocks, how, asked_for, parts),
                    fit={"seed": seed, **{name: value for name, value in record.items() if value is not None}},
                    precision=precision,
                    command=COMMAND.get(),
                    asked=wanted,
                    act=None if policy is None else policy.act,
                ),
            )
    if not quiet:
        if select is not None:
            selecting.show(selection, selecting.heading(entry))
        status, checks = result.status, result.history.held_out
        one = "datum" if how is None else "sequence" if how.window is None else "window"
        typer.echo(f"{entry.name} on {found.name}: {status.reason} after {status.steps} steps")
        if len(checks):
            unit = f"nats per {one}" if learning.name != "flow-matching" else result.history.unit
            typer.echo(f"held-out data, at best {checks[:, 1].max():.6g} {unit}")
        which = "of all rows " if isinstance(held_out, float) else ""
        if isinstance(found, Data) and evaluation.rows < len(found):
            which = f"of {evaluation.rows} rows drawn at random "
        typer.echo(
            f"log-likelihood {which}{evaluation.log_likelihood:.4f} nats "
            f"({evaluation.kind}), {evaluation.log_likelihood_per_datum:.6g} per {one}"
            + (f", BIC {evaluation.bic:.2f}" if evaluation.bic is not None else "")
        )
        typer.echo(f"written to {out}")


# -- the model ---------------------------------------------------------------------------------------------------------


def _entry(name: str, given: dict[str, Any]) -> Any:
    from veil.cli import catalogue

    entry = catalogue.entry(name)
    for option in given:
        if option not in entry.options:
            takes = ", ".join(f"--{name}" for name in entry.options)
            raise Refusal(f"{entry.name} does not take --{option}; it takes {takes}")
    return entry


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise Refusal(
            f"--hidden: expected positive whole numbers with commas between them, such as 64,64; got {text!r}"
        )
    return [int(part) for part in parts]


def _check_roles(entry: Any, source: str, data: Any, blocks: Any, sequential: bool) -> None:
    from veil.cli.reading import column_names

    if sequential:  # evidence, such as actions, if there is any
        return
    if entry.conditional and data.evidence_shape is None:
        columns = ", ".join(column_names(source, blocks)[:30]) or "none"
        raise Refusal(f"{entry.name} needs evidence: name its columns with --evidence (there are: {columns})")
    if entry.conditional is False and data.evidence_shape is not None:
        advice = {"gaussian": "linear-gaussian", "mixture": "mixture-of-experts or mdn"}.get(
            entry.name, "another model"
        )
        raise Refusal(
            f"{entry.name} takes no evidence, and {data.name} has {', '.join(data.evidence_names[:8])} as evidence; "
            f"use {advice}, or choose the columns with --query {','.join(data.query_names[:8])}"
        )


def _data_record(
    source: str,
    data: Any,
    weight: str | None,
    rows: int,
    blocks: Any,
    how: Any,
    asked: tuple[Any, Any],
    chunks: Any = None,
) -> dict[str, Any]:
    from veil.cli.reading import all_columns, check_column, column_names, is_file, is_table
    from veil.data import Data
    from veil.data.recorded.opening import is_recording

    sequences = parts = None
    if how is not None:
        table = is_table(source)
        column = lambda name, option: name and check_column(all_columns(source), name, option)  # noqa: E731
        sequences = {
            "table": table,
            "episode": column(how.episode, "--episode"),
            "time": column(how.time, "--time"),
            "query": None if table else asked[0],
            "evidence": None if table else asked[1],
        }
    elif is_file(source) and is_recording(Path(source)):
        parts = {"query": asked[0], "evidence": asked[1]}
    return {
        "sequences": sequences,
        "parts": parts,
        "chunks": None if chunks is None else chunks._asdict(),
        "source": str(Path(source).absolute()) if is_file(source) else source,
        "name": data.name,
        "rows": len(data) if isinstance(data, Data) else rows,
        "query": data.query_names,
        "evidence": data.evidence_names,
        "weight": None if weight is None else check_column(column_names(source, blocks), weight, "--weight"),
        "query_shape": data.query_shape,
        "evidence_shape": data.evidence_shape or (),
    }


# -- learning ----------------------------------------------------------------------------------------------------------


def _evaluate(result: Any, data: Any, key: Any) -> Any:
    """Of what is dear for each row, solving an equation, some rows at random."""
    import jax

    from veil.cli.runs import draws
    from veil.data import Data
    from veil.evaluation.likelihood import evaluate
    from veil.parts.fields import Transporting
    from veil.units import unwrapped

    dear = isinstance(unwrapped(result.model)[0], Transporting)
    if dear and isinstance(data, Data) and len(data) > MOST_SOLVED:
        key, key_rows = jax.random.split(key)
        data = data[jax.random.choice(key_rows, len(data), (MOST_SOLVED,), replace=False)]
    return evaluate(result, data, key=key, samples=draws(None, result.model, data))


def _finish(folder: Path, result: Any, evaluation: Any) -> None:
    """The model, and the last line of the metrics."""
    from dataclasses import asdict

    from veil.host.files import json_line
    from veil.saved.folders import save
    from veil.saved.runs import METRICS

    save(folder, result)
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json_line({"status": asdict(result.status), "evaluation": evaluation.as_dict()}))


def _refuse_missing(model: Any, data: Any) -> None:
    """Raise Refusal, before anything is learned, for missing entries that the model cannot integrate out."""
    from veil.data import Data
    from veil.parts.fields import Transporting
    from veil.zoo.flows import Flowing

    if isinstance(model, Transporting | Flowing) and isinstance(data, Data) and data.observed is not None:
        raise Refusal("DATA: it has missing entries, which flows and diffusions cannot integrate out; drop those rows")
