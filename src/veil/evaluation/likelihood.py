"""log p(y | x) of each datum, and what follows from it."""

from dataclasses import asdict, dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

from veil import checks
from veil.batching import as_datum, block_rows, padded
from veil.data import Data, Stream
from veil.model import Datum, Model


@dataclass(frozen=True)
class Evaluation:
    """How well a model explains data. All in nats; ``kind`` says what the likelihood is ("exact").

    ``log_likelihood``: weighted total over ``n`` data; ``log_likelihood_per_datum`` its weighted mean and
    ``standard_error`` that mean's, over data; ``parameters``: how many numbers are free;
    BIC = parameters · log n - 2 log L and AIC = 2 · parameters - 2 log L (smaller is better; n counts weights).
    """

    log_likelihood: float
    log_likelihood_per_datum: float
    standard_error: float
    n: float
    rows: int
    parameters: int
    bic: float
    aic: float
    kind: str = "exact"

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self)


@eqx.filter_jit
def _log_prob(model: Model, block: Datum) -> jax.Array:
    return jax.vmap(model.log_marginal)(block)


def log_prob(model: Model, data: Any) -> np.ndarray:
    """log p(y | x) of each datum [N], in nats, exact: the latent summed out, missing entries integrated out.

    Raises ValueError for a model without parameters, or data of another shape than it was fitted to.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> model = veil.fit(veil.density(veil.LinearGaussian()), data, key=jax.random.key(0)).model
    >>> round(float(log_prob(model, data).sum()), 1)
    -1289.8
    """
    return map_blocks(_log_prob, model, data)


def map_blocks(function: Any, model: Model, data: Any) -> Any:
    """``function(model, block)`` over all data, blocks of one shape; leaves come back [N, ...] on the host."""
    checks.fitted(model)
    if not isinstance(data, Data | Stream):
        data = Data(data)
    checks.shapes(model, data)
    model = model.arithmetic(False)
    parts = []
    sample = data if isinstance(data, Data) else next(iter(data))
    rows = block_rows(sample, model)
    if isinstance(data, Data) and len(data) < rows:
        rows = len(data)
    for block in data.blocks(rows):
        result = function(model, padded(as_datum(block), rows))
        parts.append(jax.tree.map(lambda leaf, n=block.query.shape[0]: np.asarray(leaf)[:n], result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def evaluate(model: Model, data: Any) -> Evaluation:
    """The exact log-likelihood of data and the criteria that follow: an ``Evaluation``.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> model = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0), restarts=3).model
    >>> evaluate(model, data).parameters
    11
    """
    if not isinstance(data, Data | Stream):
        data = Data(data)
    values = np.asarray(log_prob(model, data), np.float64)
    weights = np.ones(len(values))
    if isinstance(data, Stream):
        weights = np.concatenate([np.ones(len(b)) if b.weight is None else b.weight for b in data])
    elif data.weight is not None:
        weights = np.asarray(data.weight, np.float64)
    n, rows = float(np.sum(weights)), len(values)
    total = float(np.sum(np.where(weights > 0, weights * values, 0.0)))
    mean = total / n
    # a datum of weight two is two data, as it is in n
    deviation = np.where(weights > 0, weights * (values - mean) ** 2, 0.0) if np.isfinite(mean) else np.zeros(rows)
    error = float(np.sqrt(np.sum(deviation)) / n)
    free = model.parameters()
    bic, aic = free * float(np.log(n)) - 2 * total, 2 * free - 2 * total
    return Evaluation(total, mean, error, n, rows, free, bic, aic)
