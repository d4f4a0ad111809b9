"""The contract: who plays episodes in a finite world, and learns from each."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Key, PRNGKeyArray

from veil.control.worlds.walks import Act, Land, Walk
from veil.model.checks import whole

BEGIN, FINISH = 2**31, 2**31 + 1  # numbers of an episode's keys, far from those that the walk splits its own into


class Player(eqx.Module):
    """Somebody who plays episodes on a ``Land`` one after the other; all of it is pure.

        state = player.start(land, key)
        act = player.begin(state, land, key)                    what it does all through the next episode
        state = player.finish(state, land, walk, key)           after the episode
        state, walks = player.play(state, land, episodes, key)  so many of them, in one compiled program

    Places and actions are whole numbers, from 0.
    """

    @abstractmethod
    def start(self, land: Land, key: PRNGKeyArray) -> Any:
        """The state before the first episode."""

    @abstractmethod
    def begin(self, state: Any, land: Land, key: PRNGKeyArray) -> Act:
        """What is done in an episode that begins: act(place, step, key)."""

    @abstractmethod
    def finish(self, state: Any, land: Land, walk: Walk, key: PRNGKeyArray) -> Any:
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
def _played(player: Player, state: Any, land: Land, keys: Key[Any, " E"], most: int) -> tuple[Any, Walk]:
    arrays, rest = eqx.partition(state, eqx.is_array)

    def episode(arrays: Any, key: PRNGKeyArray) -> tuple[Any, Walk]:
        state = eqx.combine(arrays, rest)
        act = player.begin(state, land, jax.random.fold_in(key, BEGIN))
        walk = land.walk(act, key, most)
        after = player.finish(state, land, walk, jax.random.fold_in(key, FINISH))
        return eqx.filter(after, eqx.is_array), walk

    arrays, walks = jax.lax.scan(episode, arrays, keys)
    return eqx.combine(arrays, rest), walks
