"""The report of one fit: a run directory in, pictures and one page out."""

import os
import shlex
from pathlib import Path
from typing import Any

import jax
import numpy as np

import veil
from veil.data import Data
from veil.data.core import trees
from veil.report import plots, style
from veil.report.page import Picture, Section, Table, page
from veil.saved import runs

MOST_ROWS = 200_000  # data of more rows are not read again for pictures
DRAWN = 3000  # rows that are drawn
UNIT = "unit of the data"
STEPS = {"steps": "steps taken", "skipped": "steps skipped"}


def write_report(run: str | os.PathLike[str]) -> Path:
    """Write ``run/plots/*.png`` and ``run/report.html`` for a run directory; returns the page's path.

    The data are read again where config.json says they are, to be drawn; without them the page says so.

    Raises:
        FileNotFoundError, ValueError: not a run directory, or a damaged one.
        ModuleNotFoundError: matplotlib is not installed.
    """
    style.matplotlib()
    opened = runs.read(run)
    fit, lines = opened.load(), opened.metrics()
    folder = opened.path / "plots"
    learning, steps = _history(lines)
    shown, notes = _model_pictures(fit, opened)
    for picture in [*learning, *shown]:
        picture.save(folder)
    end = lines[-1] if lines else {}
    sections = [
        Section("Result", tables=[Table(("quantity", "value", "unit"), _result(end))], notes=_warnings(end)),
        Section("The model and the data", pictures=shown, notes=notes),
        Section("Learning", text=[steps], pictures=learning),
        Section("What was asked for", tables=[_configuration(opened.config)], command=_command(opened.config)),
    ]
    title = f"{opened.model_name} fitted to {opened.data_name}"
    versions = opened.config.get("versions")
    footer = ", ".join(f"{name} {number}" for name, number in versions.items()) if isinstance(versions, dict) else ""
    path = opened.path / "report.html"
    path.write_text(page(title, [], sections, footer, label="The command of this run:"), encoding="utf-8")
    return path


def _number(value: Any) -> str:
    return "not finite" if value is None else f"{value:.8g}" if isinstance(value, float) else str(value)


def _result(end: dict[str, Any]) -> list[tuple[str, str, str]]:
    found, status = end.get("evaluation") or {}, end.get("status") or {}
    rows = [("how the fit ended", str(status.get("reason", "unknown")), "")]
    rows += [(words, _number(status[name]), "count") for name, words in STEPS.items() if name in status]
    kind = str(found.get("kind", "exact"))
    for name, words, unit in (
        ("log_likelihood", f"log-likelihood ({kind})", "nats"),
        ("log_likelihood_per_datum", "log-likelihood per datum", "nats per datum"),
        ("standard_error", "its standard error", "nats per datum"),
        ("n", "data, counting weights", "count"),
        ("parameters", "free parameters", "count"),
        ("bic", "BIC, smaller is better", "nats × 2"),
        ("aic", "AIC, smaller is better", "nats × 2"),
    ):
        if name in found and not (found[name] is None and name in ("bic", "aic")):  # a bound has none
            rows.append((words, _number(found[name]), unit))
    return rows


def _warnings(end: dict[str, Any]) -> list[str]:
    notes = (end.get("status") or {}).get("notes")
    return [str(note) for note in notes] if isinstance(notes, list) else []


def _series(lines: list[dict[str, Any]], name: str) -> np.ndarray:
    """[M, 2]: steps and finite values of a metric."""
    pairs = [
        (float(line["step"]), float(line[name]))
        for line in lines
        if isinstance(line.get("step"), int | float) and isinstance(line.get(name), int | float)
    ]
    return np.array(pairs, np.float64).reshape(-1, 2)


def _history(lines: list[dict[str, Any]]) -> tuple[list[Picture], str]:
    value, held_out = _series(lines, "value"), _series(lines, "held_out")
    if len(value) < 2:
        return [], "There is no history to draw: fewer than two steps were recorded."
    with style.figure(panel=(6.2, 3.4)) as (picture, (panel,)):
        plots.history(panel, value[:, 1], held_out, steps=value[:, 0])
    text = f"{len(value)} steps, the objective from {value[0, 1]:.6g} to {value[-1, 1]:.6g} nats per datum."
    return [Picture(picture, "The objective at each step, larger is better.", "history")], text


