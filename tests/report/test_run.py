"""Reports of run directories: of every kind of data that is drawn, and of what is not there."""

import json

import jax
import numpy as np
import pytest

import veil
from report.pages import check_self_contained
from veil.parts.heads import DiagonalGaussian
from veil.report import run as reports
from veil.report.run import write_report
from veil.saved import runs, unfinished


def made(tmp_path, model, data, source, **options):
    """A run directory as ``veil fit`` writes it."""
    lines = []
    result = veil.fit(model, data, key=jax.random.key(0), record=lines.append, **options)
    evaluation = veil.evaluate(result.model, data)
    status = {"converged": result.status.converged, "reason": result.status.reason, "steps": result.status.steps}
    lines.append({"status": {**status, "skipped": 0, "notes": ["a <note>"]}, "evaluation": evaluation.as_dict()})
    record = {
        "source": str(source),
        "name": data.name,
        "rows": len(data),
        "query": list(data.query_names),
        "evidence": list(data.evidence_names),
        "weight": None,
        "query_shape": list(data.query_shape),
        "evidence_shape": list(data.evidence_shape or ()),
    }
    asked = {
        "options": {"components": 2},
        "fit": {"seed": 0},
        "precision": "float32",
        "command": ["veil", "fit", "a b"],
    }
    with unfinished.creating(tmp_path / "run") as folder:
        veil.save(folder, result)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(runs.plain(line)) + "\n" for line in lines))
        runs.write_config(folder, runs.configuration(model="mixture", data=record, **asked))
    return tmp_path / "run"


def faithful(tmp_path):
    return made(tmp_path, veil.Mixture(components=2), veil.data.load("faithful"), "faithful"), {"history", "density"}


def iris(tmp_path):
    return made(tmp_path, veil.Mixture(components=2), veil.data.load("iris"), "iris"), {"history", "density"}


def waiting(tmp_path):
    data = veil.data.load("faithful", query=["waiting"])
    return made(tmp_path, veil.Mixture(components=2), data, "faithful"), {"history", "density"}


def mcycle(tmp_path):
    model = veil.density(veil.Linear(DiagonalGaussian()), trunk=veil.MLP((8,)))
    data = veil.data.load("mcycle")
    return made(tmp_path, model, data, "mcycle", steps=50, held_out=0.2), {"history", "conditional"}


def several(tmp_path):
    data = veil.data.load("iris", query=["petal_length"], evidence=["sepal_length", "sepal_width"])
    return made(tmp_path, veil.density(veil.LinearGaussian()), data, "iris"), {"history", "predictions"}


def gone(tmp_path):
    data = veil.data.load("faithful")
    return made(tmp_path, veil.Mixture(components=2), data, tmp_path / "gone.csv"), {"history"}


@pytest.mark.parametrize("case", [faithful, iris, waiting, mcycle, several, gone], ids=lambda case: case.__name__)
def test_report(case, tmp_path, monkeypatch):
    run, pictures = case(tmp_path)
    figures = []
    real = reports.Picture.save
    monkeypatch.setattr(
        reports.Picture, "save", lambda picture, folder: (figures.append(picture), real(picture, folder))
    )
    path = write_report(run)
    assert path == run / "report.html"
    text = path.read_text("utf-8")
    reader = check_self_contained(text)
    assert {file.stem for file in (run / "plots").iterdir()} == pictures
    assert len(reader.images) == len(pictures) == len(figures)
    for picture in figures:
        for panel in picture.figure.axes:
            assert panel.has_data()
            assert panel.get_label() == "<colorbar>" or panel.get_xlabel().endswith(")")
            assert panel.get_ylabel().endswith(")")
    assert "log-likelihood (exact)" in text
    assert "a &lt;note&gt;" in text
    assert "veil fit &#x27;a b&#x27;" in text
    assert ("not found again" in text) == (case is gone)


def test_metrics_that_are_not_finite_are_left_out(tmp_path):
    run, _ = faithful(tmp_path)
    lines = [
        json.dumps({"step": i, "value": None if i == 3 else float(np.log(i + 1)), "skipped": 0}) for i in range(20)
    ]
    end = (run / "metrics.jsonl").read_text().splitlines()[-1]
    (run / "metrics.jsonl").write_text("\n".join([*lines, end]) + "\n")
    assert "19 steps" in write_report(run).read_text("utf-8")


def test_not_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a run directory"):
        write_report(tmp_path)
