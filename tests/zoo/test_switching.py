"""Switching linear dynamics against the sum over every path of regimes, and what makes them the library's."""

import itertools
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import veil
from compiled import called
from state_space import SIZE, STATES, lds, sequence, unbiased
from veil.model import Datum
from veil.model.filter import beliefs
from veil.objective import FIVO
from veil.parts.covariance import Full
from veil.parts.gates import Softmax
from veil.parts.statistics import contract
from veil.posterior import Bootstrap, MeanField, Optimal
from veil.zoo.lds import LDS
from veil.zoo.switching import SwitchingLDS

EVERYTHING = "controls missing padding reset"
CASES = ["plain", EVERYTHING]


def model(states: int = 2, case: str = "plain", noise: str = "diagonal", shared: bool = False) -> SwitchingLDS:
    """Regimes that start alike; with ``shared`` they see alike."""
    inputs = 2 if "controls" in case else 0
    regimes = [lds(noise, inputs, seed) for seed in range(states)]
    one = regimes[0]
    same = {"mean": one.mean, "factor": one.factor}
    if shared:
        same |= {"emission": one.emission, "offset": one.offset, "noise": one.noise}
    rng = np.random.default_rng(9)
    return SwitchingLDS(
        states,
        STATES,
        shared=shared,
        transition=Softmax(False, weight=jnp.array(rng.normal(size=(states, states, 1)))),
        initial=Softmax(False, weight=jnp.array(rng.normal(size=(states, 1)))),
        regimes=tuple(replace(regime, **same) for regime in regimes),
    )


def kalman(m: SwitchingLDS, path: tuple[int, ...], one: Datum) -> float:
    """log p(y | s), a plain Kalman filter in numpy."""
    value, mean, covariance = 0.0, None, None
    array = lambda leaf: np.asarray(leaf, np.float64)  # noqa: E731
    for t, s in enumerate(path):
        if one.mask is not None and not one.mask[t]:
            continue
        r = m.regimes[s]
        x = np.concatenate([[1.0], [] if one.evidence is None else array(one.evidence[t])])
        if mean is None or (one.reset is not None and one.reset[t]):
            mean, covariance = array(r.mean), array(r.factor @ r.factor.T)
        else:
            f = array(r.transition)
            mean, covariance = f @ mean + array(r.drift) @ x, f @ covariance @ f.T + array(r.process @ r.process.T)
        seen = np.ones(SIZE, bool) if one.observed is None else np.asarray(one.observed[t])
        h, noise = array(r.emission)[seen], array(r.noise.dense_covariance()[0])[np.ix_(seen, seen)]
        away = array(one.query[t])[seen] - h @ mean - array(r.offset)[seen]
        spread = h @ covariance @ h.T + noise
        gain = covariance @ h.T @ np.linalg.inv(spread)
        value -= 0.5 * (away @ np.linalg.solve(spread, away) + np.linalg.slogdet(2 * np.pi * spread)[1])
        mean, covariance = mean + gain @ away, covariance - gain @ spread @ gain.T
    return value


def every_path(m: SwitchingLDS, one: Datum) -> tuple[float, np.ndarray, np.ndarray]:
    """log p(y), the paths, and log p(s, y) of each: the sum over all of them."""
    first, move = (np.asarray(part) for part in m._gates())
    steps = int(np.sum(one.mask)) if one.mask is not None else len(one.query)
    paths = np.array(list(itertools.product(range(m.states), repeat=steps)))
    joint = []
    for path in paths:
        log = first[path[0]]
        for t in range(1, steps):
            start = one.reset is not None and one.reset[t]
            log += first[path[t]] if start else move[path[t - 1], path[t]]
        joint.append(log + kalman(m, tuple(path), one))
    return logsumexp(joint), paths, np.array(joint)


