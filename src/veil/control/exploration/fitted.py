"""Densities that are fitted models with sums: stepwise expectation maximisation, a datum at a time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.densities import Density
from veil.control.exploration.held import held
from veil.learning.learner import all_finite, where_each
from veil.model import ClosedForm, Datum, checks
from veil.model.abilities import name_of
from veil.parts.statistics import contract


class Running(eqx.Module):
    """The model, its statistics averaged over what was seen, and how many x that were."""

    model: Any
    average: Any
    number: Float[Array, ""]


class StepwiseEM(Density):
    """p(x) of a fitted model in closed form (a Gaussian mixture, PPCA, ...), whose sums go on with every x.

        s_n = (1 - γ_n) s_n-1 + γ_n E[statistics of x_n | model_n-1],   model_n = maximise(n s_n),   γ_n = n^-``power``

    Cappé & Moulines 2009, "On-line expectation-maximization algorithm for latent data models". ``first``, x [N, ...]:
    data that the model was fitted to, or others like them; the sums begin with them, so that n begins at N. With the
    power 1 all x count the same, as counts want (one Gaussian is then the maximum likelihood of all data);
    from .6 on the past is forgotten, as learning from a poor start wants, and what is counted is what is remembered.

    The density is of numbers in the model's units: in ``PseudoCounts`` give ``volume`` 0, or that of a cell. A step
    that is not finite is not taken. Raises TypeError for a model that has no closed form, or none in its own units,
    ValueError for one without parameters.

    >>> import veil
    >>> data = veil.data.load("faithful")
    >>> model = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0)).model
    >>> density = StepwiseEM(model, data.query[:100])
    >>> state = jax.jit(density.init)(jnp.zeros(2), jax.random.key(0))
    >>> state = jax.jit(density.update)(state, jnp.asarray(data.query[100:], float))
    >>> float(state.number)
    272.0
    """

    model: Any = eqx.field(static=True, converter=held)
    first: Any = eqx.field(static=True, converter=held)
    power: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        model = self.model.value
        checks.fitted(model)
        if not isinstance(model, ClosedForm) or not model.closed_form:
            raise TypeError(
                f"model: expected one with a closed-form M-step, such as veil.Mixture; got {name_of(model)}: give "
                "Trained(veil.Trainer(model), ...)"
            )
        if not 0.5 < self.power <= 1:
            raise ValueError(f"power: expected a number above 1/2, up to 1; got {self.power!r}")

    def init(self, example: Any, key: PRNGKeyArray) -> Running:
        model, first = self.model.value, jax.tree.map(jnp.asarray, self.first.value)
        count = jax.tree.leaves(first)[0].shape[0]
        start = self._statistics(model, first, jnp.full(count, 1.0 / count))
        return self._with(model, start, jnp.asarray(float(count)))

    def _statistics(self, model: Any, batch: Any, weight: Float[Array, " N"]) -> Any:
        def one(x: Any) -> Any:
            datum = Datum(x)
            return model.statistics(datum, model.expectations(datum)[0])

        return contract(jax.vmap(one)(batch), weight)

    def _with(self, model: Any, average: Any, number: Float[Array, ""]) -> Running:
        """After an M-step: its penalties and floors are those of sums over so many data."""
        proposal = model.maximise(jax.tree.map(lambda leaf: number * leaf, average))
        return Running(proposal, model.recentred(average, proposal), number)

    def log_prob(self, state: Running, x: Any) -> Float[Array, ""]:
        return state.model.expectations(Datum(x))[1]

    def update(self, state: Running, batch: Any) -> Running:
        def learn(state: Running, x: Any) -> tuple[Running, None]:
            number = state.number + 1.0
            size = number**-self.power
            new = self._statistics(state.model, jax.tree.map(lambda leaf: leaf[None], x), jnp.ones(1))
            blend = jax.tree.map(lambda old, new: (1.0 - size) * old + size * new, state.average, new)
            after = self._with(state.model, blend, number)
            return where_each(all_finite(after), after, state), None

        arrays, rest = eqx.partition(state, eqx.is_array)

        def step(arrays: Any, x: Any) -> tuple[Any, None]:
            return eqx.filter(learn(eqx.combine(arrays, rest), x)[0], eqx.is_array), None

        return eqx.combine(jax.lax.scan(step, arrays, batch)[0], rest)
