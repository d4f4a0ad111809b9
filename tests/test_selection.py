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
    train, test = FAITHFUL[order[:200]], FAITHFUL[order[200:]]
    few = {k: CANDIDATES[k] for k in (1, 2)}
    found = veil.select(few, train, key=jax.random.key(0), criterion="held_out", held_out=test, steps=100)
    assert found.best == "2"
    for name in ("1", "2"):
        value = veil.evaluate(found.fits[name].model, test).log_likelihood_per_datum
        np.testing.assert_allclose(found.scores[name], -value, rtol=1e-9)
    split = veil.select(few, FAITHFUL, key=jax.random.key(0), criterion="held_out", held_out=0.25, steps=100)
    assert split.best == "2"
    assert split.evaluations["2"].rows == 68


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        (dict(models={}), "models"),
        (dict(criterion="held_out", held_out=1.5), "held_out"),
    ],
)
def test_bad_arguments_are_named(options, argument):
    arguments = dict(models={1: Mixture(components=1)}, data=Data(make_data("real").query), key=jax.random.key(0))
    with pytest.raises(ValueError, match=f"^{argument}: "):
        veil.select(**{**arguments, **options})