@pytest.mark.parametrize(("case", "noise"), list(zip(CASES, ("diagonal", "full"), strict=True)))
def test_joint_and_particles_against_every_path(x64: None, case: str, noise: str) -> None:
    m, one = model(2, case, noise), sequence(case, 5)
    exact, paths, joint = every_path(m, one)
    length = paths.shape[1]
    padded = np.concatenate([paths, np.repeat(paths[:, -1:], 5 - length, 1)], 1)
    found = eqx.filter_jit(jax.vmap(lambda path: m.log_joint(path, one)))(jnp.array(padded))
    np.testing.assert_allclose(found, joint, atol=1e-9)
    # the Rao-Blackwellised filter: unbiased, whatever the number of particles
    keys = jax.random.split(jax.random.key(0), 1000)
    objective, proposal = (FIVO(32), Bootstrap()) if case == "plain" else (FIVO(4), Optimal())
    run = eqx.filter_jit(eqx.filter_vmap(lambda key: objective(m, proposal, one, key).value))
    unbiased(run(keys), exact)
    # with so many particles its filtered regimes are those of all paths
    filter = MeanField().filter(m).of(4000)
    last_belief, each = eqx.filter_jit(lambda key: beliefs(filter, one, key))(jax.random.key(1))
    marginal = called(filter.marginal, last_belief)
    weights = np.exp(joint - exact)
    last = [weights[paths[:, -1] == s].sum() for s in range(2)]
    np.testing.assert_allclose(jnp.exp(marginal.log_probabilities), last, atol=0.03)
    np.testing.assert_allclose(each.log_likelihood.sum(), exact, atol=0.1)
    # the mean-field ELBO is below, rises with every sweep, and with q(s) alone, z integrated out, is tighter
    bound = lambda sweeps, m: m.fields(one, sweeps).elbo  # noqa: E731
    score = lambda m, paths: (bound(30, m), jax.vmap(MeanField(30)(m, one).log_prob)(paths))  # noqa: E731
    final, log_q = called(score, m, jnp.array(padded))
    values = [*(float(called(bound, sweeps, m)) for sweeps in (1, 2)), float(final)]
    assert np.all(np.diff(values) > -1e-9)
    assert values[-1] < exact
    np.testing.assert_allclose(logsumexp(log_q), 0.0, atol=1e-9)
    tighter = np.sum(np.exp(log_q) * (joint - log_q))
    assert values[-1] - 1e-9 < tighter < exact


@eqx.filter_jit
def drawn_elbo(m: SwitchingLDS, one: Datum, sweeps: int) -> tuple[jax.Array, jax.Array]:
    """The ELBO, and E_q[log p(y, z, s)] + H(q) of the same q by draws of z and s: an independent computation of it."""
    fields = m.fields(one, sweeps)
    starts, there = veil.maths.markov.steps(len(one.query), one.mask, one.reset)
    chain_z = veil.chains.GaussianChain.smoothed(
        veil.maths.smoothing.Smoothed(fields.mean, fields.covariance, fields.lagged), starts, there
    )
    chain_s = m.regime_chain(one, fields)

    def one_draw(key):
        keys = jax.random.split(key)
        z, s = chain_z.sample(keys[0]), chain_s.sample(keys[1])
        each = jnp.stack([step_joint(regime, z, one, starts, there) for regime in m.regimes], 1)
        joint = jnp.sum(jnp.take_along_axis(each, s[:, None], 1)) + m.prior_for(one).log_prob(s)
        return joint - chain_z.log_prob(z) - chain_s.log_prob(s)

    return fields.elbo, jax.vmap(one_draw)(jax.random.split(jax.random.key(3), 4000))


def step_joint(regime: LDS, z, one: Datum, starts, there):
    """log p(z_t, y_t | z_t-1) of every step."""
    prior = regime.prior_for(one).conditionals(z).log_prob(z)
    axes = (0, 0, None if one.observed is None else 0)
    score = lambda y, z, seen: veil.distributions.log_prob(regime._emission(z, None), y, seen)  # noqa: E731
    return jnp.where(there, prior + jax.vmap(score, axes)(one.query, z, one.observed), 0.0)


