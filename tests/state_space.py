"""Small state-space models and sequences with missing entries, padding and resets, for tests of what runs on them."""

import jax
import jax.numpy as jnp
import numpy as np

from veil.model import Datum
from veil.parts.covariance import Diagonal, Full
from veil.zoo.lds import LDS

STATES, SIZE = 2, 3


def lds(noise: str = "diagonal", inputs: int = 0, seed: int = 0) -> LDS:
    """A linear-Gaussian model with parameters: 2 states, 3 numbers a step."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.array(rng.normal(size=shape))  # noqa: E731
    lower = lambda: jnp.tril(0.5 * normal(STATES, STATES), -1) + jnp.diag(jnp.array(0.5 + rng.random(STATES)))  # noqa: E731
    diagonal = Diagonal(scale=jnp.array(0.5 + rng.random((1, SIZE))))
    full = Full(factor=jnp.tril(0.4 * normal(1, SIZE, SIZE)) + jnp.eye(SIZE)[None])
    return LDS(
        STATES,
        diagonal if noise == "diagonal" else full,
        mean=normal(STATES),
        factor=lower(),
        transition=0.6 * normal(STATES, STATES),
        drift=normal(STATES, 1 + inputs),
        process=lower(),
        emission=normal(SIZE, STATES),
        offset=normal(SIZE),
    )


def sequence(case: str = "plain", count: int = 5, size: int = SIZE, seed: int = 4) -> Datum:
    """A sequence; ``case`` may name controls (two a step), missing, reset and padding."""
    rng = np.random.default_rng(seed)
    observed = rng.random((count, size)) < 0.6
    observed[2] = False
    return Datum(
        jnp.array(rng.normal(size=(count, size))),
        jnp.array(rng.normal(size=(count, 2))) if "controls" in case else None,
        observed=jnp.array(observed) if "missing" in case else None,
        mask=jnp.arange(count) < count - 1 if "padding" in case else None,
        reset=jnp.arange(count) == 3 if "reset" in case else None,
    )


def unbiased(log_estimates: jax.Array, log_exact: jax.Array | float, wide: float = 4.0) -> None:
    """The mean of Ẑ is Z to within ``wide`` standard errors, and they are small enough to notice."""
    ratio = np.exp(np.asarray(log_estimates, np.float64) - float(log_exact))
    error = ratio.std() / np.sqrt(len(ratio))
    assert error < 0.05
    assert abs(ratio.mean() - 1) < wide * error
