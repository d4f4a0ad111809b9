"""How a model learns: sums over data that add up (``accumulate``), then one change of the model (``update``).

Because the sums are additive, whole data sets, minibatches, blocks from disk and shards are the same code, for the
closed-form M-step and for gradients alike.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.model import Datum, Model
from veil.nets import Units, lowered
from veil.objective import ExpectedLogLikelihood, Objective
from veil.posterior import Posterior
from veil.statistics import contract

RUNNING, CONVERGED, ROUNDED, FELL, NOT_FINITE, UNSAFE = range(6)
PATIENCE = 10  # steps in a row that are not finite


class Info(eqx.Module):
    """What one step did, or each of several (arrays).

    ``value``: the (penalised) objective before the step, nats per datum in standardised units; ``penalty`` its part
    that is not likelihood; ``code`` whether to go on; ``skipped`` 1 for a step not taken because it was not finite;
    ``sharpness`` the largest precision of the model, which says whether fast sums are safe.
    """

    value: Float[Array, "*steps"]
    penalty: Float[Array, "*steps"]
    code: Int[Array, "*steps"]
    skipped: Int[Array, "*steps"]
    sharpness: Float[Array, "*steps"]


class Learner(eqx.Module):
    """A pure step in two halves. ``state`` is what must be carried; ``Info`` is what may be looked at."""

    @abstractmethod
    def init(self, model: Any, block: Datum) -> Any:
        """The state before the first step, of whatever is learned; ``block`` shows the shapes of a batch."""

    @abstractmethod
    def accumulate(self, state: Any, block: Datum, key: PRNGKeyArray) -> Any:
        """Sums over a batched block of data."""

    @abstractmethod
    def update(self, state: Any, sums: Any, total: Float[Array, ""]) -> tuple[Any, Info]:
        """The next state from summed blocks; ``total`` is the weight of all data, batch or not."""

    def done(self, codes: Any) -> Any:
        """Whether no restart goes on, from their codes [restarts] (a JAX or numpy array)."""
        return (codes != RUNNING).all()


class Sums(eqx.Module):
    """The sums of one batch: ``terms`` to learn from, the objective's value and the weight of its data."""

    terms: Any
    value: Float[Array, ""]
    weight: Float[Array, ""]
    counts: Float[Array, "..."]


class ClosedFormState(eqx.Module):
    model: Any
    previous: Any
    running: Any
    value: Float[Array, ""]
    gain: Float[Array, ""]
    counts: Float[Array, " K"]
    code: Int[Array, ""]
    step: Int[Array, ""]


