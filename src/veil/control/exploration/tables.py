"""Densities that are tables of counts: of few values all of them, of many entries one table an entry."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.control.exploration.bins import Bins, entries
from veil.control.exploration.counts import Tally
from veil.control.exploration.densities import Incremental


class Table(eqx.Module):
    """Counts, and how many x there were in all."""

    counts: Float[Array, "..."]
    total: Float[Array, ""]


def _alpha(alpha: float) -> None:
    if not alpha > 0:
        raise ValueError(f"alpha: expected a positive pseudo-count for every value; got {alpha!r}")


class DirichletCategorical(Incremental):
    """ρ(x) = (N(x) + α) / (N + α K) over the K = Π ``sizes`` values of whole numbers x, as in ``Tally``.

    The predictive probability of a categorical distribution with a prior Dirichlet(α, .., α); ½ is Krichevsky &
    Trofimov's. Its pseudo-count is N(x) + α, exactly. Numbers beyond a size have no probability, and teach nothing.

    >>> density = DirichletCategorical((2,), alpha=1.0)
    >>> state = density.update(density.init(jnp.array(0), jax.random.key(0)), jnp.array([1, 1]))
    >>> jnp.exp(jax.vmap(lambda x: density.log_prob(state, x))(jnp.arange(2))).tolist()
    [0.25, 0.75]
    """

    tally: Tally = eqx.field(converter=lambda sizes: sizes if isinstance(sizes, Tally) else Tally(sizes))
    alpha: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        _alpha(self.alpha)

    def _inside(self, x: Any) -> Bool[Array, ""]:
        values = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(x)])
        return jnp.all((values >= 0) & (values < jnp.asarray(self.tally.sizes)))

    def _mass(self, state: Table, x: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """N(x) + α and N + α K."""
        return self.tally.count(state.counts, x) + self.alpha, state.total + self.alpha * state.counts.size

    def init(self, example: Any, key: PRNGKeyArray) -> Table:
        return Table(self.tally.init(example, key), jnp.zeros(()))

    def log_prob(self, state: Table, x: Any) -> Float[Array, ""]:
        own, total = self._mass(state, x)
        return jnp.where(self._inside(x), jnp.log(own) - jnp.log(total), -jnp.inf)

    def gain(self, state: Table, x: Any) -> Float[Array, ""]:
        own, total = self._mass(state, x)
        return jnp.where(self._inside(x), jnp.log1p(1.0 / own) - jnp.log1p(1.0 / total), 0.0)

    def update(self, state: Table, batch: Any) -> Table:
        inside = jnp.sum(jax.vmap(self._inside)(batch))
        return Table(self.tally.update(state.counts, batch), state.total + inside)


class Factored(Incremental):
    """ρ(x) = Π_i (N_i(x_i) + α) / (N + α K): entries of x (pixels, or any tree) apart, each in one of K ``bins``.

    It cannot tell a new whole from parts that were all seen: (0, 1) and (1, 0) make (1, 1) known. Probabilities are of
    the bins. Entry by entry it is ``DirichletCategorical``; the whole is their product.
    """

    bins: Bins = Bins()
    alpha: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        _alpha(self.alpha)

    def _mass(self, state: Table, x: Any) -> tuple[Float[Array, " P"], Float[Array, ""]]:
        """N_i(x_i) + α of every entry, and N + α K."""
        own = jnp.take_along_axis(state.counts, self.bins(x)[:, None], 1)[:, 0]
        return own + self.alpha, state.total + self.alpha * self.bins.count

    def init(self, example: Any, key: PRNGKeyArray) -> Table:
        return Table(jnp.zeros((entries(example), self.bins.count)), jnp.zeros(()))

    def log_prob(self, state: Table, x: Any) -> Float[Array, ""]:
        own, total = self._mass(state, x)
        return jnp.sum(jnp.log(own) - jnp.log(total))

    def gain(self, state: Table, x: Any) -> Float[Array, ""]:
        own, total = self._mass(state, x)
        return jnp.sum(jnp.log1p(1.0 / own) - jnp.log1p(1.0 / total))

    def update(self, state: Table, batch: Any) -> Table:
        which = jax.vmap(self.bins)(batch)
        places = jnp.broadcast_to(jnp.arange(which.shape[1]), which.shape)
        return Table(state.counts.at[places, which].add(1.0), state.total + which.shape[0])
