"""A small simulated world for imitation: a car that drives round a tree.

The state is s = (x, y, θ): metres along and across the road, and the heading in radians, zero along the road and
positive to the left. The action is the steering rate a (rad/s), limited to ±``limit`` and held for a period T of half a
second, as a person would. The car is a unicycle of constant speed v, so it drives an arc:

    turn = T clip(a) + ε,    ε ~ N(0, noise²)
    θ' = θ + turn,    (x', y') = (x, y) + v T (sin h / h) (cos(θ + h), sin(θ + h)),    h = turn / 2

A tree stands in the middle of the road. A drive succeeds if it gets past the tree to the end of the road without
touching the tree and without leaving the road. The tree can be passed on either side, so demonstrations go both ways,
and what the driver observes before swerving does not say which way: the average of both is the tree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from veil.data import Data
from veil.host.showing import Shown

FINE = 10  # states in a period that are looked at, for pictures and collisions
Driver = Callable[[Float[Array, " 3"], PRNGKeyArray], Float[Array, " 1"]]


class World(eqx.Module):
    """A road with a tree. Lengths in metres, angles in radians, times in seconds.

    ``speed`` v, ``period`` T, ``limit`` of the steering rate, ``noise`` of the turn in each period; the tree at
    (``tree``, 0), and ``clearance``: a car whose centre comes closer to the tree's has hit it. The road ends at
    x = ``length``, its sides are at y = ±``width``. A drive takes ``steps`` periods.

    >>> import jax.numpy as jnp
    >>> World(noise=0.0).step(jnp.zeros(3), jnp.zeros(1), jax.random.key(0))[-1].tolist()
    [2.5, 0.0, 0.0]
    """

    speed: float = eqx.field(static=True, default=5.0)
    period: float = eqx.field(static=True, default=0.5)
    limit: float = eqx.field(static=True, default=1.5)
    noise: float = eqx.field(static=True, default=0.02)
    tree: float = eqx.field(static=True, default=15.0)
    clearance: float = eqx.field(static=True, default=1.5)
    length: float = eqx.field(static=True, default=30.0)
    width: float = eqx.field(static=True, default=6.0)
    steps: int = eqx.field(static=True, default=16)

    def start(self, key: PRNGKeyArray) -> Float[Array, " 3"]:
        """Where a drive begins: x ~ U(0, v T), y ~ N(0, 0.2²) metres, θ ~ N(0, 0.02²) radians."""
        key_along, key_rest = jax.random.split(key)
        along = self.speed * self.period * jax.random.uniform(key_along, (1,))
        return jnp.concatenate([along, jnp.array([0.2, 0.02]) * jax.random.normal(key_rest, (2,))])

    def step(self, state: Float[Array, " 3"], action: Float[Array, " 1"], key: PRNGKeyArray) -> Float[Array, "F 3"]:
        """The states on the way through one period, ``FINE`` of them; the last is the next state."""
        turn = self.period * jnp.clip(action[0], -self.limit, self.limit) + self.noise * jax.random.normal(key)
        share = jnp.arange(1, FINE + 1) / FINE
        half = share * turn / 2
        way = self.speed * self.period * share * jnp.sinc(half / jnp.pi)
        along = jnp.stack([way * jnp.cos(state[2] + half), way * jnp.sin(state[2] + half), 2 * half], -1)
        return state[None] + along


class Demonstrator(eqx.Module):
    """A scripted driver, not a person: straight on, round the tree on one ``side`` (+1 left, -1 right), and back.

    It steers to a heading, a = (θ* - θ) / T + N(0, wobble²). From ``reaction`` metres before the tree until it has
    reached it, θ* points ``berth`` metres beside the tree; before and after, back to the middle of the road.
    """

    world: World
    side: Float[Array, "..."] | float
    reaction: float = eqx.field(static=True, default=8.0)
    berth: float = eqx.field(static=True, default=3.0)
    wobble: float = eqx.field(static=True, default=0.1)

    def __call__(self, state: Float[Array, " 3"], key: PRNGKeyArray) -> Float[Array, " 1"]:
        ahead = self.world.tree - state[0]
        beside = jnp.arctan2(self.side * self.berth - state[1], jnp.maximum(ahead, 2.0))
        back = jnp.arctan2(-state[1], 6.0)
        wanted = jnp.where((ahead > self.reaction) | (ahead < 0.0), back, beside)
        action = (wanted - state[2]) / self.world.period + self.wobble * jax.random.normal(key)
        return jnp.clip(action, -self.world.limit, self.world.limit)[None]


@dataclass(frozen=True, repr=False)
class Drives(Shown):
    """N drives of T steps: ``states`` [N, T, 3] where an action was chosen, ``actions`` [N, T] (rad/s), ``paths``
    [N, T · FINE + 1, 3] in between as well, and how each ended, [N] booleans.

    ``hit``: touched the tree; ``left_road``: left the road; ``passed``: got to the end; ``left``: was on the left
    of the tree when it passed or hit it.
    """

    states: np.ndarray
    actions: np.ndarray
    paths: np.ndarray
    hit: np.ndarray
    left_road: np.ndarray
    passed: np.ndarray
    left: np.ndarray

    def __len__(self) -> int:
        return len(self.states)

    @property
    def success(self) -> np.ndarray:
        """Which drives passed, and neither hit the tree nor left the road [N]."""
        return self.passed & ~self.hit & ~self.left_road

    def rate(self) -> tuple[float, float]:
        """The fraction of drives that succeed, and its binomial standard error."""
        rate = float(np.mean(self.success))
        return rate, float(np.sqrt(rate * (1 - rate) / len(self)))


def distance_to_tree(world: World, path: Float[Array, "T 3"]) -> Float[Array, ""]:
    """The smallest distance (m) between the tree's centre and a path, straight between its points."""
    begin, end = path[:-1, :2] - jnp.array([[world.tree, 0.0]]), path[1:, :2] - jnp.array([[world.tree, 0.0]])
    along = end - begin
    share = -jnp.sum(begin * along, -1) / jnp.maximum(jnp.sum(along * along, -1), 1e-12)
    nearest = begin + jnp.clip(share, 0.0, 1.0)[:, None] * along
    return jnp.min(jnp.linalg.norm(nearest, axis=-1))


