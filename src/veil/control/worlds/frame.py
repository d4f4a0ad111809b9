"""What a small simulated world is, and driving in it: many episodes at once, in one program."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, Key, PRNGKeyArray

from veil.control.actors import Actor, ScriptedActor
from veil.data import Episode, Recording
from veil.host.showing import Shown

Driver = Actor | Callable[[Any, PRNGKeyArray], Any]  # an actor, or any function(observation, key) -> action


class Ending(eqx.Module):
    """How a path ended: ``hit`` something, ``out`` of the field, ``passed`` the finish; and the ``outcome``.

    The outcome counts from 0 the ways to succeed; -1 where the path took none.
    """

    hit: Bool[Array, "*many"]
    out: Bool[Array, "*many"]
    passed: Bool[Array, "*many"]
    outcome: Int[Array, "*many"]

    @property
    def success(self) -> Bool[Array, "*many"]:
        return self.passed & ~self.hit & ~self.out

    @property
    def over(self) -> Bool[Array, "*many"]:
        return self.passed | self.hit | self.out


class Step(NamedTuple):
    """What one action led to: the next ``state``, the ``reward`` (1 for success), whether it ``terminated``.

    ``path``: the states on the way [F, S], of which the last is the next one.
    """

    state: Float[Array, " S"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    path: Float[Array, "F S"]


class Scene(NamedTuple):
    """What there is to draw: corners (x, y) of the field, ``discs`` (x, y, radius), and the finish line's ends."""

    low: tuple[float, float]
    high: tuple[float, float]
    discs: tuple[tuple[float, float, float], ...]
    finish: tuple[tuple[float, float], tuple[float, float]]


class World(eqx.Module):
    """A world: pure functions of a state [S], whose first two numbers are the place (x, y)."""

    steps: eqx.AbstractVar[int]  # actions after which an episode is cut off
    outcomes: eqx.AbstractVar[int]  # how many ways there are to succeed

    @abstractmethod
    def start(self, key: PRNGKeyArray) -> Float[Array, " S"]:
        """Where an episode begins."""

    @abstractmethod
    def move(self, state: Float[Array, " S"], action: Float[Array, " A"], key: PRNGKeyArray) -> Float[Array, "F S"]:
        """The states on the way through one step; the last is the next state."""

    @abstractmethod
    def observe(self, state: Float[Array, " S"]) -> Float[Array, " O"]:
        """What an actor sees."""

    @abstractmethod
    def ending(self, path: Float[Array, "T S"]) -> Ending:
        """How a path ended, straight between its points. What happens after the finish does not count."""

    @abstractmethod
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest action [A]."""

    @abstractmethod
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers that no observation [O] goes beyond."""

    @abstractmethod
    def scene(self) -> Scene:
        """What there is to draw."""

    @abstractmethod
    def demonstrators(self, count: int, key: PRNGKeyArray) -> Any:
        """``count`` scripted drivers (no persons), their arrays with an axis of them in front."""

    def within(self, action: Float[Array, " A"]) -> Float[Array, " A"]:
        """The action that is taken where one beyond the limits is asked for."""
        low, high = self.limits()
        return jnp.clip(action, jnp.asarray(low, action.dtype), jnp.asarray(high, action.dtype))

    def step(self, state: Float[Array, " S"], action: Float[Array, " A"], key: PRNGKeyArray) -> Step:
        """What an action leads to."""
        path = self.move(state, self.within(action), key)
        end = self.ending(jnp.concatenate([state[None], path]))
        return Step(path[-1], end.success.astype(state.dtype), end.over, path)


def until(path: Float[Array, "T S"], finished: Bool[Array, " T"]) -> Float[Array, "T S"]:
    """The path, which stays where it first ``finished``."""
    first = jnp.where(jnp.any(finished), jnp.argmax(finished), len(path) - 1)
    return path[jnp.minimum(jnp.arange(len(path)), first)]


def distance(point: Float[Array, "2"], path: Float[Array, "T S"]) -> Float[Array, ""]:
    """The smallest distance between a point and a path, straight between its points."""
    begin, end = path[:-1, :2] - point[None], path[1:, :2] - point[None]
    along = end - begin
    share = -jnp.sum(begin * along, -1) / jnp.maximum(jnp.sum(along * along, -1), 1e-12)
    nearest = begin + jnp.clip(share, 0.0, 1.0)[:, None] * along
    return jnp.min(jnp.linalg.norm(nearest, axis=-1))


def begin(world: World, key: PRNGKeyArray) -> tuple[Float[Array, " S"], Key[Array, " T"], PRNGKeyArray]:
    """The start, a key for each step (split into the actor's and the world's), and the key of the actor's memory."""
    key_start, key_steps, key_actor = jax.random.split(key, 3)
    return world.start(key_start), jax.random.split(key_steps, world.steps), key_actor


class Drive(NamedTuple):
    """One episode of T steps, F points in each; after its end the state stays, and what was done does not count."""

    states: Float[Array, "T S"]
    actions: Float[Array, "T A"]
    rewards: Float[Array, " T"]
    path: Float[Array, "TF S"]  # the start, and every point on the way
    length: Int[Array, ""]  # of steps up to the end
    terminated: Bool[Array, ""]
    ending: Ending


