"""Linear-Gaussian state-space models against one dense joint Gaussian, and what makes them the library's."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from compiled import called
from veil.model import Datum
from veil.parts.covariance import Diagonal, Full, Spherical
from veil.parts.statistics import contract
from veil.zoo.lds import LDS, local_level

STATES, SIZE = 2, 3


def model(noise: str = "diagonal", inputs: int = 0, seed: int = 0) -> LDS:
    """A model with parameters."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.array(rng.normal(size=shape))  # noqa: E731
    scale = jnp.array(0.5 + rng.random((1, SIZE)))
    structures = {
        "diagonal": Diagonal(scale=scale),
        "spherical": Spherical(diagonal=Diagonal(scale=jnp.full((1, SIZE), 0.7))),
        "full": Full(factor=jnp.tril(0.4 * normal(1, SIZE, SIZE)) + jnp.eye(SIZE)[None]),
    }
    lower = lambda: jnp.tril(0.5 * normal(STATES, STATES), -1) + jnp.diag(jnp.array(0.5 + rng.random(STATES)))  # noqa: E731
    return LDS(
        STATES,
        structures[noise],
        mean=normal(STATES),
        factor=lower(),
        transition=0.6 * normal(STATES, STATES),
        drift=normal(STATES, 1 + inputs),
        process=lower(),
        emission=normal(SIZE, STATES),
        offset=normal(SIZE),
    )


def dense(m: LDS, one: Datum) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean and covariance of [z_1..T, y_1..T]; the steps in y that are observed; z's length. Built step by step."""
    count = len(one.query)
    mean, covariance = np.zeros(0), np.zeros((0, 0))
    transition = np.asarray(m.transition)
    for t in range(count):
        features = np.concatenate([[1.0], [] if one.evidence is None else np.asarray(one.evidence[t])])
        if t == 0 or (one.reset is not None and one.reset[t]):
            here, across = np.asarray(m.mean), np.zeros((STATES, len(mean)))
            own = np.asarray(m.factor @ m.factor.T)
        else:
            here = transition @ mean[-STATES:] + np.asarray(m.drift) @ features
            across = transition @ covariance[-STATES:]
            own = transition @ covariance[-STATES:, -STATES:] @ transition.T + np.asarray(m.process @ m.process.T)
        mean = np.concatenate([mean, here])
        covariance = np.block([[covariance, across.T], [across, own]])
    emission = np.kron(np.eye(count), np.asarray(m.emission))
    noise = np.kron(np.eye(count), np.asarray(m.noise.dense_covariance()[0]))
    seen = emission @ mean + np.tile(np.asarray(m.offset), count)
    return mean, covariance, seen, emission @ covariance @ emission.T + noise


def oracle(m: LDS, one: Datum) -> tuple[float, np.ndarray, np.ndarray]:
    """log p(y), E[path | y], Cov[path | y]."""
    mean, covariance, seen, spread = dense(m, one)
    present = np.ones(one.query.size, bool) if one.observed is None else np.asarray(one.observed).ravel()
    emission = np.kron(np.eye(len(one.query)), np.asarray(m.emission))[present]
    spread, away = spread[np.ix_(present, present)], np.asarray(one.query).ravel()[present] - seen[present]
    gain = covariance @ emission.T @ np.linalg.inv(spread)
    value = -0.5 * (away @ np.linalg.solve(spread, away) + np.linalg.slogdet(2 * np.pi * spread)[1])
    return value, mean + gain @ away, covariance - gain @ emission @ covariance


def datum(case: str, count: int = 5) -> Datum:
    rng = np.random.default_rng(4)
    observed = rng.random((count, SIZE)) < 0.6
    observed[2] = False
    return Datum(
        jnp.array(rng.normal(size=(count, SIZE))),
        jnp.array(rng.normal(size=(count, 2))) if "controls" in case else None,
        observed=jnp.array(observed) if "missing" in case else None,
        reset=jnp.arange(count) == 3 if "reset" in case else None,
    )


EVERYTHING = "controls, missing and reset"


@pytest.mark.parametrize(
    ("noise", "case"),
    [
        ("diagonal", "plain"),
        ("diagonal", EVERYTHING),
        ("spherical", EVERYTHING),
        ("full", "plain"),
        ("full", EVERYTHING),
    ],
)
def test_likelihood_and_posterior_are_the_dense_gaussians(x64: None, noise: str, case: str) -> None:
    m, one = model(noise, 2 if "controls" in case else 0), datum(case)
    value, mean, covariance = oracle(m, one)

    def numbers(m, one):
        q = m.posterior(one)
        paths = jnp.stack([q.sample(jax.random.key(0)), jnp.zeros((5, STATES))])
        differences = jax.vmap(lambda path: m.log_joint(path, one) - q.log_prob(path))(paths)
        marginal = m.marginals(one)
        return m.log_marginal(one), marginal.mean, marginal.variance, differences

    found, means, variances, differences = called(numbers, m, one)
    np.testing.assert_allclose(found, value, atol=1e-10)
    np.testing.assert_allclose(np.ravel(means), mean, atol=1e-10)
    np.testing.assert_allclose(np.ravel(variances), np.diagonal(covariance), atol=1e-10)
    # the identity: with the exact posterior log p(y, z) - log q(z) is log p(y) for every z
    np.testing.assert_allclose(differences, [value, value], atol=1e-8)
    filter, values = m.filter(), []
    belief = called(filter.init)
    for t in range(5):
        step = jax.tree.map(lambda leaf, t=t: leaf[t], one)
        belief = called(filter.update, belief, step, jax.random.key(t))
        values.append(belief.log_likelihood)
    np.testing.assert_allclose(np.sum(values), value, atol=1e-10)
    last, spread = belief.state
    np.testing.assert_allclose(last, mean[-STATES:], atol=1e-10)
    np.testing.assert_allclose(spread, covariance[-STATES:, -STATES:], atol=1e-10)


