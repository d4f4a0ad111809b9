"""A pole on a cart, in JAX: dm_control's tasks of it, and the one of PETS, with their numbers, without MuJoCo.

The state is s = (x, θ, x', θ'): metres, radians from upright towards +x, and their speeds. With the masses M of the
cart and m of the pole, its centre at l and its moment of inertia I about that, damping c_x and c_θ, and a force
f = gear u:

    (M + m) x'' + m l cos(θ) θ'' - m l sin(θ) θ'² = f - c_x x' + b
    m l cos(θ) x'' + (I + m l²) θ'' = m g l sin(θ) - c_θ θ'

b is what the end of the rail does to the cart (``Body.buffer``). They are solved by Runge and Kutta's fourth order, the
action held fixed. Constants, starts and rewards are those of dm_control's suite (``suite/cartpole.xml``,
``cartpole.py``, Tassa et al. 2018), and of the cart-pole of Chua et al. 2018 (``dmbrl/env/cartpole.py`` and its XML).

What differs: the pictures (one colour a shape, neither shadows nor reflections nor stars, no perspective), float32
unless JAX is told otherwise, actions beyond the limits, which are cut off before the reward, too, and of PETS the pole
that there is made 1.7 milliradians askew. Trajectories agree with MuJoCo's to rounding, at the ends of the rail, too.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from veil.control.worlds import sideview
from veil.control.worlds.physics import Physics

State = Float[Array, "4"]
LEAST, MOST, WIDTH = 0.9, 0.95, 0.001  # MuJoCo's solimp: how stiff an end is just touched, and WIDTH metres beyond
CART, POLE, RAIL = (227.0, 166.0, 104.0), (205.0, 153.0, 100.0), (78.0, 130.0, 182.0)


class Body(eqx.Module):
    """The cart, the pole (a capsule, from the cart's middle) and the rail, in metres, kilograms, seconds, newtons.

    ``cart``, ``pole``: masses; ``length`` of the pole between the centres of its round ends, of ``radius``; ``gear``:
    force of an action of 1, which is at most ``limit``; ``damping`` of cart and hinge; ``rail``: how far the cart goes;
    ``give``: the time in which its ends push the cart back; ``step``: of the integrator, ``repeats`` for each action.
    ``reach``, ``size``: how far pictures show, and half the cart's width and height there.
    """

    cart: float = eqx.field(static=True, default=1.0)
    pole: float = eqx.field(static=True, default=0.1)
    length: float = eqx.field(static=True, default=1.0)
    radius: float = eqx.field(static=True, default=0.045)
    gravity: float = eqx.field(static=True, default=9.81)
    gear: float = eqx.field(static=True, default=10.0)
    limit: float = eqx.field(static=True, default=1.0)
    damping: tuple[float, float] = eqx.field(static=True, default=(5e-4, 2e-6))
    rail: float = eqx.field(static=True, default=1.8)
    give: float = eqx.field(static=True, default=0.08)
    step: float = eqx.field(static=True, default=0.01)
    repeats: int = eqx.field(static=True, default=1)
    reach: float = eqx.field(static=True, default=4.0 * 0.41421356)  # four metres away, 45 degrees high
    size: tuple[float, float] = eqx.field(static=True, default=(0.2, 0.1))

    @property
    def inertia(self) -> float:
        """I of the pole: of a cylinder, and of half a ball at each end, of the same density."""
        balls = self.pole * 4 * self.radius / (4 * self.radius + 3 * self.length)
        middle = (self.pole - balls) * (3 * self.radius**2 + self.length**2) / 12
        return middle + balls * (0.4 * self.radius**2 + self.length * (3 * self.radius + 2 * self.length) / 8)

    def masses(self, cosine: Any) -> tuple[float, Any, float]:
        """The matrix of masses: its first entry, the one off the diagonal, and its last."""
        half = self.length / 2
        return self.cart + self.pole, self.pole * half * cosine, self.inertia + self.pole * half**2

    def buffer(
        self, place: Float[Array, ""], speed: Float[Array, ""], accelerated: Float[Array, ""], given: Float[Array, ""]
    ) -> Float[Array, ""]:
        """The force b of the end of the rail on the cart, zero on the rail.

        MuJoCo's soft limit in closed form, as there is but one: the end wants the acceleration a = -k d r - c r' of the
        depth r by which the cart is beyond it, k = 1 / (d_max ``give``)², c = 2 / (d_max ``give``), and has

            b = max(0, (r'' - a) / (A + (1 - d) / d A_0)),

        with r'' the ``accelerated`` without it, A the acceleration ``given`` by a force of 1, A_0 that of an upright
        pole, and d, in [d_min, d_max], how hard it is at r. ("Computation" in MuJoCo's documentation.)
        """
        side = jnp.sign(place)
        deep = jnp.maximum(jnp.abs(place) - self.rail, 0.0)
        share = jnp.minimum(deep / WIDTH, 1.0)
        hard = LEAST + (MOST - LEAST) * jnp.where(share < 0.5, 2 * share**2, 1 - 2 * (1 - share) ** 2)
        give = MOST * max(self.give, 2 * self.step)  # it is never stiffer than the integrator can follow
        wanted = -hard * deep / give**2 - 2 * side * speed / give
        first, off, last = self.masses(1.0)
        upright = last / (first * last - off**2)
        force = jnp.maximum((side * accelerated - wanted) / (given + (1 - hard) / hard * upright), 0.0)
        return -side * jnp.where(deep > 0.0, force, 0.0)

    def change(self, state: State, force: Float[Array, ""]) -> State:
        """ds/dt."""
        place, angle, speed, turning = state
        first, off, last = self.masses(jnp.cos(angle))
        lever = self.pole * self.length / 2 * jnp.sin(angle)
        along = force - self.damping[0] * speed + lever * turning**2
        around = self.gravity * lever - self.damping[1] * turning
        area = first * last - off**2
        along = along + self.buffer(place, speed, (last * along - off * around) / area, last / area)
        return jnp.stack([speed, turning, (last * along - off * around) / area, (first * around - off * along) / area])

    def energy(self, state: State) -> Float[Array, ""]:
        """Of motion and of height, joules; zero where all stands still and the pole lies level."""
        first, off, last = self.masses(jnp.cos(state[1]))
        motion = 0.5 * first * state[2] ** 2 + off * state[2] * state[3] + 0.5 * last * state[3] ** 2
        return motion + self.pole * self.gravity * self.length / 2 * jnp.cos(state[1])

    def moved(self, state: State, action: Float[Array, "1"]) -> State:
        """The state after one action."""
        force = self.gear * action[0]
        for _ in range(self.repeats):
            one = self.change(state, force)
            two = self.change(state + self.step / 2 * one, force)
            three = self.change(state + self.step / 2 * two, force)
            four = self.change(state + self.step * three, force)
            state = state + self.step / 6 * (one + 2 * two + 2 * three + four)
        return state


def weight(radius: float, length: float) -> float:
    """Of a capsule of water, in kilograms."""
    return float(1000 * np.pi * radius**2 * (length + 4 / 3 * radius))


SMALL = Body()
PETS = Body(
    cart=weight(0.1, 0.2), pole=weight(0.049, 0.6), length=0.6, radius=0.049, gear=100.0, limit=3.0, damping=(1.0, 1.0),
    rail=2.5, give=0.02, step=0.02, repeats=2, reach=2.8, size=(0.2, 0.1),
)  # fmt: skip


class Task(eqx.Module):
    """Where an episode begins, what is seen and what is earned."""

    @abstractmethod
    def start(self, key: PRNGKeyArray) -> State:
        """Where an episode begins."""

    @abstractmethod
    def reward(self, body: Body, state: State, action: Float[Array, "1"]) -> Float[Array, ""]:
        """Of a step, given the state that it led to."""


def near(value: Float[Array, ""], margin: float) -> Float[Array, ""]:
    """1 at zero, a tenth at the margin: exp(log(0.1) (value / margin)²), dm_control's ``tolerance``."""
    return jnp.exp(np.log(0.1) * (value / margin) ** 2)


def _smooth(state: State, action: Float[Array, "1"]) -> Float[Array, ""]:
    upright = (1 + jnp.cos(state[1])) / 2
    centred, calm = (1 + near(state[0], 2.0)) / 2, (1 + near(state[3], 5.0)) / 2
    gentle = (4 + jnp.maximum(1 - action[0] ** 2, 0.0)) / 5
    return upright * centred * calm * gentle


def _hanging(key: PRNGKeyArray, spread: float) -> State:
    return jnp.array([0.0, np.pi, 0.0, 0.0]) + spread * jax.random.normal(key, (4,))


class SwingUp(Task):
    """The pole hangs, (x, θ - π, x', θ') ~ N(0, 0.01²), and is to stand in the middle.

    r = (1 + cos θ)/2 (1 + n(x, 2))/2 (1 + n(θ', 5))/2 (5 - u²)/5, n(v, m) = 0.1^((v / m)²).
    """

    def start(self, key: PRNGKeyArray) -> State:
        return _hanging(key, 0.01)

    def reward(self, body: Body, state: State, action: Float[Array, "1"]) -> Float[Array, ""]:
        return _smooth(state, action)


class SwingUpSparse(Task):
    """As ``SwingUp``; r = 1 where |x| ≤ 0.25 and cos θ ≥ 0.995, else 0."""

    def start(self, key: PRNGKeyArray) -> State:
        return _hanging(key, 0.01)

    def reward(self, body: Body, state: State, action: Float[Array, "1"]) -> Float[Array, ""]:
        return ((jnp.abs(state[0]) <= 0.25) & (jnp.cos(state[1]) >= 0.995)).astype(state.dtype)


class Balance(Task):
    """The pole stands, x ~ U(-0.1, 0.1), θ ~ U(-0.034, 0.034), x', θ' ~ N(0, 0.01²); r as of ``SwingUp``."""

    def start(self, key: PRNGKeyArray) -> State:
        key_place, key_speed = jax.random.split(key)
        place = jnp.array([0.1, 0.034]) * jax.random.uniform(key_place, (2,), minval=-1.0)
        return jnp.concatenate([place, 0.01 * jax.random.normal(key_speed, (2,))])

    def reward(self, body: Body, state: State, action: Float[Array, "1"]) -> Float[Array, ""]:
        return _smooth(state, action)


class Reaching(Task):
    """PETS: the pole hangs, (x, θ - π, x', θ') ~ N(0, 0.1²), and its tip is to be above the rail's middle.

    r = exp(-|tip - (0, L)|² / L²) - 0.01 u², with L the pole's length. As a policy's episode is 200 steps of 0.04
    seconds, 200 is never reached.
    """

    def start(self, key: PRNGKeyArray) -> State:
        return _hanging(key, 0.1)

    def reward(self, body: Body, state: State, action: Float[Array, "1"]) -> Float[Array, ""]:
        x, y = state[0] / body.length + jnp.sin(state[1]), jnp.cos(state[1]) - 1
        return jnp.exp(-(x**2 + y**2)) - 0.01 * jnp.sum(action**2)


class CartPole(Physics):
    """A body and a task. Actions [1] are forces / ``gear``; observed are (x, cos θ, sin θ, x', θ').

    With ``folded`` False what is observed is (x, θ - π, x', θ'), the angle from hanging, with all its turns.

    >>> import jax
    >>> world = CartPole(SMALL, SwingUp())
    >>> state = world.step(world.start(jax.random.key(0)), jnp.ones(1))
    >>> world.observe(state).shape, bool(world.reward(state, jnp.ones(1)) < 0.01)
    ((5,), True)
    """

    body: Body
    task: Task
    folded: bool = eqx.field(static=True, default=True)

    def start(self, key: PRNGKeyArray) -> State:
        return self.task.start(key)

    def step(self, state: State, action: Float[Array, "1"]) -> State:
        return self.body.moved(state, action)

    def observe(self, state: State) -> Float[Array, " O"]:
        angle = jnp.stack([jnp.cos(state[1]), jnp.sin(state[1])]) if self.folded else state[1:2] - np.pi
        return jnp.concatenate([state[:1], angle, state[2:]])

    def reward(self, state: State, action: Float[Array, "1"]) -> Float[Array, ""]:
        return self.task.reward(self.body, state, action)

    def frame(self, state: State, size: int) -> UInt8[Array, "size size 3"]:
        """Sky, floor and rail, the pole, and the cart in front of it, from the side."""
        body, zero = self.body, jnp.zeros_like(state[0])
        cart = jnp.stack([state[0], zero])
        tip = cart + body.length * jnp.stack([jnp.sin(state[1]), jnp.cos(state[1])])
        picture = sideview.background(size)
        rail = sideview.box(size, body.reach, jnp.stack([zero, zero]), (2 * body.reach, 0.02))
        pole = sideview.rod(size, body.reach, cart, tip, body.radius)
        picture = sideview.over(sideview.over(picture, pole, POLE), rail, RAIL)
        return sideview.bytes_of(sideview.over(picture, sideview.box(size, body.reach, cart, body.size), CART))

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        high = np.array([self.body.limit], np.float32)
        return -high, high

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        angle = [1.0, 1.0] if self.folded else [np.inf]
        high = np.array([np.inf, *angle, np.inf, np.inf], np.float32)  # the rail's ends are soft
        return -high, high
