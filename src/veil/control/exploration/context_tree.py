"""Images pixel by pixel, each given those read before it: a tree of contexts, from none to all of its neighbours."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.control.exploration.bins import Bins
from veil.control.exploration.densities import Incremental
from veil.model.checks import whole

Number = Float[Array, "..."]
BEFORE = ((0, -1), (-1, 0), (-1, -1), (-1, 1))  # left, above, above left, above right


def weighting(seen: Number) -> Number:
    """No switching: context-tree weighting, the average of all prunings of the tree. Willems et al. 1995."""
    return jnp.zeros_like(seen)


def switching(seen: Number) -> Number:
    """1 / (n + 1) at a context's n-th symbol: its best depth may change as it is learned. Veness et al. 2012."""
    return 1.0 / (seen + 1.0)


class Tree(eqx.Module):
    """Of every pixel's every context the ``counts`` of what came next, and log odds that it is where to stop."""

    counts: Float[Array, "P M K"]
    odds: Float[Array, "P M"]


class _Path(eqx.Module):
    """A pixel's contexts, from none to the longest: what each says, and where its numbers are."""

    nodes: Int[Array, "P L"]
    symbols: Int[Array, " P"]
    seen: Float[Array, "P L"]  # how often each was met
    own: Float[Array, "P L"]  # and how often this symbol came then
    odds: Float[Array, "P L"]