def test_samples_have_the_dense_gaussians_moments(x64: None) -> None:
    m, one = model(), datum("plain", 3)
    mean, covariance, seen, spread = dense(m, one)
    drawn = veil.sample(m, 40_000, key=jax.random.key(0), steps=3)
    for flat, centre, wide in ((drawn.latent, mean, covariance), (drawn.query, seen, spread)):
        rows, scale = flat.reshape(len(flat), -1), np.sqrt(np.diagonal(wide))
        assert np.max(np.abs(rows.mean(0) - centre) / scale) < 5 / 200
        assert np.max(np.abs(np.cov(rows.T) - wide) / np.outer(scale, scale)) < 7 / 200


@pytest.mark.parametrize("noise", ["diagonal", "full"])
def test_em_climbs_to_where_the_gradient_of_the_likelihood_is_zero(x64: None, noise: str) -> None:
    """Fisher: at a step of EM from θ the expected log-joint's gradient is the likelihood's, whatever is missing."""
    m, one = model(noise), datum("missing and reset", 8)
    learned = lambda m: m.log_marginal(one) + m.log_prior()  # noqa: E731

    def step(m: LDS) -> LDS:
        terms = jax.tree.map(lambda leaf: leaf[None], m.statistics(one, m.expectations(one)[0]))
        return m.maximise(contract(terms, jnp.ones(1)))

    once = eqx.filter_jit(lambda m: (step(m), learned(m)))
    values = []
    for _ in range(60):
        m, value = once(m)
        values.append(float(value))
    assert np.all(np.diff(values) > -1e-9)
    assert values[-1] > values[0] + 1
    # a small step of EM goes uphill along the gradient: the change in value is at least half of gradient x change
    start = model(noise)
    gradient, after = eqx.filter_jit(eqx.filter_grad(learned))(start), once(start)[0]
    change = jax.tree.map(lambda new, old: new - old, after, start)
    slope = sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(change), strict=True))
    assert slope > 0


@pytest.mark.parametrize("precision", [32, 64])
def test_em_never_lowers_the_likelihood(precision: int) -> None:
    rng = np.random.default_rng(0)
    lists = [np.cumsum(rng.normal(size=(length, SIZE)), 0) for length in (40, 15, 1)]
    controls = [rng.normal(size=(length, 1)) for length in (40, 15, 1)]
    data = veil.data.episodes(lists, controls)
    with jax.enable_x64(precision == 64):
        found = veil.fit(LDS(STATES), data, key=jax.random.key(0), steps=40)
        value = veil.evaluate(found.model, data).log_likelihood_per_datum
    gains = np.diff(found.history.value)
    assert np.all(gains > -(1e-3 if precision == 32 else 1e-9))
    assert gains[0] > 0
    np.testing.assert_allclose(found.history.value[-1] - found.history.penalty[-1], value, rtol=1e-3)


def test_nile_by_em_comes_to_the_published_maximum(x64: None) -> None:
    nile = veil.data.episodes([veil.data.load("nile").query])
    # convention: N(0, 1e7) is of the level AT the first year
    np.testing.assert_allclose(veil.log_prob(local_level(15099.0, 1469.1), nile), -641.58558, atol=1e-5)
    start = local_level(10_000.0, 3_000.0)
    found = veil.fit(start, nile, key=jax.random.key(0), steps=3000, tolerance=1e-10).model
    np.testing.assert_allclose(veil.log_prob(found, nile), -641.585578, atol=1e-5)
    np.testing.assert_allclose(found.noise.scale[0, 0] ** 2, 15098.53, rtol=1e-3)
    np.testing.assert_allclose(found.process[0, 0] ** 2, 1469.18, rtol=3e-3)
    np.testing.assert_allclose([found.emission[0, 0], found.transition[0, 0]], 1.0, rtol=1e-12)
    assert found.parameters() == 2


