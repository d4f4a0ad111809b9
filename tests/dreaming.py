"""Small worlds to imagine in, as a user would write them, and learning there in one compiled loop."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import veil
from veil import distributions


class Table(veil.Stepwise):
    """A finite world: the carry is a one-hot state [S], the action a one-hot row [A], the latent the next state.

    It says what a step earned, ``reward`` [S, A], and whether it ended, for certain where ``ends`` [S].
    """

    move: jax.Array  # [S, A, S]
    reward: jax.Array
    ends: jax.Array

    def carry(self, evidence):
        return jnp.eye(len(self.ends))[0]

    def advance(self, carry, latent, query, evidence, observed):
        return jax.nn.one_hot(latent, len(self.ends), dtype=carry.dtype)

    def step_prior(self, carry, evidence):
        return distributions.categorical(jnp.log(jnp.einsum("s,a,sat->t", carry, evidence, self.move) + 1e-30))

    def step_likelihood(self, carry, latent, evidence):
        earned = carry @ self.reward @ evidence
        over = jnp.where(self.ends[latent], 1e3, -1e3)
        return distributions.Joint(
            {
                "reward": distributions.normal(earned[None], jnp.ones(1)),
                "terminated": distributions.bernoulli(over[None]),
            }
        )

    @property
    def remembers(self):
        return False

    def evaluated(self, policy, discount):
        """V of a policy [S, A], exactly, by one linear equation in float64; nothing is earned behind an end."""
        move, reward, ends = (np.asarray(each, np.float64) for each in (self.move, self.reward, self.ends))
        on = np.einsum("sa,sat->st", policy, move) * (1 - ends)[None]
        return np.linalg.solve(np.eye(len(ends)) - discount * on, np.einsum("sa,sa->s", policy, reward))

    def softly(self, discount, temperature):
        """Soft-optimal Q [S, A], by value iteration in float64 (at zero the usual one)."""
        move, reward, ends = (np.asarray(each, np.float64) for each in (self.move, self.reward, self.ends))
        scores = np.zeros_like(reward)
        for _ in range(2000):
            value = scores.max(1)
            if temperature:
                value = value + temperature * np.log(np.sum(np.exp((scores - value[:, None]) / temperature), 1))
            scores = reward + discount * move @ (value * (1 - ends))
        return scores


def table(states=4, actions=2, seed=0, ending=()):
    """A random one, whose ``ending`` states are behind an end."""
    rng = np.random.default_rng(seed)
    move = rng.dirichlet(np.full(states, 0.5), (states, actions))
    ends = np.isin(np.arange(states), ending)
    return Table(*(jnp.asarray(each) for each in (move.astype(np.float32), rng.normal(size=(states, actions)), ends)))


def taught(agent, problem, draw, key, steps, batch, state=None):
    """The state after so many steps from ``draw(key, batch)`` states each, and what the last of them say."""
    one = jax.tree.map(lambda leaf: leaf[0], draw(key, 1))
    state = agent.start(one, jax.random.fold_in(key, 1)) if state is None else state

    @eqx.filter_jit
    def all_of_them(problem, state, keys):
        def step(state, key):
            key_states, key_step = jax.random.split(key)
            return agent.step(state, problem, draw(key_states, batch), key_step)

        return jax.lax.scan(step, state, keys)

    return all_of_them(problem, state, jax.random.split(jax.random.fold_in(key, 2), steps))
