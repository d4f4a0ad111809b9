"""Intent that switches, beside sums over all paths, and beside one that keeps its kind."""

import itertools

import jax
import numpy as np
import optax
import pytest
from tests.compiled import called

import veil
from veil.control import KnownReward
from veil.control.worlds.grid import grid
from veil.zoo.switching_intent import SwitchingIntent


def world():
    return grid("A..B\n.@..", slip=0.2)


def intent(scale=0.5):
    return veil.Intent(world().problem, KnownReward(scale * world().rewards()), logits=np.log([0.3, 0.7]))


def walk():
    return veil.data.episodes([[1.0, 0.0, 3.0, 3.0, 1.0]], [[5.0, 6.0, 2.0, 1.0, 2.0]])


@pytest.mark.parametrize("log_odds", [-1.0, 2.0])
def test_sums_over_all_paths(x64, log_odds):
    model, data = SwitchingIntent(intent(), log_odds=log_odds), walk()
    prior, change = np.array([0.3, 0.7]), 1 / (1 + np.exp(-log_odds))
    move = change * prior[None] + (1 - change) * np.eye(2)
    policy = np.exp(np.asarray(model.intent.log_policies()))
    states, actions = data.evidence[0, :, 0].astype(int), data.query[0, :, 0].astype(int)
    joint = {}
    for path in itertools.product(range(2), repeat=5):
        chance = prior[path[0]] * np.prod([move[a, b] for a, b in itertools.pairwise(path)])
        joint[path] = chance * np.prod([policy[z, s, a] for z, s, a in zip(path, states, actions, strict=True)])
    total = sum(joint.values())
    np.testing.assert_allclose(veil.log_prob(model, data), [np.log(total)], rtol=1e-10)
    smoothed = veil.infer(model, data)
    exact = [[sum(p for path, p in joint.items() if path[t] == z) / total for z in range(2)] for t in range(5)]
    np.testing.assert_allclose(smoothed.probabilities[0], exact, rtol=1e-8)
    assert tuple(smoothed.path[0]) == max(joint, key=joint.get)
    filtered = veil.infer(model, data, filtered=True)
    np.testing.assert_allclose(filtered.probabilities[0, -1], exact[-1], rtol=1e-8)
    np.testing.assert_allclose(filtered.log_likelihood.sum(), np.log(total), rtol=1e-10)


def test_without_a_change_it_is_episodic(x64):
    data = walk()
    kept = veil.Episodic(intent())
    never = SwitchingIntent(intent(), log_odds=-80.0)
    np.testing.assert_allclose(veil.log_prob(never, data), veil.log_prob(kept, data), rtol=1e-10)
    found, other = (veil.infer(each, data, filtered=True).probabilities for each in (never, kept))
    np.testing.assert_allclose(found, other, atol=1e-10)


def test_a_fit_finds_how_often_minds_change():
    """Walks that switch between two aims with a chance of .2 at each decision."""
    true = SwitchingIntent(intent(1.0), log_odds=np.log(0.2 / 0.8))
    rng = np.random.default_rng(0)
    policy = np.exp(np.asarray(true.intent.log_policies()))
    problem = world().problem
    chances, following = np.asarray(problem.transitions.chances), np.asarray(problem.transitions.next)
    ends = np.asarray(problem.ends)
    queries, states = [], []
    for _ in range(400):
        state, kind, query, seen = int(rng.choice(np.flatnonzero(~ends))), None, [], []
        for _ in range(12):
            if ends[state]:
                break
            if kind is None or rng.random() < 0.2:
                kind = int(rng.random() < 0.7)
            action = int(rng.choice(4, p=policy[kind, state] / policy[kind, state].sum()))
            query.append(float(action))
            seen.append(float(state))
            state = int(rng.choice(following[state, action], p=chances[state, action]))
        queries.append(query)
        states.append(seen)
    data = veil.data.episodes(queries, states)
    fit = veil.fit(SwitchingIntent(intent(1.0)), data, key=jax.random.key(0), steps=300, optimiser=optax.adam(3e-2))
    assert abs(1 / (1 + np.exp(-float(fit.model.log_odds))) - 0.2) < 0.08
    value, best = (float(np.mean(veil.log_prob(each, data))) for each in (fit, true))
    assert value >= best - 1e-4


def test_errors():
    with pytest.raises(TypeError, match="expected a veil"):
        SwitchingIntent(KnownReward(world().rewards()))
    model = SwitchingIntent(intent())
    path, query = called(lambda m, k: m.sample(k, evidence=np.full((3, 1), 5.0)), model, jax.random.key(0))
    assert path.shape == (3,)
    assert query.shape == (3, 1)
