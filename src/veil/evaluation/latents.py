"""What a model does with its latent: which parts are used, how much they tell, and whether it has collapsed."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil import distributions
from veil.data import Data, Stream
from veil.distributions import Distribution
from veil.evaluation.average import Average, average, largest, plain, text
from veil.evaluation.bounds import grouping
from veil.evaluation.moments import mean_and_variance
from veil.host.keys import generator
from veil.host.progress import Progress
from veil.host.showing import Shown
from veil.model import Datum, Model, blocks, checks
from veil.model.abilities import space_of
from veil.posterior.arguments import verified
from veil.posterior.base import Posterior

ACTIVE = 0.01  # variance of the posterior's mean over data, in units of the prior's variance: Burda et al. 2016
IGNORED = 0.05  # nats: a decoder that loses less with a latent drawn from the prior does not use it


@dataclass(frozen=True, repr=False)
class Latents(Shown):
    """What the posterior puts into the latent and the likelihood gets out of it. Nats.

    A unit is an entry of the latent, or one code of a latent of codes, or the one category of a discrete latent.

    ``spread`` [U]: Var_y(E_q[z]) over the prior's variance; ``active`` [U]: above ``threshold`` (Burda et al. 2016,
    appendix C; exact for these data).
    ``kl`` [U]: KL(q || p(z | x)) of each unit, mean over data, by ``kl_kind``: "closed form" (exact), "Gaussian
    marginals" (of normals with the units' means and variances: exact where the marginals are normal, and without the
    units' dependence) or "none" (the total, as if it were one unit).
    ``kl_total``: mean over data of the whole KL, exact where it is known, else from draws.
    ``mutual_information``: I_q(z; y) on ``compared`` data, an estimate biased downwards: never above log ``compared``.
    ``aggregate_kl``: KL(q(z) || p(z)) of q(z) = mean_n q(z | y_n), the KL less the mutual information on the same rows
    (Hoffman & Johnson 2016, eq. 9): how far draws from the prior are from what the decoder has seen. NaN with evidence.
    ``loss_prior``, ``loss_other``: how far log p(y | x, z) falls when z comes from the prior, or from the posterior of
    another datum, instead of the datum's own (on the same rows).
    """

    spread: np.ndarray
    active: np.ndarray
    kl: np.ndarray
    kl_kind: str
    kl_total: Average
    mutual_information: Average
    aggregate_kl: float
    loss_prior: Average
    loss_other: Average
    threshold: float
    compared: int
    kind: str = "estimate"

    @property
    def active_units(self) -> int:
        """How many units are active."""
        return int(np.sum(self.active))

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and what it is, for a table."""
        return [
            ("active units", f"{self.active_units} of {len(self.active)}", f"variance above {self.threshold:g}"),
            ("KL", text(self.kl_total), "nats per datum"),
            ("  by dimension", largest(self.kl), self.kl_kind),
            ("mutual information", text(self.mutual_information), f"at most {np.log(self.compared):.2f}"),
            ("loss, z of the prior", text(self.loss_prior), "nats of log p(y|x,z)"),
            ("loss, z of another", text(self.loss_other), "nats of log p(y|x,z)"),
        ]

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "active_units": self.active_units,
            "units": len(self.active),
            "kl": plain(self.kl_total),
            "kl_by_dimension": self.kl.tolist(),
            "kl_kind": self.kl_kind,
            "mutual_information": plain(self.mutual_information),
            "aggregate_kl": self.aggregate_kl,
            "loss_prior": plain(self.loss_prior),
            "loss_other": plain(self.loss_other),
        }