def drive(world: World, driver: Driver, key: PRNGKeyArray) -> Drive:
    """One episode, of an actor with its memory or of a function(observation, key) -> action."""
    actor = driver if isinstance(driver, Actor) else ScriptedActor(driver)
    start, keys, key_actor = begin(world, key)

    def step(carry: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        state, memory, over = carry
        key_actor, key_world = jax.random.split(key)
        action, memory = actor.act(memory, world.observe(state), key_actor)
        action = world.within(action)
        went = world.step(state, action, key_world)
        path = jnp.where(over, state[None], went.path)
        reward = jnp.where(over, 0.0, went.reward)
        return (path[-1], memory, over | went.terminated), (state, action, reward, path, over)

    carry = start, actor.init(key_actor), jnp.array(False)
    (_, _, over), (states, actions, rewards, paths, before) = jax.lax.scan(step, carry, keys)
    path = jnp.concatenate([start[None], paths.reshape(-1, start.size)])
    return Drive(states, actions, rewards, path, jnp.sum(~before), over, world.ending(path))


@dataclass(frozen=True, repr=False)
class Drives(Shown):
    """N episodes of T steps: ``states`` [N, T, S], the ``actions`` [N, T, A] taken in them, ``paths`` [N, T F + 1, S]
    with the states in between, ``lengths`` [N] in steps (after it the state stays), and how each ended, [N]:

    ``hit`` an obstacle, ``out`` of the field, ``passed`` the finish, and the ``outcome``: which of the ways to succeed
    it went (-1 for none).
    """

    world: World
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    paths: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray
    hit: np.ndarray
    out: np.ndarray
    passed: np.ndarray
    outcome: np.ndarray

    def __len__(self) -> int:
        return len(self.states)

    @property
    def success(self) -> np.ndarray:
        """Which drives passed, and neither hit anything nor left the field [N]."""
        return self.passed & ~self.hit & ~self.out

    def rate(self) -> tuple[float, float]:
        """The fraction of drives that succeed, and its binomial standard error."""
        rate = float(np.mean(self.success))
        return rate, float(np.sqrt(rate * (1 - rate) / len(self)))

    def entropy(self) -> tuple[float, float]:
        """The entropy of the outcomes of successful drives (1: all ways equally often), and its standard error."""
        return entropy(self.outcome[self.success], self.world.outcomes)

    def recording(self, name: str) -> Recording:
        """The episodes up to their ends: "observation", "action" and "reward"; the outcome is in their infos."""
        every = (self.paths.shape[1] - 1) // self.world.steps
        seen = np.asarray(jax.vmap(jax.vmap(self.world.observe))(jnp.asarray(self.paths[:, ::every])))
        episodes = [
            Episode(
                {"observation": seen[i, : length + 1]},
                {"action": self.actions[i, :length]},
                self.rewards[i, :length],
                bool(self.terminated[i]),
                not self.terminated[i],
                {"outcome": np.full(length + 1, self.outcome[i])},
            )
            for i, length in enumerate(self.lengths)
        ]
        return Recording(episodes, name=name)


@eqx.filter_jit
def _drives(world: World, drivers: Driver, keys: Key[Array, " N"], many: bool) -> Drive:
    along = eqx.if_array(0) if many else None
    return eqx.filter_vmap(lambda driver, key: drive(world, driver, key), in_axes=(along, 0))(drivers, keys)


def _collected(world: World, found: Drive) -> Drives:
    some = jax.tree.map(np.asarray, found)
    end = some.ending
    return Drives(
        world, some.states, some.actions, some.rewards, some.path, some.length, some.terminated,
        end.hit, end.out, end.passed, end.outcome,
    )  # fmt: skip


def drives(world: World, driver: Driver, count: int, key: PRNGKeyArray) -> Drives:
    """``count`` episodes at once: of any ``Actor``, each with a memory of its own, or function(observation, key).

    >>> from veil.control.worlds import Tree, tree
    >>> drives(Tree(), tree.Demonstrator(Tree(), side=1.0), 10, jax.random.key(0)).rate()
    (1.0, 0.0)
    """
    return _collected(world, _drives(world, driver, jax.random.split(key, count), False))


def demonstrate(world: World, count: int, key: PRNGKeyArray) -> Drives:
    """Episodes of the world's scripted demonstrators, no persons, who go all ways about equally often.

    >>> from veil.control.worlds import Tree
    >>> bool(demonstrate(Tree(), 20, jax.random.key(0)).success.all())
    True
    """
    key_who, key_drive = jax.random.split(key)
    drivers = world.demonstrators(count, key_who)
    return _collected(world, _drives(world, drivers, jax.random.split(key_drive, count), True))


def demonstrations(world: World, count: int, key: PRNGKeyArray) -> Recording:
    """The same as a recording: ``.data("action", "observation")`` is data for a policy.

    >>> from veil.control.worlds import Tree
    >>> demonstrations(Tree(), 2, jax.random.key(0))
    Recording('tree': 2 episodes, observation, action, reward, terminated)
    """
    return demonstrate(world, count, key).recording(type(world).__name__.lower())


def entropy(outcomes: Integer[np.ndarray, " N"], base: int) -> tuple[float, float]:
    """H = -Σ_k p_k log_base p_k of the fractions p_k of N outcomes, and its standard error; (0, 0) of none.

    With base the number of ways there are, 1 says that all were gone equally often: the behaviour entropy of Jia et
    al. (2024), "Towards Diverse Behaviors", equation 1. For K outcomes that occur its
    variance is to second order in 1/N, as of equally frequent outcomes the first vanishes, Var_p(log p) / N +
    (K - 1) / (2 N²) (Harris 1975), the first without what chance adds to it, (K - 1) / N². H is biased by
    -(K - 1) / (2 N log base).

    >>> entropy(np.array([0, 1, 2, 3]), 4)[0]
    1.0
    """
    count = len(outcomes)
    if count == 0:
        return 0.0, 0.0
    p = np.unique(outcomes, return_counts=True)[1] / count
    nats = -np.sum(p * np.log(p))
    chance = (len(p) - 1) / count
    variance = max(0.0, np.sum(p * np.log(p) ** 2) - nats**2 - chance) / count + chance / (2 * count)
    return abs(float(nats / np.log(base))), float(np.sqrt(variance) / np.log(base))
