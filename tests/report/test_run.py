"""Reports of run directories: of every kind of data that is drawn, and of what is not there."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from report.pages import check_self_contained
from veil.parts.heads import DiagonalGaussian
from veil.report import run as reports
from veil.report.run import write_report
from veil.saved import runs, unfinished


def made(tmp_path, model, data, source, more=(), **options):
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
    asked["fit"] |= dict(more)
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
    return faithful(tmp_path)[0], {"history"}


@pytest.mark.parametrize("case", [faithful, iris, waiting, mcycle, several, gone], ids=lambda case: case.__name__)
def test_report(case, tmp_path, monkeypatch):
    run, pictures = case(tmp_path)
    figures = []
    real = reports.Picture.save
    monkeypatch.setattr(
        reports.Picture, "save", lambda picture, folder: (figures.append(picture), real(picture, folder))
    )
    data = {"waiting": veil.data.load("faithful", query=["waiting"])} if case is waiting else {}
    data |= {name: veil.data.load(name) for name in ("faithful", "iris", "mcycle")} | {
        "several": veil.data.load("iris", query=["petal_length"], evidence=["sepal_length", "sepal_width"])
    }
    path = write_report(run, data.get(case.__name__), missing="<moved>")
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
    assert "log-likelihood (exact" in text
    assert "a &lt;note&gt;" in text
    assert "veil fit &#x27;a b&#x27;" in text
    assert ("not drawn: &lt;moved&gt;" in text) == (case is gone)
    assert ("held-out data at best" in text) == (case is mcycle)


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


def rewritten(tmp_path, lines, **asked):
    """The page of a run with other metrics and another request."""
    run, _ = faithful(tmp_path)
    end = (run / "metrics.jsonl").read_text().splitlines()[-1]
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in [*map(json.dumps, lines), end]))
    config = json.loads((run / "config.json").read_text())
    config["fit"] |= asked
    (run / "config.json").write_text(json.dumps(config))
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports.Picture, "save", lambda picture, folder: drawn.append(picture))
        return write_report(run).read_text("utf-8"), drawn[0]


def test_each_candidate_of_a_selection_has_a_curve(tmp_path):
    lines = [{"candidate": str(k), "step": i, "value": k - 1 / (i + 1)} for k in (1, 2) for i in range(5 * k)]
    text, picture = rewritten(tmp_path, lines, select="1-2")
    panel = picture.figure.axes[0]
    assert {line.get_label(): len(line.get_xdata()) for line in panel.lines} == {"1": 5, "2": 10}
    assert "2 candidates" in text


def test_a_warm_up_is_marked(tmp_path):
    lines = [{"step": i, "value": -float(i)} for i in range(9)]
    text, picture = rewritten(tmp_path, lines, warm_up=6)
    assert "the objective changes" in text
    (shaded,) = picture.figure.axes[0].patches
    assert (shaded.get_x(), shaded.get_width()) == (0, 6)
    assert "KL warm-up" in [each.get_text() for each in picture.figure.axes[0].get_legend().get_texts()]


def test_images_and_codes(tmp_path):
    rng = np.random.default_rng(0)
    images = veil.Data(np.float32(rng.random((12, 4, 4)) > 0.5))
    model = veil.VAE(veil.priors.Codes(2, 3), veil.heads.Bernoulli(), veil.MLP((4,)))
    fit = veil.fit(model, images, key=jax.random.key(0), steps=2)
    found = veil.plot(fit, images)
    assert list(found) == ["history", "images", "latent"]
    panel = found["images"].figure.axes[0]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["data", "made again", "drawn"]
    sheet = panel.images[0].get_array()
    np.testing.assert_array_equal(sheet[:4, :4], images.query[0])
    usage = found["latent"].figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(usage.sum(1), [1, 1], rtol=1e-5)
    assert found._repr_html_().count("<img") == 3


@pytest.mark.parametrize("image", [False, True])
def test_sequences_are_drawn_with_a_forecast(image):
    rng = np.random.default_rng(0)
    frames = np.float32(rng.random((3, 9, 2, 2)) > 0.5)
    data = veil.Data(frames if image else frames.reshape(3, 9, 4)[..., :1])
    even = veil.Softmax(evidence=False, weight=jnp.zeros((2, 1)))
    gates = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), even)
    shape = data.query.shape[2:]
    weight = rng.normal(size=(2, int(np.prod(shape)), 1)).astype(np.float32)
    experts = veil.Linear(veil.heads.Bernoulli(), False, shape=shape, weight=jnp.array(weight))
    found = veil.plot(veil.HMM(experts, 2, gates, even), data)
    (picture,) = found.values()
    assert picture.name == ("images" if image else "forecast")
    if image:
        assert picture.caption.startswith("1, 2, 3 steps ahead, after 6 steps were seen")
