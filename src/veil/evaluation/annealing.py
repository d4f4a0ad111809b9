"""Annealed importance sampling: the tightest bounds of log p(y | x), from below and, on model data, from above."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.evaluation.average import Average, average
from veil.evaluation.moments import mean_and_variance
from veil.host.progress import Progress
from veil.host.showing import Shown
from veil.maths import hamiltonian, importance
from veil.model import Datum, Model, blocks, checks
from veil.model.abilities import space_of
from veil.posterior.arguments import verified
from veil.posterior.base import Posterior

SEGMENT = 50  # temperatures in one compiled run, between looks at the progress bar
SHORT = 100  # temperatures below which a path from a poor start need not show how much it lacks
COARSER = 4  # how many times fewer temperatures the preliminary run has
PRELIMINARY_STEPS = 25  # at the first temperature, before the path begins
RATE = 0.2  # of the step size's logarithm, per temperature


@dataclass(frozen=True, repr=False)
class AnnealedBound(Shown):
    """``lower`` [N]: a stochastic lower bound of log p(y | x), nats: a lower bound in expectation.

    ``shortfall`` [N]: how far it may lie below log p(y | x), the largest of three estimates. Chains that lag behind
    alike agree with each other, and only longer paths show it: the gain over paths a quarter as long (log w falls short
    by about 1 / T, so that it is three times what is left of a path that is long enough). Where less than half of the
    chains carry the mean, nobody knows what others would find: ``lag``. From a start of one's own, which may be in the
    wrong place and too narrow for its chains to know: what a path from the prior, a quarter as long, has more.
    ``error`` [N]: that and the standard error over ``chains`` (delta method), the root of their squares' sum.
    ``effective_samples`` [N] of the chains, ``weight`` [N] of the data.
    """

    lower: np.ndarray
    error: np.ndarray
    shortfall: np.ndarray
    effective_samples: np.ndarray
    weight: np.ndarray
    chains: int
    kind: str = "lower bound"

    @property
    def lower_average(self) -> Average:
        """The bound, mean over data, and its errors: those of the chains, and the mean shortfall."""
        chains = np.sqrt(np.maximum(self.error**2 - self.shortfall**2, 0.0))
        found, short = average(self.lower, self.weight, chains), average(self.shortfall, self.weight).value
        errors = (float(np.hypot(error, short)) for error in (found.standard_error, found.monte_carlo_error))
        return Average(found.value, *errors)


@dataclass(frozen=True, repr=False)
class Sandwich(Shown):
    """log p(y | x) of ``query`` [N, ...], drawn from the model, between two bounds in expectation, nats.

    ``lower`` and ``upper`` [N] with their standard errors over the chains (delta method): how well each bound is known,
    not how far it is off, which is at most ``width``.
    """

    lower: np.ndarray
    lower_error: np.ndarray
    upper: np.ndarray
    upper_error: np.ndarray
    query: np.ndarray
    evidence: np.ndarray | None
    kind: str = "lower and upper bound"

    @property
    def lower_average(self) -> Average:
        """The lower bound, mean over data."""
        return average(self.lower, None, self.lower_error)

    @property
    def upper_average(self) -> Average:
        """The upper bound, mean over data."""
        return average(self.upper, None, self.upper_error)

    @property
    def width(self) -> Average:
        """Upper minus lower: in expectation no less than the error of either."""
        return average(self.upper - self.lower, None, np.hypot(self.lower_error, self.upper_error))


def sigmoidal(temperatures: int) -> np.ndarray:
    """Inverse temperatures 0 = β_0 < ... < β_T = 1, dense at both ends: σ(4(2t/T - 1)), stretched. Wu et al. 2017, B.2.

    >>> sigmoidal(2)
    array([0. , 0.5, 1. ])
    """
    curve = 1.0 / (1.0 + np.exp(-4.0 * np.linspace(-1.0, 1.0, temperatures + 1)))
    return (curve - curve[0]) / (curve[-1] - curve[0])


class _Chain(NamedTuple):
    """Where a chain is, both ends of the path's log-densities there, and the logarithm of its weight."""

    position: Array
    base: Array
    joint: Array
    log_weight: Array


class _Settings(NamedTuple):
    """What stays the same along the path and in all runs: one compilation."""

    chains: int
    leaps: int
    target: float


def _first(model: Model, start: Posterior | None, datum: Datum) -> Distribution:
    return model.prior(datum.evidence) if start is None else start(model, datum)


def _ends(first: Distribution, model: Model, datum: Datum, z: Array) -> tuple[Array, Array]:
    return distributions.log_prob(first, z), model.log_joint(z, datum)


