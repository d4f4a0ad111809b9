"""Counts of codes: what is alike is counted together, and a table of fixed size never counts too little."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control.exploration.hashes import Hashed

KEY = jax.random.key(0)


def test_bits_agree_as_often_as_the_angle_says():
    counter = Hashed(bits=4096, primes=(257,))
    angles = np.array([0.02, 0.5, 1.5, 3.0])
    turned = 3.0 * np.stack([np.cos(angles), np.sin(angles)], 1)

    @jax.jit
    def agree(start, turned):
        state = counter.init(start, KEY)
        return jnp.mean(jax.vmap(lambda x: counter.code(state, x))(turned) == counter.code(state, start)[None], 1)

    np.testing.assert_allclose(agree(np.array([1.0, 0.0]), turned), 1 - angles / np.pi, atol=0.03)


class Halved(eqx.Module):
    """Features with numbers of their own, as a network has."""

    scale: jax.Array

    def __call__(self, x):
        return self.scale * x["place"]


def test_counts_of_codes_add_up_and_small_tables_never_count_too_little():
    seen = {"place": np.random.default_rng(0).normal(size=(60, 3)), "time": np.arange(60)}

    @jax.jit
    def counted(counter, seen):
        state = counter.init(jax.tree.map(lambda leaf: leaf[0], seen), KEY)
        update = jax.jit(counter.update)
        state = update(update(state, seen), jax.tree.map(lambda leaf: leaf[:20], seen))
        codes = jax.vmap(lambda x: counter.code(state, x))(seen)
        return jax.vmap(lambda x: counter.count(state, x))(seen), codes, state.counts

    counts, codes, _ = counted(Hashed(Halved(jnp.array(0.5)), bits=8, primes=(257,)), seen)
    same = (np.asarray(codes)[:, None] == np.asarray(codes)[None]).all(-1)
    exact = same.sum(1) + same[:, :20].sum(1)
    np.testing.assert_array_equal(counts, exact)
    assert 2 < len(np.unique(codes, axis=0)) < 50

    small, _, tables = counted(Hashed(lambda x: x["place"], bits=8, primes=(5, 7)), seen)
    np.testing.assert_array_equal(tables.sum(1), 80)
    whole = np.asarray(codes) @ 2 ** np.arange(8)
    np.testing.assert_array_equal(small, np.minimum(tables[0, whole % 5], tables[1, whole % 7]))
    assert (small >= exact).all()


def test_a_table_has_a_prime_size():
    with pytest.raises(ValueError, match="primes: expected prime numbers"):
        Hashed(primes=(256,))
    with pytest.raises(TypeError, match="features: expected a function"):
        Hashed(features=3)
