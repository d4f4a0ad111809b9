"""Densities that are any model at all, learning by gradient steps: what a trainer raises, of one x at a time."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.densities import Density
from veil.control.exploration.held import held
from veil.learning.trainer import Trainer, TrainerState
from veil.model import Datum
from veil.objective.base import whole

SCORING = 2**32 - 1  # the number of a step that no training reaches: scores draw other noise than steps


class Trained(Density):
    """log ρ(x) by any model that a ``veil.Trainer`` trains: a VAE, a flow, an autoregressive network.

    It is what the trainer's objective, without its schedules, says of x in the user's units: log p(x) of a tractable
    model (``Marginal``), else a lower bound (``ELBO``, ``ImportanceWeighted``); see ``PseudoCounts`` for what a bound's
    gain is. It is always the bound that is trained, as a step that raises one may lower a tighter one, most where x is
    new. It always draws the same noise, so that log ρ and log ρ' differ by what was learned, and not by luck.

    ``update`` takes a gradient step for every row of a batch, one after the other: B rows cost B steps, and a count
    or a gain of one x costs a step. Gains follow novelty best with steps that have no momentum (``optax.sgd``, or
    ``optax.rmsprop``); Adam's go on in the direction of earlier ones, and what is known may lose by its own step.

    ``start``: where it begins, ``trainer.start(data, key)`` or the state of a trainer that went further; ``init`` gives
    it a new key. Raises TypeError for what is no trainer or state, ValueError for an objective that is not in nats.

    >>> import jax.numpy as jnp, optax, veil
    >>> data = veil.data.load("faithful")
    >>> trainer = veil.Trainer(veil.VAE(latent=1, decoder=veil.MLP((8,))), optimiser=optax.rmsprop(1e-3))
    >>> density = Trained(trainer, trainer.start(data, jax.random.key(0)))
    >>> state = density.init(jnp.zeros(2), jax.random.key(1))
    >>> state = jax.jit(density.update)(state, jnp.ones((100, 2)))
    >>> jax.jit(density.log_prob)(state, jnp.ones(2)).shape
    ()
    """

    trainer: Trainer = eqx.field(static=True)
    start: Any = eqx.field(static=True, converter=held)

    def __check_init__(self) -> None:
        if not isinstance(self.trainer, Trainer):
            raise TypeError(f"trainer: expected a veil.Trainer; got {self.trainer!r}")
        if not isinstance(self.start.value, TrainerState):
            raise TypeError(f"start: expected trainer.start(data, key); got {self.start.value!r}")
        objective = self.trainer.objective
        if objective.unit is not None:
            raise ValueError(
                f"objective: {type(objective).__name__} is in {objective.unit}, no log-density: give the "
                "trainer one that is, such as veil.Marginal(), veil.ELBO() or veil.ImportanceWeighted()"
            )

    def init(self, example: Any, key: PRNGKeyArray) -> TrainerState:
        return replace(self.start.value, key=key)

    def log_prob(self, state: TrainerState, x: Any) -> Float[Array, ""]:
        learned, units, datum = state.learned, self.trainer.units, Datum(x)
        key = jax.random.fold_in(state.key, SCORING)
        value = whole(learned.objective)(learned.model, learned.posterior, units.standard(datum), key).value
        return value + units.log_jacobian(datum)

    def update(self, state: TrainerState, batch: Any) -> TrainerState:
        arrays, rest = eqx.partition(state, eqx.is_array)

        def step(arrays: Any, x: Any) -> tuple[Any, None]:
            row = Datum(jax.tree.map(lambda leaf: leaf[None], x))
            after, _ = self.trainer.step(eqx.combine(arrays, rest), row)
            return eqx.filter(after, eqx.is_array), None

        return eqx.combine(jax.lax.scan(step, arrays, batch)[0], rest)