class ContextTree(Incremental):
    """ρ(x) = Π_i p(x_i | the neighbours of i that were read before it), every pixel i with a tree of its own.

    The context of depth d is the first d of ``neighbours`` (offsets, the nearest first; outside is in the first bin),
    pixels being in K ``bins``. Each context keeps counts with ``alpha`` more for every bin (½: Krichevsky & Trofimov),
    and mixes what they say, k(x), with what the next longer context says, b(x):

        p(x) = w k(x) + (1 - w) b(x),   w' ∝ r p(x) + (1 - 2r) w k(x),   1 - w' ∝ r p(x) + (1 - 2r) (1 - w) b(x)

    w beginning at ½, with the rate r = ``rate(n)`` of the n-th symbol: ``switching`` (Veness et al. 2012, "Context tree
    switching") or ``weighting`` (Willems et al. 1995, "The context-tree weighting method"). A tree for each place and a
    filter of four neighbours is Bellemare et al.'s model of Atari screens (2014, "Skip context tree switching", without
    the skipping; 2016). Exact: the probabilities of all images of bins sum to one.

    x is one array whose axes are those of the offsets: (H, W), or with ((0, 0, -1), ...) also (H, W, C), or (D,).
    A depth has K^d contexts, at most ``buckets``: beyond it they are hashed, and those that collide share counts, which
    makes novelty look known, and nothing improper. Memory: pixels x contexts x (K + 1) numbers, 100 MB of 42 x 42
    pixels as it stands; a value costs pixels x depths x K.

    >>> density = ContextTree(Bins(2))
    >>> image = jnp.eye(3)
    >>> state = jax.jit(density.update)(density.init(image, jax.random.key(0)), jnp.stack([image] * 20))
    >>> seen, other = jax.jit(jax.vmap(density.log_prob, (None, 0)))(state, jnp.stack([image, 1 - image]))
    >>> bool(seen > 10 + other)
    True
    """

    bins: Bins = Bins()
    neighbours: tuple[tuple[int, ...], ...] = eqx.field(static=True, default=BEFORE)
    alpha: float = eqx.field(static=True, default=0.5)
    rate: Callable[[Number], Number] = eqx.field(static=True, default=switching)
    buckets: int = eqx.field(static=True, default=1024)

    def __check_init__(self) -> None:
        whole("buckets", self.buckets)
        if not self.alpha > 0:
            raise ValueError(f"alpha: expected a positive pseudo-count for every bin; got {self.alpha!r}")
        late = [offset for offset in self.neighbours if not offset < (0,) * len(offset)]
        if late or len({len(offset) for offset in self.neighbours}) != 1:
            raise ValueError(
                "neighbours: expected offsets of pixels that are read before, all of one length, such as "
                f"((0, -1), (-1, 0)); got {self.neighbours!r}"
            )

    @property
    def _sizes(self) -> list[int]:
        """How many contexts of each depth are kept."""
        return [min(self.bins.count**depth, self.buckets) for depth in range(len(self.neighbours) + 1)]

    def _places(self, shape: tuple[int, ...]) -> np.ndarray:
        """Where the neighbours of each pixel are [P, D], in reading order; P is outside."""
        if len(shape) != len(self.neighbours[0]):
            raise ValueError(
                f"x: expected one array with the {len(self.neighbours[0])} axes of the offsets {self.neighbours}; "
                f"got shape {shape}"
            )
        pixels = np.stack([axis.ravel() for axis in np.indices(shape)], 1)
        places = pixels[:, None] + np.asarray(self.neighbours)[None]
        inside = ((places >= 0) & (places < np.asarray(shape))).all(-1)
        found = np.ravel_multi_index(tuple(np.moveaxis(places, -1, 0)), shape, mode="clip")
        return np.where(inside, found, len(pixels))

    def _path(self, state: Tree, x: Any) -> _Path:
        (image,) = jax.tree.leaves(x)
        symbols = self.bins(image)
        read = jnp.append(symbols, 0)[self._places(jnp.shape(image))]
        code = mixed = jnp.zeros(len(symbols), jnp.uint32)
        nodes, begin = [code], 1
        for depth, size in enumerate(self._sizes[1:], 1):
            value = read[:, depth - 1].astype(jnp.uint32)
            code = code * jnp.uint32(self.bins.count) + value
            mixed = (mixed ^ (value + jnp.uint32(depth))) * jnp.uint32(2654435761)  # Knuth's multiplicative hash
            mixed = mixed ^ (mixed >> 15)
            exact = self.bins.count**depth <= size
            nodes.append(jnp.uint32(begin) + (code if exact else mixed % jnp.uint32(size)))
            begin += size
        where = jnp.stack(nodes, 1).astype(jnp.int32)
        row = jnp.arange(len(symbols))[:, None]
        counts = state.counts[row, where]
        own = jnp.take_along_axis(counts, symbols[:, None, None], 2)[:, :, 0]
        return _Path(where, symbols, jnp.sum(counts, 2), own, state.odds[row, where])

    def _mixed(self, path: _Path) -> tuple[Float[Array, " P"], Float[Array, "P L"]]:
        """log p of every pixel given those before it, and the log odds after its symbol."""
        others = path.seen - path.own + self.alpha * (self.bins.count - 1)
        says = -jnp.log1p(others / (path.own + self.alpha))  # log k, with all digits where it is nearly sure
        rate = self.rate(path.seen + 1.0)
        move, keep = jnp.log(rate), jnp.log1p(-2.0 * rate)
        total, odds = says[:, -1], [path.odds[:, -1]]
        for depth in reversed(range(len(self.neighbours))):
            stop = jax.nn.log_sigmoid(path.odds[:, depth]) + says[:, depth]
            go = jax.nn.log_sigmoid(-path.odds[:, depth]) + total
            total = jnp.logaddexp(stop, go)
            moved = move[:, depth] + total
            odds.append(jnp.logaddexp(moved, keep[:, depth] + stop) - jnp.logaddexp(moved, keep[:, depth] + go))
        return total, jnp.stack(odds[::-1], 1)

    def init(self, example: Any, key: PRNGKeyArray) -> Tree:
        leaves = jax.tree.leaves(example)
        if len(leaves) != 1:
            raise ValueError(f"x: expected one array of pixels; got a tree of {len(leaves)}")
        pixels, contexts = len(self._places(jnp.shape(leaves[0]))), sum(self._sizes)
        return Tree(jnp.zeros((pixels, contexts, self.bins.count)), jnp.zeros((pixels, contexts)))

    def log_prob(self, state: Tree, x: Any) -> Float[Array, ""]:
        return jnp.sum(self._mixed(self._path(state, x))[0])

    def gain(self, state: Tree, x: Any) -> Float[Array, ""]:
        path = self._path(state, x)
        before, odds = self._mixed(path)
        after, _ = self._mixed(_Path(path.nodes, path.symbols, path.seen + 1.0, path.own + 1.0, odds))
        return jnp.sum(after - before)

    def update(self, state: Tree, batch: Any) -> Tree:
        def learn(state: Tree, x: Any) -> tuple[Tree, None]:
            path = self._path(state, x)
            _, odds = self._mixed(path)
            row = jnp.arange(len(path.symbols))[:, None]
            counts = state.counts.at[row, path.nodes, path.symbols[:, None]].add(1.0)
            return Tree(counts, state.odds.at[row, path.nodes].set(odds)), None

        return jax.lax.scan(learn, state, batch)[0]
