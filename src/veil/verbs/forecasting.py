"""The verb ``forecast``: what a sequence model says about the steps that are still to come."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.data import Data, Stream
from veil.data.core import trees
from veil.data.core.arrays import labels, unchecked
from veil.host.showing import Shown
from veil.learning.preprocessing import supported
from veil.maths import particles as maths
from veil.model import Datum, Model, Stepwise, checks
from veil.model.abilities import Sized, name_of, space_of
from veil.model.batching import as_datum, on_device, there
from veil.model.blocks import as_data
from veil.model.chains import without_memory
from veil.model.stepwise import replayed, rollout
from veil.posterior import Posterior, proposals
from veil.posterior.arguments import parts
from veil.posterior.choice import by_particles, chosen

PARTICLES = 1000  # at least, of a filter from which futures go on


@dataclass(frozen=True, repr=False)
class Forecast(Shown):
    """Draws of y_T+1..T+H given y_1..T, and what they amount to; every axis H is steps into the future.

    ``paths`` [N, S, H, ...]: each of the S is one future, drawn as a whole. ``mean`` and ``standard_deviation``
    [N, H, ...] of each entry: averages over the futures of the latents, in which the noise of y is not drawn but
    counted exactly. ``truth`` [N, H, ...]: what the data have there, NaN where they do not go on; None without any.
    ``log_likelihood`` [N, H]: log 1/S Σ_s p(y_T+h | path s) of the truth, nats, summed over the entries that are known
    (zero if none is): how well each horizon is predicted on its own. An estimate of log p(y_T+h | y_1..T), in
    expectation from below, the closer the more futures; of models that see what they draw, given those draws.
    ``states`` [N, S, H, ...], if asked for: what the model carries from each step of each future to the next (see
    ``veil.model.stepwise``): of a ``StateSpace`` its ``memory`` and ``latent``. Of a query that is a tree all but the
    log-likelihood are trees, too.
    """

    paths: Any
    mean: Any
    standard_deviation: Any
    truth: Any = None
    log_likelihood: np.ndarray | None = None
    states: Any = None

    def quantile(self, share: float) -> Any:
        """The value [N, H, ...] below which a share of the paths is at each step and entry.

        Raises ValueError for a share that is not between 0 and 1.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share: expected a number between 0 and 1; got {share!r}")
        return trees.map(lambda paths: np.asarray(np.quantile(paths, share, axis=1), paths.dtype), self.paths)

    def interval(self, share: float = 0.9) -> tuple[Any, Any]:
        """Two values [N, H, ...] between which a share of the paths is, as much below as above: (low, high)."""
        return self.quantile(0.5 - share / 2), self.quantile(0.5 + share / 2)


