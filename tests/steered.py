"""A linear-Gaussian world to steer, whose best control is known: Riccati's recursion, by hand in float64."""

import jax.numpy as jnp
import numpy as np

import veil
from veil.control import Imagined, Rewarded

MOVED, STEERED = np.array([[1.0, 0.3], [-0.1, 0.9]]), np.array([[0.1], [0.5]])
COST, PRICE = np.array([[1.0, 0.1], [0.1, 0.3]]), np.array([[0.4]])
SEEN = np.array([[1.0, 0.0]])
START, BEGUN = np.array([1.5, -0.5]), 0.3  # where episodes begin, and how far from there


def world(noise=0.0, seen=0.1):
    """The state moves by MOVED and STEERED, and its first entry is seen; it begins near START."""
    return veil.LDS(
        2,
        veil.Diagonal(scale=jnp.full((1, 1), seen)),
        mean=jnp.asarray(START),
        factor=BEGUN * jnp.eye(2),
        transition=jnp.asarray(MOVED),
        drift=jnp.asarray(np.concatenate([np.zeros((2, 1)), STEERED], 1)),
        process=noise * jnp.eye(2),
        emission=jnp.asarray(SEEN),
        offset=jnp.zeros(1),
    )


def at(state):
    """A state of the world to plan from."""
    return veil.Before(jnp.asarray(state, float), jnp.array(False))


def earned(step):
    """-½ z Q z of where an action leads, -½ u R u of the action."""
    z, u = step.after.latent, step.evidence
    return -0.5 * z @ jnp.asarray(COST) @ z - 0.5 * u @ jnp.asarray(PRICE) @ u


def steering(noise=0.0, **more):
    """The problem of control in that world."""
    return Imagined(world(noise), Rewarded(earned), **more)


def best(horizon, final=None):
    """Gains K_t of u = -K z before every step, and P_0, by which the best return without noise is -½ z P z.

    ``final``: -½ z final z is still to come behind the last step.
    """
    ahead, gains = np.zeros((2, 2)) if final is None else np.asarray(final), []
    for _ in range(horizon):
        inside = COST + ahead  # what the next state is worth
        gain = np.linalg.solve(PRICE + STEERED.T @ inside @ STEERED, STEERED.T @ inside @ MOVED)
        ahead = gain.T @ PRICE @ gain + (MOVED - STEERED @ gain).T @ inside @ (MOVED - STEERED @ gain)
        gains.append(gain)
    return np.stack(gains[::-1]), ahead


def followed(gains, state):
    """The actions of gains, from a state on, without noise."""
    actions = []
    for gain in gains:
        actions.append(-gain @ state)
        state = MOVED @ state + STEERED @ actions[-1]
    return np.stack(actions)
