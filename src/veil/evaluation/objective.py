"""The value of any objective on data, without learning from it."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.model import Datum, Model, OfSequences, blocks
from veil.objective import Objective
from veil.posterior import Posterior
from veil.posterior.arguments import verified
from veil.units import Units, inside, unwrapped, unwrapped_posterior


@eqx.filter_jit
def _values(objective: Objective, model: Model, posterior: Posterior, block: Datum, key: PRNGKeyArray) -> jax.Array:
    keys = jax.random.split(key, len(block))
    return jax.vmap(lambda datum, key: objective(model, posterior, datum, key).value)(block, keys)


def values(objective: Objective, model: Model, posterior: Posterior, data: Any, *, key: PRNGKeyArray) -> np.ndarray:
    """The objective of each datum [N], in nats, of the user's data; what it is of log p(y | x) is ``objective.kind``.

    Of an objective that counts something else (its ``unit``), that.

    It is evaluated where it was trained, in standardised coordinates, and the Jacobian is added.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> fit = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0))
    >>> values(veil.Marginal(), fit.model, fit.posterior, data, key=jax.random.key(1)).shape
    (272,)
    """
    verified(model, posterior, key)
    inner, units = unwrapped(model)
    q, own = unwrapped_posterior(posterior)
    if units is None and own is not None:  # a model in the user's units, whose posterior is not
        inner, units = inside(model, own), own
    parts = []
    for i, block in enumerate(blocks.cached(model, data)):
        datum, jacobian = (block.datum, 0.0) if units is None else _standard(model, units, block.datum)
        jacobian = jacobian if objective.unit is None else 0.0
        found = _values(objective, inner, q, datum, jax.random.fold_in(key, i))
        parts.append(np.asarray(found + jacobian)[: block.count])
    return np.concatenate(parts)


@eqx.filter_jit
def _standard(model: Model, units: Units, block: Datum) -> tuple[Datum, jax.Array]:
    sequence = isinstance(model, OfSequences)
    jacobian = jax.vmap(lambda datum: units.log_jacobian(datum, sequence))(block)
    return jax.vmap(units.standard)(block), jacobian
