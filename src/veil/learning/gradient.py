"""Gradient ascent as a learner."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.learning.learner import NOT_FINITE, RUNNING, Info, Learner, Sums, where_each
from veil.model import Datum
from veil.objective import Objective
from veil.parts.nets import lowered
from veil.units import Units

PATIENCE = 10  # steps in a row that are not finite


class GradientState(eqx.Module):
    model: Any
    posterior: Any
    objective: Objective
    optimiser: Any
    skipped: Int[Array, ""]
    code: Int[Array, ""]
    step: Int[Array, ""]
    begin: Any = None


class Gradient(Learner):
    """Stochastic gradient ascent of any objective by an optax optimiser, on the model and the posterior together.

    With ``fixed`` the model stays as it is and only the posterior learns. A step whose value, gradient or update is not
    finite is skipped and counted; ten such steps in a row end the run. The objective is part of the state: it
    may have schedules and running averages. With ``mixed`` networks multiply in bfloat16 (Micikevicius et al. 2018,
    without their loss scaling, which bfloat16's range makes needless); the trained parameters stay as they are.

    With ``carried`` each row of a batch is a window that goes on where the same row of the last batch ended, unless it
    is reset: truncated backpropagation through time. No gradient passes from one window to another.
    """

    objective: Objective
    optimiser: Any = eqx.field(static=True)
    fixed: bool = eqx.field(static=True, default=False)
    mixed: bool = eqx.field(static=True, default=False)
    carried: bool = eqx.field(static=True, default=False)

    def init(self, model: Any, block: Datum) -> GradientState:
        model, posterior = model
        zero = jnp.zeros((), int)
        objective = jax.tree.map(jnp.asarray, self.objective)
        optimiser = self.optimiser.init(self._trained(model, posterior))
        begin = None
        if self.carried:
            rows = len(block.query)
            begin = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (rows, *leaf.shape)), posterior.init(model))
        return GradientState(model, posterior, objective, optimiser, zero, zero, zero, begin)

    def _trained(self, model: Any, posterior: Any) -> Any:
        trained = trainable(model)
        return jax.tree.map(lambda _: None, trained) if self.fixed else trained, trainable(posterior)

    def accumulate(self, state: GradientState, block: Datum, key: PRNGKeyArray) -> Sums:
        weight = jnp.ones(len(block.query)) if block.weight is None else block.weight
        keys = jax.random.split(key, len(block.query))
        block = replace(block, begin=state.begin)

        def value(parameters: Any) -> tuple[Array, Any]:
            model, posterior = eqx.combine(parameters, (state.model, state.posterior))
            if self.mixed:
                model, posterior = lowered(model), lowered(posterior)
            estimates = jax.vmap(lambda datum, key: state.objective(model, posterior, datum, key))(block, keys)
            return weight @ estimates.value, jax.tree.map(lambda metric: weight @ metric, estimates.metrics)

        parameters = self._trained(state.model, state.posterior)
        (total, metrics), gradient = jax.value_and_grad(value, has_aux=True)(parameters)
        ends = None
        if self.carried:
            ended = lambda datum, key: state.posterior.ended(state.model, datum, jax.random.fold_in(key, 1))  # noqa: E731
            ends = jax.vmap(ended)(block, keys)
        return Sums((gradient, metrics, ends), total, jnp.sum(weight), jnp.zeros(0))

    def update(self, state: GradientState, sums: Sums, total: Float[Array, ""]) -> tuple[GradientState, Info]:
        import optax  # here, because EM need not wait for it

        parameters = self._trained(state.model, state.posterior)
        gradient, metrics, ends = sums.terms
        # the one minus sign: optimisers descend, objectives are to be raised
        descent = jax.tree.map(lambda term: -term / sums.weight, gradient)
        value = sums.value / sums.weight
        # A branch, not a choice between new and old numbers, which would cost another pass over every parameter.
        # Norms, because one is computed for clipping already.
        fine = (state.code == RUNNING) & jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(descent))

        def move(before: tuple[Any, Any]) -> tuple[Any, Any, Array]:
            updates, optimiser = self.optimiser.update(descent, before[1], before[0])
            whole = jnp.isfinite(optax.tree.norm(updates))
            updates = jax.tree.map(lambda update: jnp.where(whole, update, 0.0), updates)
            return optax.apply_updates(before[0], updates), optimiser, whole

        stay = lambda before: (*before, jnp.array(False))  # noqa: E731
        parameters, optimiser, fine = jax.lax.cond(fine, move, stay, (parameters, state.optimiser))
        model, posterior = eqx.combine(parameters, (state.model, state.posterior))
        skipped = jnp.where(fine, 0, state.skipped + 1)
        code = jnp.where(skipped >= PATIENCE, NOT_FINITE, state.code)
        objective = state.objective.advanced(jax.tree.map(lambda metric: metric / sums.weight, metrics))
        objective = where_each(fine, objective, state.objective)
        begin = None if ends is None else where_each(fine, ends, state.begin)
        next_state = GradientState(model, posterior, objective, optimiser, skipped, code, state.step + 1, begin)
        return next_state, Info(value, jnp.zeros_like(value), code, (~fine).astype(int), jnp.zeros(()))


def trainable(model: Any) -> Any:
    """The model with everything but its trained arrays replaced by None: units of measurement are not trained."""
    fixed = lambda node: isinstance(node, Units)  # noqa: E731
    return eqx.filter(
        jax.tree.map(lambda node: None if fixed(node) else node, model, is_leaf=fixed), eqx.is_inexact_array
    )