@eqx.filter_jit
def _begin(
    model: Model, start: Posterior | None, block: Datum, rows: Array, key: PRNGKeyArray, chains: int, latents: Any
) -> tuple[_Chain, Array]:
    """Chains at draws from the first distribution, or all at ``latents``; and the scale of the first distribution."""

    def one(datum: Datum, row: Array, latent: Any) -> tuple[_Chain, Array]:
        key_draw, key_moments = jax.random.split(jax.random.fold_in(key, row))
        first = _first(model, start, datum)

        def chain(key: PRNGKeyArray) -> _Chain:
            z = first.sample(key) if latent is None else latent
            return _Chain(z, *_ends(first, model, datum, z), jnp.zeros((), z.dtype))

        _, variance = mean_and_variance(first, key_moments)
        scale = jnp.sqrt(variance)
        scale = jnp.where(jnp.isfinite(scale) & (scale > 0), scale, 1.0)
        return jax.vmap(chain)(jax.random.split(key_draw, chains)), scale

    return jax.vmap(one)(block, rows, latents)


@eqx.filter_jit
def _segment(
    model: Model,
    start: Posterior | None,
    block: Datum,
    rows: Array,
    key: PRNGKeyArray,
    state: _Chain,
    scale: Array,
    path: tuple[Array, Array, Array],
    log_steps: Array,
    following: Array,
    adapt: Array,
    settings: _Settings,
) -> tuple[_Chain, Array, Array]:
    """Chains [B, C] along a piece of the path (from β, to β, number of the temperature).

    ``log_steps`` [B, T] are the step sizes at these temperatures; with ``adapt`` the first is ``following`` [B] and
    each one follows from the one before. What was used comes back, and what follows.
    """

    def one(
        datum: Datum, row: Array, state: _Chain, scale: Array, log_steps: Array, following: Array
    ) -> tuple[_Chain, Array, Array]:
        key_row = jax.random.fold_in(key, row)
        first = _first(model, start, datum)  # a network, perhaps: not in the loop

        def temperature(carry: tuple[_Chain, Array], at: Any) -> tuple[tuple[_Chain, Array], Array]:
            (before, after, number), given = at
            chains, adapted = carry
            log_step = jnp.where(adapt, adapted, given)

            def density(z: Array) -> tuple[Array, tuple[Array, Array]]:
                base, joint = _ends(first, model, datum, z)
                return (1.0 - after) * base + after * joint, (base, joint)

            def move(chain: _Chain, key: PRNGKeyArray) -> tuple[_Chain, Array]:
                gain = (after - before) * (chain.joint - chain.base)
                z, (base, joint), chance = hamiltonian.transition(
                    density, chain.position, key, jnp.exp(log_step), settings.leaps, scale
                )
                weight = chain.log_weight + jnp.where(after == before, 0.0, gain)  # not 0 times infinity
                return _Chain(z, base, joint, weight), chance

            keys = jax.random.split(jax.random.fold_in(key_row, number), settings.chains)
            chains, chances = jax.vmap(move)(chains, keys)
            following = jnp.clip(log_step + RATE * (jnp.mean(chances) - settings.target), -14.0, 5.0)
            return (chains, following.astype(log_step.dtype)), log_step

        (state, following), used = jax.lax.scan(temperature, (state, following), (path, log_steps))
        return state, used, following

    return jax.vmap(one)(block, rows, state, scale, log_steps, following)