def _kl(q: Distribution, prior: Distribution, key: PRNGKeyArray, samples: int) -> tuple[Array, Array, Array]:
    """KL by units, its total, and the total's Monte Carlo variance."""
    entries = int(np.prod(distributions.event_shape(q)))
    parts = distributions.kl_entries(q, prior)
    if parts is None:

        def term(key: PRNGKeyArray) -> Array:
            z = q.sample(key)
            return distributions.log_prob(q, z) - distributions.log_prob(prior, z)

        terms = jax.vmap(term)(jax.random.split(key, samples))
        total, variance = jnp.mean(terms), jnp.var(terms) / max(samples - 1, 1)
    else:
        total, variance = jnp.sum(parts), jnp.zeros(())
    if _kind(q, prior) != "Gaussian marginals":
        return (total[None] if parts is None else parts), total, variance
    (m, v), (m0, v0) = mean_and_variance(q, key), mean_and_variance(prior, key)
    marginal = 0.5 * (jnp.log(v0 / v) + (v + (m - m0) ** 2) / v0 - 1.0)
    return marginal.reshape(entries), total, variance


def _kind(q: Distribution, prior: Distribution) -> str:
    parts = distributions.kl_entries(q, prior)
    discrete = isinstance(q, distributions.Codes) or distributions.enumerable(q)
    entries = int(np.prod(distributions.event_shape(q)))
    if parts is not None and (discrete or parts.size == entries):
        return "closed form"
    return "none" if discrete else "Gaussian marginals"


def _kinds(model: Model, posterior: Posterior, block: Datum) -> str:
    """The kind of the KL of one datum, of which nothing is computed."""

    def kind(datum: Datum) -> str:
        first = jax.tree.map(lambda leaf: leaf[0], datum)
        return _kind(posterior(model, first), model.prior(first.evidence))

    found: str = eqx.filter_eval_shape(kind, block)
    return found


@eqx.filter_jit
def _summary(
    model: Model, posterior: Posterior, block: Datum, rows: Array, key: PRNGKeyArray, samples: int
) -> tuple[Array, ...]:
    """Posterior means and prior variances [B, ...], KL by units [B, U], total and its variance [B]."""

    def one(datum: Datum, row: Array) -> tuple[Array, ...]:
        key_kl, key_mean, key_prior = jax.random.split(jax.random.fold_in(key, row), 3)
        q, prior = posterior(model, datum), model.prior(datum.evidence)
        mean, _ = mean_and_variance(q, key_mean)
        _, variance = mean_and_variance(prior, key_prior)
        return mean, variance, *_kl(q, prior, key_kl, samples)

    return jax.vmap(one)(block, rows)


@eqx.filter_jit
def _draws(
    model: Model, posterior: Posterior, block: Datum, rows: Array, key: PRNGKeyArray, number: Array | np.ndarray
) -> tuple[Array, ...]:
    """One draw of each datum's posterior [B, ...], and log p(y | x, z) with it, a prior's and another datum's [B]."""
    key = jax.random.fold_in(key, number)

    def sampled(datum: Datum, row: Array) -> tuple[Array, Array]:
        key_own, key_prior = jax.random.split(jax.random.fold_in(key, row))
        return posterior(model, datum).sample(key_own), model.prior(datum.evidence).sample(key_prior)

    def score(datum: Datum, z: Array) -> Array:
        return model.log_likelihood(z, datum)

    own, prior = jax.vmap(sampled)(block, rows)
    # one after the other, by one program: a decoder compiles for a third of a second
    latents = jnp.stack([own, prior, jnp.roll(own, 1, 0)])
    return own, *jax.lax.map(lambda z: jax.vmap(score)(block, z), latents)


@eqx.filter_jit
def _cross(model: Model, posterior: Posterior, block: Datum, latents: Array | np.ndarray) -> Array:
    """log q(z_j | y_i) [B, Z]."""

    def one(datum: Datum) -> Array:
        q = posterior(model, datum)
        return jax.vmap(lambda z: distributions.log_prob(q, z))(latents)

    return jax.vmap(one)(block)


@eqx.filter_jit
def _prior(model: Model, latents: Array | np.ndarray) -> Array:
    return jax.vmap(lambda z: distributions.log_prob(model.prior(None), z))(latents)


