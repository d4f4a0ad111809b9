"""What somebody is trying to do: goals and rationality step by step, and kinds of people, in grid worlds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, logsumexp

import veil
from veil.control import KnownReward, TableReward, kinds_apart, solve
from veil.control.worlds.finite import people
from veil.control.worlds.grid import grid
from veil.evaluation.calibration import reliability
from veil.zoo.intent import Intent

KEY = jax.random.key(0)
MAP = """
A....B
.##...
...#..
.@.#.C
D.....
"""
WALLS = grid(MAP, slip=0.1)


def truly(problem, tables, logits, data, row):
    """log p(z | y_1..t) [T, K] and log p(y_1..t) [T], by solving for every kind on its own and adding up."""
    policies = [np.asarray(solve(problem.rewarded(table)).log_policy, np.float64) for table in tables]
    length = data.query.shape[1] if data.mask is None else int(data.mask[row].sum())
    state, action = (each[row, :length, 0].astype(int) for each in (data.evidence, data.query))
    joints = log_softmax(logits) + np.cumsum(np.stack([policy[state, action] for policy in policies], -1), 0)
    return joints - logsumexp(joints, -1, keepdims=True), logsumexp(joints, -1)


@pytest.mark.usefixtures("x64")
def test_goal_and_rationality_are_inferred_step_by_step() -> None:
    world = grid(MAP, slip=0.1)  # in float64
    scales, logits = (0.3, 1.0, 3.0), np.linspace(-1.0, 1.0, 12)
    model = Intent(world.problem, KnownReward(world.rewards(), rationalities=scales), logits=logits)
    _, data = people(model, KEY, 8, steps=12)
    found = veil.infer(veil.Episodic(model), data, filtered=True)
    assert found.probabilities.shape == (8, data.query.shape[1], 12)
    tables = [scale * table for table in world.rewards() for scale in scales]
    whole = veil.infer(veil.Episodic(model), data)
    for row in range(8):
        beliefs, values = truly(world.problem, tables, logits, data, row)
        np.testing.assert_allclose(found.probabilities[row, : len(beliefs)], np.exp(beliefs), atol=1e-8)
        np.testing.assert_allclose(np.cumsum(found.log_likelihood[row])[: len(values)], values, atol=1e-8)
        np.testing.assert_allclose(whole.probabilities[row], np.exp(beliefs[-1]), atol=1e-8)


def test_the_posterior_over_goals_is_calibrated_on_walkers_not_seen() -> None:
    """Their rationality and how common each goal is are learned from other walkers."""
    logits = jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4]))
    walkers = Intent(WALLS.problem, KnownReward(WALLS.rewards()), logits=logits)
    _, seen = people(walkers, jax.random.key(1), 500, steps=40)
    kinds, new = people(walkers, jax.random.key(2), 2000, steps=40)
    start = veil.Episodic(Intent(WALLS.problem, KnownReward(0.5 * WALLS.rewards())))
    fit = veil.fit(start, seen, key=KEY, steps=300, optimiser=optax.adam(3e-2))
    assert float(jnp.exp(fit.model.model.reward.log_rationality)) == pytest.approx(2.0, rel=0.1)
    np.testing.assert_allclose(jax.nn.softmax(fit.model.model.logits), [0.1, 0.2, 0.3, 0.4], atol=0.05)
    found = veil.infer(fit, new, filtered=True).probabilities
    everywhere = reliability(found[new.mask], np.repeat(kinds, new.mask.sum(1)))
    assert everywhere.error < 0.03
    for step in (1, 4):
        assert reliability(found[:, step], kinds).error < 0.05  # of 2000: .02 by chance
    sharpened = np.mean(found[np.arange(2000), :, kinds], 0)
    assert sharpened[0] < sharpened[4] < sharpened[15]
    wrong = Intent(WALLS.problem, KnownReward(3.0 * WALLS.rewards()))  # people taken for more rational than they are
    sure = veil.infer(veil.Episodic(wrong), new, filtered=True).probabilities
    assert reliability(sure[new.mask], np.repeat(kinds, new.mask.sum(1))).error > 2 * everywhere.error


def test_kinds_of_walkers_are_recovered_and_told_apart_as_they_go() -> None:
    """Two kinds of people, of whom nothing is known but their walks: latent-class inverse reinforcement learning."""
    world = grid("A.....B\n.......\n...@...", slip=0.1)
    walkers = Intent(world.problem, KnownReward(world.rewards()), logits=jnp.log(jnp.array([0.3, 0.7])))
    _, seen = people(walkers, jax.random.key(1), 400, steps=30)
    kinds, new = people(walkers, jax.random.key(2), 400, steps=30)
    reward = TableReward(states=world.problem.states, kinds=2, key=KEY)
    start = kinds_apart(Intent(world.problem, reward), seen, key=KEY)
    fit = veil.fit(veil.Episodic(start), seen, key=KEY, steps=400, optimiser=optax.adam(5e-2))
    found = veil.infer(fit, new, filtered=True)
    there = np.ones(new.query.shape[:2], bool) if new.mask is None else new.mask
    named = found.most_likely[:, -1]
    agreement = np.mean(named == kinds)
    assert max(agreement, 1 - agreement) > 0.95
    share = float(jax.nn.softmax(fit.model.model.logits)[int(agreement > 0.5)])
    assert share == pytest.approx(0.7, abs=0.08)
    best = np.mean(veil.log_prob(veil.Episodic(walkers), new))
    assert np.mean(veil.log_prob(fit, new)) > best - 0.2  # nats an episode
    # beside the same policies of a person whose kind is drawn anew at every step
    state, action = new.evidence[..., 0].astype(int), new.query[..., 0].astype(int)
    policies = np.asarray(fit.model.model.log_policies())[:, state, action]
    forgetful = logsumexp(policies + log_softmax(np.asarray(fit.model.model.logits))[:, None, None], 0)
    gain = np.sum(np.where(there, found.log_likelihood - forgetful, 0), 0) / np.maximum(there.sum(0), 1)
    assert gain[0] == pytest.approx(0.0, abs=1e-4)
    assert gain[1:6].min() > 0.03
    loss = -np.sum(np.where(there, found.log_likelihood, 0), 0) / np.maximum(there.sum(0), 1)
    assert loss[5] < loss[0] - 0.1


def test_what_kinds_apart_needs_is_said() -> None:
    model = Intent(WALLS.problem, TableReward(states=WALLS.problem.states))
    _, data = people(model, KEY, 2, steps=3)
    with pytest.raises(ValueError, match="model: expected several kinds, and an episode for each; got 1 of 2 episodes"):
        kinds_apart(model, data, key=KEY)