def test_the_elbo_is_that_of_its_factors(x64: None) -> None:
    m, one = model(3, EVERYTHING), sequence(EVERYTHING, 6)
    value, drawn = map(np.asarray, drawn_elbo(m, one, 5))
    assert abs(drawn.mean() - value) < 4 * drawn.std() / np.sqrt(len(drawn))


def summed(model, one: Datum, expectations):
    """The statistics of one sequence, as those of a data set."""
    return contract(jax.tree.map(lambda leaf: leaf[None], model.statistics(one, expectations)), jnp.ones(1))


def test_one_regime_is_the_linear_gaussian_model(x64: None) -> None:
    m, one = model(1, EVERYTHING, "full"), sequence(EVERYTHING, 6)

    def switching(m):
        expectations, value = MeanField(1).expectations(m, one)
        particles = FIVO(3)(m, Optimal(), one, jax.random.key(0)).value
        return expectations, value, particles, m.maximise(summed(m, one, expectations)).regimes[0], m.log_prior()

    def linear(regime):
        expectations, _ = regime.expectations(one)
        return expectations, regime.log_marginal(one), regime.maximise(summed(regime, one, expectations))

    expectations, value, particles, fitted, prior = called(switching, m)
    known, exact, best = called(linear, m.regimes[0])
    np.testing.assert_allclose(value, exact, atol=1e-9)
    there = np.asarray(one.mask)
    for left, right in zip(expectations[2:], known, strict=True):
        np.testing.assert_allclose(left[there], right[there], atol=1e-9)
    np.testing.assert_allclose(particles, value, atol=1e-9)
    for left, right in zip(jax.tree.leaves(fitted), jax.tree.leaves(best), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-8)
    np.testing.assert_allclose(prior, m.regimes[0].log_prior(), atol=1e-12)


@pytest.mark.parametrize(("case", "shared"), list(zip(CASES, (False, True), strict=True)))
def test_the_m_step_raises_the_bound(x64: None, case: str, shared: bool) -> None:
    """With q held the expected log-joint and log-prior are at their top: the next E-step's ELBO is higher."""
    m, one = model(2, case, shared=shared), sequence(case, 12, seed=5)

    @eqx.filter_jit
    def step(m):
        expectations, value = MeanField(60).expectations(m, one)
        return m.maximise(summed(m, one, expectations)), value + m.log_prior()

    values = []
    for _ in range(15):
        m, value = step(m)
        values.append(float(value))
    assert np.all(np.diff(values) > -1e-6)
    assert values[-1] > values[0] + 1
    names = ("mean", "factor", *(("emission", "offset") if shared else ()))
    for name in names:
        np.testing.assert_allclose(getattr(m.regimes[0], name), getattr(m.regimes[1], name), atol=1e-12)


def rotations(count: int = 4, length: int = 100) -> tuple[SwitchingLDS, veil.Data, np.ndarray]:
    """Two slow and fast turns of a plane, seen through noise."""
    turn = lambda angle, size: size * jnp.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # noqa: E731
    regime = lambda f: LDS(  # noqa: E731
        2,
        veil.Diagonal(scale=jnp.full((1, 4), 0.1)),
        mean=jnp.zeros(2),
        factor=jnp.eye(2),
        transition=f,
        drift=jnp.zeros((2, 1)),
        process=0.1 * jnp.eye(2),
        emission=jnp.array(np.random.default_rng(0).normal(size=(4, 2))),
        offset=jnp.zeros(4),
    )
    stay = jnp.log(jnp.array([[0.95, 0.05], [0.05, 0.95]]))[:, :, None]
    truth = SwitchingLDS(
        2, 2, transition=Softmax(False, weight=stay), initial=Softmax(False, weight=jnp.zeros((2, 1))),
        regimes=(regime(turn(0.1, 0.99)), regime(turn(0.9, 0.97))),
    )  # fmt: skip
    drawn = veil.sample(truth, count, key=jax.random.key(5), steps=length)
    return truth, veil.Data(drawn.query), drawn.latent


