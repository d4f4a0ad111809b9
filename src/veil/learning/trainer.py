"""One training step that agents and users' own loops can call: pure, in any units, for any model."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.data import Data
from veil.host.keys import generator
from veil.learning.choices import as_optimiser, clipped_adam, usual_objective
from veil.learning.gradient import Gradient, GradientState
from veil.learning.learner import told
from veil.learning.preprocessing import preprocess
from veil.learning.starting import frozen_units
from veil.model import Datum, OfSequences, Plate, Startable, checks
from veil.model.abilities import space_of, started
from veil.model.batching import as_datum
from veil.objective import Objective
from veil.parts.experts import with_expanded_sums
from veil.posterior import Exact, Learned, Posterior
from veil.posterior.choice import usual
from veil.units import Units, in_user_units, rescaled, standardised_posterior


class TrainerState(eqx.Module):
    """All that must be carried from step to step; what a checkpoint holds."""

    learned: GradientState
    key: PRNGKeyArray


class StepInfo(eqx.Module):
    """What may be looked at after a step: ``value`` of the objective before it, nats per datum in the user's units
    (or what else its ``unit`` says);

    its ``metrics``, averaged over the batch; ``skipped``: 1 if the step was not taken, because it was not finite.
    """

    value: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]]
    skipped: Int[Array, ""]


class Trainer:
    """Gradient ascent, one step at a time: ``state = trainer.start(data, key)``, ``trainer.step(state, batch)``.

    ``posterior``, ``objective``: those of ``veil.fit`` if None. ``optimiser``: an optax optimiser or a
    ``veil.Optimiser`` (schedules, moving averages); None: Adam at 0.001, gradients clipped to norm 10. ``units``:
    ``veil.Units.of(data, model)``, made once and kept, so that learning that goes on does not look at all data again;
    None: the numbers as they are. A model that comes with parameters is of data in these units, but for one whose
    parameters have meaning in the user's (a Gaussian mixture, an LDS), which is of the user's. ``step`` is pure: jit
    it, scan it, vmap it; a state is an ordinary pytree. A trainer itself is none: it is what stays the same.

    >>> import jax, veil
    >>> data, model = veil.data.load("faithful"), veil.VAE(latent=1, decoder=veil.MLP((16,)))
    >>> trainer = Trainer(model, units=veil.Units.of(data, model))
    >>> state = trainer.start(data, jax.random.key(0))
    >>> for _ in range(3):
    ...     state, info = trainer.step(state, trainer.batch(data))
    >>> fitted, posterior = trainer.result(state)
    >>> veil.infer(fitted, data, posterior=posterior).mean.shape
    (272, 1)
    """

    def __init__(
        self,
        model: Any,
        posterior: Posterior | None = None,
        objective: Objective | None = None,
        optimiser: Any = None,
        units: Units | None = None,
    ) -> None:
        checks.a_model(model)
        inner, learned, frozen = frozen_units(model, posterior, not started(model))
        if optimiser is None:
            optimiser = clipped_adam(1e-3)
        if frozen is None and units is not None and started(inner):
            found = rescaled(inner, units.inverse())
            inner = inner if found is None else found
        self.model, self.posterior = inner, usual(inner) if learned is None else learned
        self.objective = usual_objective(inner, self.posterior, False) if objective is None else objective
        self.optimiser = as_optimiser(optimiser)
        self.units = frozen if frozen is not None else Units() if units is None else units

    @property
    def _learner(self) -> Gradient:
        return Gradient(self.objective, self.optimiser)

    def batch(self, data: Data) -> Datum:
        """Data on the host as a batch for ``step``."""
        return jax.device_put(as_datum(data, space=space_of(self.model)))

    def start(self, example: Data, key: PRNGKeyArray) -> TrainerState:
        """The state before the first step; parameters that are missing are started from these data."""
        checks.random_key(key)
        key_model, key_posterior, key_steps = jax.random.split(key, 3)
        model, posterior = self.model, self.posterior
        seen = jax.device_put(as_datum(example, self.units, space=space_of(model)))
        if isinstance(model, Startable) and not started(model):
            rng = generator(key_model)
            found = preprocess(model, example, rng, self.units)
            model = model.initialise(seen, model.responsibilities(*found.starting_points(), rng), key_model)
            if isinstance(model, Plate):
                model = model.shared_among(found.total)
        elif isinstance(model, Plate) and not isinstance(model, Startable):
            total = float(len(example) if example.weight is None else np.sum(example.weight))
            model = model.shared_among(total)
        model = with_expanded_sums(model, False)
        if isinstance(posterior, Learned) and not started(posterior):
            one = jax.tree.map(lambda leaf: leaf[0], seen)
            posterior = posterior.initialise(model, one, len(example), key_posterior)
        return TrainerState(self._learner.init((model, posterior), seen), key_steps)

    def step(self, state: TrainerState, batch: Datum) -> tuple[TrainerState, StepInfo]:
        """The state after one step on a batch of data in the user's units, and what may be looked at."""
        learner, learned = self._learner, state.learned
        sequence = isinstance(learned.model, OfSequences)
        weight = jnp.ones(len(batch)) if batch.weight is None else batch.weight
        jacobian = jax.vmap(lambda datum: self.units.log_jacobian(datum, sequence))(batch)
        standard = jax.vmap(self.units.standard)(batch)
        sums = learner.accumulate(learned, standard, jax.random.fold_in(state.key, learned.step))
        after, info = learner.update(learned, sums, sums.weight)
        shift = weight @ jacobian / sums.weight if self.objective.unit is None else jnp.zeros(())
        seen = StepInfo(info.value + shift, told(info.metrics, shift), info.skipped)
        return TrainerState(after, state.key), seen

    def result(self, state: TrainerState) -> tuple[Any, Posterior]:
        """The model and the posterior as they are now (or their moving averages), in the user's units."""
        model, posterior = self._learner.learned(state.learned)
        if isinstance(posterior, Exact):
            return in_user_units(model, self.units), posterior
        return in_user_units(model, self.units), standardised_posterior(posterior, self.units)
