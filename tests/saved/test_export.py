"""Exported programs say what the model says, in any number of rows; and a file that is wrong is refused."""

import hashlib
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
import veil
from cases import MODELS, make_data, mixture_parameters, random_model, started
from saved.fits import history
from veil import Data
from veil.evaluation.moments import mean_and_variance
from veil.learning.result import Fit
from veil.model.scales import Scale
from veil.parts import heads, priors
from veil.saved import export as exporting
from veil.saved import program as exported
from veil.units import Units

pytest.importorskip("flatbuffers")
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
PLAIN = Data(RNG.normal(size=(7, 3)))
GIVEN = Data(RNG.normal(size=(7, 2)), evidence=RNG.normal(size=(7, 1)), query_names=("left", "right"))
VAE = {"decoder": veil.MLP((5,)), "head": heads.DiagonalGaussian()}
FITTED = {
    "ppca": (veil.PPCA(2), PLAIN, {}),
    "vae": (veil.VAE(2, **VAE), PLAIN, {}),
    "codes": (veil.VAE(priors.Codes(2, 3), **VAE), PLAIN, {}),
    "cvae": (veil.VAE(priors.ConditionalNormal(2, veil.MLP((5,))), **VAE), GIVEN, {}),
    "network": (veil.BayesianNetwork((5,)), GIVEN, {}),
    "table": (veil.VAE(2, **VAE), PLAIN, {"posterior": veil.Table()}),
}


@pytest.fixture(scope="module")
def fits():
    """A model and a posterior of each, made when they are asked for, in units that are not standard."""
    made = {}

    def fit(name):
        if name not in made:
            model, data, options = FITTED[name]
            scale = np.linspace(0.5, 2.0, data.query.shape[1])
            given = None if data.evidence is None else Scale(np.array([1.0]), np.array([3.0]))
            found = started(model, data, units=Units(Scale(scale - 1.0, scale), given), **options)
            made[name] = Fit(found.model, found.posterior, *history())
        return made[name], FITTED[name][1]

    return fit


def write(source, folder, data, what, **options):
    """What ``export`` gives: the program as it was read back. Tests call it with seven rows: those are compiled."""
    return veil.export(source, folder / "part", what=what, data=data, **options)


def test_encoder_of_a_mixture_is_bayes_rule(tmp_path):
    data = make_data("real", 7)
    model = random_model("mixture-full", data)
    found = write(model, tmp_path, data, "encoder")(data.query)["responsibilities"]
    weights, means, covariances = mixture_parameters(model)
    parameters, seen = list(zip(weights, means, covariances, strict=True)), np.ones(3, bool)
    joints = [[np.log(w) + oracles.gaussian_log_density(y, m, c, seen) for w, m, c in parameters] for y in data.query]
    expected = np.array([oracles.softmax(np.array(row)) for row in joints])
    order = np.argsort(np.asarray(model.experts.mean)[:, 0])
    np.testing.assert_allclose(np.asarray(found)[:, order], expected, atol=2e-5)


def test_decoder_of_a_mixture_gives_each_component_s_mean(tmp_path):
    data = make_data("real", 7)
    model = random_model("mixture-full", data)
    decode = write(model, tmp_path, data, "decoder")
    np.testing.assert_allclose(
        decode([2, 0, 1, 1, 0, 2, 2])["mean"], np.asarray(model.experts.mean)[[2, 0, 1, 1, 0, 2, 2]], rtol=1e-6
    )
    with pytest.raises(ValueError, match="component: expected whole numbers from 0 to 2"):
        decode([3])


def test_decoder_of_categories_gives_probabilities(tmp_path):
    data = make_data("categorical | evidence")
    model = random_model("linear-categorical", data)
    decode = write(model, tmp_path, data, "decoder")
    assert decode.outputs[0].shape == ("N", 2, 3)
    found = np.asarray(decode([1], data.evidence[:1])["probabilities"])[0]
    vector = np.asarray(model.experts.weight)[1] @ np.concatenate([[1.0], data.evidence[0]])
    np.testing.assert_allclose(found, [oracles.softmax(row) for row in vector.reshape(2, 3)], rtol=1e-5)


def test_encoder_of_ppca_is_the_exact_posterior(fits, tmp_path):
    result, data = fits("ppca")
    found = write(result, tmp_path, data, "encoder")(data.query)
    loadings, offset = (np.asarray(part, np.float64) for part in (result.model.loadings, result.model.offset))
    covariance = np.linalg.inv(np.eye(2) + loadings.T @ loadings * float(result.model.noise.precision().ravel()[0]))
    mean = (data.query - offset[:, 0]) @ loadings @ covariance * float(result.model.noise.precision().ravel()[0])
    np.testing.assert_allclose(found["mean"], mean, atol=1e-5)
    np.testing.assert_allclose(found["scale"], np.tile(np.sqrt(np.diag(covariance)), (7, 1)), rtol=1e-5)


