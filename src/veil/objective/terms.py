"""What may be done to the KL term of an ELBO: weights, schedules, free nats. They compose, in the order given."""

from abc import abstractmethod
from typing import Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class Term(eqx.Module):
    """KL by parts, nats [G] -> what is subtracted instead. Any but the identity makes the objective no ELBO."""

    @abstractmethod
    def __call__(self, parts: Float[Array, " G"]) -> Float[Array, " G"]:
        """The parts as they are to count."""

    def advanced(self) -> Self:
        """This term one training step later."""
        return self


class Beta(Term):
    """β · KL: above one for disentangled, below one for sharper reconstructions. Higgins et al. 2017, eq. 4."""

    weight: float = eqx.field(static=True, default=4.0)

    def __check_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"weight: expected a number, zero or more; got {self.weight!r}")

    def __call__(self, parts: Float[Array, " G"]) -> Float[Array, " G"]:
        return self.weight * parts


class Annealed(Term):
    """KL weighted by a ramp from ``start`` to one over ``steps`` training steps (warm-up). Sønderby et al. 2016.

    After them, and in evaluation of what ``veil.fit`` returns, the weight is one.
    """

    steps: int = eqx.field(static=True, default=1000)
    start: float = eqx.field(static=True, default=0.0)
    taken: Float[Array, ""] | float = 0.0

    def __check_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps: expected a positive whole number of training steps; got {self.steps!r}")

    @property
    def weight(self) -> Float[Array, ""]:
        """The present weight."""
        return jnp.minimum(1.0, self.start + (1.0 - self.start) * jnp.asarray(self.taken) / self.steps)

    def __call__(self, parts: Float[Array, " G"]) -> Float[Array, " G"]:
        return self.weight * parts

    def advanced(self) -> "Annealed":
        return Annealed(self.steps, self.start, jnp.asarray(self.taken) + 1.0)


class Balanced(Term):
    """The KL with more of its gradient for the prior: α KL(q₀ || p) + (1 - α) KL(q || p₀), q₀ and p₀ held fixed.

    The value is the KL; with α above one half the prior learns faster towards q than q is pulled towards a prior that
    knows nothing yet. Hafner et al. 2021 (DreamerV2), algorithm 2. Needs a closed-form KL.
    """

    weight: float = eqx.field(static=True, default=0.8)

    def __check_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight: expected a share from 0 to 1; got {self.weight!r}")

    def __call__(self, parts: Float[Array, " G"]) -> Float[Array, " G"]:
        return parts


class FreeNats(Term):
    """max(KL_g, nats) for each part g: the first ``nats`` of each are free, so no dimension dies for their price.

    Parts are independent dimensions or codes, or the steps of a sequence; a KL that does not split is one part.
    Kingma et al. 2016, eq. 15 (there averaged over a minibatch; here for each datum).
    """

    nats: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        if not self.nats >= 0:
            raise ValueError(f"nats: expected a number, zero or more; got {self.nats!r}")

    def __call__(self, parts: Float[Array, " G"]) -> Float[Array, " G"]:
        return jnp.maximum(parts, self.nats)
