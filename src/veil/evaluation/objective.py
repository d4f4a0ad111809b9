"""The value of any objective on data, without learning from it."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.model import Datum, Model, blocks
from veil.objective import Objective
from veil.posterior import Posterior
from veil.posterior.arguments import verified


@eqx.filter_jit
def _values(objective: Objective, model: Model, posterior: Posterior, block: Datum, key: PRNGKeyArray) -> jax.Array:
    keys = jax.random.split(key, len(block.query))
    return jax.vmap(lambda datum, key: objective(model, posterior, datum, key).value)(block, keys)


def values(objective: Objective, model: Model, posterior: Posterior, data: Any, *, key: PRNGKeyArray) -> np.ndarray:
    """The objective of each datum [N], in nats; what it is of log p(y | x) is ``objective.kind``.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> fit = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0))
    >>> values(veil.Marginal(), fit.model, fit.posterior, data, key=jax.random.key(1)).shape
    (272,)
    """
    verified(model, posterior, key)
    parts = []
    for i, block in enumerate(blocks.cached(model, data)):
        found = _values(objective, model, posterior, block.datum, jax.random.fold_in(key, i))
        parts.append(np.asarray(found)[: block.count])
    return np.concatenate(parts)