def outcome(world: World, path: Float[Array, "T 3"]) -> dict[str, Bool[Array, ""]]:
    """How a drive ended, by the names of ``Drives``. What happens after the end of the road does not count."""
    on_road = path[:, 0] <= world.length
    still = jnp.where(on_road[:, None], path, path[jnp.argmin(on_road)][None])
    beside = path[jnp.argmin(jnp.abs(path[:, 0] - world.tree)), 1]
    return {
        "hit": distance_to_tree(world, still) < world.clearance,
        "left_road": jnp.any(jnp.abs(still[:, 1]) > world.width),
        "passed": jnp.any(~on_road),
        "left": beside > 0,
    }


def drive(
    world: World, driver: Driver, key: PRNGKeyArray
) -> tuple[Float[Array, "T 3"], Float[Array, " T"], Float[Array, "TF 3"]]:
    """One drive: the states, the actions as they were taken (within the limit), and the path."""
    key_start, key_drive = jax.random.split(key)
    start = world.start(key_start)

    def step(state: Array, key: PRNGKeyArray) -> tuple[Array, tuple[Array, Array, Array]]:
        key_driver, key_world = jax.random.split(key)
        action = jnp.clip(driver(state, key_driver), -world.limit, world.limit)
        path = world.step(state, action, key_world)
        return path[-1], (state, action[0], path)

    _, (states, actions, paths) = jax.lax.scan(step, start, jax.random.split(key_drive, world.steps))
    return states, actions, jnp.concatenate([start[None], paths.reshape(-1, 3)])


@eqx.filter_jit
def _drives(world: World, drivers: Driver, keys: Key[Array, " N"], many: bool) -> tuple[Any, ...]:
    along = eqx.if_array(0) if many else None
    states, actions, paths = eqx.filter_vmap(lambda driver, key: drive(world, driver, key), in_axes=(along, 0))(
        drivers, keys
    )
    return states, actions, paths, jax.vmap(lambda path: outcome(world, path))(paths)


def _collected(states: Array, actions: Array, paths: Array, ends: dict[str, Array]) -> Drives:
    named = {name: np.asarray(end) for name, end in ends.items()}
    return Drives(np.asarray(states), np.asarray(actions), np.asarray(paths), **named)


def drives(world: World, driver: Driver, count: int, key: PRNGKeyArray) -> Drives:
    """``count`` drives of one driver at once: any ``driver(observation [3], key) -> action [1]``, as a ``Policy`` is.

    >>> drives(World(), Demonstrator(World(), side=1.0), 10, jax.random.key(0)).rate()
    (1.0, 0.0)
    """
    return _collected(*_drives(world, driver, jax.random.split(key, count), False))


def demonstrations(world: World, count: int, key: PRNGKeyArray) -> Drives:
    """Drives of the scripted ``Demonstrator``, who tosses a coin for each: about half go left, the others right.

    >>> bool(demonstrations(World(), 20, jax.random.key(0)).success.all())
    True
    """
    key_side, key_drive = jax.random.split(key)
    sides = jnp.where(jax.random.bernoulli(key_side, shape=(count,)), 1.0, -1.0)
    return _collected(*_drives(world, Demonstrator(world, sides), jax.random.split(key_drive, count), True))


def as_data(world: World, driven: Drives) -> Data:
    """Drives as data for a policy: evidence is the observation, the state [N, 3]; query the action [N, 1].

    Only what was driven before the end of the road. The side is not part of it.
    """
    kept = driven.states[..., 0] <= world.length
    names = ("x", "y", "heading")
    return Data(
        driven.actions[kept], driven.states[kept], query_names=("steering",), evidence_names=names, name="driving"
    )
