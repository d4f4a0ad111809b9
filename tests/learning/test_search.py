"""Steps along the curvature: the maximum that long gradient ascent and scipy find, and what has none."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

import veil
from veil.control import MDP, DenseTransitions, LinearReward, NeuralReward, SparseTransitions, TableReward, solve
from veil.learning.search import solved

KEY = jax.random.key(0)
STATES, ACTIONS = 5, 3


def problem(horizon=6, discount=1.0, made=DenseTransitions):
    return MDP(
        made(np.random.default_rng(0).dirichlet(np.ones(STATES), (STATES, ACTIONS))), discount=discount, horizon=horizon
    )


def demonstrations(world, reward):
    """Every decision that can be taken, weighted by how often a soft-optimal person takes it."""
    visits = np.asarray(solve(world.rewarded(reward)).visits)
    places = np.argwhere(visits > 0)
    evidence = {"state": places[:, -2:-1].astype(float)}
    if world.horizon is not None:
        evidence["step"] = places[:, :1].astype(float)
    return veil.Data(places[:, -1:].astype(float), evidence, weight=visits[tuple(places.T)]), visits


def features(scale=(1.0, 1.0, 1.0)):
    return np.random.default_rng(1).normal(size=(STATES, ACTIONS, 3)) * np.array(scale)


CURVATURES = [veil.Newton(), veil.QuasiNewton(), None]


@pytest.mark.parametrize("curvature", CURVATURES, ids=["newton", "quasi-newton", "usual"])
@pytest.mark.parametrize(("horizon", "discount"), [(6, 1.0), (None, 0.9)])
def test_features_demonstrated_are_those_expected(x64, curvature, horizon, discount):
    """The closed condition of the maximum (Ziebart 2010), of a person whose reward is not of these features."""
    world = problem(horizon, discount)
    given = features()
    data, visits = demonstrations(
        world, given @ np.array([1.0, -2.0, 0.5]) + np.random.default_rng(2).normal(size=(STATES, ACTIONS))
    )
    fit = veil.fit(veil.Intent(world, LinearReward(given)), data, key=KEY, optimiser=curvature)
    expected = solve(world.rewarded(given @ np.asarray(fit.model.reward.weights[0]))).visits
    left = np.einsum("nsa,saf->f", (visits - expected).reshape(-1, STATES, ACTIONS), given) / visits.sum()
    assert fit.status.converged
    assert fit.status.steps < 40
    np.testing.assert_allclose(left, 0.0, atol=1e-6)
    np.testing.assert_allclose(fit.history.metrics["gradient"][-1], np.abs(left).max(), atol=1e-9)
    assert np.all(np.diff(fit.history.value) >= -1e-12)


def test_it_is_where_a_long_gradient_ascent_ends(x64):
    world = problem()
    data, _ = demonstrations(world, features() @ np.array([1.0, -2.0, 0.5]))
    seen = data[np.random.default_rng(0).choice(len(data), 60)]  # of few decisions, so that the weights are others
    model = veil.Intent(world, LinearReward(features()))
    found = veil.fit(model, seen, key=KEY)
    long = veil.fit(
        model, seen, key=KEY, optimiser=optax.adam(optax.cosine_decay_schedule(0.1, 4000)), steps=4000, batch_size=60
    )
    np.testing.assert_allclose(found.model.reward.weights, long.model.reward.weights, atol=1e-5)
    assert found.status.steps < 20


def test_newton_does_not_mind_the_features_units(x64):
    world = problem()
    data, _ = demonstrations(world, features() @ np.array([1.0, -2.0, 0.5]))
    scale = np.array([1e-4, 1.0, 1e4])
    fits = [veil.fit(veil.Intent(world, LinearReward(features(each))), data, key=KEY) for each in (np.ones(3), scale)]
    one, other = (np.asarray(fit.model.reward.weights[0]) for fit in fits)
    np.testing.assert_allclose(other * scale, one, rtol=1e-5)


def test_weights_are_those_of_repeated_data(x64):
    world, rng = problem(), np.random.default_rng(3)
    data, _ = demonstrations(world, features() @ np.array([1.0, -1.0, 0.5]))
    times = rng.integers(0, 4, len(data))
    model = veil.Intent(world, LinearReward(features()))
    evidence = data.evidence
    weighted = veil.Data(data.query, evidence, weight=times.astype(float))
    repeated = veil.Data(
        np.repeat(data.query, times, 0), {name: np.repeat(each, times, 0) for name, each in evidence.items()}
    )
    fits = [veil.fit(model, each, key=KEY).model.reward.weights for each in (weighted, repeated)]
    np.testing.assert_allclose(*fits, atol=1e-6)


def test_a_start_far_away_is_no_matter(x64):
    """Newton's first steps would overshoot; the line search holds them."""
    world = problem()
    data, _ = demonstrations(world, features() @ np.array([1.0, -2.0, 0.5]))
    for curvature in CURVATURES[:2]:
        far = veil.Intent(world, LinearReward(features(), weights=jnp.array([[-9.0, 12.0, 8.0]])))
        fit = veil.fit(far, data, key=KEY, optimiser=curvature)
        np.testing.assert_allclose(fit.model.reward.weights, [[1.0, -2.0, 0.5]], atol=1e-4)


