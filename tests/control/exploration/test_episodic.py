"""A bonus that an episode has less and less of, against counts by hand, alone and in environments side by side."""

from itertools import pairwise

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control.exploration import Bonus, Counted, Hashed, Rarely, Tally, Transition, curious

KEY = jax.random.key(0)
HERE = jnp.array(0)


class Learned(Bonus):
    """How many steps it has learned from, and one."""

    def init(self, example, key):
        return jnp.ones(())

    def __call__(self, state, observation, action, following):
        return state, state

    def update(self, state, batch):
        return state + len(batch.following)


def walked(bonus, places):
    """The values of an episode through these places, which it does not learn from."""
    state = bonus.begin(bonus.init(Transition(HERE, HERE, HERE), KEY), jnp.array(places[0]))
    values = []
    for before, after in pairwise(places):
        value, state = bonus(state, jnp.array(before), HERE, jnp.array(after))
        values.append(float(value))
    return values, state


@pytest.mark.parametrize("power", [0.5, 1.0, float("inf")])
def test_it_is_divided_by_the_visits_of_the_episode(power):
    """The start is a visit; with an infinite power first visits alone count."""
    values, _ = walked(Rarely(Learned(), Tally((3,)), power), [0, 1, 0, 1, 2, 1])
    times = np.array([1.0, 2.0, 2.0, 1.0, 3.0])
    np.testing.assert_allclose(values, np.where(times == 1.0, 1.0, times**-power), rtol=1e-6)


def test_another_episode_forgets_and_the_bonus_does_not():
    bonus = Rarely(Learned(), Tally((3,)))
    _, state = walked(bonus, [0, 1, 1, 1])
    batch = Transition(*[jnp.zeros(4, int)] * 3)
    state = bonus.update(state, batch)
    np.testing.assert_allclose(bonus(state, HERE, HERE, jnp.array(1))[0], 5.0 * 4.0**-0.5)
    state = bonus.begin(state, HERE)
    np.testing.assert_allclose(bonus(state, HERE, HERE, jnp.array(1))[0], 5.0)
    np.testing.assert_allclose(bonus(state, HERE, HERE, HERE)[0], 5.0 * 2.0**-0.5)


class Ring(gymnasium.Env):
    """Five places; an action goes on by so many; an episode is six steps."""

    observation_space, action_space = gymnasium.spaces.Discrete(5), gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.taken = 0, 0
        return self.place, {}

    def step(self, action):
        self.place, self.taken = (self.place + int(action)) % 5, self.taken + 1
        return self.place, 0.0, False, self.taken == 6, {}


def test_environments_side_by_side_have_an_episode_each():
    """Beside a count by hand, over the ends of episodes."""
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    env = curious(gymnasium.vector.SyncVectorEnv([Ring] * 3, autoreset_mode=mode), Rarely(Learned(), Tally((5,))), KEY)
    env.reset(seed=0)
    rng, learned = np.random.default_rng(0), 1.0
    counts, places = np.zeros((3, 5)), np.zeros(3, int)
    counts[:, 0] = 1.0
    for step in range(1, 15):
        actions = rng.integers(0, 3, 3)
        places = (places + actions) % 5
        counts[np.arange(3), places] += 1
        _, _, _, over, info = env.step(actions)
        np.testing.assert_allclose(info["intrinsic"], learned * counts[np.arange(3), places] ** -0.5, rtol=1e-5)
        learned += 3.0
        assert over.all() == (step % 6 == 0)
        if over.all():
            counts[:], places = 0.0, np.zeros(3, int)
            counts[:, 0] = 1.0


def test_vectors_are_counted_by_their_codes():
    """As often as it came, in as many places as there were."""
    bonus, rng = Rarely(Learned()), np.random.default_rng(0)
    places = rng.normal(size=(6, 40))
    step = Transition(*(jnp.asarray(places[0]) for _ in range(3)))
    state = bonus.begin(bonus.init(step, KEY), jnp.asarray(places[0]))
    for times in (1, 2, 3):
        for place in places[1:]:
            value, state = bonus(state, step.observation, step.action, jnp.asarray(place))
            np.testing.assert_allclose(value, times**-0.5, rtol=1e-6)


def test_what_cannot_be_is_said():
    with pytest.raises(TypeError, match=r"bonus: expected one, such as Counted"):
        Rarely(3.0)
    with pytest.raises(ValueError, match=r"bonus: .* a Rarely has a memory of its own"):
        Rarely(Rarely())
    with pytest.raises(TypeError, match=r"counter: expected one"):
        Rarely(Counted(Hashed()), 3.0)
    with pytest.raises(ValueError, match=r"power: expected a positive number"):
        Rarely(power=0.0)
