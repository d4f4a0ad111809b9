"""A model around another, with the same states: what planners and dreams change is how its steps are drawn."""

from typing import Any

import equinox as eqx

from veil.model import Stepwise
from veil.model.stepwise import Marginal


class Around(Stepwise):
    """It goes on as ``model`` does; its classes say how steps and what is seen of them are drawn."""

    model: eqx.AbstractVar[Stepwise]

    @property
    def remembers(self) -> bool:
        return self.model.remembers

    def carry(self, evidence: Any) -> Any:
        return self.model.carry(evidence)

    def advance(self, carry: Any, latent: Any, query: Any, evidence: Any, observed: Any) -> Any:
        return self.model.advance(carry, latent, query, evidence, observed)

    def latent_of(self, carry: Any) -> Marginal:
        return self.model.latent_of(carry)