@pytest.mark.parametrize("curvature", CURVATURES[:2], ids=["newton", "quasi-newton"])
def test_what_has_no_maximum_is_said(curvature):
    seen = veil.Data(query=[1, 1, 1, 0], evidence=[0, 0, 0, 1])  # everybody goes to state 1 and stays
    model = veil.Intent(MDP(SparseTransitions([[0, 1], [1, 0]]), discount=0.9), TableReward(states=2))
    with pytest.warns(UserWarning, match="run off to infinity"):
        fit = veil.fit(model, seen, key=KEY, optimiser=curvature)
    assert not fit.status.converged
    assert "no maximum" in fit.status.reason
    both = veil.Data(query=[1, 1, 1, 0, 0], evidence=[0, 0, 0, 1, 0])
    assert veil.fit(model, both, key=KEY, optimiser=curvature).status.converged


def test_of_what_is_not_concave_newton_still_climbs(x64):
    """A network's likelihood, from where its Hessian has both signs: it ends where the gradient is nothing."""
    world = problem()
    data, _ = demonstrations(world, np.random.default_rng(4).normal(size=(STATES, ACTIONS)))
    model = veil.Intent(world, NeuralReward(features(), widths=(16,), key=KEY))
    for curvature in CURVATURES[:2]:
        fit = veil.fit(model, data, key=KEY, optimiser=curvature)
        assert fit.history.metrics["gradient"][-1] < 1e-4
        assert fit.history.value[-1] > fit.history.value[0] + 0.01
        assert np.all(np.diff(fit.history.value) >= -1e-12)


def test_several_kinds_and_networks_are_raised_by_gradients_unless_asked():
    from veil.learning.choices import usual_curvature

    world = problem()
    kinds = veil.Intent(world, LinearReward(features(), kinds=2, key=KEY))
    assert usual_curvature(kinds, False) is None
    assert usual_curvature(veil.Intent(world, NeuralReward(features(), key=KEY)), False) is None
    assert usual_curvature(veil.Episodic(kinds), False) is None
    one = veil.Intent(world, LinearReward(features()))
    assert isinstance(usual_curvature(one, False), veil.Newton)
    assert isinstance(usual_curvature(veil.Episodic(one), False), veil.Newton)
    assert usual_curvature(one, True) is None
    large = MDP(SparseTransitions(np.zeros((3000, 2), int)), horizon=200)
    assert isinstance(usual_curvature(veil.Intent(large, TableReward(3000)), False), veil.QuasiNewton)


