"""What is new less and less within one episode: a bonus divided by how often the episode has been there."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.bonus import Bonus, Episodic, Remembered, Transition
from veil.control.exploration.counts import Counted, Counter
from veil.control.exploration.hashes import Hashed

FEW = 4093  # places of a table for one episode


class Rarely(Episodic):
    """bonus(o, u, o') N_e(o')^-``power``, N_e how often this episode has seen o', this time and its start with it.

    So that somebody does not go back and forth between two places that are new to all episodes. With the power ½ it is
    the episodic discount of Raileanu & Rocktäschel 2020, "RIDE: rewarding impact-driven exploration for procedurally-
    generated environments", section 4; with ``float("inf")`` first visits alone count, as in Zhang et al. 2021,
    "NovelD: a simple yet effective exploration criterion". N_e is a ``counter``'s, whose table every environment has
    one of: a small one is enough for an episode. The bonus learns of all episodes, as it would alone; its unit stays.

    Raises TypeError for what is no bonus or no counter, ValueError for a bonus that remembers the episode itself.

    >>> from veil.control.exploration.counts import Tally
    >>> bonus, here = Rarely(Counted(Tally((2,)), offset=1.0), Tally((2,))), jnp.array(0)
    >>> state = bonus.begin(bonus.init(Transition(here, here, here), jax.random.key(0)), here)
    >>> value, state = bonus(state, here, here, here)  # where it began: the second time
    >>> round(float(value), 3)
    0.707
    """

    bonus: Any = Counted(Hashed())
    counter: Any = Hashed(bits=24, primes=(FEW,))
    power: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        if not isinstance(self.bonus, Bonus):
            raise TypeError(f"bonus: expected one, such as Counted(Hashed()); got {self.bonus!r}")
        if isinstance(self.bonus, Episodic):
            raise ValueError(
                f"bonus: expected one that is of all episodes; a {type(self.bonus).__name__} has a memory of its own"
            )
        if not isinstance(self.counter, Counter):
            raise TypeError(f"counter: expected one, such as Hashed(); got {self.counter!r}")
        if not self.power > 0:
            raise ValueError(f"power: expected a positive number; got {self.power!r}")

    def init(self, example: Transition, key: PRNGKeyArray) -> Remembered:
        key_bonus, key_counter = jax.random.split(key)
        nothing = self.counter.init(example.following, key_counter)
        return Remembered((self.bonus.init(example, key_bonus), nothing), nothing)

    def begin(self, state: Remembered, observation: Any) -> Remembered:
        return Remembered(state.learned, self._seen(state.learned[1], observation))

    def __call__(
        self, state: Remembered, observation: Any, action: Any, following: Any
    ) -> tuple[Float[Array, ""], Remembered]:
        memory = self._seen(state.memory, following)
        value, _ = self.bonus(state.learned[0], observation, action, following)
        times = jnp.maximum(self.counter.count(memory, following), 1.0)  # a counter may not know of it
        return value * times**-self.power, Remembered(state.learned, memory)

    def update(self, state: Remembered, batch: Transition) -> Remembered:
        learned, nothing = state.learned
        return Remembered((self.bonus.update(learned, batch), nothing), state.memory)

    def _seen(self, memory: Any, observation: Any) -> Any:
        return self.counter.update(memory, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], observation))
