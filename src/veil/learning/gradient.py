"""Gradient ascent as a learner."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.learning.learner import NOT_FINITE, RUNNING, Info, Learner, Sums, where_each
from veil.model import Datum, Plate
from veil.model.scales import Untrained
from veil.objective import Objective
from veil.parts.nets import lowered

PATIENCE = 10  # steps in a row that are not finite


class Optimiser(eqx.Module):
    """How gradients become steps: an optax ``transform``, and what a trainer does around it.

    ``average``: the decay a step of an exponential moving average of the parameters, which is what a fit then returns
    (Polyak & Juditsky 1992), or None; ``clip``: gradients of a larger norm are scaled down to this one (Pascanu et al.
    2013), which costs next to nothing here and two passes over memory in the transform; ``mixed_precision``: networks
    multiply in bfloat16 and add in float32, while parameters and likelihoods stay float32 (Micikevicius et al. 2018,
    without their loss scaling, which bfloat16's range makes needless); ``bounded``: the transform's updates are finite
    wherever gradients are, as Adam's behind clipping, so that they are not looked at, which costs one pass more;
    ``horizon``: multiply updates by (1 + cos(π t / horizon)) / 2 at step t, zero from there on (Loshchilov & Hutter
    2017, eq. 5, without restarts). It is a number like the data: another one compiles nothing.

    >>> import optax
    >>> Optimiser(optax.adam(1e-3), average=0.999).average
    0.999
    """

    transform: Any = eqx.field(static=True)
    average: float | None = eqx.field(static=True, default=None)
    clip: float | None = eqx.field(static=True, default=None)
    mixed_precision: bool = eqx.field(static=True, default=False)
    bounded: bool = eqx.field(static=True, default=False)
    horizon: Any = eqx.field(default=None, converter=lambda steps: None if steps is None else np.asarray(steps, int))

    def __check_init__(self) -> None:
        import optax

        if not isinstance(self.transform, optax.GradientTransformation):
            raise TypeError(f"transform: expected an optax optimiser, such as optax.adam(1e-3); got {self.transform!r}")
        if self.average is not None and not 0 <= self.average < 1:
            raise ValueError(f"average: expected a decay from 0 to below 1, such as 0.999; got {self.average!r}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip: expected a positive norm, such as 10.0, or None; got {self.clip!r}")

    def share(self, step: Int[Array, ""]) -> Float[Array, ""] | float:
        """What of an update is taken at a step."""
        if self.horizon is None:
            return 1.0
        return 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(step / self.horizon, 1.0)))


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
        parameters = self._parameters(model, posterior)
        begin = None
        if self.carried:
            rows = len(block)
            begin = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (rows, *leaf.shape)), posterior.begin(model))
        average = None if self.optimiser.average is None else parameters
        optimiser = self.optimiser.transform.init(parameters)
        return GradientState(model, posterior, objective, optimiser, zero, zero, zero, begin, average)

    def _parameters(self, model: Any, posterior: Any) -> Any:
        """What is trained of (model, posterior), and None in the place of the rest."""
        trained = trainable(model)
        return jax.tree.map(lambda _: None, trained) if self.fixed else trained, trainable(posterior)

    def accumulate(self, state: GradientState, block: Datum, key: PRNGKeyArray) -> Sums:
        weight = jnp.ones(len(block)) if block.weight is None else block.weight
        if isinstance(state.model, Plate) and not state.objective.local_noise:
            # all data of a step see the same draws of the latent that they share, which are made once
            keys: Any = key
            axes: tuple[int, int | None] = (0, None)
        else:
            keys, axes = jax.random.split(key, len(block)), (0, 0)
        if self.carried:
            block = replace(block, begin=state.begin)
        pair = state.model, state.posterior

        def value(parameters: Any) -> tuple[Array, Any]:
            model, posterior = eqx.combine(parameters, pair)
            if self.optimiser.mixed_precision:
                model, posterior = lowered(model), lowered(posterior)
            estimates = jax.vmap(lambda datum, key: state.objective(model, posterior, datum, key), axes)(block, keys)
            for name, metric in estimates.metrics.items():
                if metric.ndim != 1:
                    raise ValueError(
                        f"objective: metric {name!r} of its Estimate must be one number; got {metric.shape[1:]}"
                    )
            total = weight @ jnp.where(weight > 0, estimates.value, 0.0)
            return total, jax.tree.map(lambda metric: weight @ metric, estimates.metrics)

        (total, metrics), gradient = jax.value_and_grad(value, has_aux=True)(self._parameters(*pair))
        ends = None
        if self.carried:
            ended = lambda datum, key: state.posterior.ended(state.model, datum, jax.random.fold_in(key, 1))  # noqa: E731
            ends = jax.vmap(ended, axes)(block, keys)
        memory = {name: metrics.pop(name) for name in list(metrics) if name.startswith("_")}
        return Sums((gradient, memory, ends), total, jnp.sum(weight), jnp.zeros(0), metrics)

    def update(self, state: GradientState, sums: Sums, total: Float[Array, ""]) -> tuple[GradientState, Info]:
        import optax  # here, because EM need not wait for it

        pair = state.model, state.posterior
        gradient, memory, ends = sums.terms
        memory, metrics = jax.tree.map(lambda metric: metric / sums.weight, (memory, sums.metrics))
        value = sums.value / sums.weight
        # The norm that clipping needs says whether all is finite; its factor is applied where the optimiser reads the
        # gradient; in a branch the new numbers take the place of the old ones. All else is one more pass over memory.
        norm = optax.tree.norm(gradient) / sums.weight
        fine = (state.code == RUNNING) & jnp.isfinite(value) & jnp.isfinite(norm)
        factor = -1.0 / sums.weight  # the one minus sign: optimisers descend, objectives are to be raised
        if self.optimiser.clip is not None:
            factor = factor * jnp.minimum(1.0, self.optimiser.clip / norm)
        share = self.optimiser.share(state.step)
        before = self._parameters(*pair), state.optimiser

        def move(before: Any) -> tuple[Any, Any, Array]:
            descent = jax.tree.map(lambda term: (factor * term).astype(term.dtype), gradient)
            updates, optimiser = self.optimiser.transform.update(descent, before[1], before[0])
            updates = jax.tree.map(lambda update: (share * update).astype(update.dtype), updates)
            finite = jnp.asarray(True)
            if not self.optimiser.bounded:  # the transform's own numbers go on: to keep the old ones is a copy of all
                finite = jnp.isfinite(optax.tree.norm(updates))
                updates = jax.tree.map(lambda update: jnp.where(finite, update, jnp.zeros_like(update)), updates)
            return optax.apply_updates(before[0], updates), optimiser, finite

        stay = lambda before: (*before, jnp.asarray(False))  # noqa: E731
        parameters, optimiser, fine = jax.lax.cond(fine, move, stay, before)
        model, posterior = eqx.combine(parameters, pair)
        skipped = jnp.where(fine, 0, state.skipped + 1)
        code = jnp.where(skipped >= PATIENCE, NOT_FINITE, state.code)
        objective = state.objective.advanced(memory | metrics)
        objective = where_each(fine, objective, state.objective)
        begin = None if ends is None else where_each(fine, ends, state.begin)
        average = self._averaged(state, parameters, fine)
        next_state = GradientState(
            model, posterior, objective, optimiser, skipped, code, state.step + 1, begin, average
        )
        return next_state, Info(value, jnp.zeros_like(value), code, (~fine).astype(int), jnp.zeros(()), metrics)

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
        learned: tuple[Any, Any] = eqx.combine(state.average, (state.model, state.posterior))
        return learned


def trainable(model: Any) -> Any:
    """The model with everything but its trained arrays replaced by None: what is known, as units are, is not."""
    fixed = lambda node: isinstance(node, Untrained)  # noqa: E731
    return eqx.filter(
        jax.tree.map(lambda node: None if fixed(node) else node, model, is_leaf=fixed), eqx.is_inexact_array
    )
