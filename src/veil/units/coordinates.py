"""The affine maps between the user's units and standardised ones."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil import distributions
from veil.data import Data
from veil.data.core.episodes import steps
from veil.distributions import Distribution
from veil.model import Datum, Model, OfSequences, Startable
from veil.model.abilities import RealLine, Space
from veil.model.scales import Scale
from veil.units.normalisations import Normalisation, Robust


class Units(eqx.Module):
    """The affine maps between the user's units and standardised ones: trees like query and evidence.

    A leaf is a ``Scale``, or None where numbers stay as they are (counts, categories, pixels).
    """

    query: Any = None
    evidence: Any = None

    @staticmethod
    def of(data: Data, model: Model | None = None, by: Any = None) -> "Units":
        """Units of (a sample of) data, ``by`` a normalisation of ``veil.units``: ``Robust()`` unless another is given.

        Of the query where the model says it is on the real line (of no model: everywhere), and of the evidence.

        >>> Units.of(Data([[1.0], [3.0], [9.0]])).query.shift.tolist()
        [3.0]
        """
        by = Robust() if by is None else by
        if not isinstance(by, Normalisation):
            raise TypeError(f"by: expected a normalisation, such as veil.units.Deviation(); got {by!r}")
        rows = steps(data) if isinstance(model, OfSequences) else data
        weights = np.ones(len(rows)) if rows.weight is None else np.asarray(rows.weight, np.float64)
        space = model.space if isinstance(model, Startable) else RealLine() if model is None else Space()
        query = _measured(by, space, rows.query, weights, rows.observed)
        evidence = None if rows.evidence is None else _measured(by, RealLine(), rows.evidence, weights, None)
        return Units(query, evidence)

    @property
    def none(self) -> bool:
        """Whether everything stays as it is."""
        return not jax.tree.leaves((self.query, self.evidence))

    def inverse(self) -> "Units":
        """The maps back."""
        back = lambda scale: None if scale is None else scale.inverse()  # noqa: E731
        return Units(_each(back, self.query), _each(back, self.evidence))

    def given(self, evidence: Any) -> Any:
        """Standardised evidence."""
        return None if evidence is None else _each(_standard, self.evidence, evidence)

    def asked(self, query: Any) -> Any:
        """A standardised query; None stays None."""
        return None if query is None else _each(_standard, self.query, query)

    def back(self, query: Any) -> Any:
        """A query in the user's units."""
        return _each(lambda scale, value: value if scale is None else scale.back(value), self.query, query)

    def standard(self, datum: Datum) -> Datum:
        """A datum in standardised coordinates."""
        return replace(datum, query=self.asked(datum.query), evidence=self.given(datum.evidence))

    def distribution(self, base: Distribution) -> Distribution:
        """The distribution of y from that of standardised y."""
        return _distribution(self.query, base)

    def sequence(self, base: Distribution) -> Distribution:
        """The distribution of y_1..T, whose steps all have these units, from that of the standardised steps."""
        if not jax.tree.leaves(self.query):
            return base

        steps = jax.eval_shape(base.sample, jax.random.key(0))

        def wide(which: int) -> Any:
            """Shift (0) or scale (1) of every entry; where there is no scale just that number."""

            def one(scale: Scale | None, leaf: jax.ShapeDtypeStruct) -> Array:
                return jnp.broadcast_to(float(which) if scale is None else scale.held()[which], leaf.shape)

            return _each(one, self.query, steps)

        return distributions.Affine(base, wide(0), wide(1))

    def log_jacobian(self, datum: Datum, sequence: bool = False) -> Float[Array, ""]:
        """log |d standard / d y| = -Σ log scale over the entries of y that are present (and the steps), nats."""
        there = datum.there if sequence else None

        def one(scale: Scale | None, query: Array, observed: Array | None) -> Float[Array, ""]:
            if scale is None:
                return jnp.zeros(())
            logs = -jnp.broadcast_to(jnp.log(scale.held()[1]), query.shape)
            logs = logs if observed is None else jnp.where(observed, logs, 0.0)
            if there is not None:
                logs = jnp.where(there.reshape(-1, *[1] * (logs.ndim - 1)), logs, 0.0)
            return jnp.sum(logs)

        observed = datum.observed
        if observed is None:
            observed = jax.tree.map(lambda _: None, datum.query)
        parts = _each(one, self.query, datum.query, observed)
        return sum(jax.tree.leaves(parts), jnp.zeros(()))


def _each(function: Any, scales: Any, *trees: Any) -> Any:
    """``function(scale, *leaves)`` of every leaf of a tree of scales; where that is None as a whole, of whole trees."""
    if isinstance(scales, dict):
        return {name: _each(function, scales[name], *(tree[name] for tree in trees)) for name in scales}
    return function(scales, *trees)


def _standard(scale: Scale | None, value: Any) -> Any:
    return value if scale is None else scale.standard(value)


def _measured(by: Normalisation, space: Space, values: Any, weights: np.ndarray, observed: Any) -> Any:
    if isinstance(values, dict):
        seen = {} if observed is None else observed
        return {name: _measured(by, space.at(name), values[name], weights, seen.get(name)) for name in values}
    return by(values, weights, observed, space.isotropic) if space.real else None


def _distribution(scales: Any, base: Any) -> Any:
    if isinstance(scales, dict):
        return distributions.Joint({name: _distribution(scales[name], base.parts[name]) for name in scales})
    return base if scales is None else distributions.Affine(base, *scales.held())