def _data(opened: runs.Run) -> Data | None:
    """The data of the run, if they are where they were and not too many."""
    record, columns = opened.config["data"], opened.columns
    source, rows = record.get("source"), record.get("rows")
    if not isinstance(source, str) or (isinstance(rows, int) and rows > MOST_ROWS):
        return None
    wanted: tuple[Any, ...] = (list(columns.query), list(columns.evidence) or None)
    leaves = trees.leaves(columns.query_shape) + trees.leaves(columns.evidence_shape)
    if any(path or len(shape) > 1 for path, shape in leaves):
        parts = columns.sequences or {}  # of a recording, of which one array is parts side by side
        query = parts.get("query")
        wanted = ([query] if query and not trees.is_tree(columns.query_shape) else query, parts.get("evidence"))
    try:
        known = {example.name for example in veil.data.available()}
        found = veil.data.load(source, *wanted) if source in known else veil.data.read(source, *wanted)
    except (OSError, ValueError, TypeError, ModuleNotFoundError):
        return None
    shapes = (found.query_shape, found.evidence_shape or ())
    return found if shapes == (columns.query_shape, columns.evidence_shape) else None


def _model_pictures(fit: veil.Fit, opened: runs.Run) -> tuple[list[Picture], list[str]]:
    """What can be drawn of this model and these data, and notes on what cannot."""
    model, data, columns = fit.model, _data(opened), opened.columns
    if data is None:
        return [], ["The data were not found again, or are too many to read again, so they are not drawn."]
    if len(data) > DRAWN:
        data = data[np.sort(np.random.default_rng(0).permutation(len(data))[:DRAWN])]
    if data.observed is not None:
        data = data[np.all(_rows(data.observed), axis=1)]
        if len(data) < 2:
            return [], ["No row is complete, so none is drawn."]
    if not isinstance(model, veil.Tractable) or isinstance(model, veil.FactorAnalysis):
        return _latent(model, fit.posterior, data), []
    alone = isinstance(columns.query_shape, tuple) and len(columns.query_shape) == 1
    size = columns.query_shape[0] if alone else 0
    if not columns.evidence and 0 < size <= 6:
        return _density(model, data, columns.query), []
    if len(columns.evidence) == 1 and size == 1:
        return _conditional(model, data, columns), []
    if size == 1:
        return _predictions(model, data, columns.query[0])
    return [], ["There is no picture for data of this shape yet."]


def _latent(model: Any, posterior: Any, data: Data) -> list[Picture]:
    """Where the data lie in the latent, and the data beside draws from the model."""
    if isinstance(model, veil.Plate):
        return _weights(model, posterior, data)
    pictures = []
    found = veil.infer(model, data, posterior=posterior)
    means = found.mean.reshape(len(data), -1)
    use = np.argsort(-means.var(0))[:2]
    with style.figure(panel=(4.4, 4.0)) as (picture, (panel,)):
        if len(use) == 1:
            panel.hist(means[:, 0], bins=40, color=style.BLUE)
            style.label(panel, x=("posterior mean of z", "prior's standard deviations"), y=("data", "count"))
        else:
            plots.points(panel, means[:, use], color=style.BLUE)
            names = [(f"posterior mean of z, entry {i}", "prior's standard deviations") for i in use]
            style.label(panel, x=names[0], y=names[1])
    caption = f"The latent of each datum ({found.kind} posterior), in the two entries that vary most."
    pictures.append(Picture(picture, caption, "latent"))
    flat = _rows(data.query)
    if data.evidence is None and flat.shape[1] > 1:
        steps = trees.first(data.query).shape[1] if isinstance(model, veil.Stepwise) else None
        drawn = _rows(veil.sample(model, min(len(data), 1000), key=jax.random.key(0), steps=steps).query)
        axes = np.argsort(-flat.var(0))[:2]
        named = len(data.query_names) == flat.shape[1]
        first, second = (data.query_names[i] if named else f"entry {i}" for i in axes)
        with style.figure(2, panel=(4.0, 3.6)) as (picture, panels):
            for panel, points, title in zip(panels, (flat, drawn), ("data", "drawn from the model"), strict=True):
                plots.points(panel, points[:, axes], color=style.BLUE)
                style.label(panel, x=(first, UNIT), y=(second, UNIT), title=title)
        pictures.append(Picture(picture, "The data, and as many draws, in the two entries that vary most.", "draws"))
    return pictures


def _rows(tree: Any) -> np.ndarray:
    """All numbers of each datum, [N, numbers]."""
    return np.concatenate([leaf.reshape(len(leaf), -1) for _, leaf in trees.leaves(tree)], 1)


