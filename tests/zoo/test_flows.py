"""Flows against closed forms: their densities, their posteriors, and what they are fitted to."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate

import fields
import veil
from veil import Data, distributions
from veil.evaluation.transport import log_density
from veil.learning.choices import default_optimiser
from veil.model import Datum
from veil.objective import AtNoise, FlowMatching, Marginal
from veil.parts.fields import NeuralField
from veil.parts.flows import Flow
from veil.parts.paths import Cosine, LogLinear, Straight

KEY = jax.random.key(0)
SMALL, WIDE = veil.MLP((16,), "silu"), veil.nets.Residual(64, 3)
QUERY, EVIDENCE = np.array([0.9, -1.1]), np.array([0.4])


def two_ways(count=256, seed=0):
    """y is near -1 or 1, whatever x; in standardised data and others."""
    rng = np.random.default_rng(seed)
    sides = rng.choice([-1.0, 1.0], count)
    y = (3.0 + 2.0 * (sides + 0.1 * rng.normal(size=count)))[:, None]
    return Data(y.astype(np.float32), evidence=rng.normal(size=(count, 1)).astype(np.float32))


@pytest.mark.parametrize(("path", "tolerance"), [(Straight(), 1e-7), (Cosine(), 1e-7), (LogLinear(-16.0, 16.0), 1e-3)])
def test_a_continuous_flow_has_the_density_of_its_field(path, tolerance, x64):
    model = veil.ContinuousFlow(fields.gaussian(path), steps=None, tolerance=1e-9)
    datum = Datum(jnp.asarray(QUERY), jnp.asarray(EVIDENCE))
    assert model.log_marginal(datum) == pytest.approx(fields.log_density(QUERY, EVIDENCE), abs=tolerance)


def test_every_draw_of_the_posterior_gives_the_likelihood(x64):
    model = veil.ContinuousFlow(fields.gaussian(Straight()), steps=None, tolerance=1e-10)
    datum = Datum(jnp.asarray(QUERY), jnp.asarray(EVIDENCE))
    q = model.posterior(datum)
    latent = q.sample(KEY)
    found = model.log_joint(latent, datum) - distributions.log_prob(q, latent)
    assert found == pytest.approx(fields.log_density(QUERY, EVIDENCE), abs=1e-6)
    assert model.log_joint(latent + 0.01, datum) == -jnp.inf  # another latent is another y


def test_steps_of_draws_approach_the_solver(x64):
    noise, errors = jnp.array([0.7, -0.4]), []
    exact = veil.ContinuousFlow(fields.gaussian(Straight()), steps=None).forward(noise, jnp.asarray(EVIDENCE))[0]
    for steps in (8, 16, 32):
        found = veil.ContinuousFlow(fields.gaussian(Straight()), steps=steps).forward(noise, jnp.asarray(EVIDENCE))[0]
        errors.append(float(jnp.max(jnp.abs(found - exact))))
    assert errors[0] > 1.8 * errors[1] > 3.2 * errors[2]  # Euler's: first order


def test_hutchinsons_estimate_is_unbiased_and_knows_its_error():
    model = veil.ContinuousFlow(fields.gaussian(Straight()))
    rows = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    data = Data(rows[:, :2], evidence=rows[:, 2:])
    exact = [fields.log_density(row[:2], row[2:]) for row in rows]
    assert np.allclose(log_density(model, data).values, exact, atol=2e-4)
    found = log_density(model, data, key=KEY, probes=64)
    assert np.all(found.error > 0)
    assert np.all(np.abs(found.values - exact) < 4.5 * found.error + 2e-4)
    with pytest.raises(ValueError, match="key: the trace is estimated"):
        log_density(model, data, probes=4)


def normalising(size, inputs=1):
    """One with parameters that are not near the identity."""
    flow = Flow(2, 8, knots=5).initialise(size, KEY, inputs)
    real = [array.dtype == jnp.float32 for array in flow.arrays]  # the others are permutations
    keys = jax.random.split(KEY, len(real))
    moved = [
        a + 0.2 * jax.random.normal(k, a.shape) if r else a for a, r, k in zip(flow.arrays, real, keys, strict=True)
    ]
    return veil.NormalisingFlow(Flow(2, 8, size, 5, inputs, tuple(moved)), veil.nets.Identity(), (size,), inputs)


def test_a_normalising_flow_is_inverse_to_itself_with_its_determinant():
    model, latent, evidence = normalising(3), jnp.array([0.3, -1.2, 0.8]), jnp.array([0.5])
    forward = jax.jit(lambda z: model.forward(z, evidence)[0])
    value, determinant = model.forward(latent, evidence)
    assert determinant() == pytest.approx(np.linalg.slogdet(jax.jacfwd(forward)(latent))[1], rel=1e-4)
    back, log_determinant = model.inverse(value, evidence)
    assert np.allclose(back, latent, atol=1e-4)
    assert log_determinant == pytest.approx(-float(determinant()), rel=1e-4)
    assert not np.allclose(model.forward(latent, -evidence)[0], value)  # it sees the evidence


def test_a_flow_of_one_number_integrates_to_one():
    model, evidence = normalising(1), jnp.array([0.5])
    places = jnp.linspace(-12, 12, 6001)[:, None]
    density = jnp.exp(jax.vmap(lambda y: model.log_marginal(Datum(y, evidence)))(places))
    assert integrate.trapezoid(density, places[:, 0]) == pytest.approx(1.0, abs=1e-3)


@pytest.fixture(scope="module")
def fits():
    models = {
        "normalising": veil.NormalisingFlow(Flow(2, 16, knots=8), SMALL),
        "continuous": veil.ContinuousFlow(WIDE),
    }
    rate = default_optimiser(600, 1e-2)
    return {name: veil.fit(model, two_ways(), key=KEY, steps=600, optimiser=rate) for name, model in models.items()}


@pytest.mark.parametrize("name", ["normalising", "continuous"])
def test_a_fit_finds_two_ways_and_its_density_is_one_of_the_users_data(fits, name):
    drawn = veil.sample(fits[name], 400, key=KEY, evidence=np.zeros((1, 1), np.float32)).query[0, :, 0]
    between = np.mean((drawn > 1.7) & (drawn < 4.3))
    assert between < 0.05
    assert 0.3 < np.mean(drawn > 3.0) < 0.7
    places = np.linspace(-4, 10, 1401, dtype=np.float32)[:, None]
    density = np.exp(veil.log_prob(fits[name], Data(places, evidence=np.zeros_like(places))))
    assert integrate.trapezoid(density, places[:, 0]) == pytest.approx(1.0, abs=0.02)
    # the log-likelihood is near that of the truth: two normals of standard deviation 0.2
    best = -np.log(2) - 0.5 - 0.5 * np.log(2 * np.pi * 0.2**2)
    assert best - 0.35 < veil.evaluate(fits[name], two_ways(seed=1)).log_likelihood_per_datum < best + 0.1


def test_a_student_of_one_step_finds_them_as_well(fits):
    inner, units = fits["continuous"].model.model, fits["continuous"].model.units
    student = veil.ContinuousFlow(WIDE, steps=1)
    objective = FlowMatching(AtNoise(), teacher=replace(inner, steps=8))
    trainer = veil.Trainer(student, None, objective, default_optimiser(300, 6e-3), units)
    state, batch = trainer.start(two_ways(), KEY), trainer.batch(two_ways())
    state, info = jax.jit(lambda s: jax.lax.scan(lambda s, _: trainer.step(s, batch), s, None, 300))(state)
    assert float(info.value[-1]) > -0.2 > float(info.value[0])
    model, _ = trainer.result(state)
    drawn = veil.sample(model, 400, key=KEY, evidence=np.zeros((1, 1), np.float32)).query[0, :, 0]
    assert np.mean((drawn > 1.7) & (drawn < 4.3)) < 0.12  # one step is continuous in the noise
    assert 0.3 < np.mean(drawn > 3.0) < 0.7


def test_what_a_fit_shows_is_no_likelihood(fits):
    assert fits["continuous"].history.unit == "negative mean squared error"
    assert "negative mean squared error" in repr(fits["continuous"])
    assert fits["normalising"].history.unit == "nats per datum"
    found = veil.evaluation.objective.values(
        FlowMatching(), fits["continuous"].model, veil.Exact(), two_ways(), key=KEY
    )
    assert -1.0 < np.mean(found) < 0.0  # no Jacobian of units in it


def test_missing_actions_neither_count_nor_take_weight():
    field = fields.gaussian(Straight())
    model, posterior = veil.ContinuousFlow(field), veil.Exact()
    seen = jnp.array([True, False])
    value = lambda y, observed: FlowMatching()(model, posterior, Datum(y, jnp.zeros(1), observed=observed), KEY).value  # noqa: E731
    for odd in (jnp.nan, 1e6):
        assert value(jnp.array([0.5, odd]), seen) == value(jnp.array([0.5, 0.0]), seen)
    key_time, key_noise = jax.random.split(KEY)
    time, noise = float(jax.random.uniform(key_time)), np.asarray(jax.random.normal(key_noise, (2,)))
    z = (1 - time) * np.array([0.5, 0.0]) + time * noise
    error = ((noise - np.array([0.5, 0.0])) / np.sqrt(2) - np.asarray(field(jnp.asarray(z), time, jnp.zeros(1)))) ** 2
    assert value(jnp.array([0.5, 0.0]), seen) == pytest.approx(-error[0] / 2, rel=1e-4)
    assert value(jnp.array([0.5, 0.0]), None) == pytest.approx(-error.sum() / 2, rel=1e-4)
    with pytest.raises(TypeError, match="observed: ContinuousFlow cannot integrate"):
        model.log_marginal(Datum(jnp.zeros(2), jnp.zeros(1), observed=seen))


def test_maximum_likelihood_goes_through_the_solver():
    data = Data(np.random.default_rng(0).normal(2.0, 3.0, (64, 1)).astype(np.float32))
    options = {"objective": Marginal(), "optimiser": optax.adam(3e-2), "steps": 8, "batch_size": 64}
    fit = veil.fit(veil.ContinuousFlow(veil.MLP((4,)), tolerance=1e-2), data, key=KEY, **options)
    assert fit.history.unit == "nats per datum"
    assert fit.history.value[-1] > fit.history.value[0]


def test_wrong_things_are_told():
    with pytest.raises(TypeError, match="teacher: expected a ContinuousFlow with parameters"):
        FlowMatching(teacher="fit")
    data = Data({"a": np.zeros((4, 1), np.float32), "b": np.zeros((4, 1), np.float32)})
    with pytest.raises(TypeError, match="query: flows and diffusions carry one array"):
        veil.fit(veil.ContinuousFlow(), data, key=KEY)
    with pytest.raises(ValueError, match="2 or more dimensions"):
        veil.fit(veil.NormalisingFlow(Flow()), Data(np.zeros((4, 1), np.float32)), key=KEY)
    with pytest.raises(TypeError, match=r"FlowMatching\(\) trains the field"):
        veil.fit(veil.VAE(1, decoder=SMALL), two_ways(), key=KEY, objective=FlowMatching(), steps=1)
    with pytest.raises(ValueError, match="steps: expected a positive whole number"):
        veil.ContinuousFlow(steps=0)


@pytest.mark.parametrize("kind", ["normalising", "continuous"])
def test_evidence_may_be_pictures_and_numbers(kind):
    """A camera and joints: each part by a network of its own; missing padding of chunks has no share."""
    rng = np.random.default_rng(0)
    evidence = {
        "camera": rng.random((32, 2, 8, 8, 1), np.float32),  # two pictures, as one of twice the height
        "joints": rng.normal(size=(32, 2, 3)).astype(np.float32),
    }
    readers = veil.joint.Readers({"camera": veil.images.Pyramid((16, 8, 1), (8, 8), 16)})
    model = {
        "normalising": veil.NormalisingFlow(Flow(1, 8, knots=4), readers),
        "continuous": veil.ContinuousFlow(NeuralField(net=SMALL, encoder=readers)),
    }[kind]
    data = Data(rng.normal(size=(32, 4, 2)).astype(np.float32), evidence=evidence)
    fit = veil.fit(model, data, key=KEY, steps=3)
    first = jax.tree.map(lambda leaf: leaf[:1], evidence)
    other = {**first, "camera": 1.0 - first["camera"]}
    drawn = [veil.sample(fit, 2, key=KEY, evidence=each).query for each in (first, other)]
    assert drawn[0].shape == (1, 2, 4, 2)
    assert not np.allclose(*drawn)
