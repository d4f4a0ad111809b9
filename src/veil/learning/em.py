"""Expectation maximisation as a learner."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.learning.learner import (
    CONVERGED,
    FELL,
    NOT_FINITE,
    ROUNDED,
    RUNNING,
    UNSAFE,
    Info,
    Learner,
    Sums,
    all_finite,
    where_each,
)
from veil.maths import linear
from veil.model import Datum, Model, Stepwise
from veil.model.abilities import values as latent_values
from veil.objective import ExpectedLogLikelihood
from veil.parts.experts import largest_precision
from veil.parts.statistics import contract
from veil.posterior import Posterior


class EMState(eqx.Module):
    model: Any
    previous: Any
    running: Any
    value: Float[Array, ""]
    gain: Float[Array, ""]
    counts: Float[Array, " K"]
    code: Int[Array, ""]
    step: Int[Array, ""]


class ExpectationMaximisation(Learner):
    """Expectation maximisation: posterior weights, summed sufficient statistics, the exact M-step.

    With ``stochastic=False`` every step sees all data: the penalised log-likelihood must not fall. A step at which it
    falls by more than rounding, or is not finite, is undone and ends the run (``code``); so does convergence: the gain
    still to come, extrapolated geometrically (Aitken), is below ``tolerance`` nats per datum.

    With ``stochastic=True`` a step sees a minibatch (stepwise EM, Cappé & Moulines 2009, with steps (t + 2)^-0.6) or
    sampled latents, and neither holds.

    With ``precision_limit`` a model of greater ``largest_precision`` (see ``Info``), a fall or a number that is not
    finite in any restart ends all of them: they are to go on with safer sums.
    """

    objective: ExpectedLogLikelihood
    posterior: Posterior
    tolerance: float = eqx.field(static=True)
    stochastic: bool = eqx.field(static=True)
    stepwise: bool = eqx.field(static=True)
    precision_limit: Float[Array, ""] | np.ndarray | None = None

    def learned(self, state: EMState) -> tuple[Any, None]:
        return state.model, None

    def done(self, codes: Any) -> Any:
        failed = (codes >= FELL).any() if self.precision_limit is not None else False
        return (codes != RUNNING).all() | failed

    def _watched(self, code: Array, precision: Array) -> Array:
        if self.precision_limit is None:
            return code
        return jnp.where((code < FELL) & ~(precision <= self.precision_limit), UNSAFE, code)

    def init(self, model: Model, block: Datum) -> EMState:
        nothing = -jnp.inf * jnp.ones(())
        zero = jnp.zeros((), int)
        state = EMState(model, model, None, nothing, nothing, jnp.zeros(0), zero, zero)
        running = None
        if self.stepwise:
            shapes = eqx.filter_eval_shape(self.accumulate, state, block, jax.random.key(0)).terms
            running = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        counts = jnp.zeros(latent_values(model))
        return EMState(model, model, running, nothing, nothing, counts, zero, zero)

    def accumulate(self, state: EMState, block: Datum, key: PRNGKeyArray) -> Sums:
        weight = jnp.ones(len(block)) if block.weight is None else block.weight

        shares = latent_values(state.model)

        def one(datum: Datum, key: PRNGKeyArray) -> tuple[Any, Array, Any]:
            weights, value = self.objective.weights(state.model, self.posterior, datum, key)
            return state.model.statistics(datum, weights), value, _shares(weights, shares)

        if self.objective.samples is None:
            terms, values, weights = jax.vmap(lambda datum: one(datum, key))(block)
        else:
            terms, values, weights = jax.vmap(one)(block, jax.random.split(key, len(block)))
        return Sums(
            contract(terms, weight), weight @ jnp.where(weight > 0, values, 0.0), jnp.sum(weight), weight @ weights
        )

    def update(self, state: EMState, sums: Sums, total: Float[Array, ""]) -> tuple[EMState, Info]:
        model = state.model
        if isinstance(model, Stepwise):
            # One after the other (see linear.after): E-step with its scans, log-prior, M-step.
            model = linear.after(model, sums.value)
        penalty = model.log_prior() / total
        if isinstance(model, Stepwise):
            sums = eqx.tree_at(lambda sums: sums.terms, sums, linear.after(sums.terms, penalty))
        value = sums.value / sums.weight + penalty
        if self.stochastic:
            return self._blend(state, sums, total, value, penalty)
        noise = 8.0 * jnp.finfo(value.dtype).eps * jnp.maximum(1.0, jnp.abs(value))
        change = value - state.value
        ratio = jnp.clip(change / state.gain, 0.0, 0.999)
        settled = (
            (state.step > 1) & (change >= 0) & (change < state.gain) & (change * ratio < self.tolerance * (1 - ratio))
        )
        converged = settled & (change < 10 * self.tolerance)  # after one large gain the extrapolation means little
        still = (state.step > 0) & (jnp.abs(change) <= noise)
        converged = converged | (still & (noise <= self.tolerance))
        settled = converged | still
        code = jnp.where(converged, CONVERGED, jnp.where(settled, ROUNDED, RUNNING))
        code = jnp.where((change < -noise) & ~settled, FELL, code)
        code = jnp.where(jnp.isfinite(value), code, NOT_FINITE)
        code = jnp.where(state.code == RUNNING, code, state.code)
        undone = (code == FELL) | (code == NOT_FINITE) | (state.code != RUNNING)
        # the model as it is when the step is not taken: the one before if this one was worse, itself if converged
        worse = (state.code == RUNNING) & ((code == FELL) | (code == NOT_FINITE) | (settled & (change < 0)))
        stay = where_each(worse, state.previous, state.model)
        model = where_each(code == RUNNING, state.model.maximise(sums.terms), stay)
        kept = jnp.where(undone | worse, state.value, value)
        precision = largest_precision(model)
        code = self._watched(code, precision)
        state = EMState(model, stay, None, kept, change, sums.counts, code, state.step + 1)
        return state, Info(kept, penalty, code, jnp.zeros((), int), precision)

    def _blend(
        self, state: EMState, sums: Sums, total: Float[Array, ""], value: Array, penalty: Array
    ) -> tuple[EMState, Info]:
        # scaled to all data, then averaged with the batches before (the first batch replaces the zeros)
        size = jnp.where(state.step == 0, 1.0, (state.step + 2.0) ** -0.6) if self.stepwise else jnp.ones(())
        old = sums.terms if state.running is None else state.running
        blend = lambda new, old: (1 - size) * old + size * new * (total / sums.weight)  # noqa: E731
        running = jax.tree.map(blend, sums.terms, old)
        proposal = state.model.maximise(running)
        fine = jnp.isfinite(value) & all_finite(proposal)
        model = where_each(fine, proposal, state.model)
        if self.stepwise:
            running = where_each(fine, state.model.recentred(running, model), old)
        skipped = (~fine).astype(int)
        counts = sums.counts * (total / sums.weight)
        kept = running if self.stepwise else None
        precision = largest_precision(model)
        code = self._watched(state.code, precision)
        state = EMState(model, state.model, kept, value, value, counts, code, state.step + 1)
        return state, Info(value, penalty, code, skipped, precision)


def _shares(expectations: Any, count: int) -> Float[Array, " K"]:
    """How much of a datum each value of a discrete latent has (see ``ClosedForm.expectations``)."""
    if not count:
        return jnp.zeros(0)
    first = jax.tree.leaves(expectations)[0]
    return jnp.sum(first.reshape(-1, count), 0)
