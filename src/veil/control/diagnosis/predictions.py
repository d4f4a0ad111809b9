"""How well a world model predicts episodes: after what it has seen, open loop, given the actions that were taken."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from veil import distributions
from veil.data.core import trees
from veil.evaluation.average import Average, average
from veil.model import Datum
from veil.model.filter import Filter
from veil.model.stepwise import rollout

SEEN = 5  # steps before the first prediction, at least
KEPT = 2  # draws whose states are kept


@dataclass(frozen=True)
class Predictions:
    """Of N episodes, K starts in each, H steps ahead of each; NaN where an episode is over. Open loop.

    ``scores`` [N, K, H] of each part of the query and of "all": log 1/S Σ_s p(y_t+h | draw s), nats. ``shuffled``: of
    all, with the actions of another start. ``reward``, ``obtained``, ``ending``, ``ended`` [N, K, H]: expected and
    obtained reward, the chance that the step ends the episode, and whether it did. ``states`` [N, K, draws, H, F]
    dreamt, ``inferred`` [N, T, F] as the filter has them, numbers laid flat.
    """

    scores: dict[str, np.ndarray]
    shuffled: np.ndarray
    reward: np.ndarray
    obtained: np.ndarray
    ending: np.ndarray
    ended: np.ndarray
    states: np.ndarray
    inferred: np.ndarray

    @property
    def horizon(self) -> int:
        """H."""
        return int(self.reward.shape[2])


def by_horizon(values: np.ndarray) -> list[Average]:
    """The mean at each horizon of numbers [N, K, H], with the error that other episodes would make."""
    found = []
    for each in np.moveaxis(values, 2, 0):
        there = np.isfinite(each)
        count = there.sum(1)
        some = count > 0
        mean = np.where(there, each, 0.0).sum(1)[some] / count[some]
        found.append(average(mean) if np.any(some) else Average(np.nan, np.nan, np.nan))
    return found


def predict(
    model: Any,
    filter: Filter,
    outcomes: Any,
    data: Datum,
    result: Any,
    key: PRNGKeyArray,
    horizon: int,
    starts: int,
    draws: int,
) -> Predictions:
    """Predictions of padded episodes ``data`` [N, T, ...]; ``result``: rewards [N, T] and ends [N, T] beside the steps.

    Raises ValueError where no episode is long enough.
    """
    lengths = np.asarray(data.mask).sum(1) if data.mask is not None else np.full(*np.shape(result[0]))
    seen = SEEN if np.median(lengths) > 2 * SEEN else 1
    horizon = int(min(horizon, lengths.max() - seen))
    if horizon < 1:
        raise ValueError(f"recording: expected an episode of {seen + 1} steps or more; the longest has {lengths.max()}")
    # the last step seen before each start: as far apart as may be
    last = [np.linspace(seen - 1, max(seen - 1, n - 1 - horizon), starts).round().astype(int) for n in lengths]
    at = np.stack(last)
    pad = lambda leaf: np.concatenate([leaf, np.repeat(leaf[:, -1:], horizon, 1)], 1)  # noqa: E731
    query, evidence, *results = jax.tree.map(lambda leaf: pad(np.asarray(leaf)), (data.query, data.evidence, *result))
    padded: Any = Datum(query, evidence, mask=jnp.asarray(np.arange(query_length(query)) < lengths[:, None]))
    ahead = at[:, :, None] + 1 + np.arange(horizon)[None, None]
    there = ahead < lengths[:, None, None]
    actions = jax.tree.map(lambda leaf: leaf[np.arange(len(leaf))[:, None, None], ahead], evidence)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), actions)
    shift = starts + starts // 2 if len(at) > 1 else max(1, starts // 2)
    other = jax.tree.map(lambda leaf, like: np.roll(leaf, shift, 0).reshape(like.shape), flat, actions)
    keys = jax.random.split(key, len(at))
    put_padded, put_at, put_other = jax.tree.map(jnp.asarray, (padded, at, other))
    found = _all(model, filter, outcomes, put_padded, put_at, put_other, keys, horizon, draws)
    scores, wrong, reward, ending, states, inferred = (np.asarray(each, np.float64) for each in found)
    blank = lambda values: np.where(there, values, np.nan)  # noqa: E731
    inferred = np.where((np.arange(inferred.shape[1]) < lengths[:, None])[..., None], inferred, np.nan)
    earned, ended = (blank(each[np.arange(len(at))[:, None, None], ahead].astype(float)) for each in results)
    names = [*(" ".join(path) or "query" for path in sorted(path for path, _ in trees.leaves(data.query))), "all"]
    each = {name: blank(scores[:, :, i]) for i, name in enumerate(names)}
    states = np.where(there[:, :, None, :, None], states, np.nan)
    return Predictions(each, blank(wrong), blank(reward), earned, blank(ending), ended, states, inferred)


def query_length(query: Any) -> int:
    """Steps of a batch of padded sequences."""
    return int(trees.first(query).shape[1])


def _flat(carry: Any) -> Array:
    """The real numbers of a carry, side by side."""
    real = [jnp.ravel(leaf) for leaf in jax.tree.leaves(carry) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.concatenate(real) if real else jnp.zeros(0)


@eqx.filter_jit
def _all(
    model: Any,
    filter: Filter,
    outcomes: Any,
    data: Datum,
    at: Int[Array, "N K"],
    other: Any,
    keys: Any,
    horizon: int,
    draws: int,
) -> tuple[Array, ...]:
    def one(each: tuple[Any, ...]) -> tuple[Array, ...]:
        datum, at, other, key = each
        return _episode(model, filter, outcomes, datum, at, other, key, horizon, draws)

    return jax.lax.map(one, (data, at, other, keys))


def _episode(
    model: Any,
    filter: Filter,
    outcomes: Any,
    datum: Datum,
    at: Any,
    other: Any,
    key: PRNGKeyArray,
    horizon: int,
    draws: int,
) -> tuple[Array, ...]:
    """Scores [K, parts + 1, H], those with other actions [K, H], rewards, chances of ends [K, H], states, [T, F]."""
    masks = _parts(datum.query)

    def filtered(key: PRNGKeyArray) -> tuple[Any, Any]:
        def step(belief: Any, now: tuple[Any, ...]) -> tuple[Any, Any]:
            each, reset, real, key = now
            key_update, key_draw = jax.random.split(key)
            belief = filter.update(belief, Datum(each.query, each.evidence, mask=real, reset=reset), key_update)
            return belief, filter.draw(belief, key_draw)

        steps = datum.each_step(), datum.starts, datum.there, jax.random.split(key, len(datum))
        states = jax.lax.scan(step, filter.init(), steps)[1]
        return jax.tree.map(lambda leaf: leaf[at], states), jax.vmap(_flat)(states)

    def scored(steps: Any, truth: Any) -> Array:
        def parts(seen: Any, query: Any) -> Array:
            return jnp.stack([distributions.log_prob(seen, query, mask) for mask in masks])

        each = steps.emissions(model, parts, truth)  # [H, parts]
        return jnp.concatenate([each.T, jnp.sum(each, 1)[None]])

    def ahead(state: Any, begin: Any, wrong: Any, key: PRNGKeyArray) -> tuple[Array, ...]:
        cut = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, begin + 1, horizon)  # noqa: E731
        truth, given = jax.tree.map(cut, datum.query), jax.tree.map(cut, datum.evidence)
        steps = rollout(model, state, given, horizon, key)
        outcome = jax.vmap(lambda step: outcomes(model, step))(steps)
        missed = scored(rollout(model, state, wrong, horizon, key), truth)[-1]
        return scored(steps, truth), missed, outcome.reward, outcome.going, jax.vmap(_flat)(steps.after)

    def future(key: PRNGKeyArray) -> tuple[Any, ...]:
        key_filter, key_ahead = jax.random.split(key)
        states, inferred = filtered(key_filter)
        return *jax.vmap(ahead)(states, at, other, jax.random.split(key_ahead, len(at))), inferred

    found = jax.vmap(future)(jax.random.split(key, draws))
    scores, missed, reward, going, states, inferred = found
    together = lambda each: jax.scipy.special.logsumexp(each, axis=0) - jnp.log(draws)  # noqa: E731
    states = jnp.moveaxis(states[:KEPT], 0, 1)
    return together(scores), together(missed), reward.mean(0), 1.0 - going.mean(0), states, inferred[0]


def _parts(query: Any) -> list[Any]:
    """For each array of a query, which entries of one step are its own: None where there is only one."""
    leaves, shape = jax.tree.flatten(query)
    if len(leaves) == 1:
        return [None]
    alone = []
    for own in range(len(leaves)):
        mask = [jnp.full(leaf.shape[1:], number == own) for number, leaf in enumerate(leaves)]
        alone.append(jax.tree.unflatten(shape, mask))
    return alone
