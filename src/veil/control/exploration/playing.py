"""The contract: who plays episodes in a finite world, and learns from each."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Int, Key, PRNGKeyArray

from veil.control.worlds.walks import Land, Walk
from veil.model.checks import whole

Act = Callable[[Int[Array, ""], PRNGKeyArray], Int[Array, ""]]  # from a place, and a key, what is done there

BEGIN, LEARN = 2**31, 2**31 + 1  # numbers of an episode's keys, far from those that the walk splits its own into


class Player(eqx.Module):
    """Somebody who plays episodes on a ``Land`` one after the other; all of it is pure.

        state = player.start(land, key)
        act = player.begin(state, land, key)                    what it does all through the next episode
        state = player.learn(state, land, walk, key)            after the episode
        state, walks = player.play(state, land, episodes, key)  so many of them, in one compiled program
    """

    @abstractmethod
    def start(self, land: Land, key: PRNGKeyArray) -> Any:
        """The state before the first episode."""

    @abstractmethod
    def begin(self, state: Any, land: Land, key: PRNGKeyArray) -> Act:
        """What is done in an episode that begins: act(place, key)."""

    @abstractmethod
    def learn(self, state: Any, land: Land, walk: Walk, key: PRNGKeyArray) -> Any:
        """The state after an episode [T]."""

    def play(
        self, state: Any, land: Land, episodes: int, key: PRNGKeyArray, most: int | None = None
    ) -> tuple[Any, Walk]:
        """So many episodes, learning from each: the state then, and the walks [E, T].

        Raises ValueError for numbers out of range, or a problem without a horizon (give ``most``).
        """
        whole("episodes", episodes)
        limit = land.problem.horizon if most is None else most
        if limit is None:
            raise ValueError("most: this problem has no horizon; say how many steps an episode has at most")
        return _played(self, state, land, jax.random.split(key, episodes), limit)


@eqx.filter_jit
def _played(player: Player, state: Any, land: Land, keys: Key[Array, " E"], most: int) -> tuple[Any, Walk]:
    arrays, rest = eqx.partition(state, eqx.is_array)

    def episode(arrays: Any, key: PRNGKeyArray) -> tuple[Any, Walk]:
        state = eqx.combine(arrays, rest)
        act = player.begin(state, land, jax.random.fold_in(key, BEGIN))
        walk = land.walk(act, key, most)
        after = player.learn(state, land, walk, jax.random.fold_in(key, LEARN))
        return eqx.filter(after, eqx.is_array), walk

    arrays, walks = jax.lax.scan(episode, arrays, keys)
    return eqx.combine(arrays, rest), walks