class _Run:
    """Runs chains over paths in segments of one shape, so that all runs are one compiled function."""

    def __init__(
        self,
        model: Model,
        start: Posterior | None,
        block: blocks.Block,
        settings: _Settings,
        temperatures: int,
        tick: Any,
    ) -> None:
        self.model, self.start, self.block, self.settings, self.tick = model, start, block, settings, tick
        self.segment = min(SEGMENT, temperatures)

    def along(
        self, betas: np.ndarray, key: PRNGKeyArray, log_steps: np.ndarray | None, latents: Array | None
    ) -> tuple[Array, np.ndarray]:
        """Log-weights [B, C] along β_0 ... β_T and the step sizes [B, T] used; without ``log_steps`` they adapt."""
        key_begin, key_path = jax.random.split(key)
        datum, rows = self.block.datum, self.block.rows
        state, scale = _begin(self.model, self.start, datum, rows, key_begin, self.settings.chains, latents)
        dtype, temperatures = state.log_weight.dtype, len(betas) - 1
        extra = -temperatures % self.segment
        betas = np.pad(betas, (0, extra), mode="edge")  # more moves at the path's end
        adapt = log_steps is None
        log_steps = np.zeros((len(rows), temperatures)) if log_steps is None else log_steps
        log_steps = np.pad(log_steps, ((0, 0), (0, extra)), mode="edge")
        size = max(1, int(np.prod(state.position.shape[2:])))
        following = jnp.full(len(rows), math.log(0.5 * size**-0.25), dtype)
        used = []
        for at in range(0, temperatures, self.segment):
            end = at + self.segment
            path = jnp.asarray(betas[at:end], dtype), jnp.asarray(betas[at + 1 : end + 1], dtype), jnp.arange(at, end)
            now = jnp.asarray(log_steps[:, at:end], dtype), following, jnp.asarray(adapt)
            state, steps, following = _segment(
                self.model, self.start, datum, rows, key_path, state, scale, path, *now, self.settings
            )
            used.append(np.asarray(steps))
            self.tick()
        return state.log_weight, np.concatenate(used, 1)[:, :temperatures]

    def forward(self, betas: np.ndarray, key: PRNGKeyArray) -> tuple[Array, np.ndarray, Array]:
        """log w [B, C] from the first distribution to the joint, the step sizes [B, T], and log w of the shorter run.

        The step sizes are those of a shorter run before.
        """
        key_before, key_run = jax.random.split(key)
        shorter, found = self.shorter(len(betas) - 1, key_before)
        before, after = np.linspace(0, 1, found.shape[1] + 1)[1:], np.linspace(0, 1, len(betas))[1:]
        log_steps = np.stack([np.interp(after, before, row) for row in found])
        return self.along(betas, key_run, log_steps, None)[0], log_steps, shorter

    def shorter(self, temperatures: int, key: PRNGKeyArray) -> tuple[Array, np.ndarray]:
        """log w [B, C] along a path of so many temperatures made coarser, and the step sizes that it found."""
        coarse = np.pad(sigmoidal(_coarse(temperatures)), (PRELIMINARY_STEPS, 0), mode="edge")
        log_weights, found = self.along(coarse, key, None, None)
        return log_weights, found[:, PRELIMINARY_STEPS:]

    def reverse(self, betas: np.ndarray, key: PRNGKeyArray, log_steps: np.ndarray, latents: Array) -> Array:
        """-log w [B, C] of the same path walked backwards from exact posterior draws [B, ...]."""
        # the move at β_t has the step size that it had forwards, column t - 1; at β_0, where it does not matter, β_1's
        backwards = np.concatenate([log_steps[:, -2::-1], log_steps[:, :1]], 1)
        return self.along(betas[::-1], key, backwards, latents)[0]


@jax.jit
def _summary(log_weights: Float[Array, "B C"]) -> tuple[Array, ...]:
    functions = importance.log_mean_exp, importance.standard_error, importance.effective_sample_size
    return tuple(jax.vmap(function)(log_weights) for function in functions)


def _check(model: Model, evidence: Any, **whole: int) -> None:
    """The latent must be real for gradients to move it, and the numbers positive."""
    for name, value in whole.items():
        checks.whole(name, value)
    draw = jax.eval_shape(lambda key: model.prior(evidence).sample(key), jax.random.key(0))
    if not jnp.issubdtype(draw.dtype, jnp.floating) or not distributions.reparameterised(model.prior(evidence)):
        raise TypeError(
            "model: annealing moves a real latent along gradients, and this model's is discrete; "
            "sum it out with veil.log_prob (a prior of your own that is real: let it inherit "
            "veil.distributions.Reparameterised)"
        )