def test_fixed_parameters_stay(x64: None) -> None:
    one = datum("plain", 8)
    data = veil.Data(np.asarray(one.query)[None])
    for names in (("transition", "offset", "mean", "factor"), ("drift", "noise", "emission", "process")):
        start = replace(model(), fixed=names)
        found = veil.fit(start, data, key=jax.random.key(0), steps=5)
        assert np.all(np.diff(found.history.value) > -1e-9)
        for name in ("mean", "factor", "transition", "drift", "process", "emission", "offset"):
            same = np.allclose(getattr(found.model, name), getattr(start, name), rtol=1e-9)
            assert same == (name in names), name
        assert np.allclose(found.model.noise.scale, start.noise.scale, rtol=1e-9) == ("noise" in names)
    with pytest.raises(ValueError, match="fixed: expected names among"):
        LDS(fixed=("level",))
    with pytest.raises(ValueError, match="fixed: transition can only be held"):
        veil.fit(LDS(fixed=("transition",)), data, key=jax.random.key(0))


def test_padded_equals_unpadded_and_reset_equals_apart(x64: None) -> None:
    m, rng = model(), np.random.default_rng(0)
    long, short = rng.normal(size=(5, SIZE)), rng.normal(size=(5, SIZE))
    of = eqx.filter_jit(eqx.filter_value_and_grad(lambda m, one: m.log_marginal(one)))
    twelve = lambda rows: jnp.array(np.concatenate([rows, np.ones((12 - len(rows), SIZE))]))  # noqa: E731
    padded = Datum(twelve(short), mask=jnp.arange(12) < 5, reset=jnp.zeros(12, bool))
    joined = Datum(twelve(np.concatenate([long, short])), mask=jnp.arange(12) < 10, reset=jnp.arange(12) == 5)
    (one, one_slope), (other, other_slope) = (of(m, Datum(jnp.array(rows))) for rows in (long, short))
    (blank, blank_slope), (both, both_slope) = of(m, padded), of(m, joined)
    np.testing.assert_allclose(blank, other, atol=1e-10)
    np.testing.assert_allclose(both, one + other, atol=1e-10)
    apart = jax.tree.map(np.add, one_slope, other_slope)
    for found, expected in ((blank_slope, other_slope), (both_slope, apart)):
        for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-8)
    long = rng.normal(size=(9, SIZE))
    fits = [
        veil.fit(m, data, key=jax.random.key(0), steps=4).model
        for data in (
            veil.data.episodes([long, short]),
            veil.Data(np.concatenate([long, short])[None], reset=np.arange(14)[None] == 9),
        )
    ]
    for left, right in zip(*map(jax.tree.leaves, fits), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-8)


@pytest.mark.filterwarnings("ignore:.*(constant)")
@pytest.mark.parametrize(
    ("case", "precision"),
    [("constant", 32), ("constant", 64), ("too many states", 32), ("single steps", 32), ("a step unseen", 32)],
)
def test_hard_data_never_give_nan(precision: int, case: str) -> None:
    rng = np.random.default_rng(0)
    lists = [np.cumsum(rng.normal(size=(length, 2)), 0) for length in (20, 9)]
    if case == "constant":
        lists = [np.full((20, 2), 3.0), np.full((4, 2), 3.0)]
    if case == "single steps":
        lists = [rng.normal(size=(1, 2)) for _ in range(8)]
    if case == "a step unseen":
        lists[0][5] = np.nan
        lists[1][3, 0] = np.nan
    data = veil.data.episodes(lists)
    with jax.enable_x64(precision == 64):
        states = 4 if case == "too many states" else 2
        found = veil.fit(LDS(states), data, key=jax.random.key(0), steps=30, restarts=2)
        assert np.all(np.isfinite(veil.log_prob(found.model, data)))
        assert np.all(np.isfinite(veil.infer(found.model, data).mean))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found.model) if eqx.is_array(leaf))
    assert np.all(np.diff(found.history.value) > -1e-3 * np.abs(found.history.value[1:]))


def test_the_verbs_know_it(tmp_path: object) -> None:
    rng = np.random.default_rng(0)
    data = veil.data.episodes([rng.normal(size=(length, 2)) for length in (12, 7)])
    fitted = veil.fit(LDS(1), data, key=jax.random.key(0), steps=3).model
    assert veil.infer(fitted, data).mean.shape == (2, 12, 1)
    again = veil.load(veil.save(str(tmp_path), fitted))
    np.testing.assert_array_equal(veil.log_prob(again, data), veil.log_prob(fitted, data))
    # 1 state and 2 outputs: F, B, H 2, d 2, R 2, Q, m, P are 11, of which a scale and an origin are not free
    assert fitted.parameters() == 11 - 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: local_level(0.0, 1.0), "observation: expected a positive variance; got 0.0"),
        (lambda: local_level(float("nan"), 1.0), "observation: expected a positive variance; got nan"),
        (lambda: local_level(1.0, -1.0), "level: expected a variance, zero or more; got -1.0"),
        (lambda: veil.Diagonal(scale=jnp.array([[1.0, 0.0]])), "scale: expected a covariance that is not singular"),
        (
            lambda: veil.Full(factor=jnp.diag(jnp.array([1.0, 0.0]))[None]),
            "factor: expected a covariance that is not singular",
        ),
    ],
)
def test_a_density_needs_noise(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
