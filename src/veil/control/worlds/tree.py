"""A world for imitation: a car that drives round a tree.

The state is s = (x, y, θ): metres along and across the road, and the heading in radians, zero along the road and
positive to the left. The action is the steering rate a (rad/s), limited to ±``limit`` and held for a period T of half a
second, as a person would. The car is a unicycle of constant speed v, so it drives an arc:

    turn = T clip(a) + ε,    ε ~ N(0, noise²)
    θ' = θ + turn,    (x', y') = (x, y) + v T (sin h / h) (cos(θ + h), sin(θ + h)),    h = turn / 2

A tree stands in the middle of the road. A drive succeeds if it gets past the tree to the end of the road without
touching the tree and without leaving the road. The tree can be passed on either side, so demonstrations go both ways,
and what the driver observes before swerving does not say which way: the average of both is the tree.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.worlds.frame import Ending, Scene, World, distance, until

FINE = 10  # states in a period that are looked at, for pictures and collisions


class Tree(World):
    """A road with a tree. Lengths in metres, angles in radians, times in seconds.

    ``speed`` v, ``period`` T, ``limit`` of the steering rate, ``noise`` of the turn in each period; the tree at
    (``tree``, 0), and ``clearance``: a car whose centre comes closer to the tree's has hit it. The road ends at
    x = ``length``, its sides are at y = ±``width``. A drive takes ``steps`` periods at most. The outcome is the side on
    which the car was beside the tree: 1 left, 0 right.

    >>> import jax.numpy as jnp
    >>> Tree(noise=0.0).move(jnp.zeros(3), jnp.zeros(1), jax.random.key(0))[-1].tolist()
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
    outcomes: int = eqx.field(static=True, default=2, init=False)

    def start(self, key: PRNGKeyArray) -> Float[Array, " 3"]:
        """Where a drive begins: x ~ U(0, v T), y ~ N(0, 0.2²) metres, θ ~ N(0, 0.02²) radians."""
        key_along, key_rest = jax.random.split(key)
        along = self.speed * self.period * jax.random.uniform(key_along, (1,))
        return jnp.concatenate([along, jnp.array([0.2, 0.02]) * jax.random.normal(key_rest, (2,))])

    def move(self, state: Float[Array, " 3"], action: Float[Array, " 1"], key: PRNGKeyArray) -> Float[Array, "F 3"]:
        """The states on the way through one period, ``FINE`` of them; the last is the next state."""
        turn = self.period * jnp.clip(action[0], -self.limit, self.limit) + self.noise * jax.random.normal(key)
        share = jnp.arange(1, FINE + 1) / FINE
        half = share * turn / 2
        way = self.speed * self.period * share * jnp.sinc(half / jnp.pi)
        along = jnp.stack([way * jnp.cos(state[2] + half), way * jnp.sin(state[2] + half), 2 * half], -1)
        return state[None] + along

    def observe(self, state: Float[Array, " 3"]) -> Float[Array, " 3"]:
        """Everything: (x, y, θ)."""
        return state

    def ending(self, path: Float[Array, "T 3"]) -> Ending:
        finished = path[:, 0] > self.length
        still = until(path, finished)
        beside = path[jnp.argmin(jnp.abs(path[:, 0] - self.tree)), 1]
        return Ending(
            distance(jnp.array([self.tree, 0.0]), still) < self.clearance,
            jnp.any(jnp.abs(still[:, 1]) > self.width),
            jnp.any(finished),
            (beside > 0).astype(int),
        )

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([-self.limit], np.float32), np.array([self.limit], np.float32)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        way = self.speed * self.period * (self.steps + 2)
        turn = self.steps * (self.period * self.limit + 8 * self.noise) + 1
        high = np.array([way, way + 2, turn], np.float32)
        return -high, high

    def scene(self) -> Scene:
        return Scene(
            (0.0, -self.width),
            (self.length, self.width),
            ((self.tree, 0.0, self.clearance),),
            ((self.length, -self.width), (self.length, self.width)),
        )

    def demonstrators(self, count: int, key: PRNGKeyArray) -> "Demonstrator":
        """Each tosses a coin for the side."""
        return Demonstrator(self, jnp.where(jax.random.bernoulli(key, shape=(count,)), 1.0, -1.0))


class Demonstrator(eqx.Module):
    """A scripted driver, not a person: straight on, round the tree on one ``side`` (+1 left, -1 right), and back.

    It steers to a heading, a = (θ* - θ) / T + N(0, wobble²). From ``reaction`` metres before the tree until it has
    reached it, θ* points ``berth`` metres beside the tree; before and after, back to the middle of the road.
    """

    world: Tree
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
