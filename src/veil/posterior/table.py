"""Variational inference proper: each datum has variational parameters of its own."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.model import Datum, Model
from veil.parts.heads import DiagonalGaussian, Head
from veil.parts.priors import FLOOR
from veil.posterior.amortized import latent_shape
from veil.posterior.base import Posterior


class Table(Posterior):
    """q_n(z) = head(row n): per-datum variational parameters, found by the datum's ``index``. No amortization gap.

    ``head``: the family, ``DiagonalGaussian()`` (mean field) or ``FullGaussian()``; default: what the prior suggests.
    Rows [N, size]. It knows the data it was fitted to and no others: for new data fit it anew with the model fixed
    (``veil.fit(model, data, posterior=Table(), fixed=True)``).
    """

    head: Head | None = None
    shape: tuple[int, ...] = eqx.field(static=True, default=())
    rows: Float[Array, "N V"] | None = None

    @property
    def per_datum(self) -> bool:
        return True

    @property
    def count(self) -> int | None:
        return None if self.rows is None else len(self.rows)

    @property
    def ready(self) -> bool:
        return self.rows is not None

    def initialise(self, model: Model, example: Datum, count: int, key: PRNGKeyArray) -> "Table":
        shape = latent_shape(model, example)
        head = self.head or getattr(getattr(model, "latent", None), "head", None) or DiagonalGaussian(FLOOR)
        return Table(head, shape, jnp.zeros((count, head.size(shape))))

    def vector(self, model: Model, datum: Datum) -> Float[Array, " V"]:
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

    def __call__(self, model: Model, datum: Datum) -> Distribution:
        return self.distribution(self.vector(model, datum))