def test_two_regimes_are_recovered() -> None:
    truth, data, path = rotations()
    found = veil.fit(SwitchingLDS(states=2, latent=2), data, key=jax.random.key(0), steps=40)
    assert isinstance(found.posterior, MeanField)
    assert np.all(np.diff(found.history.value) > -1e-3)
    inferred = veil.infer(found, data)
    same = np.mean(inferred.path == path)
    assert max(same, 1 - same) > 0.9
    order = [0, 1] if same > 0.5 else [1, 0]
    for mine, true in zip((found.model.regimes[k] for k in order), truth.regimes, strict=True):
        eigenvalues = [np.sort_complex(np.linalg.eigvals(np.asarray(m.transition))) for m in (mine, true)]
        np.testing.assert_allclose(*eigenvalues, atol=0.06)
    np.testing.assert_allclose(np.diagonal(found.model.transition_matrix), 0.95, atol=0.04)
    # bounds: ELBO < particle bound, and near the truth's
    elbo = found.history.value[-1] - found.history.penalty[-1]
    mine, true = (veil.evaluate(m, data, key=jax.random.key(1), samples=100) for m in (found.model, truth))
    assert mine.kind == "lower bound, particle filter with 100 particles"
    assert elbo < mine.log_likelihood_per_datum
    assert mine.log_likelihood_per_datum > true.log_likelihood_per_datum - 3


def test_samples_have_the_dynamics_of_their_regimes(x64: None) -> None:
    truth, _, _ = rotations(1, 10)
    path = jnp.arange(4000) // 2000
    states, query = eqx.filter_jit(truth.emitted)(jax.random.key(0), path, None)
    for k, regime in enumerate(truth.regimes):
        z = np.asarray(states)[k * 2000 : (k + 1) * 2000]
        fitted = np.linalg.lstsq(z[:-1], z[1:], rcond=None)[0].T
        np.testing.assert_allclose(fitted, regime.transition, atol=0.05)
        left = np.asarray(query)[k * 2000 : (k + 1) * 2000] - z @ np.asarray(regime.emission).T
        np.testing.assert_allclose(left.std(0), 0.1, rtol=0.1)


def test_saved_models_are_the_same_and_units_change_nothing(tmp_path: Path, x64: None) -> None:
    rng = np.random.default_rng(0)
    lists = [rng.normal(size=(length, 2)).cumsum(0) for length in (30, 12, 1)]
    controls = [rng.normal(size=(length, 1)) for length in (30, 12, 1)]
    lists[0][3, 0] = np.nan
    data = veil.data.episodes(lists, controls)
    found = veil.fit(SwitchingLDS(states=2, latent=2, noise=Full()), data, key=jax.random.key(0), steps=5)
    again = veil.load(veil.save(tmp_path / "run", found))
    key = jax.random.key(1)
    values = veil.log_prob(found.model, data, key=key, samples=20)
    np.testing.assert_array_equal(values, veil.log_prob(again.model, data, key=key, samples=20))
    assert again.posterior == MeanField()
    scaled = veil.data.episodes([1000 * part + 7 for part in lists], controls)
    other = veil.fit(SwitchingLDS(states=2, latent=2, noise=Full()), scaled, key=jax.random.key(0), steps=5)
    entries = np.array([59.0, 24.0, 2.0])
    moved = veil.log_prob(other.model, scaled, key=key, samples=20) + entries * np.log(1000)
    np.testing.assert_allclose(values, moved, atol=1e-5)
    assert np.all(np.isfinite(found.history.value))


def test_errors() -> None:
    with pytest.raises(ValueError, match="states"):
        SwitchingLDS(states=0)
    with pytest.raises(ValueError, match="regimes: expected 2"):
        SwitchingLDS(regimes=(lds(),))
    with pytest.raises(ValueError, match="regimes do not depend on evidence"):
        SwitchingLDS(transition=Softmax())
    with pytest.raises(ValueError, match="no parameters yet"):
        SwitchingLDS().prior_for(sequence())
    with pytest.raises(TypeError, match="LDS has no mean-field posterior"):
        MeanField()(lds(), sequence())
