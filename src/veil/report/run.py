"""The report of one fit: a run directory in, pictures and one page out."""

import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from veil.data import Data
from veil.report import plots, style
from veil.report.page import Picture, Section, Table, page
from veil.report.pictures import history, pictures
from veil.saved import runs

STEPS = {"steps": "steps taken", "skipped": "steps skipped"}


def write_report(run: str | os.PathLike[str], data: Data | None = None, *, missing: str = "") -> Path:
    """Write ``run/plots/*.png`` and ``run/report.html`` for a run directory; returns the page's path.

    Arguments:
        data: what the run was fitted to, in its columns, to be drawn.
        missing: without data, why the page has no pictures of them.

    Raises:
        FileNotFoundError, ValueError: not a run directory, or a damaged one.
        ModuleNotFoundError: matplotlib is not installed.
    """
    style.matplotlib()
    opened = runs.read(run)
    fit, lines = opened.load(), opened.metrics()
    folder = opened.path / "plots"
    learning, steps = _learning(opened, lines)
    try:
        if data is None:
            raise ValueError(missing or "none came")
        shown, notes = pictures(fit, data)
    except (TypeError, ValueError) as error:  # a page without them says more than none
        shown, notes = [], [f"The data are not drawn: {error}."]
    for picture in [*learning, *shown]:
        picture.save(folder)
    end = lines[-1] if lines else {}
    sections = [
        Section("Result", tables=[Table(("quantity", "value", "unit"), _result(opened, lines))], notes=_warnings(end)),
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


def _result(opened: runs.Run, lines: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    end = lines[-1] if lines else {}
    found, status, one = end.get("evaluation") or {}, end.get("status") or {}, opened.datum
    whole = "sequence" if (opened.config.get("fit") or {}).get("carry") else one  # evaluated as a whole
    rows = [("how the fit ended", str(status.get("reason", "unknown")), "")]
    rows += [(words, _number(status[name]), "count") for name, words in STEPS.items() if name in status]
    kind, held_out = str(found.get("kind", "exact")), _series(lines, "held_out")
    if len(held_out):
        best = held_out[np.argmax(held_out[:, 1])]
        rows.append((f"held-out data at best, after {best[0]:.0f} steps", _number(float(best[1])), f"nats per {one}"))
    which = f"{kind}; all rows, those held out among them" if len(held_out) else kind
    for name, words, unit in (
        ("log_likelihood", f"log-likelihood ({which})", "nats"),
        ("log_likelihood_per_datum", f"log-likelihood per {whole}", f"nats per {whole}"),
        ("standard_error", "its standard error", f"nats per {whole}"),
        ("n", f"{whole}s, counting weights" if whole != "datum" else "data, counting weights", "count"),
        ("parameters", "free parameters", "count"),
        ("bic", "BIC, smaller is better", "nats × 2"),
        ("aic", "AIC, smaller is better", "nats × 2"),
    ):
        if name in found and not (name in ("bic", "aic") and found[name] is None):  # of a bound there are none
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


def _learning(opened: runs.Run, lines: list[dict[str, Any]]) -> tuple[list[Picture], str]:
    asked, unit = opened.config.get("fit") or {}, f"nats per {opened.datum}"
    names = list(dict.fromkeys(str(line["candidate"]) for line in lines if "candidate" in line))
    if names:
        return _candidates(
            {name: [each for each in lines if str(each.get("candidate")) == name] for name in names}, unit
        )
    value, held_out = _series(lines, "value"), _series(lines, "held_out")
    if len(value) < 2:
        return [], "There is no history to draw: fewer than two steps were recorded."
    warm_up = asked.get("warm_up")
    drawn = history(value[:, 1], held_out, value[:, 0], unit, warm_up if isinstance(warm_up, int) else 0)
    return [drawn], f"{len(value)} steps, the objective from {value[0, 1]:.6g} to {value[-1, 1]:.6g} {unit}."


def _candidates(each: dict[str, list[dict[str, Any]]], unit: str) -> tuple[list[Picture], str]:
    """A curve for each candidate of a selection."""
    curves = {name: _series(lines, "value") for name, lines in each.items()}
    curves = {name: values for name, values in curves.items() if len(values)}
    with style.figure(panel=(6.2, 3.4)) as (picture, (panel,)):
        plots.curves(panel, {name: (1 + values[:, 0], values[:, 1]) for name, values in curves.items()})
        ends = [values[-1, 1] for values in curves.values()]
        starts = np.concatenate([values[len(values) // 10 :, 1] for values in curves.values()])
        panel.set_ylim(*plots.bounds(np.array([*ends, np.percentile(starts, 5)])))
        panel.set_xscale("log")
        style.legend(panel, loc="center left", bbox_to_anchor=(1, 0.5))
        style.label(panel, x=("step", "count"), y=("objective", unit))
    caption = "The objective of each candidate at each step; of candidates with more parameters it is larger by itself."
    return [Picture(picture, caption, "history")], f"{len(curves)} candidates; how they compare is in selection.json."


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