def forecast(
    model: Any,
    data: Any,
    horizon: int,
    samples: int,
    *,
    key: PRNGKeyArray,
    after: int | None = None,
    evidence_future: Any = None,
    posterior: Posterior | None = None,
    states: bool = False,
) -> Forecast:
    """Draw p(y_T+1..T+H | y_1..T, x_1..T+H), ``samples`` times for each sequence, H = ``horizon``.

    Of each draw z_1..T comes from the posterior given all that was seen, and what follows from the model, open loop:
    z_t from p(z_t | z_t-1, x_t) and y_t from p(y_t | z_t, x_t). Exact up to the number of draws where the posterior is
    (``HMM``, ``LDS``); otherwise as good as the ``Fit``'s posterior of the last step. A model given without one
    (``NonlinearGaussian``, ``SwitchingLDS``), or with one that only proposes steps (``veil.posterior.Bootstrap()``,
    ``Optimal()``), goes on from the last states of a particle filter with ``samples`` particles, at least 1000: exact
    as they become many. With missing entries, ragged sequences (each goes on from its own last step) and resets in what
    was seen.

    ``after``: see only the first so many steps of each sequence; the steps behind them are the ``truth``, and their
    evidence is used. ``evidence_future`` (actions to come, for models that take some): [N, H, P], one for each
    sequence; [H, P], the same for all; or [P], held. It takes the place of the data's. ``states``: keep the futures'
    states, for probes of what they know.

    Raises:
        TypeError: a model that cannot be run step by step, or a stream.
        ValueError: a model without parameters or of single rows, data of another shape, numbers out of range, a
            sequence shorter than ``after``, or evidence that is needed and not known.

    >>> import jax, veil
    >>> data = veil.data.episodes([[0.0, 1.1, 1.9, 3.2, 3.9, 5.1]])
    >>> model = veil.fit(veil.LDS(latent=1), data, key=jax.random.key(0)).model
    >>> forecast(model, data, 4, 100, key=jax.random.key(1)).paths.shape
    (1, 100, 4, 1)
    """
    model, posterior = parts(model, posterior)
    checks.fitted(model)
    for name, value in (("horizon", horizon), ("samples", samples)):
        checks.whole(name, value)
    checks.random_key(key)
    if isinstance(data, Stream):
        raise TypeError(
            "data: a forecast is of sequences in memory; give some of the stream's blocks, or a part of them"
        )
    if not isinstance(model, Stepwise):
        raise ValueError(f"model: {name_of(model)} is a model of single rows; only sequences have a future")
    given = as_data(model, data)
    assert isinstance(given, Data)
    supported(model, given)
    particles = by_particles(model, posterior)
    used = chosen(model, posterior, filtering=True)
    if particles:
        proposals.stepwise(model, used)
    seen, behind = (given, None) if after is None else _cut(given, after)
    future = _future(model, given, evidence_future, behind, horizon)
    datum = jax.device_put(as_datum(seen, space=space_of(model)))
    truth = None if behind is None else _truth(behind, horizon)
    known = None
    if truth is not None:
        present = trees.map(lambda leaf: ~np.isnan(leaf), truth)
        complete = all(leaf.all() for _, leaf in trees.leaves(present))
        filled = trees.map(lambda leaf, some: jax.device_put(np.where(some, leaf, 0)), truth, present)
        known = filled, None if complete else jax.device_put(present)
    keys = jax.random.split(key, len(given))
    found = _all(model, used, datum, future, known, keys, horizon, samples, states, particles)
    paths, mean, variance, scores, carried = found
    paths, mean, variance = jax.tree.map(np.asarray, (paths, mean, variance))
    return Forecast(
        paths,
        mean,
        jax.tree.map(np.sqrt, variance),
        truth,
        None if truth is None else np.asarray(scores),
        jax.tree.map(np.asarray, carried),
    )


@eqx.filter_jit
def _all(
    model: Any,
    posterior: Any,
    datum: Datum,
    future: Any,
    truth: tuple[Any, Any] | None,
    keys: Array,
    horizon: int,
    samples: int,
    states: bool,
    particles: bool,
) -> tuple[Any, ...]:
    # one sequence after the other: the futures of one are a batch already
    def one(each: tuple[Any, ...]) -> tuple[Any, ...]:
        datum, future, truth, key = each
        return _one(model, posterior, datum, future, truth, key, horizon, samples, states, particles)

    return jax.lax.map(one, (datum, future, truth, keys))


def _one(
    model: Any,
    posterior: Any,
    datum: Datum,
    future: Any,
    truth: tuple[Any, Any] | None,
    key: PRNGKeyArray,
    horizon: int,
    samples: int,
    states: bool,
    particles: bool,
) -> tuple[Any, ...]:
    """Futures [S, H, ...] of one sequence, mean and variance [H, ...], log-likelihoods of the truth [H], states."""

    def future_of(state: Any, key: PRNGKeyArray) -> tuple[Any, ...]:
        found = rollout(model, state, future, horizon, key)
        mean, variance = found.emissions(model, distributions.moments)
        scores = jnp.zeros(horizon)
        if truth is not None:
            scores = found.emissions(model, lambda seen, *known: distributions.log_prob(seen, *known), *truth)
        return found.query, mean, variance, scores, found.after if states else None

    key_past, key_future = jax.random.split(key)
    last = (_filtered if particles else _replayed)(model, posterior, datum, key_past, samples)
    paths, means, variances, scores, carried = jax.vmap(future_of)(last, jax.random.split(key_future, samples))
    mean = jax.tree.map(lambda each: jnp.mean(each, 0), means)
    spread = lambda variance, each, centre: jnp.mean(variance + (each - centre[None]) ** 2, 0)  # noqa: E731
    variance = jax.tree.map(spread, variances, means, mean)
    return paths, mean, variance, jax.scipy.special.logsumexp(scores, axis=0) - jnp.log(samples), carried


def _replayed(model: Any, posterior: Any, datum: Datum, key: PRNGKeyArray, samples: int) -> Any:
    """What the model carries after each of so many draws of the path that the posterior gives: leaves [S, ...]."""
    q = posterior(model, datum)

    def one(key: PRNGKeyArray) -> Any:
        return replayed(model, without_memory(q.sample(key)), datum)[0]

    return jax.vmap(one)(jax.random.split(key, samples))


