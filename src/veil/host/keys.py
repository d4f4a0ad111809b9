"""Random keys as the host sees them: which arrays are keys, and the generators of NumPy that follow from them."""

from typing import Any

import jax
import numpy as np


def is_key(leaf: Any) -> bool:
    """Whether it is an array of typed keys, as ``jax.random.key`` makes them.

    >>> is_key(jax.random.key(0)), is_key(np.zeros(2, np.uint32))
    (True, False)
    """
    return isinstance(leaf, jax.Array) and bool(jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def generator(key: Any) -> np.random.Generator:
    """A generator that follows from a key: for what is drawn on the host, where nothing is compiled.

    >>> draws = [generator(jax.random.key(seed)).integers(1_000_000) for seed in (0, 0, 1)]
    >>> bool(draws[0] == draws[1]), bool(draws[0] == draws[2])
    (True, False)
    """
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32).tolist())
