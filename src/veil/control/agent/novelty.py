"""What is new to an agent that learns a world model: a bonus beside the rewards of what it has kept, as it is now."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.agent.models import REWARD, TERMINATED
from veil.control.exploration.bonus import Bonus, Episodic, Transition
from veil.model import Datum

AT_ONCE = 64  # steps that a bonus learns from at once: programs are compiled for one size


class Novelty(eqx.Module):
    """reward + ``weight`` x ``bonus`` of every step that is learned from, by what the bonus knows at that time.

    So a step that was new once is not learned as new forever. A bonus sees what the model sees: the parts of its query
    that are observations (the array itself where there is one), pictures from 0 to 1, choices as rows of a one and
    zeros.
    """

    bonus: Any
    weight: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not isinstance(self.bonus, Bonus):
            raise TypeError(f"bonus: expected one, such as NetworkGain(); got {self.bonus!r}")
        if isinstance(self.bonus, Episodic):
            raise TypeError(
                f"bonus: a {type(self.bonus).__name__} remembers the episode, and here steps are learned from in any "
                "order; give the agent an environment of veil.control.exploration.curious"
            )
        if not np.isfinite(self.weight):
            raise ValueError(f"weight: expected a finite number; got {self.weight!r}")

    def check(self, query: Any) -> None:
        """Raise ValueError for a model that has no reward to which anything could be added."""
        if not isinstance(query, dict) or REWARD not in query:
            raise ValueError(f"bonus: it is added to the query's part {REWARD!r}, and the query is {query!r}")

    def start(self, data: Any, key: PRNGKeyArray) -> Any:
        """What the bonus knows before anything was seen; of data [N, T, ...] only shapes are used."""
        one = lambda leaf: jnp.asarray(leaf)[0, 0]  # noqa: E731
        seen, action = jax.tree.map(one, (observed(data.query), data.evidence))
        return self.bonus.init(Transition(seen, action, seen), key)

    def values(self, state: Any, batch: Datum, before: Any) -> Float[Array, "B T"]:
        """The bonus of every step of windows, of which ``before`` [B, ...] are the queries before the first steps;

        0 where an episode starts, to which nothing led.
        """
        following = observed(batch.query)
        join = lambda first, rest: jnp.concatenate([first[:, None], rest[:, :-1]], 1)  # noqa: E731
        steps = Transition(jax.tree.map(join, observed(before), following), batch.evidence, following)
        one = lambda step: self.bonus(state, step.observation, step.action, step.following)[0]  # noqa: E731
        assert batch.reset is not None
        return jnp.where(batch.reset, 0.0, jax.vmap(jax.vmap(one))(steps))

    def added(self, state: Any, batch: Datum, before: Any) -> Datum:
        """The windows with what is new beside what was earned."""
        reward = batch.query[REWARD]
        more = self.weight * self.values(state, batch, before).reshape(reward.shape)
        return replace(batch, query={**batch.query, REWARD: reward + more.astype(reward.dtype)})

    def told(self, state: Any, before: Any, after: Datum) -> Any:
        """What the bonus knows after steps [B, ...] more: of the queries ``before`` them, and what came after."""
        return self.bonus.update(state, Transition(observed(before), after.evidence, observed(after.query)))


def observed(query: Any) -> Any:
    """Of a query what an environment shows: the array itself where there is one."""
    parts = {name: part for name, part in query.items() if name not in (REWARD, TERMINATED)}
    return next(iter(parts.values())) if len(parts) == 1 else parts