def _filtered(model: Any, proposal: Any, datum: Datum, key: PRNGKeyArray, samples: int) -> Any:
    """The same from the particles of a filter, chosen by their weights."""
    key_filter, key_choice = jax.random.split(key)
    found = proposals.filtered(model, proposal, datum, key_filter, max(samples, PARTICLES))
    chosen = maths.systematic(key_choice, found.log_weights[-1], samples)
    return jax.tree.map(lambda leaf: leaf[chosen], found.carries)


# -- what is seen, and what is behind it -------------------------------------------------------------------------------


def _lengths(data: Data) -> np.ndarray:
    return np.asarray(there(data).sum(1))


def _cut(data: Data, after: int) -> tuple[Data, Data | None]:
    """The first ``after`` steps, and what comes behind them."""
    checks.whole("after", after)
    short = np.flatnonzero(_lengths(data) < after)
    if len(short):
        raise ValueError(
            f"after: sequence {short[0]} (from 0) has {_lengths(data)[short[0]]} steps, fewer than {after}"
        )
    whole = {name: array for name, array in data.fields().items() if name not in ("weight", "index")}
    first = trees.map(lambda leaf: leaf[:, :after], {name: tree for name, tree in whole.items() if name != "mask"})
    rest = trees.map(lambda leaf: leaf[:, after:], whole)
    # of some sequences nothing may be left, which data would refuse
    return unchecked(first, labels(data)), unchecked(rest, labels(data)) if after < there(data).shape[1] else None


def _truth(behind: Data, horizon: int) -> Any:
    steps = there(behind)[:, :horizon]

    def one(query: np.ndarray, observed: np.ndarray | None) -> np.ndarray:
        known = steps.reshape(*steps.shape, *[1] * (query.ndim - 2))
        known = known if observed is None else known & observed[:, :horizon]
        truth = np.full((len(query), horizon, *query.shape[2:]), np.nan, query.dtype)
        truth[:, : steps.shape[1]] = np.where(known, query[:, :horizon], np.nan)
        return truth

    return trees.map(one, behind.query, behind.observed)


def _future(model: Model, data: Data, given: Any, behind: Data | None, horizon: int) -> Any:
    """Evidence of the steps to come, one row a step of every sequence: a tree of arrays [N, H, ...], or None."""
    shapes = trees.map(lambda leaf: leaf.shape[2:], data.evidence)
    if given is not None:
        if shapes is None:
            raise ValueError("evidence_future: the data have no evidence; leave it out")
        if not trees.same(given, shapes):
            names = ", ".join(trees.text("evidence", path) for path, _ in trees.leaves(shapes))
            raise ValueError(f"evidence_future: expected the same as the evidence of the data, {names}")
        told = lambda shape, array, path: _told(array, (len(data), horizon, *shape), path)  # noqa: E731
        return trees.map(told, shapes, given, trees.paths(shapes))
    if shapes is None:
        return None
    if isinstance(model, Sized) and model.sizes.blind:
        return trees.map(lambda shape: jnp.zeros((len(data), horizon, *shape)), shapes)
    known = 0 if behind is None else int(_lengths(behind).min())
    if behind is None or known < horizon:
        text = (
            "there is none behind them" if known == 0 else f"there are {known} steps of it behind them in some sequence"
        )
        each = lambda *lead: _shapes(trees.map(lambda shape: (*lead, *shape), shapes))  # noqa: E731
        raise ValueError(
            f"evidence_future: the model takes evidence ({', '.join(data.evidence_names[:4])}), and of the {horizon} "
            f"steps to come {text}. Give it, {each(horizon)}, or one value to be held, {each()}; or see fewer steps "
            "with after"
        )
    return on_device(trees.map(lambda leaf: leaf[:, :horizon], behind.evidence))


def _shapes(shapes: Any) -> str:
    """The shapes of a tree, in words."""
    return ", ".join(f"{' '.join((*path, ''))}{list(shape)}" for path, shape in trees.leaves(shapes))


def _told(given: Any, wanted: tuple[int, ...], path: trees.Path) -> Float[Array, "N H *P"]:
    """A leaf of the evidence to come as [N, H, ...], from one for each sequence, for all, or for all steps."""
    array, name = np.asarray(given), trees.text("evidence_future", path)
    if array.shape not in (wanted, wanted[1:], wanted[2:]) or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: expected numbers {list(wanted)}, {list(wanted[1:])} (the same for all sequences) or "
            f"{list(wanted[2:])} (held); got {array.dtype} {list(array.shape)}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: it must be complete and finite; some of it is not")
    return jax.device_put(np.broadcast_to(array, wanted).astype(jnp.result_type(float)))