class ClosedForm(Learner):
    """Expectation maximisation: posterior weights, summed sufficient statistics, the exact M-step.

    With ``stochastic=False`` every step sees all data: the penalised log-likelihood must not fall. A step at which it
    falls by more than rounding, or is not finite, is undone and ends the run (``code``); so does convergence: the gain
    still to come, extrapolated geometrically (Aitken), is below ``tolerance`` nats per datum.

    With ``stochastic=True`` a step sees a minibatch (stepwise EM, Cappé & Moulines 2009, with steps (t + 2)^-0.6) or
    sampled latents, and neither holds.

    With ``sharpest`` a model of greater sharpness (see ``Info``), a fall or a number that is not finite in any restart
    ends all of them: they are to go on with safer sums.
    """

    objective: ExpectedLogLikelihood
    posterior: Posterior
    tolerance: float = eqx.field(static=True)
    stochastic: bool = eqx.field(static=True)
    stepwise: bool = eqx.field(static=True)
    sharpest: Float[Array, ""] | np.ndarray | None = None

    def done(self, codes: Any) -> Any:
        failed = (codes >= FELL).any() if self.sharpest is not None else False
        return (codes != RUNNING).all() | failed

    def _watched(self, code: Array, sharpness: Array) -> Array:
        if self.sharpest is None:
            return code
        return jnp.where((code < FELL) & ~(sharpness <= self.sharpest), UNSAFE, code)

    def init(self, model: Model, block: Datum) -> ClosedFormState:
        nothing = -jnp.inf * jnp.ones(())
        zero = jnp.zeros((), int)
        state = ClosedFormState(model, model, None, nothing, nothing, jnp.zeros(0), zero, zero)
        running = None
        if self.stepwise:
            shapes = eqx.filter_eval_shape(self.accumulate, state, block, jax.random.key(0)).terms
            running = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        counts = jnp.zeros(getattr(model, "components", 0))
        return ClosedFormState(model, model, running, nothing, nothing, counts, zero, zero)

    def accumulate(self, state: ClosedFormState, block: Datum, key: PRNGKeyArray) -> Sums:
        weight = jnp.ones(len(block.query)) if block.weight is None else block.weight

        def one(datum: Datum, key: PRNGKeyArray) -> tuple[Any, Array, Any]:
            weights, value = self.objective.weights(state.model, self.posterior, datum, key)
            return state.model.statistics(datum, weights), value, state.model.used(weights)

        if self.objective.samples is None:
            terms, values, weights = jax.vmap(lambda datum: one(datum, key))(block)
        else:
            terms, values, weights = jax.vmap(one)(block, jax.random.split(key, len(block.query)))
        return Sums(contract(terms, weight), weight @ values, jnp.sum(weight), weight @ weights)

    def update(self, state: ClosedFormState, sums: Sums, total: Float[Array, ""]) -> tuple[ClosedFormState, Info]:
        model = state.model
        if model.sequential:
            # One after the other (see gaussian.safe_cholesky): E-step with its scans, log-prior, M-step.
            model = _after(model, sums.value)
        penalty = model.log_prior() / total
        if model.sequential:
            sums = eqx.tree_at(lambda sums: sums.terms, sums, _after(sums.terms, penalty))
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
        stay = _where(worse, state.previous, state.model)
        model = _where(code == RUNNING, state.model.maximise(sums.terms), stay)
        kept = jnp.where(undone | worse, state.value, value)
        sharpness = jnp.asarray(model.sharpness())
        code = self._watched(code, sharpness)
        state = ClosedFormState(model, stay, None, kept, change, sums.counts, code, state.step + 1)
        return state, Info(kept, penalty, code, jnp.zeros((), int), sharpness)

    def _blend(
        self, state: ClosedFormState, sums: Sums, total: Float[Array, ""], value: Array, penalty: Array
    ) -> tuple[ClosedFormState, Info]:
        # scaled to all data, then averaged with the batches before (the first batch replaces the zeros)
        size = jnp.where(state.step == 0, 1.0, (state.step + 2.0) ** -0.6) if self.stepwise else jnp.ones(())
        old = sums.terms if state.running is None else state.running
        blend = lambda new, old: (1 - size) * old + size * new * (total / sums.weight)  # noqa: E731
        running = jax.tree.map(blend, sums.terms, old)
        proposal = state.model.maximise(running)
        fine = jnp.isfinite(value) & _finite(proposal)
        model = _where(fine, proposal, state.model)
        if self.stepwise:
            running = _where(fine, state.model.moved(running, model), old)
        skipped = (~fine).astype(int)
        counts = sums.counts * (total / sums.weight)
        kept = running if self.stepwise else None
        sharpness = jnp.asarray(model.sharpness())
        code = self._watched(state.code, sharpness)
        state = ClosedFormState(model, state.model, kept, value, value, counts, code, state.step + 1)
        return state, Info(value, penalty, code, skipped, sharpness)


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
        objective = _where(fine, objective, state.objective)
        begin = None if ends is None else _where(fine, ends, state.begin)
        next_state = GradientState(model, posterior, objective, optimiser, skipped, code, state.step + 1, begin)
        return next_state, Info(value, jnp.zeros_like(value), code, (~fine).astype(int), jnp.zeros(()))


def trainable(model: Any) -> Any:
    """The model with everything but its trained arrays replaced by None: units of measurement are not trained."""
    fixed = lambda node: isinstance(node, Units)  # noqa: E731
    return eqx.filter(
        jax.tree.map(lambda node: None if fixed(node) else node, model, is_leaf=fixed), eqx.is_inexact_array
    )


def _after(tree: Any, number: Float[Array, ""]) -> Any:
    """The same numbers, which the compiler cannot have before ``number``."""
    zero = 0.0 * jnp.nan_to_num(number)
    return jax.tree.map(lambda leaf: leaf + zero if eqx.is_inexact_array(leaf) else leaf, tree)


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b) if eqx.is_array(a) else b, new, old)


def _finite(tree: Any) -> Array:
    flags = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    return jnp.all(jnp.stack(flags)) if flags else jnp.array(True)
