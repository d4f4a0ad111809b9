"""The context tree of pixels beside textbook code: all prunings of the tree, and switching in dictionaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control.exploration.bins import Bins
from veil.control.exploration.context_tree import BEFORE, ContextTree, switching, weighting
from veil.control.exploration.densities import PseudoCounts
from veil.control.exploration.tables import Factored

KEY = jax.random.key(0)
K, ALPHA, DEPTH = 3, 0.5, len(BEFORE)
pytestmark = pytest.mark.usefixtures("x64")


def images(bins, count, seed=0):
    return np.random.default_rng(seed).choice(bins, p=np.arange(1, bins + 1) / sum(range(bins + 1)), size=(count, 2, 2))


def context(image, i, j):
    """The neighbours of a pixel that are read before it, 0 outside."""
    inside = lambda a, b: 0 <= a < 2 and 0 <= b < 2  # noqa: E731
    return tuple(int(image[i + a, j + b]) if inside(i + a, j + b) else 0 for a, b in BEFORE)


def sequences(images):
    """Of each pixel what was seen, (context, symbol) in turn."""
    return [[(context(x, i, j), int(x[i, j])) for x in images] for i in range(2) for j in range(2)]


def estimated(symbols):
    """Krichevsky & Trofimov's probability of symbols in a row."""
    counts, total = np.zeros(K), 0.0
    for symbol in symbols:
        total += np.log((counts[symbol] + ALPHA) / (np.sum(counts) + ALPHA * K))
        counts[symbol] += 1
    return total


def weighted(pairs, depth=0):
    """Willems et al. 1995: P_w = P_kt / 2 + Π of the longer contexts' P_w / 2, of whole blocks."""
    own = estimated([symbol for _, symbol in pairs])
    if depth == DEPTH:
        return own
    longer = sum(weighted([pair for pair in pairs if pair[0][depth] == k], depth + 1) for k in range(K))
    return np.logaddexp(own, longer) - np.log(2)


def switched(pairs):
    """Veness et al. 2012: two weights a node, of which a share 1 / (n + 1) is mixed anew at its n-th symbol."""
    nodes, total = {}, 0.0
    for suffix, symbol in pairs:
        longer = None
        for depth in range(DEPTH, -1, -1):
            node = nodes.setdefault(suffix[:depth], {"counts": np.zeros(K), "stop": 0.5, "go": 0.5})
            own = (node["counts"][symbol] + ALPHA) / (np.sum(node["counts"]) + ALPHA * K)
            node["counts"][symbol] += 1
            if longer is None:
                longer = own
                continue
            mixed, rate = node["stop"] * own + node["go"] * longer, 1 / (np.sum(node["counts"]) + 1)
            stop = rate * mixed + (1 - 2 * rate) * node["stop"] * own
            go = rate * mixed + (1 - 2 * rate) * node["go"] * longer
            node["stop"], node["go"] = stop / (stop + go), go / (stop + go)
            longer = mixed
        total += np.log(longer)
    return total


@pytest.mark.parametrize(("rate", "naive"), [(weighting, weighted), (switching, switched)])
def test_images_one_after_the_other_have_the_probability_that_textbook_code_gives(rate, naive):
    density = ContextTree(Bins(K, 0, K), rate=rate)
    seen = images(K, 40)

    def one(state, x):
        return density.update(state, x[None]), density.log_prob(state, x)

    total = jax.jit(lambda seen: jnp.sum(jax.lax.scan(one, density.init(seen[0], KEY), seen)[1]))(seen)
    np.testing.assert_allclose(total, sum(naive(pairs) for pairs in sequences(seen)), rtol=1e-12)


def test_probabilities_of_all_images_sum_to_one_with_hashed_contexts_too():
    density = ContextTree(Bins(2, 0, 2), buckets=3)
    every = np.stack(np.meshgrid(*[range(2)] * 4, indexing="ij"), -1).reshape(-1, 2, 2)

    @jax.jit
    def total(seen, every):
        state = density.update(density.init(seen[0], KEY), seen)
        return jnp.exp(jax.vmap(lambda x: density.log_prob(state, x))(every))

    found = total(images(2, 20), every)
    np.testing.assert_allclose(jnp.sum(found), 1.0, rtol=1e-12)
    assert np.max(found) > 3 / 16  # and it has learned


def test_it_knows_what_goes_together_where_pixels_apart_do_not():
    """Two pixels that are always alike: an image whose pixels differ is new to the tree."""
    seen = np.repeat(np.array([[[0, 0]], [[1, 1]]]), 50, 0)

    def counts(density):
        counter = PseudoCounts(density)
        state = counter.update(counter.init(seen[0], KEY), seen)
        return jax.vmap(lambda x: counter.count(state, x))(jnp.array([[[1, 1]], [[0, 1]]]))

    tree, apart = jax.jit(lambda: (counts(ContextTree(Bins(2, 0, 2), ((0, -1),))), counts(Factored(Bins(2, 0, 2)))))()
    assert tree[0] > 20 * tree[1]
    np.testing.assert_allclose(apart[0], apart[1])
