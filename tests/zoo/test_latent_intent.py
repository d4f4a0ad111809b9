"""Posteriors over rewards: of one person by a network, of all data by a Gaussian, against enumeration and integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from veil.control import KnownReward, LinearReward
from veil.control.worlds.finite import people, random_problem
from veil.control.worlds.grid import grid
from veil.posterior import EpisodeEncoder, Shared
from veil.zoo.latent_intent import DecisionTable

KEY = jax.random.key(0)
MAP = """
A...B
.##..
..@.C
"""


def cut(data: veil.Data, seed: int) -> veil.Data:
    """Of every episode a beginning of random length, so that a network learns to read those."""
    lengths = np.full(len(data), data.query.shape[1]) if data.mask is None else data.mask.sum(1)
    ends = np.random.default_rng(seed).integers(1, lengths + 1)
    return veil.data.episodes(
        *jax.tree.map(lambda leaf: [leaf[n, :t] for n, t in enumerate(ends)], (data.query, data.evidence))
    )


def rate(steps: int, begin: float = 3e-3):
    return optax.adam(optax.cosine_decay_schedule(begin, steps))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("more", [{}, {"horizon": 4}, {"outcomes": True}])
def test_given_the_weights_it_is_an_intent(more: dict) -> None:
    options = dict(more)
    outcomes = options.pop("outcomes", False)
    problem = random_problem(KEY, 5, 3, reward=None, **options)
    features = jax.random.normal(jax.random.key(1), (5, 3, 2))
    weights = jnp.array([1.5, -0.5])
    intent = veil.Intent(problem, LinearReward(features, weights=weights[None]), outcomes=outcomes)
    _, data = people(intent, KEY, 3, steps=4)
    step = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 2]), (data.query, data.evidence))
    for kind in (veil.LatentIntent, veil.BayesianIntent):
        model = kind(problem, features, outcomes=outcomes)
        np.testing.assert_allclose(model.log_policy(weights), intent.log_policies()[0], atol=1e-10)
        np.testing.assert_allclose(
            model.likelihood(weights, step[1]).log_prob(step[0]), intent.log_marginal(veil.Datum(*step)), atol=1e-10
        )


def test_a_network_knows_the_goal_as_enumeration_does() -> None:
    """Within .02 nats of the exact posterior after every step of walkers that it has not seen."""
    world = grid(MAP, slip=0.1)
    goals = world.rewards()
    walkers = veil.Intent(world.problem, KnownReward(goals))
    _, seen = people(walkers, jax.random.key(1), 1500, steps=25)
    _, new = people(walkers, jax.random.key(2), 500, steps=25)
    model = veil.LatentIntent(world.problem, np.moveaxis(goals, 0, -1), latent=veil.priors.Codes(1, 3))
    fit = veil.fit(
        veil.Episodic(model),
        cut(seen, 0),
        key=KEY,
        steps=1200,
        batch_size=128,
        objective=veil.ELBO(veil.objective.Enumerated()),
        optimiser=rate(1200),
    )
    exact = veil.infer(veil.Episodic(walkers), new, filtered=True).probabilities
    q = veil.infer(fit, new, filtered=True).mean[:, :, 0]
    divergence = np.sum(
        np.where(exact > 0, exact * (np.log(np.maximum(exact, 1e-30)) - np.log(np.maximum(q, 1e-30))), 0), -1
    )
    there = np.ones(divergence.shape, bool) if new.mask is None else new.mask
    assert divergence[there].mean() < 0.02


def test_a_network_reads_what_a_person_wants() -> None:
    """Beginnings of any length: near importance sampling, covering, and narrower as the person goes on."""
    problem = random_problem(jax.random.key(4), 6, 3, reward=None, horizon=12)
    model = veil.LatentIntent(problem, 1.5 * jax.random.normal(jax.random.key(5), (6, 2)))
    _, seen = people(model, jax.random.key(1), 2000)
    truth, new = people(model, jax.random.key(2), 400)
    options = {"batch_size": 64, "objective": veil.ELBO(samples=2), "optimiser": rate(600, 5e-3)}
    fit = veil.fit(veil.Episodic(model), cut(seen, 0), key=KEY, steps=600, **options)
    assert isinstance(fit.posterior, EpisodeEncoder)
    assert isinstance(fit.posterior.net, DecisionTable)
    found = veil.infer(fit, new, filtered=True)
    spread = found.standard_deviation.mean((0, 2))
    assert spread[11] < spread[5] < spread[0] < 1.0
    inside = np.abs(truth[:, None] - found.mean) < 1.645 * found.standard_deviation
    for step in (0, 5, 11):
        assert inside[:, step].mean() == pytest.approx(0.9, abs=0.08)  # of 800: .01 by chance
    draws = np.asarray(jax.random.normal(jax.random.key(3), (4000, 2)))
    log_policies = np.asarray(jax.jit(lambda w: jax.lax.map(model.log_policy, w, batch_size=1000))(draws))
    away = []
    for row in range(30):
        state, action = (each[row, :, 0].astype(int) for each in (new.evidence["state"], new.query))
        weights = np.cumsum(log_policies[:, np.arange(12), state, action], 1)
        weights = np.exp(weights - weights.max(0))
        away.append(found.mean[row] - weights.T @ draws / weights.sum(0)[:, None])
    assert np.sqrt(np.mean(np.square(away))) < 0.2  # of a standard deviation of .5 to .9


def test_one_reward_of_all_data_has_its_exact_posterior() -> None:
    """Mean and covariance of two weights against an integral on a grid; mean field has the means alone."""
    with jax.enable_x64(True):
        problem = random_problem(KEY, 6, 3, reward=None)
        features = jax.random.normal(jax.random.key(1), (6, 2)) @ jnp.array([[1.0, 0.8], [0.0, 0.6]])
        model = veil.BayesianIntent(problem, features)
        person = veil.Intent(problem, LinearReward(features, weights=jnp.array([[1.0, -0.5]])))
        _, walks = people(person, jax.random.key(2), 10, steps=20)
        pairs = np.stack([walks.evidence.ravel(), walks.query.ravel()], -1)
        seen, count = np.unique(pairs, axis=0, return_counts=True)
        data = veil.Data(query=seen[:, 1:], evidence=seen[:, :1], weight=count.astype(float))
        axis = np.linspace(-4, 4, 121)
        places = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        policies = np.asarray(jax.jit(lambda w: jax.lax.map(model.log_policy, w, batch_size=500))(jnp.asarray(places)))
        state, action = seen.T.astype(int)
        logs = policies[:, state, action] @ count - 0.5 * np.sum(places**2, 1)
        share = np.exp(logs - logs.max())
        share /= share.sum()
        mean = share @ places
        covariance = (places - mean).T @ (share[:, None] * (places - mean))
        found = {}
        for name, head in (("full", veil.heads.FullGaussian(1e-6)), ("diagonal", veil.heads.DiagonalGaussian(1e-6))):
            objective = veil.ELBO(veil.objective.StickingTheLanding(), samples=8)
            fit = veil.fit(
                model,
                data,
                key=KEY,
                steps=1500,
                posterior=Shared(head),
                objective=objective,
                optimiser=rate(1500, 3e-2),
            )
            assert fit.model.shared_by == 200.0
            found[name] = fit.posterior(fit.model, veil.Datum(jnp.zeros(1)))
            np.testing.assert_allclose(found[name].mean, mean, atol=0.05)
        exact = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(np.sqrt(found["full"].variance), exact, rtol=0.06)
        conditional = np.sqrt(1 / np.diag(np.linalg.inv(covariance)))  # mean field's, of a Gaussian: too narrow
        np.testing.assert_allclose(np.sqrt(found["diagonal"].variance), conditional, rtol=0.1)


def test_what_it_needs_is_said() -> None:
    problem = random_problem(KEY, 5, 3, reward=None)
    with pytest.raises(
        ValueError, match=r"features: these are of \(4,\); the problem's states, actions .* \(5, 3, 5\)"
    ):
        veil.LatentIntent(problem, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="latent: expected 2 numbers, one a feature; got 3"):
        veil.LatentIntent(problem, np.zeros((5, 2)), latent=veil.priors.Codes(1, 3))
    with pytest.raises(ValueError, match="scale: expected a positive number; got 0"):
        veil.BayesianIntent(problem, np.zeros((5, 2)), scale=0.0)
    with pytest.raises(TypeError, match="has a latent that all data share, not one an episode"):
        veil.Episodic(veil.BayesianIntent(problem, np.zeros((5, 2))))


def test_missing_actions_have_vectors_of_their_own() -> None:
    table = DecisionTable(4, 2, horizon=5).initialise(4, KEY)
    assert (table.inputs, table.outputs(4)) == (4, 64)
    seen, other, missing = (table(jnp.array([a, there, 3.0, 2.0])) for a, there in ((0.0, 1.0), (1.0, 1.0), (1.0, 0.0)))
    assert float(jnp.min(jnp.abs(seen - other).max())) > 0.1
    np.testing.assert_allclose(missing - table.rate * 2 / 5, table.table[3, 2], atol=1e-6)
    whole = DecisionTable(4, 2).initialise(2, KEY)
    np.testing.assert_array_equal(whole(jnp.array([1.0, 3.0])), whole.table[3, 1])