def _some(model: Model, data: Data | Stream, rows: int, key: PRNGKeyArray) -> blocks.Block:
    """Rows at random, or the first ones of a stream, as one block without padding."""
    if isinstance(data, Stream):
        first = next(iter(data))
        chosen = first[: min(rows, len(first))]
    else:
        chosen = data[generator(key).permutation(len(data))[:rows]]
    return next(blocks.blocks(chosen, len(chosen), space_of(model)))


def _information(
    model: Model, posterior: Posterior, some: blocks.Block, own: np.ndarray, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """log q(z_n | y_n) - log q(z_n) [B] for one draw of each posterior, and log q(z_n) - log p(z_n) [B]."""
    pieces = []
    for at in range(0, some.count, step):
        piece = own[at : at + step]
        filled = np.pad(piece, [(0, step - len(piece))] + [(0, 0)] * (own.ndim - 1), mode="edge")
        pieces.append(np.asarray(_cross(model, posterior, some.datum, filled), np.float64)[:, : len(piece)])
    cross = np.concatenate(pieces, 1)
    with np.errstate(divide="ignore"):  # a datum of weight zero
        weighted = cross + np.log(some.weight / np.sum(some.weight))[:, None]
    largest = weighted.max(0)
    aggregate = largest + np.log(np.sum(np.exp(weighted - largest[None]), 0))
    known = some.datum.evidence is None
    prior = np.asarray(_prior(model, own), np.float64) if known else np.full(some.count, np.nan)
    return np.diag(cross) - aggregate, aggregate - prior


def latents(
    model: Model,
    posterior: Posterior,
    data: Any,
    *,
    key: PRNGKeyArray,
    samples: int = 16,
    rows: int = 512,
    threshold: float = ACTIVE,
    progress: bool | None = None,
) -> Latents:
    """How the latent is used: active units, KL, mutual information, and what is lost without it; see ``Latents``.

    Active units and KL are means over all data; mutual information and losses are measured on ``rows`` of them, drawn
    at random (the first ones of a stream), with ``samples`` draws each:
    I_q(z; y) = E_n E_q(z|y_n)[log q(z | y_n) - log (1/N) Σ_m q(z | y_m)] (Hoffman & Johnson 2016, eq. 9).

    Raises ValueError for numbers that are not positive, or fewer than two data.
    """
    verified(model, posterior, key)
    checks.whole("samples", samples)
    checks.whole("rows", rows)
    if not threshold > 0:
        raise ValueError(f"threshold: expected a positive number; got {threshold!r}")
    data = blocks.as_data(model, data)
    key_all, key_rows, key_draws = jax.random.split(key, 3)
    some = _some(model, data, rows, key_rows)
    if some.count < 2:
        raise ValueError("data: expected two or more data, to compare their posteriors")
    kind = _kinds(model, posterior, some.datum)
    size, _ = grouping(blocks.size(data), samples)
    total = -(-blocks.length(data) // size) + samples
    parts: list[Any] = []
    weights: list[np.ndarray] = []
    with Progress(progress, "latents") as bar:
        for number, block in enumerate(blocks.blocks(data, size, space_of(model))):
            found = _summary(model, posterior, block.datum, block.rows, key_all, samples)
            parts.append([np.asarray(leaf, np.float64)[: block.count] for leaf in found])
            weights.append(block.weight)
            bar.update(number + 1, total, "active units")
        scores = []
        for number in range(samples):
            draws = _draws(model, posterior, some.datum, some.rows, key_draws, np.asarray(number))
            own, *values = map(np.asarray, draws)
            # of data that no latent makes possible none is missed
            own_score, prior_score, other_score = (np.maximum(value.astype(np.float64), -1e300) for value in values)
            step = int(np.clip(blocks.ENTRIES // (some.count * max(1, own[0].size)), 1, some.count))
            drops = own_score - prior_score, own_score - other_score
            scores.append((*_information(model, posterior, some, own, step), *drops))
            bar.update(total - samples + number + 1, total, "losses and information")
    mean, variance, kl, kl_total, kl_variance = (np.concatenate(part) for part in zip(*parts, strict=True))
    weight = np.concatenate(weights)
    share = weight / np.sum(weight)
    # of codes and categories, a unit has several entries
    units = kl.shape[1]
    away = np.tensordot(share, (mean - np.tensordot(share, mean, 1)[None]) ** 2, 1).reshape(units, -1).sum(1)
    spread = away / np.maximum(np.tensordot(share, variance, 1).reshape(units, -1).sum(1), 1e-30)
    information, aggregate, loss_prior, loss_other = (
        _over_draws(np.stack(each, 1), some.weight) for each in zip(*scores, strict=True)
    )
    return Latents(
        spread=spread,
        active=spread > threshold,
        kl=share @ kl,
        kl_kind=kind,
        kl_total=average(kl_total, weight, np.sqrt(kl_variance)),
        mutual_information=information,
        aggregate_kl=aggregate.value,
        loss_prior=loss_prior,
        loss_other=loss_other,
        threshold=threshold,
        compared=some.count,
    )


def _over_draws(values: np.ndarray, weight: np.ndarray) -> Average:
    """The average over data of means over draws [B, S]."""
    draws = values.shape[1]
    errors = np.std(values, axis=1, ddof=1) / np.sqrt(draws) if draws > 1 else np.full(len(values), np.nan)
    return average(np.mean(values, 1), weight, errors)


def collapse(latents: Any) -> str | None:
    """One line on ``Latents`` or ``PathLatents`` that are dead, and what helps; None if all of them are used.

    A unit is dead where ``active`` is False. The line is a warning where none is active and no information passes, or
    where the decoder ignores them (``loss_prior`` below 0.05 nats); a remark where some are dead, since fewer
    dimensions may be all the data have. A posterior that is the same for all data and far from the prior (a KL, and no
    information) is another thing than one that is the prior, and other things help.

    >>> nothing, zero = np.zeros(2), Average(0.0, 0.0, 0.0)
    >>> print(collapse(Latents(nothing, nothing > 0, nothing, "closed form", zero, zero, 0.0, zero, zero, 0.01, 9)))
    collapse: all 2 latents are dead (KL 0 nats): ...
    """
    count, dead = len(latents.active), int(np.sum(~latents.active))
    cure = "warm the KL weight up (Annealed), leave it some nats (FreeNats), or take a smaller decoder"
    kl, whole = latents.kl_total.value, isinstance(latents, Latents)
    apart = whole and kl > IGNORED
    informed = apart and latents.mutual_information.value > IGNORED  # narrow, and each datum's elsewhere
    if dead == count and not informed:
        subject = "the only latent is" if count == 1 else f"all {count} latents are"
        if apart:
            return (
                f"collapse: {subject} dead: the posterior is the same for every datum, {kl:.2g} nats of KL from the "
                "prior: it has not learned yet (more steps, a higher rate), or the model's units are not the data's"
            )
        unit = "nats" if whole else "nats a sequence"
        return f"collapse: {subject} dead (KL {kl:.2g} {unit}): the posterior is the prior; {cure}"
    if abs(latents.loss_prior.value) < IGNORED:
        return (
            f"collapse: the decoder ignores the latent: log p(y|z) falls by {latents.loss_prior.value:.2g} nats when z "
            f"comes from the prior (KL {kl:.2g} nats); {cure}"
        )
    if 0 < dead < count:
        which = ", ".join(map(str, np.flatnonzero(~latents.active)[:8])) + (", ..." if dead > 8 else "")
        return (
            f"{dead} of {count} latents are unused ({which}): {count - dead} may be all that these data need; "
            f"if you expect more, {cure}"
        )
    return None
