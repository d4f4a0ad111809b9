"""A pole on a cart: mechanics by another way, energy, the rail's ends, rewards by hand, pictures, and Gymnasium."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil import collect
from veil.control.worlds.cartpole import PETS, SMALL, Balance, Body, CartPole, Reaching, SwingUp, SwingUpSparse

gymnasium = pytest.importorskip("gymnasium")
NAMES = ("CartPoleSwingUp", "CartPoleSwingUpSparse", "CartPoleBalance", "CartPolePETS")


def by_lagrange(body: Body, state: np.ndarray, force: float, count: int = 2000) -> np.ndarray:
    """The accelerations of a cart with a pole of ``count`` points of mass, d/dt dT/dq' - dT/dq = -dV/dq + Q.

    With J the derivative of all places by q = (x, θ): Σ m Jᵀ J q'' = Q - Σ m Jᵀ (J' q' + g up).
    """
    _, angle, speed, turning = state
    # points in the capsule: those of a box around it that are in it
    sides = np.array([body.radius, body.radius, body.length / 2 + body.radius])
    points = (2 * (np.arange(count)[:, None] * [0.7548776662, 0.5698402910, 0.8191725134] % 1) - 1) * sides
    along = np.clip(points[:, 2], -body.length / 2, body.length / 2)
    points = points[np.hypot(np.hypot(points[:, 0], points[:, 1]), points[:, 2] - along) <= body.radius]
    points = np.concatenate(
        [points, points * [-1, 1, 1], points * [1, 1, -1], points * [-1, 1, -1]]
    )  # about the centre
    mass = body.pole / len(points)
    across, up = points[:, 0], points[:, 2] + body.length / 2
    sine, cosine = np.sin(angle), np.cos(angle)
    by_angle = np.stack([cosine * up - sine * across, -sine * up - cosine * across], -1)
    again = -np.stack([sine * up + cosine * across, cosine * up - sine * across], -1) * turning**2
    jacobian = np.stack([np.broadcast_to([1.0, 0.0], by_angle.shape), by_angle], -1)
    masses = mass * np.einsum("nij,nik->jk", jacobian, jacobian) + np.diag([body.cart, 0.0])
    pushed = np.array([force - body.damping[0] * speed, -body.damping[1] * turning])
    return np.linalg.solve(
        masses, pushed - mass * np.einsum("nij,ni->j", jacobian, again + np.array([0.0, body.gravity]))
    )


@pytest.mark.parametrize("body", [SMALL, PETS])
def test_the_equations_are_those_of_many_points_of_mass(body):
    for state in np.random.default_rng(1).normal(size=(5, 4)) * [0.3, 2.0, 1.0, 3.0]:
        found = jax.jit(body.change)(jnp.asarray(state, jnp.float32), jnp.float32(2.5))
        np.testing.assert_allclose(found[:2], state[2:], rtol=1e-6)
        wanted = by_lagrange(body, state, 2.5, 20_000)
        np.testing.assert_allclose(found[2:], wanted, rtol=2e-3, atol=2e-3)


def by_small_steps(body: Body, state: np.ndarray, action: float, steps: int = 200) -> np.ndarray:
    """One action by Heun's method in small steps, float64, the accelerations from the equations of the cart alone and

    of the pole alone, with the force between them: m a = m g + N, I θ'' = the torque of N about the centre.
    """
    half = body.length / 2

    def change(state: np.ndarray) -> np.ndarray:
        _, angle, speed, turning = state
        s, c = np.sin(angle), np.cos(angle)
        # unknown: x'', θ'', N_x, N_y
        equations = np.array(
            [
                [body.cart, 0, 1, 0],
                [body.pole, body.pole * half * c, -1, 0],
                [0, -body.pole * half * s, 0, -1],
                [0, body.inertia, half * c, -half * s],
            ]
        )
        right = [
            body.gear * action - body.damping[0] * speed,
            body.pole * half * s * turning**2,
            body.pole * half * c * turning**2 - body.pole * body.gravity,
            -body.damping[1] * turning,
        ]
        return np.array([speed, turning, *np.linalg.solve(equations, right)[:2]])

    size = body.step * body.repeats / steps
    for _ in range(steps):
        first = change(state)
        state = state + size / 2 * (first + change(state + size * first))
    return state


@pytest.mark.parametrize(("body", "tolerance"), [(SMALL, 2e-6), (PETS, 2e-5)])
def test_a_path_is_that_of_small_steps(body, tolerance):
    """Half a second, the actions changing; Newton's equations of the two parts, with the force between them."""
    state = wanted = np.array([0.1, 2.0, -0.3, 1.0])
    step = jax.jit(body.moved)
    for action in np.random.default_rng(0).uniform(-0.3, 0.3, 50 // (1 if body is SMALL else 4)):
        state = step(jnp.asarray(state, jnp.float32), jnp.asarray(action, jnp.float32)[None])
        wanted = by_small_steps(body, wanted, action)
        np.testing.assert_allclose(state, wanted, atol=tolerance * 10, rtol=tolerance)


def test_energy_stays_without_damping_and_falls_with_it():
    free, stopped = Body(damping=(0.0, 0.0), rail=100.0), Body(damping=(0.5, 0.05), rail=100.0)
    start = jnp.array([0.0, 2.5, 0.4, 1.0])
    for body in (free, stopped):
        step = lambda state, _, body=body: (body.moved(state, jnp.zeros(1)), body.energy(state))  # noqa: E731
        energies = np.asarray(jax.jit(lambda start, step=step: jax.lax.scan(step, start, length=500))(start)[1])
        if body is free:
            np.testing.assert_allclose(energies, energies[0], atol=2e-5)
        else:
            assert np.all(np.diff(energies[::20]) < 0)


def test_the_ends_of_the_rail_are_soft():
    """The cart goes a little beyond an end and comes back; pushed, it rests where the end pushes back as hard."""
    step = jax.jit(SMALL.moved)
    first, off, last = SMALL.masses(1.0)
    upright, give = last / (first * last - off**2), 0.95 * 0.08
    resting = 10.0 * (1 - 0.95) / 0.95**2 * upright * give**2  # b = -gear: d k r = gear A (1 - d) / d
    state = jnp.array([1.8 + resting, np.pi, 0.0, 0.0])
    np.testing.assert_allclose(step(state, jnp.ones(1)), state, atol=1e-6)
    assert step(state + jnp.array([1e-3, 0, 0, 0]), jnp.ones(1))[2] < -1e-4
    state, places = jnp.array([1.5, np.pi, 1.0, 0.0]), []
    for _ in range(100):
        state = step(state, jnp.zeros(1))
        places.append(float(state[0]))
    assert 1.81 < max(places) < 1.85
    assert places[-1] < 1.79
    left = jnp.array([-1.9, 1.0, -1.0, 0.5])
    np.testing.assert_allclose(step(left, jnp.zeros(1)), -step(-left, jnp.zeros(1)), rtol=1e-6)


def test_numbers_of_mujoco():
    """What MuJoCo 3.3.7 says of these models: inertia, and what follows states, at an end of the rail, too."""
    np.testing.assert_allclose(SMALL.inertia, 0.00942459, rtol=1e-6)
    np.testing.assert_allclose(PETS.pole, 5.01858536, rtol=1e-8)
    np.testing.assert_allclose(PETS.inertia, 0.18874907, rtol=1e-6)
    for body, state, action, after in (
        (SMALL, [0.3, 2.0, -0.5, 4.0], 0.7, [0.295369017, 2.04087331, -0.426066504, 4.17498051]),
        (SMALL, [1.8004, 0.5, 1.0, -2.0], -0.2, [1.8092303, 0.481833565, 0.771918596, -1.64070515]),
        (SMALL, [-1.83, 3.0, -0.4, 1.0], 1.0, [-1.8332916, 3.01111715, -0.263176122, 1.21623066]),
        (PETS, [2.52, 2.0 + np.pi, 0.5, 4.0], 3.0, [2.52265492, 2.15708767 + np.pi, -0.162464743, 3.67463676]),
    ):
        found = jax.jit(body.moved)(jnp.array(state), jnp.array([action]))
        np.testing.assert_allclose(found, after, rtol=2e-5, atol=2e-6)


def test_rewards_by_hand():
    state, action = np.array([0.5, 0.7, 0.1, -2.0]), 0.6
    upright, centred = (np.cos(0.7) + 1) / 2, (1 + 0.1 ** (0.25**2)) / 2
    gentle, calm = (4 + 1 - 0.36) / 5, (1 + 0.1 ** (0.4**2)) / 2
    for task in (SwingUp(), Balance()):
        found = CartPole(SMALL, task).reward(jnp.asarray(state, jnp.float32), jnp.array([action]))
        np.testing.assert_allclose(found, upright * centred * gentle * calm, rtol=1e-6)
    sparse = CartPole(SMALL, SwingUpSparse())
    for place, angle, wanted in ((0.25, 0.1, 1), (0.26, 0.0, 0), (-0.2, -0.1001, 0), (0.0, 2 * np.pi, 1)):
        assert sparse.reward(jnp.array([place, angle, 3.0, 3.0]), jnp.ones(1)) == wanted
    tip = np.array([0.5 + 0.6 * np.sin(0.7), 0.6 * np.cos(0.7)])
    wanted = np.exp(-np.sum((tip - [0, 0.6]) ** 2) / 0.6**2) - 0.01 * 2.5**2
    found = CartPole(PETS, Reaching()).reward(jnp.asarray(state, jnp.float32), jnp.array([2.5]))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_starts():
    keys = jax.random.split(jax.random.key(0), 4000)
    for task, centre, spread in ((SwingUp(), np.pi, 0.01), (Reaching(), np.pi, 0.1)):
        found = np.asarray(jax.vmap(task.start)(keys))
        np.testing.assert_allclose(found.mean(0), [0, centre, 0, 0], atol=4 * spread / 4000**0.5)
        np.testing.assert_allclose(found.std(0), spread, rtol=0.05)
    found = np.asarray(jax.vmap(Balance().start)(keys))
    np.testing.assert_allclose(np.abs(found[:, :2]).max(0), [0.1, 0.034], rtol=0.01)
    np.testing.assert_allclose(found[:, :2].std(0), np.array([0.1, 0.034]) / 3**0.5, rtol=0.05)
    np.testing.assert_allclose(found[:, 2:].std(0), 0.01, rtol=0.05)


def where(image: np.ndarray, colour: tuple[float, ...]) -> np.ndarray:
    """The mean (row, column) of the pixels nearest to a colour."""
    return np.argwhere(np.abs(image.astype(float) - np.array(colour)).sum(-1) < 40).mean(0)


def test_pictures_show_the_pole_and_the_cart_where_they_are():
    from veil.control.worlds.cartpole import CART

    world = CartPole(SMALL, SwingUp())
    draw = jax.jit(lambda x, angle: world.frame(jnp.stack([x, angle, 0.0, 0.0]), 64))
    up, down = np.asarray(draw(0.0, 0.0)), np.asarray(draw(0.0, np.pi))
    assert (up.shape, up.dtype) == ((64, 64, 3), np.uint8)
    changed = np.argwhere((up != down).any(-1))
    assert np.all(np.abs(changed[:, 1] - 31.5) < 2)
    assert 11 <= changed[:, 0].min() <= 12  # a metre is 19.3 pixels
    assert 51 <= changed[:, 0].max() <= 52
    reddish = up[:, 31, 0] > up[:, 31, 2]
    assert reddish[13:33].all()
    assert not reddish[35:].any()
    np.testing.assert_allclose(where(up, CART), [31.5, 31.5], atol=0.1)
    pixels = 64 / (2 * SMALL.reach)
    np.testing.assert_allclose(where(np.asarray(draw(1.0, 0.0)), CART)[1] - 31.5, pixels, atol=0.5)
    turned = np.asarray(draw(0.0, np.pi / 2))
    assert np.argwhere((turned != up).any(-1))[:, 1].max() > 50
    near = np.asarray(draw(0.01, 0.0)).astype(int)  # a fifth of a pixel, and one sees it
    assert 0 < np.abs(near - up).max() < 80
    many = jax.vmap(lambda state: world.frame(state, 16))(jnp.zeros((3, 4)))
    assert many.shape == (3, 16, 16, 3)


def test_a_shape_covers_as_much_as_it_is_large():
    from veil.control.worlds import sideview

    shape = sideview.box(32, 2.0, jnp.array([0.13, -0.71]), (0.4, 0.25))
    np.testing.assert_allclose(jnp.sum(shape) * (4 / 32) ** 2, 0.8 * 0.5, rtol=1e-5)
    place = jnp.argwhere(shape > 0.99).mean(0)
    np.testing.assert_allclose([(place[1] + 0.5) / 8 - 2, 2 - (place[0] + 0.5) / 8], [0.13, -0.71], atol=0.07)
    rod = sideview.rod(256, 2.0, jnp.array([-0.5, 0.2]), jnp.array([0.7, 1.0]), 0.2)
    wanted = 0.4 * np.hypot(1.2, 0.8) + np.pi * 0.04
    np.testing.assert_allclose(jnp.sum(rod) * (4 / 256) ** 2, wanted, rtol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_finds_no_fault(name):
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make(f"veil.control.worlds:veil/{name}-v0", render_mode="rgb_array", render_size=16)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(symmetric and normalized|infinity|not on the recommended).*")
        check_env(env.unwrapped)


def test_an_episode_follows_from_its_seed_and_is_that_of_the_jax_code():
    env, world = gymnasium.make("veil/CartPolePETS-v0"), CartPole(PETS, Reaching(), folded=False)
    seen, _ = env.reset(seed=3)
    again, _ = gymnasium.make("veil/CartPolePETS-v0").reset(seed=3)
    other, _ = env.reset(seed=4)
    np.testing.assert_array_equal(seen, again)
    assert np.all(seen != other)
    env.reset(seed=3)
    state = jnp.asarray(seen) + jnp.array([0.0, np.pi, 0.0, 0.0])
    for count in range(200):
        action = env.action_space.high * (1.5 if count < 3 else 0.0)  # beyond what it can, at first
        seen, reward, terminated, truncated, info = env.step(action)
        if count < 10:
            action = jnp.clip(jnp.asarray(action), -3.0, 3.0)
            state = world.step(state, action)
            np.testing.assert_allclose(seen, world.observe(state), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(reward, world.reward(state, action), rtol=1e-4, atol=1e-5)
        assert (terminated, truncated, info) == (False, count == 199, {})
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        gymnasium.make("veil/CartPolePETS-v0").unwrapped.step(np.zeros(1))


def test_collected_with_frames_in_the_size_that_is_asked_for(tmp_path, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(pillow, "fromarray", None)  # nothing is resized
    found = collect("veil/CartPoleSwingUp-v0", 1, out=tmp_path / "c", seed=0, frames=16, max_steps=4)
    episode = found.episodes[0]
    assert (episode.observations["frame"].shape, episode.truncated) == ((5, 16, 16, 3), True)
    world = CartPole(SMALL, SwingUp())
    x, cosine, sine, *_ = episode.observations["observation"][2]
    wanted = jax.jit(lambda state: world.frame(state, 16))(jnp.array([x, np.arctan2(sine, cosine), 0.0, 0.0]))
    assert np.abs(np.asarray(wanted, int) - episode.observations["frame"][2]).max() <= 1
