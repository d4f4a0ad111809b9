"""Gradient ascent as a learner."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.learning.learner import NOT_FINITE, RUNNING, Info, Learner, Sums, where_each
from veil.model import Datum, Plate
from veil.model.scales import Scale
from veil.objective import Objective
from veil.parts.nets import lowered

PATIENCE = 10  # steps in a row that are not finite


class Optimiser(eqx.Module):
    """How gradients become steps: an optax ``transform``, and what a trainer does around it.

    ``average``: the decay a step of an exponential moving average of the parameters, which is what a fit then returns
    (Polyak & Juditsky 1992), or None; ``mixed_precision``: networks multiply in bfloat16 and add in float32, while
    parameters and likelihoods stay float32 (Micikevicius et al. 2018, without their loss scaling, which bfloat16's
    range makes needless); ``flat``: give the transform all parameters as one vector, which is one pass over memory
    instead of several: for transforms that treat every number alike (Adam, momentum; no masks, no norms of layers).

    >>> import optax
    >>> Optimiser(optax.adam(1e-3), average=0.999).average
    0.999
    """

    transform: Any = eqx.field(static=True)
    average: float | None = eqx.field(static=True, default=None)
    mixed_precision: bool = eqx.field(static=True, default=False)
    flat: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        import optax

        if not isinstance(self.transform, optax.GradientTransformation):
            raise TypeError(f"transform: expected an optax optimiser, such as optax.adam(1e-3); got {self.transform!r}")
        if self.average is not None and not 0 <= self.average < 1:
            raise ValueError(f"average: expected a decay from 0 to below 1, such as 0.999; got {self.average!r}")


class GradientState(eqx.Module):
    """What gradient ascent carries: model and posterior as they are now, and their moving averages if asked for."""

    model: Any
    posterior: Any
    objective: Objective
    optimiser: Any
    skipped: Int[Array, ""]
    code: Int[Array, ""]
    step: Int[Array, ""]
    begin: Any = None
    average: Any = None


class Gradient(Learner):
    """Stochastic gradient ascent of any objective, on the model and the posterior together.

    With ``fixed`` the model stays as it is and only the posterior learns. A step whose value, gradient or update is not
    finite is skipped and counted; ten such steps in a row end the run. The objective is part of the state: it
    may have schedules and running averages.

    With ``carried`` each row of a batch is a window that goes on where the same row of the last batch ended, unless it
    is reset: truncated backpropagation through time. No gradient passes from one window to another.
    """

    objective: Objective
    optimiser: Optimiser
    fixed: bool = eqx.field(static=True, default=False)
    carried: bool = eqx.field(static=True, default=False)

    def init(self, model: Any, block: Datum) -> GradientState:
        model, posterior = model
        zero = jnp.zeros((), int)
        objective = jax.tree.map(jnp.asarray, self.objective)
        parameters, _ = self._parameters(model, posterior)
        begin = None
        if self.carried:
            rows = len(block)
            begin = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (rows, *leaf.shape)), posterior.begin(model))
        average = None if self.optimiser.average is None else parameters
        optimiser = self.optimiser.transform.init(parameters)
        return GradientState(model, posterior, objective, optimiser, zero, zero, zero, begin, average)

    def _parameters(self, model: Any, posterior: Any) -> tuple[Any, Callable[[Any], Any]]:
        """What is trained, and how to put it back into (model, posterior)."""
        trained = trainable(model)
        pair = jax.tree.map(lambda _: None, trained) if self.fixed else trained, trainable(posterior)
        if not self.optimiser.flat:
            return pair, lambda parameters: eqx.combine(parameters, (model, posterior))
        vector, back = ravel_pytree(pair)
        return vector, lambda vector: eqx.combine(back(vector), (model, posterior))

    def accumulate(self, state: GradientState, block: Datum, key: PRNGKeyArray) -> Sums:
        weight = jnp.ones(len(block)) if block.weight is None else block.weight
        if isinstance(state.model, Plate) and not state.objective.local_noise:
            # all data of a step see the same draws of the latent that they share, which are made once
            keys: Any = key
            axes: tuple[int, int | None] = (0, None)
        else:
            keys, axes = jax.random.split(key, len(block)), (0, 0)
        block = replace(block, begin=state.begin)
        parameters, back = self._parameters(state.model, state.posterior)

        def value(parameters: Any) -> tuple[Array, Any]:
            model, posterior = back(parameters)
            if self.optimiser.mixed_precision:
                model, posterior = lowered(model), lowered(posterior)
            estimates = jax.vmap(lambda datum, key: state.objective(model, posterior, datum, key), axes)(block, keys)
            return weight @ jnp.where(weight > 0, estimates.value, 0.0), jax.tree.map(
                lambda metric: weight @ metric, estimates.metrics
            )

        (total, metrics), gradient = jax.value_and_grad(value, has_aux=True)(parameters)
        ends = None
        if self.carried:
            ended = lambda datum, key: state.posterior.ended(state.model, datum, jax.random.fold_in(key, 1))  # noqa: E731
            ends = jax.vmap(ended, axes)(block, keys)
        return Sums((gradient, metrics, ends), total, jnp.sum(weight), jnp.zeros(0))

    def update(self, state: GradientState, sums: Sums, total: Float[Array, ""]) -> tuple[GradientState, Info]:
        import optax  # here, because EM need not wait for it

        parameters, back = self._parameters(state.model, state.posterior)
        gradient, metrics, ends = sums.terms
        value = sums.value / sums.weight
        # the one minus sign: optimisers descend, objectives are to be raised
        descent = jax.tree.map(lambda term: -term / sums.weight, gradient)
        # A branch, not a choice between new and old numbers, which would cost another pass over every parameter.
        # Norms, because one is computed for clipping already.
        fine = (state.code == RUNNING) & jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(descent))

        def move(before: tuple[Any, Any]) -> tuple[Any, Any, Array]:
            updates, optimiser = self.optimiser.transform.update(descent, before[1], before[0])
            whole = jnp.isfinite(optax.tree.norm(updates))
            updates = jax.tree.map(lambda update: jnp.where(whole, update, 0.0), updates)
            return optax.apply_updates(before[0], updates), optimiser, whole

        stay = lambda before: (*before, jnp.array(False))  # noqa: E731
        parameters, optimiser, fine = jax.lax.cond(fine, move, stay, (parameters, state.optimiser))
        model, posterior = back(parameters)
        skipped = jnp.where(fine, 0, state.skipped + 1)
        code = jnp.where(skipped >= PATIENCE, NOT_FINITE, state.code)
        objective = state.objective.advanced(jax.tree.map(lambda metric: metric / sums.weight, metrics))
        objective = where_each(fine, objective, state.objective)
        begin = None if ends is None else where_each(fine, ends, state.begin)
        average = self._averaged(state, parameters, fine)
        next_state = GradientState(
            model, posterior, objective, optimiser, skipped, code, state.step + 1, begin, average
        )
        return next_state, Info(value, jnp.zeros_like(value), code, (~fine).astype(int), jnp.zeros(()))

    def _averaged(self, state: GradientState, parameters: Any, fine: Array) -> Any:
        """The moving average after a step: of few steps that of all, with the decay (1 + t) / (10 + t) at first."""
        if self.optimiser.average is None:
            return None
        decay = jnp.minimum(self.optimiser.average, (1.0 + state.step) / (10.0 + state.step))
        decay = jnp.where(fine, decay, 1.0)
        return jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, state.average, parameters)

    def learned(self, state: GradientState) -> tuple[Any, Any]:
        """Model and posterior as a fit returns them: their moving averages where there are some."""
        if state.average is None:
            return state.model, state.posterior
        return self._parameters(state.model, state.posterior)[1](state.average)


def trainable(model: Any) -> Any:
    """The model with everything but its trained arrays replaced by None: units of measurement are not trained."""
    fixed = lambda node: isinstance(node, Scale)  # noqa: E731
    return eqx.filter(
        jax.tree.map(lambda node: None if fixed(node) else node, model, is_leaf=fixed), eqx.is_inexact_array
    )
