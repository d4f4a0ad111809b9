"""Bootstrapped Q-networks in an environment of choices: play some steps, learn from as many, and again."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.actors import Actor, refuse_nan
from veil.control.bootstrapped.agent import BootstrappedQ, BootstrappedState
from veil.control.bootstrapped.seeing import Eyes, Scaled, numbered, valued
from veil.control.continuous.playground import Playground, opened
from veil.control.exploration.learning import Network
from veil.host.keys import generator
from veil.host.progress import Progress
from veil.model.checks import random_key, whole
from veil.model.scales import Scale
from veil.saved.registry import register
from veil.units import Deviation

SLOW = 200  # learning steps for which targets stay where many steps follow each other


@register(name="veil.control.BootstrappedActor")
class BootstrappedActor(Actor):
    """What was learned: an episode follows one member, drawn when it begins, or, ``settled``, the mean of all.

    Actions are numbers from 0. ``returns``: of the episodes that were played while it learned, of rewards only, and
    ``steps``: when they ended.
    """

    networks: Network
    priors: Network
    eyes: Eyes
    prior: float = eqx.field(static=True)
    settled: bool = eqx.field(static=True)
    returns: np.ndarray
    steps: np.ndarray

    def init(self, key: PRNGKeyArray) -> Array:
        return jax.random.randint(key, (), 0, len(self.networks.output.bias))

    def values(self, observation: Any) -> Float[Array, "K A"]:
        """Q of every action, as every member has it, in units of reward."""
        seen = self.eyes(observation)
        said = jax.vmap(lambda own, prior: valued(own, seen) + self.prior * valued(prior, seen))
        return said(self.networks, self.priors)

    def act(self, memory: Any, observation: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        refuse_nan(observation)
        values = self.values(observation)
        best = jnp.argmax(jnp.mean(values, 0) if self.settled else values[memory])
        return best, memory


def bootstrapped(
    env: Any,
    steps: int,
    *,
    key: PRNGKeyArray,
    agent: BootstrappedQ | None = None,
    begin: int = 200,
    every: int = 20,
    progress: bool | None = None,
    watch: Callable[[int, int, str], None] | None = None,
) -> BootstrappedActor:
    """Play ``steps`` steps of an environment of choices, and learn from them; the same key gives the same actor.

    The first ``begin`` steps are random, and say in which units vectors are seen (means and deviations); pictures are
    seen between 0 and 1 where their bounds are known, and numbers as rows of one 1. After that a member is drawn for
    each episode and followed, and each ``every`` steps are followed by ``agent.updates`` times as many learning steps,
    in one compiled program. Where time runs out, and nothing ended, what would have followed counts.

    Args:
        env: the name of a Gymnasium environment, an environment, or a function that makes one (closed in the end).
        steps: of the environment, in all.
        key: what all draws, and the environment's seeds, follow from.
        agent: its settings, as ``BootstrappedQ(prior=10.0, every=200)``; None: ``BootstrappedQ(every=200)``. Its bonus
            is told what the environment shows, and which action was done, a number.
        progress: whether a bar is shown (None: on a terminal).
        watch: called as (done, total, words) from time to time.

    Raises:
        ValueError: an environment of other actions or observations, or numbers out of range.
        ModuleNotFoundError: gymnasium, or what the environment needs, is not installed.
        FloatingPointError: values that are no longer finite, as where rewards are as large as 1e20.
    """
    random_key(key)
    for name, number in (("steps", steps), ("begin", begin), ("every", every)):
        whole(name, number)
    agent = BootstrappedQ(every=SLOW) if agent is None else agent
    if steps <= begin:
        raise ValueError(f"steps: expected more than the {begin} random ones of the beginning; got {steps}")
    if agent.capacity < max(begin, every):
        raise ValueError(f"capacity: expected place for {max(begin, every)} steps or more; got {agent.capacity}")
    if agent.eyes is not None:
        raise ValueError("eyes: they are of the numbers of a finite world; here what is seen is the environment's")
    key_begin, key_met, key_learn, key_member, key_seed = jax.random.split(key, 5)
    rng = generator(key_seed)
    with opened(env, of_choices) as world, Progress(progress, "learning") as bar:
        played, actions = Playground(world, rng), int(world.action_space.n)
        rows = _stacked(played.played(begin, lambda seen: rng.integers(actions)))
        eyes = eyes_of(world.observation_space, rows[0])
        state = agent.prepared(rows[0][0], eyes, actions, key_begin, min(agent.capacity, steps))
        state = _met(agent, state, eyes, rows, jax.random.fold_in(key_met, 0))
        while len(played) < steps:
            now, count = np.uint32(len(played)), min(every, steps - len(played))

            def acting(seen: np.ndarray, state: Any = state) -> np.ndarray:
                key = jax.random.fold_in(key_member, np.uint32(len(played.returns)))  # one for each episode
                return np.asarray(_followed(agent, state, eyes, seen, key))

            state = _met(agent, state, eyes, _stacked(played.played(count, acting)), jax.random.fold_in(key_met, now))
            learning = max(1, round(agent.updates * count))
            state, wrong = _taught(agent, state, eyes, learning, jax.random.fold_in(key_learn, now))
            if not np.isfinite(wrong):
                raise FloatingPointError(f"values are not finite after {len(played)} steps; take a lower rate")
            for told in (bar.update, watch):
                if told is not None:
                    told(len(played), steps, played.words(f"error {float(wrong) ** 0.5:.3f}"))
    learnt = state.networks, state.priors, eyes, agent.prior, True
    return BootstrappedActor(*learnt, np.asarray(played.returns, np.float32), np.asarray(played.ends, np.int64))


def of_choices(spaces: Any, world: Any) -> None:
    """Raise ValueError for an environment whose actions are no choices, or that shows no numbers."""
    seen, done = world.observation_space, world.action_space
    if not isinstance(done, spaces.Discrete) or done.start != 0:
        raise ValueError(f"env: expected one of some actions (Discrete, from 0); got {done}")
    numbered = isinstance(seen, spaces.Discrete) and seen.start == 0
    if not numbered and not isinstance(seen, spaces.Box):
        raise ValueError(
            f"env: expected observations that are arrays (a Box) or numbers (Discrete, from 0); got {seen}. "
            "A dictionary's are put side by side by gymnasium.wrappers.FlattenObservation"
        )


def eyes_of(space: Any, observations: Float[Array, "N *event"]) -> Eyes:
    """Vectors by means and deviations of these, pictures by their bounds, numbers as rows of one 1."""
    shape = observations.shape[1:]
    if not shape:
        return numbered(int(space.n))
    rows = np.asarray(observations).reshape(len(observations), -1)
    if len(shape) > 1:
        low, high = np.asarray(space.low, float).min(), np.asarray(space.high, float).max()
        bounded = np.isfinite(low) and np.isfinite(high)
        shift, scale = (low, high - low) if bounded else (0.0, 1.0)
        return Scaled(Scale(jnp.full(rows.shape[1], shift), jnp.full(rows.shape[1], scale)))
    units = Deviation()(rows, np.ones(len(rows)), None, False)
    return Scaled(
        Scale(jnp.asarray(units.shift, jnp.result_type(float)), jnp.asarray(units.scale, jnp.result_type(float)))
    )


def _stacked(steps: list[tuple[Any, ...]]) -> tuple[Array, ...]:
    """The fields of steps, one after the other."""
    seen, done, reward, following, terminated = (np.stack(part) for part in zip(*steps, strict=True))
    return (*map(jnp.asarray, (seen, done.astype(np.int32), reward, following)), jnp.asarray(terminated))


@eqx.filter_jit
def _followed(agent: BootstrappedQ, state: BootstrappedState, eyes: Eyes, seen: Any, key: PRNGKeyArray) -> Array:
    return agent.followed(state, eyes, jax.random.randint(key, (), 0, agent.members), seen)


@eqx.filter_jit
def _met(agent: BootstrappedQ, state: BootstrappedState, eyes: Eyes, steps: Any, key: PRNGKeyArray) -> Any:
    *rows, terminated = steps
    going = jnp.where(terminated, 0.0, agent.discount)
    return agent.met(state, eyes, (*rows, going), jnp.ones_like(terminated), key)


@eqx.filter_jit
def _taught(agent: BootstrappedQ, state: BootstrappedState, eyes: Eyes, steps: int, key: PRNGKeyArray) -> Any:
    return agent.taught(state, eyes, steps, key)
