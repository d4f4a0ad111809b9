"""Conditioning a joint Gaussian mixture: p(any variables | any others) is again a mixture."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from veil.data.core.columns import resolve
from veil.maths import gaussian
from veil.model.abilities import started
from veil.parts.covariance import Full
from veil.parts.experts import LinearGaussian
from veil.parts.gates import Discriminant, Gate, Single, Softmax
from veil.posterior.arguments import Fitted, parts
from veil.zoo.mixture import Mixture


def condition(
    model: Any, *, query: Sequence[Any], evidence: Sequence[Any] = (), names: Sequence[str] | None = None
) -> Mixture:
    """p(y_a | y_b) from a fitted joint p(y) = Σ_z π_z N(y; μ_z, Σ_z), exact; with no evidence, the marginal p(y_a).

    The result is a mixture of linear-Gaussian experts, W_z and Σ_z from the conditional of each Gaussian, whose gate is
    p(z | y_b) ∝ π_z N(y_b; μ_z,b, Σ_z,bb). Columns that are in neither are integrated out. Bishop 2006, section 2.3.1.

    Arguments:
        model: a fitted Gaussian mixture or Gaussian density without evidence, or a ``Fit`` of one.
        query, evidence: columns of the joint query, by name or position.
        names: what those columns are called (``data.query_names``), unless the ``Fit`` knows.

    Raises:
        TypeError, ValueError: not such a model, or columns out of range, repeated, or in both.

    >>> import jax, veil
    >>> joint = veil.fit(veil.Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0)).model
    >>> waiting = condition(joint, query=[1], evidence=[0])
    >>> round(float(veil.predict(waiting, [[2.0]]).mean[0, 0]))
    54
    >>> condition(joint, query=["waiting"], names=["eruptions", "waiting"]).experts.mean.shape
    (2, 1)
    """
    known = vars(model).get("query_names") if isinstance(model, Fitted) else None
    query, evidence = (
        _places(columns, names or known, what) for columns, what in ((query, "query"), (evidence, "evidence"))
    )
    model, _ = parts(model, None)
    if not isinstance(model, Mixture) or not isinstance(model.experts, LinearGaussian):
        raise TypeError("model: conditioning needs a fitted mixture (or density) with LinearGaussian experts")
    if not started(model) or model.sizes.inputs != 0:
        raise ValueError("model: conditioning needs a fitted joint model of all columns, without evidence of its own")
    size = model.experts.mean.shape[1]
    wanted, given = tuple(int(i) for i in query), tuple(int(i) for i in evidence)
    if not wanted:
        raise ValueError("query: expected at least one column")
    for name, columns in (("query", wanted), ("evidence", given)):
        if any(i < 0 or i >= size for i in columns):
            raise ValueError(f"{name}: expected columns from 0 to {size - 1}; got {columns}")
    if len(set(wanted + given)) < len(wanted + given):
        raise ValueError(f"query, evidence: every column at most once; got {wanted} and {given}")
    gate: Gate = model.gate
    if not isinstance(gate, Softmax | Single):
        raise TypeError(f"model: cannot condition a mixture whose gate is {type(gate).__name__}")
    dtype, stored, means = jnp.result_type(float), model.experts.covariance, model.experts.mean
    with jax.enable_x64(True):  # conditional covariances are differences
        exact = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), stored)
        mean = jnp.asarray(np.asarray(means, np.float64))
        covariance = jnp.broadcast_to(exact.dense_covariance(), (*mean.shape, size))
        weight, conditional = jax.vmap(lambda m, c: gaussian.condition(m, c, wanted, given))(mean, covariance)
        index = np.asarray(given, dtype=int)
        inner = covariance[:, index[:, None], index[None, :]]
        factors = [
            np.asarray(gaussian.safe_cholesky(each)) for each in ([conditional, inner] if given else [conditional])
        ]
        regression = np.asarray(weight)
    experts = LinearGaussian(Full(factor=jnp.asarray(factors[0], dtype)), weight=jnp.asarray(regression, dtype))
    if given and isinstance(gate, Softmax):
        gate = Discriminant(gate.logits(jnp.ones(1)), means[:, index], Full(factor=jnp.asarray(factors[1], dtype)))
    return Mixture(experts, model.components, gate)


def _places(columns: Sequence[Any], names: Sequence[str] | None, argument: str) -> Sequence[int]:
    """Columns as positions."""
    if all(isinstance(each, int | np.integer) for each in columns):
        return columns
    if not names or not all(isinstance(each, str | int | np.integer) for each in columns):
        named = "" if names else ", or names, with names=data.query_names"
        raise ValueError(f"{argument}: expected positions of columns, such as [0, 2]{named}; got {columns!r}")
    return resolve(tuple(names), columns, argument)
