"""How sure a fit is of its parameters: standard errors from the observed information."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from veil.data import Data, Stream
from veil.learning.choices import as_data
from veil.learning.gradient import trainable
from veil.learning.search import Newton
from veil.learning.starting import cast, on_device
from veil.model import Datum, OfSequences, Plate, SecondOrder, Tractable, checks
from veil.model.abilities import name_of, values
from veil.model.batching import as_datum, block_rows, padded
from veil.posterior.arguments import parts

SINGULAR = 1e-10  # of the largest eigenvalue of the information in its own units, below which it is none
FAR = 0.1  # standard errors between the parameters and their maximum, as the curvature has it
ROUNDING, NEAR = 1e-20, 1e-4  # nats a datum still to be gained: what is none, and what a fit may leave behind
LEFT = 0.02  # of a slope, behind a Newton step along it: more is left where there is no maximum
NAMED = 3  # parameters in a message


def standard_errors(model: Any, data: Data | Stream | Any) -> Any:
    """Standard errors of a fit's parameters, (I⁻¹)_jj^½ of the observed information I = -∇² Σ_n w_n log p(y_n | x_n).

    A tree like the model, with an error in the place of every parameter and None elsewhere, in the parameters' own
    units: ``standard_errors(fit, data).reward.weights``. A parameter on which no datum's likelihood depends, such as
    the logit of the only kind, has none: NaN. In float64, whatever the fit was.

    ``data``: those of the fit, whose maximum the parameters are; ``weight`` counts repeated data. Of data that are
    sequences or episodes each of them is one independent datum.

    Source: Efron & Hinkley 1978, "Assessing the accuracy of the maximum likelihood estimator".

    Raises:
        TypeError: a model whose likelihood is not exact, or whose latent all data share: it has a posterior.
        ValueError: parameters that are no maximum of the likelihood of these data, that data do not determine
            (singular information), or for which there is no maximum (separable data).

    >>> import jax, veil
    >>> from veil.control import MDP, SparseTransitions, TableReward
    >>> problem = MDP(SparseTransitions([[0, 1], [1, 0]]), discount=0.9)
    >>> seen = veil.Data(query=[1, 1, 0, 0], evidence=[0, 0, 0, 1])
    >>> person = veil.Intent(problem, veil.control.LinearReward([[0.0], [1.0]]))
    >>> fit = veil.fit(person, seen, key=jax.random.key(0))
    >>> standard_errors(fit, seen).reward.weights.shape
    (1, 1)
    """
    model, _ = parts(model, None)
    if not isinstance(model, Tractable) or isinstance(model, Plate):
        raise TypeError(f"model: {name_of(model)} has no exact likelihood of its parameters, whose curvature is wanted")
    data = data if isinstance(data, Stream) else as_data(data)
    checks.shapes(model, data)
    with jax.enable_x64(True):
        exact = on_device(cast(model, np.float64))
        at, back = ravel_pytree(trainable(exact))
        total, slope, curve = _summed(exact, at, data)
        names = _names(trainable(exact))
        free = np.abs(curve).max(1) > 0  # no number is exactly zero by chance
        variance, step = np.full(len(at), np.nan), np.zeros(len(at))
        if free.any():
            inverse = _inverted(
                -curve[np.ix_(free, free)], [name for name, one in zip(names, free, strict=True) if one]
            )
            variance[free], step[free] = np.diagonal(inverse), inverse @ slope[free]
            _, ahead, _ = _summed(exact, at + step, data)
            _refuse_no_maximum(slope @ step / total, ahead @ step / total, np.abs(step) / np.sqrt(variance))
        errors = back(jnp.sqrt(jnp.asarray(variance)))
    kind = jnp.result_type(float)
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, kind)), errors)


@eqx.filter_jit
def _block(model: Any, at: Float[Array, " P"], block: Datum) -> tuple[Array, Array, Array]:
    back = ravel_pytree(trainable(model))[1]
    weight = jnp.ones(len(block)) if block.weight is None else block.weight

    def value(at: Float[Array, " P"]) -> Float[Array, ""]:
        each = jax.vmap(eqx.combine(back(at), model).log_marginal)(block)
        return weight @ jnp.where(weight > 0, each, 0.0)

    return jnp.sum(weight), *Newton().seen(value, at)[1:]


def _summed(model: Any, at: Float[Array, " P"], data: Data | Stream) -> tuple[Any, np.ndarray, np.ndarray]:
    """The weight, gradient and second derivatives of the log-likelihood of all data."""
    first = data[:1] if isinstance(data, Data) else next(iter(data.blocks(1)))
    rows = block_rows(first, isinstance(model, OfSequences), values(model))
    if isinstance(data, Data):
        shared = isinstance(model, SecondOrder) and model.work > 0  # worked out once for each block
        rows = len(data) if shared else min(rows, len(data))
    found = [
        jax.tree.map(np.asarray, _block(model, at, on_device(padded(as_datum(block, None), rows))))
        for block in data.blocks(rows)
    ]
    total, slope, curve = (np.sum(np.stack(each), 0) for each in zip(*found, strict=True))
    return total, slope, curve


def _inverted(information: np.ndarray, names: list[str]) -> np.ndarray:
    scale = np.sqrt(np.abs(np.diagonal(information)))
    scale = np.where(scale > 0, scale, 1.0)
    sizes, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    if not np.isfinite(sizes).all():
        raise ValueError("data: the likelihood's second derivatives are not finite at these parameters")
    if sizes[0] <= SINGULAR * sizes[-1]:
        most = np.argsort(-np.abs(vectors[:, 0]))[:NAMED]
        which = ", ".join(names[j] for j in sorted(most) if abs(vectors[j, 0]) > 1e-3)
        if sizes[0] < -SINGULAR * sizes[-1]:
            raise ValueError(
                "model: its parameters are no maximum of the likelihood of these data, which curves upwards along "
                f"{which}; fit it to them first, with optimiser=veil.Newton()"
            )
        raise ValueError(
            f"data: they do not determine the parameters: the information is singular, along {which}; use features "
            "that are not combinations of others, or fewer parameters"
        )
    return (vectors / sizes) @ vectors.T / np.outer(scale, scale)


def _refuse_no_maximum(slope: float, ahead: float, distance: np.ndarray) -> None:
    """ValueError where the likelihood still rises: ``slope`` along a Newton step, ``ahead`` what is left behind it."""
    if ROUNDING < slope < NEAR and ahead > LEFT * slope:
        raise ValueError(
            "data: they are separable: the likelihood goes on rising while parameters run off to infinity, and has no "
            "curvature there; use more data, fewer parameters, or a posterior over them"
        )
    if np.nanmax(distance) > FAR:
        raise ValueError(
            f"model: its parameters are {np.nanmax(distance):.2g} standard errors from a maximum of the likelihood of "
            "these data; fit it to them first, with optimiser=veil.Newton()"
        )


def _names(tree: Any) -> list[str]:
    """What each number of a tree of parameters is called."""
    named = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path).lstrip(".")
        named += [f"{name}{list(place)}" if place else name for place in np.ndindex(leaf.shape)]
    return named
