"""Variational inference proper: each datum has variational parameters of its own."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.model import Datum
from veil.model.abilities import parameter
from veil.parts.heads import Head
from veil.posterior.amortized import family, latent_shape
from veil.posterior.base import Learned, PerDatum, Vectorial


class Table(Learned, Vectorial, PerDatum):
    """q_n(z) = head(row n): per-datum variational parameters, found by the datum's ``index``. No amortization gap.

    ``head``: the family, ``DiagonalGaussian()`` (mean field) or ``FullGaussian()``; default: what the prior suggests.
    Rows [N, size]. It knows the data it was fitted to and no others: for new data fit it anew with the model fixed
    (``veil.fit(model, data, posterior=Table(), fixed=True)``).
    """

    head: Head | None = None
    shape: tuple[int, ...] = eqx.field(static=True, default=())
    rows: Float[Array, "N V"] | None = parameter()

    @property
    def count(self) -> int | None:
        return None if self.rows is None else len(self.rows)

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "Table":
        shape = latent_shape(model, example)
        head = self.head or family(model, example)
        return Table(head, shape, jnp.zeros((count, head.size(shape))))

    def vector(self, model: Any, datum: Datum) -> Float[Array, " V"]:
        """The row of this datum."""
        if self.rows is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        if datum.index is None:
            raise ValueError("index: a posterior with one row per datum needs Data(..., index=row numbers)")
        # a number beyond the table gives NaN and so an error further on, never another datum's row
        return self.rows.at[datum.index].get(mode="fill", fill_value=jnp.nan)

    def distribution(self, vector: Float[Array, " V"]) -> Distribution:
        """q from one row."""
        assert self.head is not None
        return self.head(vector, self.shape)

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        return self.distribution(self.vector(model, datum))
