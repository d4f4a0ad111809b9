"""A start for people of several kinds: episodes that go the same way are taken for one kind at first."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.data import Data
from veil.host.keys import generator
from veil.learning.gradient import trainable
from veil.maths import kmeans
from veil.model.batching import as_datum
from veil.model.checks import random_key, whole
from veil.model.datum import Datum
from veil.model.per_episode import over_steps
from veil.zoo.intent import Intent

ROUNDS, TRIES, SHARE = 30, 8, 0.9  # of k-means; how much of an episode its group's kind gets


def kinds_apart(model: Intent, data: Data, *, key: PRNGKeyArray, steps: int = 200, rate: float = 0.05) -> Intent:
    """``model`` with rewards from groups of episodes, to start a fit of ``veil.Episodic(model)``.

    Kinds that begin alike seldom come apart: an episode's likelihood is so sharp that the first kind that is a little
    better takes all. So episodes are grouped by k-means on how often each took each pair of state and action (the
    square roots of the shares, so that distances are Hellinger's), and each kind's reward climbs the likelihood of
    mostly its own group for ``steps`` steps of Adam at ``rate``. The fit itself maximises the likelihood as ever.

    Source of the idea: Babes et al. 2011, "Apprenticeship learning about multiple intentions", which clusters by EM.

    Raises:
        ValueError: a model of one kind, or fewer episodes than kinds.
    """
    random_key(key)
    whole("steps", steps)
    kinds = model.reward.kinds
    if kinds < 2 or len(data) < kinds:
        raise ValueError(f"model: expected several kinds, and an episode for each; got {kinds} of {len(data)} episodes")
    batch = as_datum(data)
    rng = generator(key)
    group = _grouped(_shares(model, data), kinds, rng)
    shares = np.where(group[:, None] == np.arange(kinds), SHARE, (1 - SHARE) / (kinds - 1))
    return _ascended(model, jax.device_put(batch), jnp.asarray(shares, float), steps, rate)


def _shares(model: Intent, data: Data) -> Float[np.ndarray, "N SA"]:
    """The square root of how much of an episode each pair of state and action is, where the action is known."""
    problem = model.problem
    state = data.evidence["state"] if isinstance(data.evidence, dict) else data.evidence
    action = data.query["action"] if isinstance(data.query, dict) else data.query
    observed = data.observed["action"] if isinstance(data.observed, dict) else data.observed
    there = np.ones(state.shape[:2], bool) if data.mask is None else data.mask
    # an action that nobody saw counts as one of its own
    act = action[..., 0] if observed is None else np.where(observed[..., 0], action[..., 0], problem.actions)
    pair = state[..., 0].astype(int) * (problem.actions + 1) + np.nan_to_num(act).astype(int)
    found = np.zeros((len(pair), problem.states * (problem.actions + 1)))
    row, step = np.nonzero(there)
    np.add.at(found, (row, pair[row, step]), 1.0)
    return np.sqrt(found / np.maximum(found.sum(1, keepdims=True), 1.0))


def _grouped(points: Float[np.ndarray, "N D"], kinds: int, rng: np.random.Generator) -> np.ndarray:
    """The best of some runs of k-means: the group of each point."""
    weights = np.ones(len(points))
    runs = []
    for _ in range(TRIES):
        labels = kmeans.lloyd(points, weights, kmeans.seed(points, weights, kinds, rng), ROUNDS)
        apart = [np.sum((points[labels == k] - points[labels == k].mean(0)) ** 2) for k in np.unique(labels)]
        runs.append((float(np.sum(apart)), labels))
    return min(runs, key=lambda run: run[0])[1]


@eqx.filter_jit
def _ascended(model: Intent, batch: Datum, shares: Float[Array, "N K"], steps: int, rate: float) -> Intent:
    """Adam on Σ_n w_n Σ_z r_nz log p(y_n | x_n, z), in the reward; then p(z) is the shares' mean."""
    import optax

    weight = jnp.ones(len(shares)) if batch.weight is None else batch.weight
    rest = eqx.tree_at(lambda each: each.logits, model, jnp.log(weight @ shares / jnp.sum(weight)))
    free = trainable(model.reward)
    adam = optax.adam(rate)

    def with_reward(free: Any) -> Intent:
        return eqx.tree_at(lambda each: each.reward, rest, eqx.combine(free, model.reward))

    def loss(free: Any) -> Float[Array, ""]:
        moved = with_reward(free)
        likelihoods = jax.vmap(lambda datum: over_steps(datum, jax.vmap(moved.log_likelihoods)(datum.each_step())))
        return -jnp.sum(weight[:, None] * shares * likelihoods(batch)) / jnp.sum(weight)

    def step(now: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        free, state = now
        change, state = adam.update(jax.grad(loss)(free), state, free)
        return (eqx.apply_updates(free, change), state), None

    return with_reward(jax.lax.scan(step, (free, adam.init(free)), None, steps)[0][0])
