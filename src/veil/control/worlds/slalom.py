"""A world for imitation with 24 ways to succeed: a disc is led through three rows of cylinders.

After the task "Avoiding" of Jia et al. (2024), "Towards Diverse Behaviors: A Benchmark for Imitation Learning with
Human Demonstrations", section 5.1: rows of one, two and three cylinders, each passed in one of its gaps, which are 2,
3 and 4. The state is s = (x, y, x*, y*): where the disc is, and where it is wanted, which an action moves:

    p*' = p* + clip(a),    p' = p + ``follow`` (p*' - p) + ε,    ε ~ N(0, noise² I)

in a straight line. Every episode begins at the same place and by default nothing is random but the actions, as there:
what differs between the episodes of an actor is what it decides. Seen from above, y is ahead, x to the right.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.control.worlds.frame import Ending, Scene, World, distance, until

ROWS = 3
WAYS = 24  # 2 · 3 · 4


class Slalom(World):
    """Cylinders on a field, lengths in units of the distance between neighbours in a row.

    Row k = 1, 2, 3 has k cylinders at y = k, side by side around x = 0. The disc hits one if its centre comes closer
    than ``clearance``; the field's sides are at x = ±``width``, behind it ends at y = -``back``, and the finish is at
    y = ``length``. An action is at most ±``limit`` in x and in y; an episode has ``steps`` of them at most. The outcome
    is the route, 12 g_1 + 4 g_2 + g_3, where g_k counts the cylinders on the left of the gap that was taken in row k
    (last, if it went back), and -1 if it did not get through all rows.

    >>> Slalom().cylinders().tolist()
    [[0.0, 1.0], [-0.5, 2.0], [0.5, 2.0], [-1.0, 3.0], [0.0, 3.0], [1.0, 3.0]]
    """

    limit: float = eqx.field(static=True, default=0.1)
    follow: float = eqx.field(static=True, default=0.5)
    noise: float = eqx.field(static=True, default=0.0)
    clearance: float = eqx.field(static=True, default=0.15)
    length: float = eqx.field(static=True, default=4.0)
    width: float = eqx.field(static=True, default=2.0)
    back: float = eqx.field(static=True, default=0.5)
    steps: int = eqx.field(static=True, default=120)
    outcomes: int = eqx.field(static=True, default=WAYS, init=False)

    def cylinders(self) -> np.ndarray:
        """The centres (x, y) [6, 2], row by row."""
        return np.array([(i - (k - 1) / 2, k) for k in range(1, ROWS + 1) for i in range(k)], np.float32)

    def start(self, key: PRNGKeyArray) -> Float[Array, " 4"]:
        """Where each episode begins: at (0, 0)."""
        return jnp.zeros(4)

    def move(self, state: Float[Array, " 4"], action: Float[Array, " 2"], key: PRNGKeyArray) -> Float[Array, "1 4"]:
        wanted = state[2:] + jnp.clip(action, -self.limit, self.limit)
        place = state[:2] + self.follow * (wanted - state[:2]) + self.noise * jax.random.normal(key, (2,))
        return jnp.concatenate([place, wanted])[None]

    def observe(self, state: Float[Array, " 4"]) -> Float[Array, " 4"]:
        """Everything: (x, y, x*, y*)."""
        return state

    def ending(self, path: Float[Array, "T 4"]) -> Ending:
        finished = path[:, 1] > self.length
        still = until(path, finished)
        gaps = jax.vmap(lambda centre: distance(centre, still))(jnp.asarray(self.cylinders(), path.dtype))
        beyond = (jnp.abs(still[:, 0]) > self.width) | (still[:, 1] < -self.back)
        return Ending(jnp.any(gaps < self.clearance), jnp.any(beyond), jnp.any(finished), self.route(still))

    def route(self, path: Float[Array, "T 4"]) -> Int[Array, ""]:
        """Which of the 24 ways a path took, or -1."""
        route, through = jnp.array(0), jnp.array(True)
        for row in range(1, ROWS + 1):
            centres = jnp.asarray([x for x, y in self.cylinders() if y == row])
            begin, end = path[:-1], path[1:]
            crossed = (begin[:, 1] < row) & (end[:, 1] >= row)
            last = len(begin) - 1 - jnp.argmax(crossed[::-1])
            a, b = begin[last], end[last]
            x = a[0] + (b[0] - a[0]) * (row - a[1]) / jnp.where(crossed[last], b[1] - a[1], 1.0)
            route = route * (row + 1) + jnp.sum(centres < x)
            through = through & jnp.any(crossed)
        return jnp.where(through, route, -1)

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full(2, -self.limit, np.float32), np.full(2, self.limit, np.float32)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        room = 2 + self.limit / self.follow + 10 * self.noise
        place = np.array([self.width + room, self.length + room], np.float32)
        high = np.concatenate([place, place])
        return -high, high

    def scene(self) -> Scene:
        return Scene(
            (-self.width, -self.back),
            (self.width, self.length),
            tuple((float(x), float(y), self.clearance) for x, y in self.cylinders()),
            ((-self.width, self.length), (self.width, self.length)),
        )

    def demonstrators(self, count: int, key: PRNGKeyArray) -> "Demonstrator":
        """Routes 0, 1, ..., 23, 0, ...: each equally often if ``count`` is a multiple of 24."""
        return Demonstrator.of(self, jnp.arange(count) % WAYS, key)


class Demonstrator(eqx.Module):
    """A scripted driver, not a person, who passes row k at x = ``gates``_k, and goes straight on to the finish.

    It leads p* along x = c(y), with c smooth steps from gate to gate, c' = 0 at each: a = ``speed`` (c', 1) / |(c', 1)|
    + (``pull`` (c(y*) - x*), 0) + N(0, wobble² I).
    """

    world: Slalom
    gates: Float[Array, "*many 3"]
    speed: float = eqx.field(static=True, default=0.08)
    pull: float = eqx.field(static=True, default=0.3)
    wobble: float = eqx.field(static=True, default=0.01)

    @staticmethod
    def of(world: Slalom, route: Int[Array, "*many"], key: PRNGKeyArray) -> "Demonstrator":
        """One who takes this route, and in each gap passes beside its middle by U(-0.06, 0.06)."""
        gaps = jnp.stack([route // 12, route // 4 % 3, route % 4], -1)
        middles = gaps - jnp.broadcast_to(jnp.arange(1, ROWS + 1) / 2, gaps.shape)
        return Demonstrator(world, middles + jax.random.uniform(key, middles.shape, minval=-0.06, maxval=0.06))

    def __call__(self, observation: Float[Array, " 4"], key: PRNGKeyArray) -> Float[Array, " 2"]:
        x, y = observation[2], observation[3]
        gates = jnp.concatenate([jnp.zeros(1), self.gates, self.gates[-1:]])
        row = jnp.clip(jnp.floor(y), 0, ROWS).astype(int)
        share, way = jnp.clip(y - row, 0.0, 1.0), gates[row + 1] - gates[row]
        wanted = gates[row] + way * share**2 * (3 - 2 * share)
        ahead = jnp.stack([6 * way * share * (1 - share), jnp.ones(())])
        action = self.speed * ahead / jnp.linalg.norm(ahead) + self.pull * jnp.stack([wanted - x, jnp.zeros(())])
        return self.world.within(action + self.wobble * jax.random.normal(key, (2,)))
