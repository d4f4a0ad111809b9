"""A softmax that adapts, beside the exact belief by quadrature, and on somebody who is unlike the rest."""

import jax.numpy as jnp
import numpy as np
import pytest

from veil.maths.adapting import adapted


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_beside_quadrature(bias):
    """Of two choices and one feature only the difference of the two weights, N(0, 2 v), matters: summed on a grid."""
    rng = np.random.default_rng(0)
    logits = np.stack([np.zeros(200), rng.normal(size=200)], 1)
    features = rng.choice([0.5, 1.0], (200, 1))
    chances = 1 / (1 + np.exp(-(logits[:, 1] + bias * features[:, 0])))
    chosen = (rng.random(200) < chances).astype(int)
    variance = 0.3
    grid = np.linspace(-8, 8, 4001)
    belief = np.exp(-(grid**2) / (4 * variance))
    exact = np.empty(200)
    for t in range(200):
        up = 1 / (1 + np.exp(-(logits[t, 1] + grid * features[t, 0])))
        likelihood = up if chosen[t] else 1 - up
        exact[t] = np.log(np.sum(likelihood * belief) / np.sum(belief))
        belief = belief * likelihood
    found = np.asarray(adapted(jnp.asarray(logits), jnp.asarray(features), jnp.asarray(chosen), variance))
    ours = found[np.arange(200), chosen]
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-5)
    assert abs(ours.mean() - exact.mean()) < 0.003
    np.testing.assert_allclose(ours, exact, atol=0.12)  # it predicts by the mean


def test_what_is_to_come_is_not_seen():
    """Another choice at a step changes what is said of later ones alone; without variance nothing is learned."""
    rng = np.random.default_rng(1)
    logits, features = jnp.asarray(rng.normal(size=(30, 4))), jnp.asarray(rng.normal(size=(30, 3)))
    chosen = rng.integers(4, size=30)
    other = np.where(np.arange(30) == 12, (chosen + 1) % 4, chosen)
    one, two = (np.asarray(adapted(logits, features, jnp.asarray(each), 0.5)) for each in (chosen, other))
    np.testing.assert_array_equal(one[:13], two[:13])
    assert np.abs(one[13] - two[13]).max() > 1e-3
    still = np.asarray(adapted(logits, features, jnp.asarray(chosen), 0.0))
    np.testing.assert_allclose(np.exp(still), np.exp(logits) / np.exp(logits).sum(1, keepdims=True), atol=1e-6)
