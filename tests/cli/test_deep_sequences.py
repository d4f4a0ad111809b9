"""Deep sequence models on the command line, of numbers and of images: fit, evaluate, infer, sample, forecast."""

import json

import jax
import numpy as np
import pytest

import veil as library
from veil.cli import catalogue
from veil.cli.runs import draws
from veil.cli.shapes import with_shapes

SMALL = ("--hidden", "4", "--steps", 3, "--quiet")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three sequences of a turning point, pushed by an action."""
    path = tmp_path_factory.mktemp("deep") / "turns.csv"
    rng = np.random.default_rng(0)
    lines = ["trial,y,u"]
    for trial, length in enumerate((9, 6, 7)):
        push = rng.normal(size=length)
        lines += [f"{trial},{np.sin(0.7 * t + 0.1 * push[t])},{push[t]}" for t in range(length)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("deep") / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(path, query=rng.integers(0, 2, (4, 9, 8, 4, 1)).astype(np.float32), evidence=rng.normal(size=(4, 9, 1)))
    return path


ROLES = ("--query", "y", "--evidence", "u", "--episode", "trial", "--window", 5)


@pytest.fixture(scope="module")
def world(veil, table):
    """A run with codes."""
    run = table.parent / "world"
    words = ("--latent", "codes:2:3", "--memory", 5, "--kl-balance", 0.8, "--free-nats", 1)
    fitted = veil("fit", "rssm", table, *ROLES, *words, *SMALL, "--out", run)
    assert (fitted.code, fitted.err) == (0, ""), fitted
    return run


def test_evaluate_infer_and_sample(veil, world, table, tmp_path):
    told = veil("evaluate", world, table, "--json", "--samples", 7, "--quiet").json
    assert told["rows"] == 3
    assert "7 samples" in told["kind"]
    assert veil("infer", world, table, "--out", tmp_path / "z.csv").code == 0
    found = library.data.read(tmp_path / "z.csv")
    assert len(found) == 22
    assert found.query_names[2:] == tuple(f"{what}_{i}" for what in ("mean", "sd") for i in range(6))
    np.testing.assert_allclose(found.query[:, 2:8].reshape(-1, 2, 3).sum(2), 1.0, rtol=1e-5)  # of each code
    assert veil("sample", world, "--count", 2, "--evidence-values", table, "--out", tmp_path / "s.csv").code == 0
    assert len(library.data.read(tmp_path / "s.csv")) == 44


@pytest.mark.parametrize(
    "words",
    [
        ("dmm", "--latent", 2, "--width", 4, "--posterior", "filtering", "--objective", "fivo", "--samples", 2),
        ("vrnn", "--latent", 2, "--memory", 5, "--posterior", "smoothing", "--beta", 0.5),
    ],
    ids=("dmm", "vrnn"),
)
def test_forecasts_are_those_of_the_library(veil, table, tmp_path, words):
    run = tmp_path / "run"
    fitted = veil("fit", words[0], table, *ROLES, *words[1:], *SMALL, "--out", run)
    assert (fitted.code, fitted.err) == (0, ""), fitted
    ahead = ("--horizon", 2, "--after", 4, "--samples", 3, "--picture", tmp_path / "f.png", "--out", tmp_path / "f.csv")
    assert veil("forecast", run, table, *ahead).code == 0
    fit = library.load(run)
    assert fit.posterior.posterior.sees.online == (words[0] == "dmm")
    data = library.data.read(table, ["y"], ["u"], episode="trial")
    expected = library.forecast(fit, data, 2, 3, key=jax.random.key(0), after=4)
    np.testing.assert_allclose(library.data.read(tmp_path / "f.csv").query[:, 2], expected.mean.ravel(), rtol=1e-5)


def test_images_choose_their_networks(veil, refused, images, tmp_path):
    picture = pytest.importorskip("PIL.Image")
    run = tmp_path / "run"
    words = ("--head", "bernoulli", "--latent", 2, "--memory", 5, "--steps", 2, "--window", 4, "--quiet")
    fitted = veil("fit", "rssm", images, *words, "--out", run)
    assert (fitted.code, fitted.err) == (0, ""), fitted
    options = json.loads((run / "config.json").read_text())["model"]["options"]
    assert options["decoder"] == "pyramid:8x4x1"
    assert library.load(run).model.model.decoder.widths == (16, 32)
    entry, data = catalogue.entry("rssm"), library.data.read(images)
    chosen = with_shapes(entry, {}, None, data)
    assert chosen == {"decoder": "pyramid:8x4x1", "head": "discretised-logistic:256:0:1"}
    assert "head" not in with_shapes(entry, {}, None, library.Data(2.0 * data.query))
    assert veil("forecast", run, images, "--horizon", 3, "--after", 5, "--film", tmp_path / "f.gif").code == 0
    with picture.open(tmp_path / "f.gif") as film:  # futures are means, not tossed coins
        film.seek(film.n_frames - 1)
        shown = np.asarray(film.convert("L"))
        future = shown[8:-8, -shown.shape[1] // 4 + 8 : -8]
    assert np.mean((future > 20) & (future < 235)) > 0.5
    assert veil("report", run).code == 0
    assert (run / "plots" / "images.png").is_file()
    assert veil("sample", run, "--count", 1, "--evidence-values", images, "--out", tmp_path / "s.npz").code == 0
    assert library.data.read(tmp_path / "s.npz").query.shape == (4, 9, 8, 4, 1)
    new = ("--quiet", "--out", tmp_path / "new")
    assert "there is no 'piramid'" in refused("fit", "rssm", images, "--decoder", "piramid", *new)
    halves = "multiples of 8"
    assert halves in refused("fit", "rssm", images, "--hidden", "4,4,4", "--decoder", "pyramid", *new)


def test_without_evidence_sequences_have_a_length(veil, refused, tmp_path):
    run = tmp_path / "run"
    fitted = veil(
        "fit", "dmm", "faithful", "--query", "waiting", "--latent", 2, *SMALL, "--window", 40, "--carry", "--out", run
    )
    assert fitted.code == 0, fitted
    assert "--steps" in refused("sample", run, "--count", 1, "--out", tmp_path / "s.csv")
    assert veil("sample", run, "--count", 2, "--steps", 5, "--out", tmp_path / "s.csv").code == 0
    assert len(library.data.read(tmp_path / "s.csv")) == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rssm", "--latent", "codes:3"), "--latent: expected dimensions, as in 30, or codes:COUNT:CATEGORIES"),
        (("rssm", "--latent", "vamp:3:4"), "--latent: expected dimensions, as in 30, or codes:COUNT:CATEGORIES"),
        (("rssm", "--latent", "0"), "--latent: expected dimensions"),
        (("dmm", "--latent", "codes:2:3"), "--latent: a deep Markov model's has dimensions"),
        (("dmm", "--memory", 3), "dmm does not take --memory"),
        (("vrnn", "--width", 3), "vrnn does not take --width"),
        (("rssm", "--decoder", "pyramid"), "--decoder pyramid: it makes images"),
        (("rssm", "--decoder", "pyramid:8x8"), "--decoder: expected network, or for images"),
        (("rssm", "--decoder", "tree:8x8x1"), "--decoder: there is no 'tree'"),
        (("rssm", "--posterior", "table"), "for this model's paths: amortized, filtering, smoothing"),
        (("rssm", "--kl-balance", 2), "--kl-balance"),
        (("rssm", "--objective", "em"), "a model without an exact likelihood"),
        (("rssm", "--objective", "fivo", "--kl-balance", 0.5), "they change the KL term of --objective elbo"),
        (("rssm", "--carry"), "--carry: from one window to the next; say how long they are with --window"),
        (("vae", "--kl-balance", 0.8), "--kl-balance: it is for the KL between the steps"),
        (("vae", "--posterior", "filtering"), "it is for deep sequence models"),
        (("vae", "--decoder", "network"), "vae does not take --decoder"),
    ],
)
def test_what_does_not_go_together(refused, tmp_path, words, message):
    model, *rest = words
    assert message in refused("fit", model, "faithful", *rest, "--quiet", "--out", tmp_path / "run")


def test_fewer_draws_of_large_data():
    model = catalogue.build("rssm", {})
    small, large = library.Data(np.zeros((10, 50, 2))), library.Data(np.zeros((100, 50, 32, 32, 3), np.float32))
    assert (draws(None, model, small), draws(None, model, large), draws(500, model, large)) == (1000, 130, 500)
