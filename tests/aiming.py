"""Small continuous environments and transitions for the tests beside."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from veil.control.continuous.transitions import Transitions


class Aim(gymnasium.Env):
    """See o from -1 to 1, choose a from -2 to 4, and get -½ k (a/3 - 1/3 - o/2)²: one step, over by ``terminated``."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    action_space = gymnasium.spaces.Box(-2.0, 4.0, (1,))

    def __init__(self, terminates=True):
        self.terminates = terminates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seen = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.seen, {}

    def step(self, action):
        earned = -0.5 * 20.0 * float(((action - 1.0) / 3.0 - 0.5 * self.seen)[0]) ** 2
        return self.seen, earned, self.terminates, not self.terminates, {}


def random_rows(count, seed=0, observations=2, actions=1, demonstrated=0):
    """Transitions of random numbers, a third of them final."""
    rng = np.random.default_rng(seed)
    seen, following = rng.normal(size=(2, count, observations))
    return Transitions(
        jnp.asarray(seen),
        jnp.asarray(rng.uniform(-0.9, 0.9, (count, actions))),
        jnp.asarray(rng.normal(size=count)),
        jnp.asarray(following),
        jnp.asarray(np.arange(count) % 3 == 0),
        jnp.asarray(np.arange(count) < demonstrated),
    )


def trained(learner, state, rows, key, steps, size=128):
    """The state after so many steps on batches that ``rows(key, size)`` draws."""

    def step(state, key):
        key_rows, key_step = jax.random.split(key)
        return learner.step(state, rows(key_rows, size), key_step)[0], None

    return jax.jit(lambda state: jax.lax.scan(step, state, jax.random.split(key, steps))[0])(state)
