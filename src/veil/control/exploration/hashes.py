"""Counts of what is alike: x are told apart by the signs of a few random projections."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.control.exploration.counts import Counter
from veil.control.exploration.held import held
from veil.control.exploration.standards import vector
from veil.model.checks import whole

PRIMES = (99961, 99971, 99989, 99991)


class Hashes(eqx.Module):
    """The ``features`` and the ``directions`` whose sides are told apart, and ``counts``, a table for every prime."""

    features: Any
    directions: Float[Array, "B D"]
    counts: Float[Array, "J M"]


class Hashed(Counter):
    """N(code(x)), code(x) = sign(A f(x)) of ``bits`` random directions: SimHash counts.

    Vectors at an angle θ from each other agree in a bit with probability 1 - θ / π (Charikar 2002), so what is alike is
    counted together, in finer cells with more bits. A is standard normal, drawn by ``init``, and stays. Tang et al.
    2017, "#Exploration: a study of count-based exploration for deep reinforcement learning", algorithm 1.

    ``features``: f, from x to numbers, by default all of x; the codes of a VAE,
    ``lambda x: posterior(model, Datum(x)).mean``, of a fitted one that stays, or the counts' meaning would move. Angles
    are seen from the origin: of numbers that are all positive, take their mean away first.

    The code modulo each of ``primes`` is a place in a table of that size, and the count is the least over tables, as in
    their appendix on the count-min sketch: never too small, too large only where x collides in every table (with all M
    places of J tables and n codes about as often as (n / M)^J). With 2^bits no larger than a prime nothing collides.

    >>> counter = Hashed(bits=8, primes=(257,))
    >>> state = counter.init(jnp.zeros(3), jax.random.key(0))
    >>> state = counter.update(state, jnp.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [1.01, 2.0, 3.0]]))
    >>> float(counter.count(state, jnp.array([2.0, 4.0, 6.0])))
    2.0
    """

    features: Any = eqx.field(static=True, default=vector, converter=held)
    bits: int = eqx.field(static=True, default=32)
    primes: tuple[int, ...] = eqx.field(static=True, default=PRIMES)

    def __check_init__(self) -> None:
        if not callable(self.features.value):
            raise TypeError(f"features: expected a function from x to numbers; got {self.features.value!r}")
        whole("bits", self.bits)
        for prime in self.primes:
            whole("primes", prime)
            if prime * self.bits >= 2**31 or any(prime % factor == 0 for factor in range(2, int(prime**0.5) + 1)):
                raise ValueError(f"primes: expected prime numbers below 2^31 / bits; got {prime}")
        if not self.primes:
            raise ValueError("primes: expected at least one, the size of a table; got none")

    def code(self, state: Hashes, x: Any) -> Bool[Array, " B"]:
        """On which side of each direction x lies."""
        return state.directions @ vector(state.features(x)) > 0

    def _places(self, state: Hashes, x: Any) -> Int[Array, " J"]:
        """The code as a binary number, modulo each prime: its bits' remainders are known beforehand."""
        remainders = np.array([[pow(2, bit, prime) for bit in range(self.bits)] for prime in self.primes], np.int32)
        total = jnp.sum(jnp.where(self.code(state, x)[None], remainders, 0), 1)
        return (total % np.array(self.primes)).astype(jnp.int32)

    def init(self, example: Any, key: PRNGKeyArray) -> Hashes:
        features = self.features.value
        if not isinstance(features, eqx.Module):
            features = jax.tree_util.Partial(features)  # a function as a tree; a module is one already
        size = jax.eval_shape(lambda x: vector(features(x)), example).size
        directions = jax.random.normal(key, (self.bits, size))
        return Hashes(features, directions, jnp.zeros((len(self.primes), max(self.primes))))

    def count(self, state: Hashes, x: Any) -> Float[Array, ""]:
        return jnp.min(state.counts[jnp.arange(len(self.primes)), self._places(state, x)])

    def update(self, state: Hashes, batch: Any) -> Hashes:
        places = jax.vmap(lambda x: self._places(state, x))(batch)
        tables = jnp.broadcast_to(jnp.arange(len(self.primes)), places.shape)
        return Hashes(state.features, state.directions, state.counts.at[tables, places].add(1.0))