def test_data_in_blocks_and_streams_are_the_same_sums(x64):
    """A mixture's likelihood, of more rows than a block has, from memory, from a stream and by scipy."""
    rng = np.random.default_rng(5)
    numbers = rng.normal(size=(20_000, 1)) * np.where(rng.random((20_000, 1)) < 0.4, 1.0, 3.0)
    data = veil.Data(numbers)
    start = veil.fit(veil.Mixture(components=2), data, key=KEY, steps=3)
    fits = [
        veil.fit(start, source, key=KEY, optimiser=veil.Newton())
        for source in (data, veil.Stream(lambda: iter(data.blocks(7000)), count=len(data)))
    ]
    np.testing.assert_allclose(fits[0].history.value[-1], fits[1].history.value[-1], atol=1e-10)

    def loss(at):
        log_share, spread, mean = np.log([1 / (1 + np.exp(at[0])), 1 / (1 + np.exp(-at[0]))]), np.exp(at[1:3]), at[3:]
        parts = log_share - 0.5 * ((numbers - mean) / spread) ** 2 - np.log(spread) - 0.5 * np.log(2 * np.pi)
        return -np.mean(np.logaddexp(*parts.T))

    best = minimize(loss, np.array([0.0, 0.0, 1.0, 0.0, 0.0]), tol=1e-10)
    np.testing.assert_allclose(fits[0].history.value[-1], -best.fun, atol=1e-7)


def test_a_stopped_fit_goes_on_to_the_same_bytes(tmp_path):
    world = problem()
    data, _ = demonstrations(world, features() @ np.array([1.0, -2.0, 0.5]))
    model = veil.Intent(world, LinearReward(features()))
    whole = veil.fit(model, data, key=KEY)
    folder = str(tmp_path / "kept")

    def stop(metrics):
        if metrics["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(veil.Interrupted):
        veil.fit(model, data, key=KEY, checkpoints=folder, record=stop)
    on = veil.fit(model, data, key=KEY, checkpoints=folder)
    np.testing.assert_array_equal(on.model.reward.weights, whole.model.reward.weights)
    np.testing.assert_array_equal(on.history.value, whole.history.value)


def test_held_out_data_are_scored():
    data, _ = demonstrations(problem(), features() @ np.array([1.0, -2.0, 0.5]))
    fit = veil.fit(veil.Intent(problem(), LinearReward(features())), data, key=KEY, held_out=data)
    assert fit.history.held_out[-1, 1] > fit.history.held_out[0, 1] - 1e-6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 2}, "batch_size: it is of fits by gradients"),
        ({"look": lambda fit: {}}, "look: it is of fits by gradients"),
        ({"objective": veil.ELBO()}, "optimiser: Newton"),
    ],
)
def test_what_it_cannot_do_is_refused(options, words):
    data, _ = demonstrations(problem(), features() @ np.array([1.0, -2.0, 0.5]))
    with pytest.raises((TypeError, ValueError), match=words):
        veil.fit(veil.Intent(problem(), LinearReward(features())), data, key=KEY, optimiser=veil.Newton(), **options)
    with pytest.raises(ValueError, match="memory: expected how many"):
        veil.QuasiNewton(memory=0)


def test_a_linear_equation_is_solved_where_it_is_not_flat(x64):
    """|A|⁻¹ b against numpy: eigenvalues of both signs, and a direction in which nothing is known."""
    rng = np.random.default_rng(6)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    matrix = basis @ np.diag([3.0, -2.0, 1.0, 0.5]) @ basis.T
    right = rng.normal(size=4)
    scale = np.sqrt(np.abs(np.diag(matrix)))
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    expected = vectors @ ((vectors.T @ (right / scale)) / np.abs(values)) / scale
    np.testing.assert_allclose(solved(jnp.asarray(matrix), jnp.asarray(right)), expected, rtol=1e-10)
    flat = np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(flat @ solved(jnp.asarray(flat), jnp.array([0.3, -0.3])), [0.3, -0.3], rtol=1e-10)
