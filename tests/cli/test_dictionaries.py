"""A query that is a dictionary goes through every command: pictures and rewards of a recording, rows of an .npz."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil as library
from veil.data.recorded import folders

SHAPE, LENGTH = (16, 16, 3), 9


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """Three short episodes of a pendulum, as ``veil collect`` leaves them."""
    place = tmp_path_factory.mktemp("dictionaries") / "pendulum"
    folders.begin(place, {}, force=False)
    for number, episode in enumerate(library.data.pendulum().episodes[:3]):
        observations = {name: array[: LENGTH + 1 - number] for name, array in episode.observations.items()}
        actions = {name: array[: LENGTH - number] for name, array in episode.actions.items()}
        short = library.data.Episode(observations, actions, episode.rewards[: LENGTH - number])
        folders.write_episode(place, number, short)
    return place


WORDS = ("--latent", 2, "--memory", 5, "--hidden", 4, "--steps", 2, "--quiet")


@pytest.fixture(scope="module")
def world(veil, recording) -> Path:
    """A world model of frames and rewards."""
    run = recording.parent / "world"
    fitted = veil("fit", "rssm", recording, "--query", "frame,reward", "--evidence", "action", *WORDS, "--out", run)
    assert (fitted.code, fitted.err) == (0, ""), fitted
    return run


def data_of(recording) -> library.Data:
    return library.data.recording(recording).data(["frame", "reward"], "action")


def test_the_run_knows_its_parts(world, recording):
    config = json.loads((world / "config.json").read_text())
    assert config["data"]["query_shape"] == {"frame": [10, *SHAPE], "reward": [10, 1]}
    assert config["data"]["query"] == ["frame", "reward"]
    options = config["model"]["options"]
    assert options["head"] == "frame=discretised-logistic:256:0:1,reward=gaussian"
    assert options["decoder"] == "frame=pyramid:16x16x3,reward=network"
    fit = library.load(world)
    assert isinstance(fit.model.model.head, library.joint.Joint)
    assert fit.model.units.query["frame"] is None  # 8-bit images stay as they are
    assert fit.model.units.query["reward"] is not None


def test_evaluate_and_infer_are_those_of_the_library(veil, world, recording, tmp_path):
    told = veil("evaluate", world, recording, "--json", "--samples", 5, "--quiet").json
    expected = library.evaluate(library.load(world), data_of(recording), key=jax.random.key(0), samples=5)
    assert told["log_likelihood"] == pytest.approx(expected.log_likelihood, rel=1e-5)
    assert veil("log-prob", world, recording, "--samples", 5, "--out", tmp_path / "l.csv").code == 0
    assert len(library.data.read(tmp_path / "l.csv")) == 3
    assert veil("infer", world, recording, "--out", tmp_path / "z.csv").code == 0
    found = library.infer(library.load(world), data_of(recording))
    table = library.data.read(tmp_path / "z.csv")
    assert len(table) == 10 + 9 + 8
    np.testing.assert_allclose(table.query[:10, 2:4], found.mean[0], rtol=1e-4, atol=1e-5)


def test_sample_draws_every_part(veil, refused, world, recording, tmp_path):
    words = ("sample", world, "--count", 2, "--evidence-values", recording, "--out")
    assert veil(*words, tmp_path / "s.npz").code == 0
    drawn = library.data.read(tmp_path / "s.npz")
    assert drawn.query_shape == {"frame": (10, *SHAPE), "reward": (10, 1)}
    assert len(drawn) == 6
    assert "takes numbers in columns, and each step is [16, 16, 3]" in refused(*words, tmp_path / "s.csv")


def test_forecast_writes_arrays_a_film_and_a_picture(veil, refused, world, recording, tmp_path):
    pytest.importorskip("PIL")
    words = ("forecast", world, recording, "--horizon", 3, "--samples", 4, "--after", 5)
    places = ("--out", tmp_path / "f.npz", "--film", tmp_path / "f.gif", "--picture", tmp_path / "f.png")
    assert veil(*words, *places).code == 0
    expected = library.forecast(library.load(world), data_of(recording), 3, 4, key=jax.random.key(0), after=5)
    with np.load(tmp_path / "f.npz") as found:
        assert found["paths/frame"].shape == (3, 4, 3, *SHAPE)
        np.testing.assert_allclose(found["mean/reward"], expected.mean["reward"], rtol=1e-4)
        np.testing.assert_array_equal(found["truth/reward"], expected.truth["reward"])
    assert all((tmp_path / name).stat().st_size > 0 for name in ("f.gif", "f.png"))
    assert "each step is an image" in refused(*words, "--out", tmp_path / "f.csv")
    assert "the evidence of a step is [1] (action); got 2" in refused(*words, "--hold", "1,2", *places)


def test_report_draws_it(veil, world, recording):
    assert veil("report", world).code == 0
    assert {"forecast.png", "images.png"} <= {each.name for each in (world / "plots").iterdir()}


def test_other_data_of_other_parts_are_refused(veil, refused, world, recording):
    line = refused("evaluate", world, recording, "--query", "frame", code=1)
    assert "the run was fitted to [{'frame': [16, 16, 3], 'reward': [1]}, [1]]" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rssm", "--head", "bernoulli"), "--head: the query has the parts frame, reward; say of which, as in frame="),
        (("rssm", "--head", "picture=bernoulli"), "--head: the query has no 'picture'; its parts are frame, reward"),
        (("rssm", "--head", "frame=bernoulli,"), "--head: expected a word for each part"),
        (("rssm", "--head", "frame=bernouli"), "did you mean 'bernoulli'"),
        (("rssm", "--decoder", "pyramid"), "--decoder: the query has the parts frame, reward"),
        (("rssm", "--decoder", "reward=pyramid"), "--decoder pyramid: it makes images"),
        (("lds",), "lds is a model of arrays, and the query has the parts frame, reward"),
    ],
)
def test_words_that_do_not_go_with_a_dictionary(refused, recording, tmp_path, words, message):
    query = ("--query", "frame,reward", "--evidence", "action", "--quiet", "--out", tmp_path / "run")
    assert message in refused("fit", words[0], recording, *words[1:], *query)


def test_heads_are_chosen_by_part(veil, recording, tmp_path):
    words = ("--head", "frame=soft-bernoulli,reward=student-t", "--decoder", "network")
    query = ("--query", "frame,reward", "--evidence", "action", *WORDS, "--out", tmp_path / "run")
    fitted = veil("fit", "rssm", recording, *query, *words)
    assert fitted.code == 0, fitted
    head = library.load(tmp_path / "run").model.model.head
    assert head.parts == {"frame": library.heads.Bernoulli(soft=True), "reward": library.heads.StudentT()}


@pytest.fixture(scope="module")
def arrays(tmp_path_factory) -> Path:
    """Rows with counts and a nested vector, as an .npz has them."""
    rng = np.random.default_rng(0)
    tree = {"count": rng.poisson(2.0, (30, 2)).astype(float), "arm": {"angle": rng.normal(5.0, 3.0, (30, 2))}}
    path = tmp_path_factory.mktemp("dictionaries") / "rows.npz"
    library.data.write(path, {"query": tree, "evidence": rng.normal(size=(30, 1))})
    return path


@pytest.mark.filterwarnings("ignore:collapse")
def test_rows_of_a_dictionary(veil, arrays, tmp_path):
    """A conditional VAE of counts and angles, all the way to its exported parts."""
    run = tmp_path / "run"
    options = ("--head", "count=poisson", "--latent", 2, "--hidden", 4, "--gate", "constant", "--steps", 5)
    fitted = veil("fit", "cvae", arrays, *options, "--quiet", "--out", run)
    assert fitted.code == 0, fitted
    options = json.loads((run / "config.json").read_text())["model"]["options"]
    assert options["head"] == "count=poisson,arm/angle=gaussian"
    assert veil("evaluate", run, arrays, "--samples", 5, "--quiet").code == 0
    assert veil("report", run).code == 0
    assert veil("sample", run, "--count", 3, "--evidence-values", arrays, "--out", tmp_path / "s.csv").code == 1
    (tmp_path / "x.csv").write_text("x0\n0.5\n1\n")
    words = ("sample", run, "--count", 3, "--evidence-values", tmp_path / "x.csv")
    assert veil(*words, "--out", tmp_path / "s.csv").code == 0
    drawn = library.data.read(tmp_path / "s.csv")
    assert drawn.query_names == ("row", "x0", "count0", "count1", "arm.angle0", "arm.angle1")
    assert np.all(drawn.query[:, 2:4] == np.round(drawn.query[:, 2:4]))  # counts are under their names
    assert not np.any(drawn.query[:, 4:] == np.round(drawn.query[:, 4:]))
    made = veil("export", run, "--what", "encoder", "--out", tmp_path / "encoder")
    assert made.code == 0, made
    assert "encoder (query/arm/angle, query/count, evidence) -> (mean, scale)" in made.out
    data, fit = library.data.read(arrays), library.load(run)
    found = library.load_export(tmp_path / "encoder")(data.query["arm"]["angle"], data.query["count"], data.evidence)
    np.testing.assert_allclose(found["mean"], library.infer(fit, data).mean, rtol=1e-4, atol=1e-5)
    made = veil("export", run, "--what", "policy", "--deterministic", "--data", arrays, "--out", tmp_path / "policy")
    assert made.code == 0, made
    assert "(evidence) -> (action/arm/angle, action/count)" in made.out
    made = veil("export", run, "--what", "decoder", "--out", tmp_path / "decoder")
    assert made.code == 0, made
    decode = library.load_export(tmp_path / "decoder")
    assert {port.name for port in decode.outputs} == {"mean/count", "mean/arm/angle"}
    assert {port.name: port.columns for port in decode.outputs}["mean/arm/angle"] == ("arm.angle0", "arm.angle1")
    latent = np.zeros((1, 2), np.float32)
    said = fit.model.likelihood(jnp.zeros(2), jnp.array(data.evidence[0], jnp.float32)).mean
    np.testing.assert_allclose(decode(latent, data.evidence[:1])["mean/arm/angle"][0], said["arm"]["angle"], rtol=1e-5)
