"""Factorised posteriors of models with several latents, found by coordinate ascent."""

from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Float

from veil.distributions import Distribution
from veil.model import Datum
from veil.parts.nets import positive
from veil.posterior.base import Posterior


class MeanField(Posterior):
    """q(s) q(z) of a model that knows its own (``mean_field``: ``veil.SwitchingLDS``), after ``sweeps`` rounds.

    Each round sets q(z) to the best one given q(s), then q(s) given q(z), exactly, so that the ELBO rises; q starts
    anew for each datum and each value of the parameters. As a distribution it is q(s), a chain; as a proposal of
    particle filters the model's ``step_posterior``. Ghahramani & Hinton 2000.
    """

    closed: ClassVar[bool] = True
    sweeps: int = eqx.field(static=True, default=10)

    def __check_init__(self) -> None:
        positive("sweeps", self.sweeps)

    def _known(self, model: Any) -> Any:
        if not hasattr(model, "mean_field"):
            raise TypeError(f"posterior: {type(model).__name__} has no mean-field posterior; use another posterior")
        return model

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        return self._known(model).mean_field_chain(datum, self.sweeps)

    def expectations(self, model: Any, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """What the M-step needs, and the ELBO."""
        return self._known(model).mean_field(datum, self.sweeps)

    def step_proposals(self, model: Any, datum: Datum) -> None:
        """Nothing is computed before."""
        return None

    def step(self, model: Any, features: Any, carry: Any, datum: Datum) -> Distribution:
        """The model's ``step_posterior``, as ``Optimal`` has it."""
        return model.step_posterior(carry, datum)
