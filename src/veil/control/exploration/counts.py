"""Counts N(x) of what was seen, exact or pseudo, and the bonus of what was seen seldom."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.bonus import About, Bonus, Transition, arrived
from veil.model.checks import whole


class Counter(eqx.Module):
    """How often x was seen, a number that need not be whole."""

    @abstractmethod
    def init(self, example: Any, key: PRNGKeyArray) -> Any:
        """The state before anything was seen, for x like this one."""

    @abstractmethod
    def count(self, state: Any, x: Any) -> Float[Array, ""]:
        """N(x) in all that was learned from."""

    @abstractmethod
    def update(self, state: Any, batch: Any) -> Any:
        """The state after x [B, ...], each once."""


class Tally(Counter):
    """Exact counts of whole numbers: x is one, a vector or a tree of them, x_i from 0 below ``sizes[i]``.

    Numbers beyond their sizes are not counted, N = 0.

    Raises:
        ValueError: sizes that are none, or not as many as x has numbers.

    >>> tally = Tally((3,))
    >>> state = tally.update(tally.init(jnp.array(0), jax.random.key(0)), jnp.array([1, 1, 2]))
    >>> float(tally.count(state, jnp.array(1)))
    2.0
    """

    sizes: tuple[int, ...] = eqx.field(static=True, converter=lambda sizes: tuple(np.ravel(sizes).tolist()))

    def __check_init__(self) -> None:
        for size in self.sizes:
            whole("sizes", size)

    def _place(self, x: Any) -> tuple[Array, ...]:
        values = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(x)]).astype(jnp.int32)
        if values.size != len(self.sizes):
            raise ValueError(f"sizes: expected one for each of the {values.size} numbers of x; got {self.sizes}")
        return tuple(jnp.where(values < 0, max(self.sizes), values))  # which would count from the end

    def init(self, example: Any, key: PRNGKeyArray) -> Float[Array, "*sizes"]:
        self._place(example)
        return jnp.zeros(self.sizes)

    def count(self, state: Float[Array, "*sizes"], x: Any) -> Float[Array, ""]:
        return state.at[self._place(x)].get(mode="fill", fill_value=0.0)

    def update(self, state: Float[Array, "*sizes"], batch: Any) -> Float[Array, "*sizes"]:
        return state.at[jax.vmap(self._place)(batch)].add(1.0, mode="drop")


class Counted(Bonus):
    """What was seen seldom: (N(x) + ``offset``)^-``power``, for x what the step is ``about``. No nats.

    With the power 1/2 it is in proportion to the standard error of a mean of N draws, Strehl & Littman's bonus (2008,
    "An analysis of model-based interval estimation for Markov decision processes", section 3.2), with offset .01
    Bellemare et al.'s (2016, "Unifying count-based exploration and intrinsic motivation", eq. 5); 1 falls faster.

    >>> bonus = Counted(Tally((3,)), offset=1.0)
    >>> step = Transition(jnp.array(0), jnp.array(0), jnp.array(1))
    >>> state = bonus.init(step, jax.random.key(0))
    >>> for _ in range(3):
    ...     state = bonus.update(state, jax.tree.map(lambda leaf: leaf[None], step))
    >>> float(bonus(state, step.observation, step.action, step.following)[0])
    0.5
    """

    counter: Any
    about: About = eqx.field(static=True, default=arrived)
    offset: float = eqx.field(static=True, default=0.01)
    power: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        if not isinstance(self.counter, Counter):
            raise TypeError(f"counter: expected one, such as Tally((10,)); got {self.counter!r}")
        for name in ("offset", "power"):
            if not vars(self)[name] > 0:
                raise ValueError(f"{name}: expected a positive number; got {vars(self)[name]!r}")

    def init(self, example: Transition, key: PRNGKeyArray) -> Any:
        return self.counter.init(self.about(example), key)

    def __call__(self, state: Any, observation: Any, action: Any, following: Any) -> tuple[Float[Array, ""], Any]:
        x = self.about(Transition(observation, action, following))
        return (self.counter.count(state, x) + self.offset) ** -self.power, state

    def update(self, state: Any, batch: Transition) -> Any:
        return self.counter.update(state, jax.vmap(self.about)(batch))
