"""Draws of the posterior as ArviZ takes them, with a stand-in for ArviZ."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from cases import make_data, random_model

KEY = jax.random.key(0)


def test_draws_follow_the_posterior_and_data_do_not_share_noise():
    data = make_data("real", 12)
    model = random_model("mixture-full", data)
    found = veil.draws(model, data, samples=4000, key=KEY)
    z = found["posterior"]["z"]
    assert z.shape == (1, 4000, len(data))
    expected = veil.infer(model, data).probabilities
    for k in range(expected.shape[1]):
        np.testing.assert_allclose((z[0] == k).mean(0), expected[:, k], atol=0.035)
    uncertain = np.flatnonzero(np.all((expected > 0.02) & (expected < 0.98), 1))[:2] if expected.shape[1] == 2 else []
    if len(uncertain) == 2:
        assert abs(np.corrcoef(z[0][:, uncertain].T)[0, 1]) < 0.1
    np.testing.assert_array_equal(found["observed_data"]["y"], data.query)
    assert found["dims"] == {"z": ["datum"], "y": ["datum", "y_0"]}
    assert found["coords"] == {"y_0": list(data.query_names)}
    assert found["constant_data"] == {}


def test_paths_of_sequences_are_whole():
    data = veil.data.episodes([np.zeros((4, 1)), np.ones((2, 1))])
    even = veil.Softmax(evidence=False, weight=jnp.zeros((2, 1)))
    experts = veil.LinearGaussian(
        veil.Diagonal(scale=jnp.ones((2, 1))), evidence=False, weight=jnp.array([[[0.0]], [[1.0]]])
    )
    gates = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), even)
    model = veil.HMM(experts, 2, gates, even)
    found = veil.draws(model, data, samples=3, key=KEY)
    assert found["posterior"]["z"].shape == (1, 3, *data.query.shape[:2])
    assert found["dims"]["z"] == ["datum", "step"]
    assert found["dims"]["y"] == ["datum", "step", "y_0"]


@pytest.mark.parametrize("version", ["0.23.1", "1.0.0"])
def test_inference_data(monkeypatch, version):
    data = make_data("real", 12)
    model = random_model("mixture-full", data)
    arviz = types.ModuleType("arviz")
    arviz.__version__ = version
    arviz.from_dict = lambda *groups, **more: (groups, more)
    monkeypatch.setitem(sys.modules, "arviz", arviz)
    groups, more = veil.inference_data(model, data, samples=5, key=KEY)
    given = groups[0] if version >= "1" else more
    assert given["posterior"]["z"].shape == (1, 5, len(data))
    assert "constant_data" not in given
    assert more["dims"]["z"] == ["datum"]


def test_without_arviz_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ModuleNotFoundError, match="pip install arviz"):
        veil.inference_data(None, None)
