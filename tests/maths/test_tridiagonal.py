"""Block tridiagonal precisions against dense linear algebra."""

import jax.numpy as jnp
import numpy as np

from veil.maths import tridiagonal


def test_moments_and_entropy_are_those_of_the_dense_precision(x64: None) -> None:
    rng = np.random.default_rng(0)
    steps, size = 5, 3
    below = rng.normal(size=(steps, size, size)) * 0.4
    below[0] = below[3] = 0
    diagonal = np.stack(
        [np.eye(size) * 3 + (lambda a: a @ a.T)(rng.normal(size=(size, size)) * 0.3) for _ in range(steps)]
    )
    term = rng.normal(size=(steps, size))
    precision = np.zeros((steps * size, steps * size))
    at = lambda t: slice(t * size, (t + 1) * size)  # noqa: E731
    for t in range(steps):
        precision[at(t), at(t)] = diagonal[t]
        if t:
            precision[at(t), at(t - 1)], precision[at(t - 1), at(t)] = below[t], below[t].T
    assert np.linalg.eigvalsh(precision).min() > 0.1
    covariance = np.linalg.inv(precision)
    found = tridiagonal.solved(*map(jnp.asarray, (diagonal, below, term)))
    np.testing.assert_allclose(np.ravel(found.mean), covariance @ term.ravel(), atol=1e-12)
    for t in range(steps):
        np.testing.assert_allclose(found.covariance[t], covariance[at(t), at(t)], atol=1e-12)
        lag = covariance[at(t), at(t - 1)] if t else np.zeros((size, size))
        np.testing.assert_allclose(found.lagged[t], lag, atol=1e-12)
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    np.testing.assert_allclose(found.entropies.sum(), entropy, atol=1e-12)