@pytest.mark.parametrize("name", ["vae", "codes", "cvae"])
def test_encoder_agrees_with_infer(fits, tmp_path, name):
    result, data = fits(name)
    encode, expected = write(result, tmp_path, data, "encoder"), veil.infer(result, data)
    found = encode(*(part for part in (data.query, data.evidence) if part is not None))
    mean = found["probabilities"] if name == "codes" else found["mean"]
    np.testing.assert_allclose(mean, expected.mean, rtol=1e-4, atol=1e-5)
    if name != "codes":
        np.testing.assert_allclose(found["scale"], expected.standard_deviation, rtol=1e-4)


@pytest.mark.parametrize("name", ["vae", "cvae"])
def test_decoder_agrees_with_the_likelihood(fits, tmp_path, name):
    result, data = fits(name)
    latent = RNG.normal(size=(7, 2)).astype("float32")
    given = () if data.evidence is None else (data.evidence,)
    found = write(result, tmp_path, data, "decoder")(latent, *given)["mean"]
    for n in range(7):
        x = None if data.evidence is None else jnp.array(data.evidence[n], float)
        np.testing.assert_allclose(
            found[n], result.model.likelihood(jnp.array(latent[n]), x).mean, rtol=1e-5, atol=1e-6
        )


def test_policy_draws_what_the_model_draws(tmp_path):
    """Row n with the seed's key and n folded in, in a call of any number of rows."""
    data = make_data("real | evidence", 7)
    model = random_model("experts-full", data)
    act = write(model, tmp_path, data, "policy", platforms=("cpu", "cuda"))
    drawn = np.asarray(act(data.evidence, 5)["action"])
    for n in (0, 6):
        key = jax.random.fold_in(jax.random.key(5), n)
        expected = model.sample(key, jnp.array(data.evidence[n], float))[1]
        np.testing.assert_allclose(drawn[n], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(act(data.evidence[:1], 5)["action"], drawn[:1], rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(act(data.evidence, 6)["action"]) - drawn).min() > 0
    many = np.asarray(act(np.tile(data.evidence[:1], (4000, 1)), 2**32 - 1)["action"])
    prediction = veil.predict(model, data.evidence[:1])
    np.testing.assert_allclose(many.mean(0), prediction.mean[0], atol=5 * prediction.standard_deviation.max() / 63)
    np.testing.assert_allclose(many.std(0), prediction.standard_deviation[0], rtol=0.1)


def test_deterministic_policy_is_the_mean_of_the_most_probable_component(tmp_path):
    data = make_data("real | evidence", 7)
    model = random_model("trunk-gaussian", data)
    act = write(model, tmp_path, data, "policy", deterministic=True)
    assert [port.name for port in act.inputs] == ["evidence"]
    found = act(data.evidence)["action"]
    chosen = set()
    for n, x in enumerate(jnp.array(data.evidence, float)):
        best = int(jnp.argmax(model.prior(x).logits))
        chosen.add(best)
        np.testing.assert_allclose(found[n], model.likelihood(jnp.array(best), x).mean, rtol=1e-5, atol=1e-6)
    assert len(chosen) > 1


def test_deterministic_policy_with_a_continuous_latent_is_at_its_mean(fits, tmp_path):
    result, data = fits("cvae")
    found = write(result, tmp_path, data, "policy", deterministic=True)(data.evidence)["action"]
    x = jnp.array(data.evidence[3], float)
    expected = result.model.likelihood(result.model.prior(x).mean, x).mean
    np.testing.assert_allclose(found[3], expected, rtol=1e-5, atol=1e-6)


def test_policy_of_a_bayesian_network_draws_weights_from_the_posterior(fits, tmp_path):
    result, data = fits("network")
    act = write(result, tmp_path, data, "policy")
    x = np.tile(data.evidence[:1], (4000, 1))
    drawn = np.asarray(act(x, 1)["action"])
    expected = veil.predict(result, data.evidence[:1], key=KEY, samples=4000)
    spread = expected.standard_deviation[0]
    np.testing.assert_allclose(drawn.mean(0), expected.mean[0], atol=6 * spread.max() / 63)
    np.testing.assert_allclose(drawn.std(0), spread, rtol=0.1)
    central = write(result, tmp_path, data, "policy", deterministic=True)(x[:1])["action"][0]
    weights = mean_and_variance(result.posterior(result.model, veil.Datum(None)), KEY)[0]
    expected = result.model.likelihood(weights, jnp.array(x[0], float)).mean
    np.testing.assert_allclose(central, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["linear-beta", "linear-poisson"])
def test_policies_of_every_kind_of_head(tmp_path, name):
    """Rejection samplers too: what is read back was compared with the model, draw by draw."""
    data = make_data(MODELS[name][1], 7)
    act = write(random_model(name, data), tmp_path, data, "policy")
    assert act.record["parity"]["largest_difference"] <= act.record["parity"]["allowed_difference"]
    assert act(data.evidence, 0)["action"].shape == data.query.shape


def test_double_precision(tmp_path, x64):
    data = make_data("real | evidence", 7)
    model = random_model("experts-full", data)
    veil.export(model, tmp_path / "part", what="encoder", data=data)
    with jax.enable_x64(False):
        found = veil.load_export(tmp_path / "part")(data.query, data.evidence)["responsibilities"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, veil.infer(model, data).probabilities, rtol=1e-9, atol=1e-12)


def test_the_record_says_what_it_is(tmp_path):
    model = started(veil.Mixture(components=2), GIVEN).model
    veil.export(model, tmp_path / "a.stablehlo", what="policy", data=GIVEN, deterministic=True, name="experts")
    record = json.loads((tmp_path / "a.stablehlo.json").read_text())
    assert (record["format"], record["version"], record["what"]) == ("veil export", 1, "policy")
    assert (record["model"], record["platforms"], record["deterministic"]) == ("experts", ["cpu"], True)
    entry = {"shape": ["N", 1], "dtype": "float32", "unit": "the data's", "columns": ["x0"], "name": "evidence"}
    assert record["inputs"] == [entry]
    assert record["outputs"] == [entry | {"name": "action", "shape": ["N", 2], "columns": ["left", "right"]}]
    assert set(record["versions"]) == {"veil", "jax"}
    assert record["parity"]["rows"] == [1, 7]
    assert 0 <= record["parity"]["largest_difference"] <= record["parity"]["allowed_difference"] < 1e-3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.stablehlo", "a.stablehlo.json"]


WITHOUT_VEIL = """
import sys, jax.export, numpy as np
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
print(*np.asarray(program.call(np.ones((3, 1), "float32"))["action"]).ravel().tolist())
assert "veil" not in sys.modules and "equinox" not in sys.modules
"""


def test_a_process_without_veil_runs_it(tmp_path):
    model = started(veil.Mixture(components=2), GIVEN).model
    act = write(model, tmp_path, GIVEN, "policy", deterministic=True)
    command = [sys.executable, "-c", WITHOUT_VEIL, str(tmp_path / "part")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(np.array(told.split(), float), np.ravel(act(np.ones((3, 1)))["action"]), rtol=1e-6)


def test_a_program_that_differs_from_the_model_is_not_written(tmp_path, monkeypatch):
    real = exported.compiled

    def wrong(*given):
        return lambda *arrays: {name: value * 1.001 for name, value in real(*given)(*arrays).items()}

    monkeypatch.setattr(exported, "compiled", wrong)
    with pytest.raises(ValueError, match=r"the exported encoder differs from the model by .*nothing was written"):
        veil.export(
            random_model("mixture-full", make_data("real")), tmp_path / "a", what="encoder", data=make_data("real")
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "what", "words"),
    [
        ("gaussian", "encoder", "no latent and so no encoder; veil.sample draws from it"),
        ("gaussian", "policy", "no evidence; fit a model of"),
        ("regression", "decoder", "no latent and so no decoder; export its policy"),
        ("mixture-full", "policy", "no evidence"),
        ("mixture-full", "encodr", "what: expected encoder, decoder or policy; got 'encodr'"),
    ],
)
def test_parts_that_a_model_does_not_have(tmp_path, name, what, words):
    data = make_data(MODELS[name][1])
    with pytest.raises(ValueError, match=words):
        veil.export(random_model(name, data), tmp_path / "a", what=what, data=data)


def test_posteriors_that_do_not_encode(fits, tmp_path):
    result, data = fits("table")
    with pytest.raises(ValueError, match=r"one row for each datum of the fit.*veil\.Amortized"):
        veil.export(result, tmp_path / "a", what="encoder", data=data)
    with pytest.raises(ValueError, match="posterior: that of VAE has no closed form"):
        veil.export(result.model, tmp_path / "a", what="encoder", data=data)
    result, data = fits("network")
    for what in ("encoder", "decoder"):
        with pytest.raises(ValueError, match="weights, which all data share"):
            veil.export(result, tmp_path / "a", what=what, data=data)
    with pytest.raises(ValueError, match="posterior: the weights"):
        veil.export(result.model, tmp_path / "a", what="policy", data=data)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"platforms": ("cpu", "gpu")}, "platforms: expected some of cpu, cuda"),
        ({"platforms": ("cuda",)}, "platforms: expected cpu among them"),
        ({"deterministic": True}, "deterministic: only a policy draws"),
        ({"data": np.zeros((3, 2))}, "query: this model is of data with shape"),
        ({"path": "nowhere/a"}, "path: the folder .* does not exist"),
    ],
)
def test_wrong_requests(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    data = make_data("real")
    given = {"path": "a", "what": "encoder", "data": data} | options
    with pytest.raises(ValueError, match=words):
        veil.export(random_model("mixture-full", data), given.pop("path"), **given)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound export: two files, not to be written to."""
    folder = tmp_path_factory.mktemp("export")
    data = make_data("real | evidence")
    veil.export(random_model("experts-full", data), folder / "part", what="encoder", data=data)
    return folder


@pytest.fixture
def part(sound, tmp_path):
    for file in sound.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / "part"


@pytest.mark.parametrize(
    ("arrays", "error", "words"),
    [
        ((np.zeros((2, 2)),), TypeError, r"expected 2 arrays \(query, evidence\); got 1"),
        ((np.zeros((2, 3)), np.zeros((2, 2))), ValueError, r"query: expected shape \[N, 2\]; got \[2, 3\]"),
        ((np.zeros(3), np.zeros((1, 2))), ValueError, r"query: expected shape \[N, 2\]; got \[3\]"),
        ((np.zeros((0, 2)), np.zeros((0, 2))), ValueError, r"query: expected shape \[N, 2\]; got \[0, 2\]"),
        ((np.zeros((2, 2)), np.zeros((4, 2))), ValueError, r"the same number of rows in each; got \[2, 4\]"),
        ((np.zeros((2, 2), complex), np.zeros((2, 2))), TypeError, "query: expected numbers; got complex128"),
        (([["a", "b"]], np.zeros((2, 2))), TypeError, "query: expected numbers"),
    ],
)
def test_calls_with_other_arrays(part, arrays, error, words):
    with pytest.raises(error, match=words):
        veil.load_export(part)(*arrays)


def amend(part, **changes):
    record = json.loads(exported.beside(part).read_text())
    exported.beside(part).write_text(json.dumps(record | changes))


def test_damaged_files_are_refused(part):
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="part: damaged"):
        veil.load_export(part)
    part.unlink()
    with pytest.raises(FileNotFoundError, match="part is missing"):
        veil.load_export(part)
    exported.beside(part).unlink()
    with pytest.raises(FileNotFoundError, match=r"part\.json is missing"):
        veil.load_export(part)


def test_records_that_do_not_fit_are_refused(part):
    inputs = json.loads(exported.beside(part).read_text())["inputs"]
    for changes, words in (
        ({"format": "x"}, "not the description of an export"),
        ({"version": 2}, "written in version 2"),
        ({"sha256": None}, "digests differ"),
        ({"inputs": [inputs[0], inputs[1] | {"dtype": "float64"}]}, "takes or gives other arrays"),
        ({"inputs": inputs[:1]}, "takes or gives other arrays"),
        ({"outputs": []}, "takes or gives other arrays"),
        ({"inputs": 3}, "inputs: expected a list"),
        ({"inputs": [{"name": "query"}]}, r"inputs\[0\]: expected name, unit"),
    ):
        amend(part, **changes)
        with pytest.raises(ValueError, match=words):
            veil.load_export(part)
        amend(part, **{"format": "veil export", "version": 1, "inputs": inputs})
        if "sha256" in changes:
            amend(part, sha256=hashlib.sha256(part.read_bytes()).hexdigest())


def test_programs_for_other_devices_are_refused(part, monkeypatch):
    monkeypatch.setattr(jax.export, "default_export_platform", lambda: "tpu")
    with pytest.raises(ValueError, match="made for cpu, and this process runs on tpu"):
        veil.load_export(part)


def test_calls_into_the_process_are_refused(part):
    """JAX loads a program that calls anything registered in the process; ``load_export`` does not."""
    (rows,) = jax.export.symbolic_shape("N")
    record = json.loads(exported.beside(part).read_text())
    specifications = [jax.ShapeDtypeStruct((rows, port["shape"][1]), port["dtype"]) for port in record["inputs"]]

    def evil(y, x):
        answer = jax.ffi.ffi_call("anything_registered", jax.ShapeDtypeStruct((3,), jnp.float32))()
        return {"responsibilities": jnp.zeros((y.shape[0], 3)) + answer[None]}

    allowed = [jax.export.DisabledSafetyCheck.custom_call("anything_registered")]
    traced = jax.export.export(jax.jit(evil, keep_unused=True), disabled_checks=allowed)(*specifications)
    part.write_bytes(traced.serialize())
    amend(part, sha256=hashlib.sha256(part.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"no model needs \(anything_registered\); not loaded"):
        veil.load_export(part)


def test_few_data_are_used_more_than_once(tmp_path):
    data = make_data("real", 2)
    assert write(random_model("mixture-full", data), tmp_path, data, "encoder")(data.query)
    assert exporting.CHECKED[-1] > 2
