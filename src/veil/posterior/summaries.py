"""What step t of a neural posterior over paths sees of the sequence: nothing but itself, the past, the future, both."""

from abc import abstractmethod
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.model.abilities import parameter
from veil.parts.nets import GRU


class Summary(eqx.Module):
    """What step t of a posterior sees of the sequence's features [T, F]: a strategy of ``Sequential``."""

    online: ClassVar[bool] = True  # whether it needs no step after t

    @abstractmethod
    def initialise(self, inputs: int, key: PRNGKeyArray) -> Self:
        """With starting parameters, for so many features."""

    @abstractmethod
    def outputs(self, inputs: int) -> int:
        """How many numbers it tells each step."""

    @abstractmethod
    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T S"]:
        """What every step is told; ``before``: see ``init``, where the first step does not start an episode."""

    def init(self) -> Float[Array, " B"]:
        """What it remembers before the first step."""
        return jnp.zeros(0)

    def after(self, told: Float[Array, "T S"], step: Int[Array, ""]) -> Float[Array, " B"]:
        """What it remembers after a step."""
        return jnp.zeros(0)

    def step(self, before: Float[Array, " S"], features: Float[Array, " F"]) -> tuple[Array, Array]:
        """(what the next step gets as ``before``, what this step is told)."""
        raise ValueError(
            f"sees: {type(self).__name__}() needs the steps that are to come, so that it cannot act one step at a "
            "time; fit the model with Sequential(sees=Now()) or Past()"
        )


class Now(Summary):
    """The step's own features: enough where the memory holds the past, as in the recurrent state-space model."""

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Now":
        return self

    def outputs(self, inputs: int) -> int:
        return inputs

    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T F"]:
        return features

    def step(self, before: Float[Array, " S"], features: Float[Array, " F"]) -> tuple[Array, Array]:
        return before, features


class Past(Summary):
    """A recurrent network over the steps up to t: filtering (ST-L of Krishnan et al. 2017, table 1)."""

    size: int = eqx.field(static=True, default=128)
    cell: GRU | None = parameter()

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Past":
        return Past(self.size, GRU(self.size).initialise(inputs, key))

    def outputs(self, inputs: int) -> int:
        return self.size

    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T S"]:
        return _recurrent(self.cell, features, starts, there, before)

    def init(self) -> Float[Array, " B"]:
        return jnp.zeros(self.size)

    def after(self, told: Float[Array, "T S"], step: Int[Array, ""]) -> Float[Array, " B"]:
        return told[step]

    def step(self, before: Float[Array, " S"], features: Float[Array, " F"]) -> tuple[Array, Array]:
        assert self.cell is not None
        after = self.cell(before, self.cell.read(features))
        return after, after


class Future(Summary):
    """A recurrent network over the steps from the end back to t. With z_t-1 seen (``structured``) that is all of

    the data that p(z_t | z_t-1, y) depends on: smoothing (ST-R of Krishnan et al. 2017, section 4).
    """

    online: ClassVar[bool] = False
    size: int = eqx.field(static=True, default=128)
    cell: GRU | None = parameter()

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Future":
        return Future(self.size, GRU(self.size).initialise(inputs, key))

    def outputs(self, inputs: int) -> int:
        return self.size

    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T S"]:
        return _recurrent(self.cell, features, starts, there, reverse=True)


class Both(Summary):
    """Networks over the steps before and after t (ST-LR; without ``structured``, MF-LR)."""

    online: ClassVar[bool] = False
    size: int = eqx.field(static=True, default=128)
    past: Past | None = parameter()
    future: Future | None = parameter()

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Both":
        key_past, key_future = jax.random.split(key)
        past, future = Past(self.size).initialise(inputs, key_past), Future(self.size).initialise(inputs, key_future)
        return Both(self.size, past, future)

    def outputs(self, inputs: int) -> int:
        return 2 * self.size

    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T S"]:
        assert self.past is not None
        assert self.future is not None
        parts = [self.past(features, starts, there, before), self.future(features, starts, there)]
        return jnp.concatenate(parts, 1)

    def init(self) -> Float[Array, " B"]:
        return jnp.zeros(self.size)

    def after(self, told: Float[Array, "T S"], step: Int[Array, ""]) -> Float[Array, " B"]:
        return told[step, : self.size]


def _recurrent(
    cell: GRU | None,
    features: Float[Array, "T F"],
    starts: Array,
    there: Array,
    before: Array | None = None,
    reverse: bool = False,
) -> Float[Array, "T S"]:
    """The states of a recurrent network, which starts anew with each episode; padding is behind and is not read."""
    assert cell is not None
    fresh = jnp.concatenate([starts[1:], jnp.ones(1, bool)]) if reverse else starts
    begin = jnp.zeros(cell.size, features.dtype) if before is None else before
    return cell.along(begin, jax.vmap(cell.read)(features), fresh, there, reverse)
