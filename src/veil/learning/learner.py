"""How a model learns: sums over data that add up (``accumulate``), then one change of the model (``update``).

Because the sums are additive, whole data sets, minibatches, blocks from disk and shards are the same code, for the
closed-form M-step and for gradients alike.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.model import Datum

RUNNING, CONVERGED, ROUNDED, FELL, NOT_FINITE, UNSAFE, STUCK, UNBOUNDED = range(8)
DENSITIES = "elbo", "reconstruction"  # metrics that are log-densities of the query, which change with its units


class Info(eqx.Module):
    """What one step did, or each of several (arrays).

    ``value``: the (penalised) objective before the step, nats per datum in standardised units; ``penalty`` its part
    that is not likelihood; ``code`` whether to go on; ``skipped`` 1 for a step not taken because it was not finite;
    ``largest_precision`` the largest precision of the model, which says whether fast sums are safe; ``metrics`` those
    of the objective's ``Estimate``, mean over the data of the step.
    """

    value: Float[Array, "*steps"]
    penalty: Float[Array, "*steps"]
    code: Int[Array, "*steps"]
    skipped: Int[Array, "*steps"]
    largest_precision: Float[Array, "*steps"]
    metrics: dict[str, Float[Array, "*steps"]] = eqx.field(default_factory=dict)


class Learner(eqx.Module):
    """A pure step in two halves. ``state`` is what must be carried; ``Info`` is what may be looked at."""

    @abstractmethod
    def init(self, model: Any, block: Datum) -> Any:
        """The state before the first step, of whatever is learned; ``block`` shows the shapes of a batch."""

    @abstractmethod
    def accumulate(self, state: Any, block: Datum, key: PRNGKeyArray) -> Any:
        """Sums over a batched block of data."""

    @abstractmethod
    def update(self, state: Any, sums: Any, total: Float[Array, ""]) -> tuple[Any, Info]:
        """The next state from summed blocks; ``total`` is the weight of all data, batch or not."""

    @abstractmethod
    def learned(self, state: Any) -> tuple[Any, Any]:
        """The model and the posterior of a state as a fit returns them; None for a posterior that learns nothing."""

    def step(self, state: Any, block: Datum, key: PRNGKeyArray, total: Float[Array, ""]) -> tuple[Any, Info]:
        """The next state from one batch."""
        return self.update(state, self.accumulate(state, block, key), total)

    def done(self, codes: Any) -> Any:
        """Whether no restart goes on, from their codes [restarts] (a JAX or numpy array)."""
        return (codes != RUNNING).all()


class Sums(eqx.Module):
    """The sums of one batch: ``terms`` to learn from, the objective's value and metrics, the weight of its data."""

    terms: Any
    value: Float[Array, ""]
    weight: Float[Array, ""]
    counts: Float[Array, "..."]
    metrics: dict[str, Float[Array, "..."]] = eqx.field(default_factory=dict)


def told(metrics: dict[str, Any], shift: Any) -> dict[str, Any]:
    """Metrics of standardised data as they are told of the user's, whose log-densities are larger by ``shift``."""
    return {name: value + shift if name in DENSITIES else value for name, value in metrics.items()}


def where_each(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b) if eqx.is_array(a) else b, new, old)


def all_finite(tree: Any) -> Array:
    flags = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    return jnp.all(jnp.stack(flags)) if flags else jnp.array(True)