def _row_count(entries: int, chains: int) -> int:
    return int(np.clip(blocks.ENTRIES // (4 * chains * max(entries, 16)), 1, 1024))


def _coarse(temperatures: int) -> int:
    return -(-temperatures // COARSER)


def _ticks(bar: Progress, blocks_: int, short: int, runs: int, temperatures: int) -> Any:
    def segments(length: int) -> int:
        return -(-length // min(SEGMENT, temperatures))

    count = blocks_ * (short * segments(_coarse(temperatures) + PRELIMINARY_STEPS) + runs * segments(temperatures))
    return bar.ticks(count, f"{temperatures} temperatures")


def annealed_bound(
    model: Model,
    data: Any,
    *,
    key: PRNGKeyArray,
    start: Posterior | None = None,
    temperatures: int = 2000,
    chains: int = 16,
    leaps: int = 2,
    target: float = 0.9,
    progress: bool | None = None,
) -> AnnealedBound:
    """A stochastic lower bound of log p(y | x) of each datum by annealed importance sampling, nats.

    Chains move from f_0 = p(z | x) (or the posterior ``start``) to f_1 = p(y, z | x) along f_β = f_0^(1-β) f_1^β,
    log w = Σ_t (β_t - β_{t-1}) log f_1/f_0 (z_{t-1}), and E[w] = p(y | x) (Neal 2001, eqs. 9-12; schedule and chains as
    in Wu et al. 2017): log mean w is a lower bound in expectation, and tight with many ``temperatures``. Moves are
    Hamiltonian with ``leaps`` leapfrog steps: few, since paths that overshoot forget the energy no faster (variance of
    log w, ten latents, 64 entries, 1000 temperatures: 0.4 with two steps, 0.7 with ten). Step sizes come from a shorter
    run before, for each datum, which aims at the acceptance ``target``; in the run that counts they are fixed, and so
    do not bias it.

    Raises TypeError for a discrete latent, ValueError for numbers that are not positive.

    >>> sigmoidal(4).round(3)
    array([0.   , 0.105, 0.5  , 0.895, 1.   ])
    """
    verified(model, start, key)
    data = blocks.as_data(model, data)
    rows = _row_count(blocks.size(data), chains)
    settings, betas = _Settings(chains, leaps, target), sigmoidal(temperatures)
    with Progress(progress, "annealing") as bar:
        tick = _ticks(bar, -(-blocks.length(data) // rows), 1 if start is None else 2, 1, temperatures)

        def measured(block: blocks.Block) -> tuple[Array, ...]:
            _check(model, blocks.first(block.datum.evidence), temperatures=temperatures, chains=chains, leaps=leaps)
            found, _, shorter = _Run(model, start, block, settings, temperatures, tick).forward(betas, key)
            (lower, error, effective), (before, *_) = _summary(found), _summary(shorter)
            lost = jnp.where(effective < chains / 2, jax.vmap(importance.lag)(found), 0.0)
            shortfall = jnp.maximum(lower - before, lost)
            if start is not None:
                other = _Run(model, None, block, settings, temperatures, tick).shorter(temperatures, key)[0]
                shortfall = jnp.maximum(shortfall, _summary(other)[0] - lower)
            return lower, jnp.hypot(error, shortfall), shortfall, effective

        each = blocks.blocks(data, rows, space_of(model))
        (lower, error, shortfall, effective), weight = blocks.gathered(each, measured)
    kind = "lower bound" if temperatures >= SHORT else f"lower bound, {temperatures} temperatures: perhaps far off"
    return AnnealedBound(lower, error, shortfall, effective, weight, chains, kind)


def sandwich(
    model: Model,
    posterior: Posterior | None,
    key: PRNGKeyArray,
    count: int,
    evidence: Any = None,
    *,
    temperatures: int = 2000,
    chains: int = 16,
    leaps: int = 2,
    target: float = 0.9,
    progress: bool | None = None,
) -> Sandwich:
    """log p(y | x) of ``count`` data drawn from the model, between a stochastic lower and an upper bound, nats.

    Bidirectional Monte Carlo (Grosse et al. 2015, section 4): (z*, y) is drawn from the model, so z* is one exact draw
    from p(z | y, x). Chains from f_0 (``posterior``, or the prior if that is None) give a lower bound as in
    ``annealed_bound``; chains from z* backwards along the same path have E[1/w] = 1/p(y | x), so -log mean 1/w is an
    upper bound in expectation. Where the two meet, both are right. ``evidence`` [N, P] is gone round.

    Raises TypeError for a discrete latent, ValueError for numbers that are not positive.
    """
    verified(model, posterior, key)
    key_data, key_lower, key_upper = jax.random.split(key, 3)
    latents, data = blocks.simulated(model, key_data, count, evidence)
    _check(model, blocks.first(data.evidence), temperatures=temperatures, chains=chains, leaps=leaps)
    rows = min(count, _row_count(blocks.size(data), chains))
    settings, betas = _Settings(chains, leaps, target), sigmoidal(temperatures)
    with Progress(progress, "sandwich") as bar:
        tick = _ticks(bar, -(-count // rows), 1, 2, temperatures)

        def measured(block: blocks.Block) -> tuple[Array, ...]:
            run = _Run(model, posterior, block, settings, temperatures, tick)
            forward, log_steps, _ = run.forward(betas, key_lower)
            backward = run.reverse(betas, key_upper, log_steps, blocks.beside(block, latents))
            (lower, lower_error, _), (upper, upper_error, _) = _summary(forward), _summary(backward)
            return lower, lower_error, -upper, upper_error

        each = blocks.blocks(data, rows, space_of(model))
        (lower, lower_error, upper, upper_error), _ = blocks.gathered(each, measured)
    return Sandwich(lower, lower_error, upper, upper_error, np.asarray(data.query), data.evidence)
