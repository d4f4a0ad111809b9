"""Choosing among models."""

import jax
import numpy as np
import pytest

import veil
from cases import make_data
from veil import Data, Mixture

FAITHFUL = veil.data.load("faithful")
CANDIDATES = {k: Mixture(components=k) for k in (1, 2, 3)}


def test_bic_finds_two_components_in_old_faithful():
    found = veil.select(CANDIDATES, FAITHFUL, key=jax.random.key(0), restarts=2, steps=100)
    assert found.best == "2"
    assert found.fit is found.fits["2"]
    for name, k in (("1", 5), ("2", 11), ("3", 17)):
        value = veil.evaluate(found.fits[name].model, FAITHFUL).log_likelihood
        np.testing.assert_allclose(found.scores[name], k * np.log(272) - 2 * value, rtol=1e-9)
    assert found.scores["2"] == min(found.scores.values())
    assert abs(found.scores["2"] - (11 * np.log(272) + 2 * 1130.2640)) < 0.05
    assert repr(found).splitlines()[1].split()[:2] == ["*", "2"]


def test_held_out_data_choose_and_are_not_fitted_to():
    rng = np.random.default_rng(0)
    order = rng.permutation(272)
    train, test = FAITHFUL[order[:204]], FAITHFUL[order[204:]]  # as many as the split below: one compilation
    few = {k: CANDIDATES[k] for k in (1, 2)}
    found = veil.select(few, train, key=jax.random.key(0), criterion="held_out", held_out=test, steps=100)
    assert found.best == "2"
    for name in ("1", "2"):
        value = veil.evaluate(found.fits[name].model, test).log_likelihood_per_datum
        np.testing.assert_allclose(found.scores[name], -value, rtol=1e-9)
    split = veil.select(few, FAITHFUL, key=jax.random.key(0), criterion="held_out", held_out=0.25, steps=100)
    assert split.best == "2"
    assert split.evaluations["2"].rows == 68


def test_bic_counts_states_of_a_chain_that_is_known(x64):
    """Three states that stay, at -3, 0 and 3, in two sequences: BIC by hand, and as many as there are."""
    rng = np.random.default_rng(0)
    moves = np.array([[0.85, 0.1, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])
    rows = []
    for length in (260, 140):
        path = [0]
        while len(path) < length:
            path.append(rng.choice(3, p=moves[path[-1]]))
        rows.append(3.0 * np.array(path)[:, None] - 3.0 + rng.normal(size=(length, 1)))
    data = veil.data.episodes(rows)
    models = {k: veil.HMM(states=k) for k in (2, 3, 4)}
    found = veil.select(models, data, key=jax.random.key(0), restarts=2, steps=60)
    assert found.best == "3"
    for k in (2, 3, 4):
        free = (k - 1) + k * (k - 1) + 2 * k  # where it begins and goes, means and variances
        value = veil.log_prob(found.fits[str(k)].model, data).sum()
        np.testing.assert_allclose(found.scores[str(k)], free * np.log(400) - 2 * value, rtol=1e-9)
    # the same chain, whatever its states are called
    chosen = found.fit.model
    order = np.argsort(np.asarray(chosen.experts.mean)[:, 0])
    np.testing.assert_allclose(np.asarray(chosen.experts.mean)[order, 0], [-3, 0, 3], atol=0.4)
    np.testing.assert_allclose(np.asarray(chosen.transition_matrix)[order][:, order], moves, atol=0.12)


def test_bic_counts_dimensions_of_a_linear_path(x64):
    """A turning pair of numbers seen in four columns."""
    rng = np.random.default_rng(0)
    turn = 0.95 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    place, seen, emission = np.zeros(2), [], rng.normal(size=(4, 2))
    for _ in range(300):
        place = turn @ place + 0.5 * rng.normal(size=2)
        seen.append(emission @ place + 0.5 * rng.normal(size=4))
    data = veil.data.episodes([np.array(seen)])
    found = veil.select({k: veil.LDS(k) for k in (1, 2, 3)}, data, key=jax.random.key(0), steps=60)
    assert found.best == "2"


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        (dict(models={}), "models"),
        (dict(models={1: Mixture(components=1), 2: veil.SwitchingLDS()}), "models"),
        (dict(criterion="held_out", held_out=1.5), "held_out"),
    ],
)
def test_bad_arguments_are_named(options, argument):
    arguments = dict(models={1: Mixture(components=1)}, data=Data(make_data("real").query), key=jax.random.key(0))
    with pytest.raises(ValueError, match=f"^{argument}: "):
        veil.select(**{**arguments, **options})
