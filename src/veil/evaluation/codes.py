"""How much a latent of codes is used: which values are dead."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

from veil import distributions
from veil.host.showing import Shown
from veil.model import Datum, Model, blocks
from veil.model.abilities import space_of
from veil.posterior import Posterior


@dataclass(frozen=True, repr=False)
class CodeUsage(Shown):
    """``share`` [L, C]: how often each value of each code is chosen, q(z_l = c | y, x) averaged over data.

    ``perplexity`` [L]: exp of the entropy of a code's shares, the number of values that are in use, from 1 to C;
    ``dead`` [L]: how many are chosen by (almost) no datum, less than a hundredth of their even share 1 / C.
    """

    share: np.ndarray
    perplexity: np.ndarray
    dead: np.ndarray


@eqx.filter_jit
def _means(model: Model, posterior: Posterior, block: Datum) -> jax.Array:
    return jax.vmap(lambda datum: distributions.moments(posterior(model, datum))[0])(block)


def code_usage(model: Model, posterior: Posterior, data: Any) -> CodeUsage:
    """How often the values of a latent of codes (``priors.Codes``, ``priors.ResidualCodes``) are chosen.

    Raises TypeError for a latent of another kind.

    >>> import jax, veil
    >>> model = veil.VAE(veil.priors.ResidualCodes(1, 4), decoder=veil.MLP((8,)))
    >>> fit = veil.fit(model, veil.data.load("faithful"), key=jax.random.key(0), steps=20)
    >>> code_usage(fit.model, fit.posterior, veil.data.load("faithful")).dead.tolist()
    [0]
    """
    data = blocks.as_data(model, data)
    prior: Any = model.prior(blocks.first(next(iter(data.blocks(1))).evidence))
    if not isinstance(prior, distributions.Codes | distributions.ChainedCodes):
        raise TypeError(f"model: expected one with a latent of codes; its prior is {type(prior).__name__}")
    total, weight = np.zeros(prior.event_shape), 0.0
    for block in blocks.blocks(data, 4096, space_of(model)):
        means = np.asarray(_means(model, posterior, block.datum), np.float64)[: block.count]
        total, weight = total + np.tensordot(block.weight, means, 1), weight + float(np.sum(block.weight))
    share = total / weight
    logs = np.log(np.where(share > 0, share, 1.0))
    return CodeUsage(share, np.exp(-np.sum(share * logs, 1)), np.sum(share < 0.01 / share.shape[1], 1))
