"""What a simulated body is that is moved by actions: pure functions of its state."""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8


class Physics(eqx.Module):
    """A body and what is asked of it. Nothing is random but the start, and no episode ends by itself.

    All is pure: it jits, maps over many, and is differentiable where the body is.
    """

    @abstractmethod
    def start(self, key: PRNGKeyArray) -> Float[Array, " S"]:
        """Where an episode begins."""

    @abstractmethod
    def step(self, state: Float[Array, " S"], action: Float[Array, " A"]) -> Float[Array, " S"]:
        """The state after one step of an action within the ``limits``."""

    @abstractmethod
    def observe(self, state: Float[Array, " S"]) -> Float[Array, " O"]:
        """What an actor sees."""

    @abstractmethod
    def reward(self, state: Float[Array, " S"], action: Float[Array, " A"]) -> Float[Array, ""]:
        """What a step earns, given the state that it led to."""

    @abstractmethod
    def frame(self, state: Float[Array, " S"], size: int) -> UInt8[Array, "size size 3"]:
        """A picture, ``size`` pixels a side."""

    @abstractmethod
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest action [A]."""

    @abstractmethod
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers that no observation [O] goes beyond; infinite where there are none."""

    def within(self, action: Float[Array, " A"]) -> Float[Array, " A"]:
        """The action that is taken where one beyond the limits is asked for."""
        low, high = self.limits()
        return jnp.clip(action, jnp.asarray(low, action.dtype), jnp.asarray(high, action.dtype))