def _weights(model: Any, posterior: Any, data: Data) -> list[Picture]:
    x, y = _rows(data.evidence), _rows(data.query)
    if x.shape[1] != 1 or y.shape[1] != 1:
        return []
    low, high = x.min(), x.max()
    grid = np.linspace(low - 0.2 * (high - low), high + 0.2 * (high - low), 200)[:, None]
    guess = veil.predict(model, grid, posterior=posterior, key=jax.random.key(0))
    mean, spread = _rows(guess.mean).ravel(), _rows(guess.standard_deviation).ravel()
    with style.figure(panel=(6.2, 4.0)) as (picture, (panel,)):
        panel.fill_between(grid.ravel(), mean - 2 * spread, mean + 2 * spread, color=style.BLUE, alpha=0.2, lw=0)
        panel.plot(grid.ravel(), mean, color=style.BLUE)
        plots.points(panel, np.concatenate([x, y], 1), color=style.GREY)
        style.label(panel, x=(data.evidence_names[0], UNIT), y=(data.query_names[0], UNIT))
    return [Picture(picture, "Mean and two standard deviations of p(y|x), weights and noise together.", "predictive")]


def _density(model: Any, data: Data, names: tuple[str, ...]) -> list[Picture]:
    values = data.query
    if values.shape[1] == 1:
        with style.figure(panel=(6.2, 3.4)) as (picture, (panel,)):
            plots.densities(panel, {"model": model}, values[:, 0])
            style.label(panel, x=(names[0], UNIT), y=("density", f"1 / {UNIT}"))
        return [Picture(picture, f"The fitted density of {names[0]} over a histogram of the data.", "density")]
    pairs = [(0, 1)] if values.shape[1] == 2 else [(0, 1), (0, 2), (1, 2)]
    components = model.sizes.values if isinstance(model, veil.model.Sized) else 0
    try:
        joint = [veil.condition(model, query=pair) for pair in pairs]
    except TypeError:  # not Gaussian: the plane itself can be drawn, planes through it not
        joint, pairs = ([model], [(0, 1)]) if values.shape[1] == 2 else ([], [])
    if not pairs:
        return []
    certain = veil.infer(model, data).probabilities if components > 1 else None
    with style.figure(len(pairs), panel=(4.2, 3.6)) as (picture, panels):
        for panel, (i, j), marginal in zip(panels, pairs, joint, strict=True):
            plots.contours(panel, marginal, values[:, [i, j]])
            if certain is not None:
                plots.responsibilities(panel, values[:, [i, j]], certain)
            style.label(panel, x=(names[i], UNIT), y=(names[j], UNIT))
    caption = "The fitted density: contours hold 25, 50, 75 and 95 % of it."
    caption += " Each datum has the colour of the component responsible for it." if certain is not None else ""
    return [Picture(picture, caption, "density")]


def _conditional(model: Any, data: Data, columns: runs.Columns) -> list[Picture]:
    pairs = np.concatenate([np.asarray(data.evidence).reshape(len(data), 1), data.query.reshape(len(data), 1)], 1)
    with style.figure(panel=(6.2, 4.0)) as (picture, (panel,)):
        image = plots.conditional(panel, model, pairs)
        style.label(panel, x=(columns.evidence[0], UNIT), y=(columns.query[0], UNIT))
        style.colour_scale(picture, panel, image, ("density", f"1 / {UNIT}"))
    caption = f"The density of {columns.query[0]} given {columns.evidence[0]}, darker where larger, and the data."
    return [Picture(picture, caption, "conditional")]


def _predictions(model: Any, data: Data, name: str) -> tuple[list[Picture], list[str]]:
    try:
        guess = veil.predict(model, data.evidence).mean.reshape(-1)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return [], ["This model's predictions have no mean to draw."]
    seen = data.query.reshape(-1)
    with style.figure(panel=(4.4, 4.0)) as (picture, (panel,)):
        plots.points(panel, np.stack([guess, seen], 1), color=style.BLUE)
        ends = plots.bounds(np.concatenate([guess, seen]))
        panel.plot(ends, ends, color=style.GREY, linewidth=1)
        style.label(panel, x=(f"predicted {name}, mean", UNIT), y=(f"observed {name}", UNIT))
    return [Picture(picture, "Predicted means against what was observed; on the line they agree.", "predictions")], []


def _configuration(config: dict[str, Any]) -> Table:
    rows = []
    for part in ("model", "data", "fit"):
        for name, value in _flat(config.get(part) or {}):
            rows.append((f"{part}: {name}", value))
    rows.append(("precision", str(config.get("precision"))))
    return Table(("setting", "value"), rows)


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, part in value.items():
        if isinstance(part, dict):
            rows += _flat(part, f"{prefix}{name} ")
        elif part is not None and part != []:
            listed = isinstance(part, list)
            text = (
                ", ".join(map(str, part[:12])) + (", ..." if listed and len(part) > 12 else "") if listed else str(part)
            )
            rows.append((f"{prefix}{name}".replace("_", " "), text))
    return rows


def _command(config: dict[str, Any]) -> str:
    command = config.get("command")
    return shlex.join(map(str, command)) if isinstance(command, list) else ""
