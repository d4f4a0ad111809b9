"""Switching linear dynamics: a discrete chain that chooses, at each step, how a continuous latent moves."""

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import kalman, linear, markov, particles, tridiagonal
from veil.model import Datum, Model
from veil.model.chains import DiscreteChain, length
from veil.parts.covariance import Covariance, Diagonal
from veil.parts.gates import Softmax
from veil.parts.nets import positive
from veil.parts.start import KMeans, Start
from veil.parts.statistics import Outer
from veil.posterior import MeanField, Optimal, proposals
from veil.units import Units
from veil.zoo.lds import LDS

SAMPLE = 20_000  # steps from which a start is made
STAY = 0.9  # how likely a regime is to stay, before anything is learned


class Tracked(eqx.Module):
    """Of one path of regimes: the last one, and p(z_t | it, y_1..t) = N(mean, covariance); ``fresh`` at the start."""

    state: Int[Array, "*paths"]
    mean: Float[Array, "*paths L"]
    covariance: Float[Array, "*paths L L"]
    fresh: Bool[Array, "*paths"]


class Fields(NamedTuple):
    """The mean-field posterior q(s) q(z), and its ELBO, nats.

    ``seen`` [T, K] E_q(z)[log p(z_t, y_t | z_t-1, s_t)], from which q(s) is made; ``regimes`` q(s_t) [T, K], ``pairs``
    q(s_t-1, s_t) [T, K, K]; ``path`` [T] the most likely one under q(s); ``mean``, ``covariance``, ``lagged`` of q(z).
    """

    seen: Float[Array, "T K"]
    regimes: Float[Array, "T K"]
    pairs: Float[Array, "T K K"]
    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    lagged: Float[Array, "T L L"]
    path: Int[Array, " T"]
    elbo: Float[Array, ""]


class SwitchingMoments(NamedTuple):
    """By particles: p(s_t | y_1..t) [T, K], moments of p(z_t | y_1..t), and log Ẑ, nats (see ``maths.particles``)."""

    regimes: Float[Array, "T K"]
    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    log_likelihood: Float[Array, ""]


class Switched(Distribution):
    """p(y_1..T | s_1..T, x), the continuous path integrated out by the Kalman filter."""

    model: Any
    path: Int[Array, " T"]
    evidence: Float[Array, "T *P"] | None

    def log_prob(self, query: Float[Array, "T D"]) -> Float[Array, ""]:
        return self.model.log_likelihood(self.path, Datum(query, self.evidence))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "T D"]:
        return self.model.emitted(key, self.path, self.evidence)[1]


class SwitchingLDS(Model):
    """s_t ~ p(s_t | s_t-1), z_t = F_s z_t-1 + B_s [1, x_t] + N(0, Q_s), y_t = H_s z_t + d_s + N(0, R_s) for s = s_t.

    ``states`` regimes, each an ``LDS`` with ``latent`` numbers in its state. All start with the same z ~ N(m, P), and
    with ``shared`` see z alike (one H, d, R). A datum is a sequence, query [T, D], with controls x [T, U] or none,
    missing entries, padding and resets. The latent is the path s; z is integrated out given s, by the Kalman filter.

    Over all K^T paths nothing is exact. ``veil.fit`` is variational EM with q(s) q(z) (``MeanField``: Ghahramani &
    Hinton 2000), which raises an ELBO; ``veil.evaluate`` gives the bound of a particle filter that carries a Kalman
    filter in each particle (Rao-Blackwellised: Doucet, de Freitas, Murphy & Russell 2000), as does ``filtered``.

    >>> import jax, numpy as np, veil
    >>> turns = np.cumsum(np.where(np.arange(60) % 30 < 15, 1.0, -1.0))[:, None]
    >>> data = veil.data.episodes([turns + 0.1 * np.sin(np.arange(60))[:, None]])
    >>> result = veil.fit(SwitchingLDS(states=2, latent=1), data, key=jax.random.key(0), steps=20)
    >>> veil.infer(result, data).probabilities.shape
    (1, 60, 2)
    """

    tractable: ClassVar[bool] = False
    standardised: ClassVar[bool] = True
    sequential: ClassVar[bool] = True
    states: int = eqx.field(static=True, default=2)
    latent: int = eqx.field(static=True, default=2)
    noise: Covariance = Diagonal()
    shared: bool = eqx.field(static=True, default=True)
    start: Start = KMeans()
    transition: Softmax = Softmax(evidence=False)
    initial: Softmax = Softmax(evidence=False)
    regimes: tuple[LDS, ...] = ()

    def __check_init__(self) -> None:
        positive("states", self.states)
        positive("latent", self.latent)
        if self.transition.evidence or self.initial.evidence:
            raise ValueError("transition, initial: expected Softmax(evidence=False): regimes do not depend on evidence")
        if self.regimes and len(self.regimes) != self.states:
            raise ValueError(f"regimes: expected {self.states}, one for each state; got {len(self.regimes)}")

    @property
    def components(self) -> int:
        """The number of regimes: what mixtures call components."""
        return self.states

    @property
    def ready(self) -> bool:
        return bool(self.regimes)

    @property
    def closed_form(self) -> bool:
        return True

    @property
    def real(self) -> bool:
        return True

    @property
    def isotropic(self) -> bool:
        return self.noise.isotropic

    @property
    def query_shape(self) -> tuple[int, ...] | None:
        """The shape of one step's query, None before a fit."""
        return self.regimes[0].query_shape if self.ready else None

    @property
    def inputs(self) -> int | None:
        """How many controls a step has."""
        return self.regimes[0].inputs if self.ready else None

    @property
    def usual_posterior(self) -> MeanField:
        """q(s) q(z)."""
        return MeanField()

    @property
    def transition_matrix(self) -> Float[Array, "K K"]:
        """p(s_t = j | s_t-1 = i), rows i."""
        return jnp.exp(self._gates()[1])

    def _stacked(self) -> LDS:
        """The regimes as one LDS whose parameters have a leading axis."""
        if not self.regimes:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.regimes)

    def _gates(self) -> tuple[Float[Array, " K"], Float[Array, "K K"]]:
        """log p(s_1) and log p(s_t = j | s_t-1 = i)."""
        one = jnp.ones(1)
        return self.initial.logits(one), eqx.filter_vmap(lambda gate: gate.logits(one))(self.transition)

    # -- the model -----------------------------------------------------------------------------------------------------

    def prior(self, evidence: Float[Array, "*evidence"] | None, steps: int | None = None) -> Distribution:
        """p(s_1..T): a chain of as many steps as the evidence has, or ``steps``."""
        return self.prior_for(Datum(jnp.zeros(length(evidence, steps)), evidence))

    def prior_for(self, datum: Datum) -> DiscreteChain:
        """p(s) over the steps of a datum, with its resets and padding."""
        starts, there = markov.steps(len(datum.query), datum.mask, datum.reset)
        return DiscreteChain(markov.transitions(*self._gates(), starts), there)

    def likelihood(self, latent: Int[Array, " T"], evidence: Float[Array, "*evidence"] | None) -> Switched:
        return Switched(self, latent, evidence)

    def log_likelihood(self, latent: Int[Array, " T"], datum: Datum) -> Float[Array, ""]:
        """log p(y | s, x), nats, z integrated out: a Kalman filter along the path of regimes."""
        starts, there = markov.steps(len(datum.query), datum.mask, datum.reset)
        whites = self._whites(datum)

        def step(carry: Tracked, now: tuple[Any, ...]) -> tuple[Tracked, Array]:
            state, x, white, start, real = now
            before = jax.tree.map(lambda a, b: jnp.where(start, a, b), self.carry(None), carry)
            after, value = self._updated(before, state, x, jax.tree.map(lambda leaf: leaf[state], white))
            after = jax.tree.map(lambda a, b: jnp.where(real, a, b), after, carry)
            return after, jnp.where(real, value, 0.0)

        xs = (latent, datum.evidence, whites, starts, there)
        return jnp.sum(jax.lax.scan(step, self.carry(None), xs)[1])

    def sample(
        self, key: PRNGKeyArray, evidence: Float[Array, "*evidence"] | None = None, steps: int | None = None
    ) -> tuple[Array, Array]:
        """(regimes [T], y [T, D]) drawn from the model, as long as the evidence, or ``steps``."""
        key_path, key_rest = jax.random.split(key)
        path = self.prior(evidence, steps).sample(key_path)
        return path, self.emitted(key_rest, path, evidence)[1]

    def emitted(
        self, key: PRNGKeyArray, path: Int[Array, " T"], evidence: Float[Array, "T *P"] | None
    ) -> tuple[Float[Array, "T L"], Float[Array, "T D"]]:
        """(z [T, L], y [T, D]) drawn given the path of regimes."""
        stacked = self._stacked()
        key_states, key_query = jax.random.split(key)
        noise = jax.random.normal(key_states, (len(path), self.latent))

        def step(carry: tuple[Array, Array], now: tuple[Any, ...]) -> tuple[Any, Array]:
            before, fresh = carry
            state, x, some = now
            regime = jax.tree.map(lambda leaf: leaf[state], stacked)
            prior = regime.step_prior(replace(regime.carry(None), latent=before, fresh=fresh), x)
            here = prior.mean + prior.factor @ some
            return (here, jnp.array(False)), here

        begin = (jnp.zeros(self.latent), jnp.array(True))
        states = jax.lax.scan(step, begin, (path, evidence, noise))[1]

        def seen(key: PRNGKeyArray, state: Array, z: Array) -> Array:
            regime = jax.tree.map(lambda leaf: leaf[state], stacked)
            return regime._emission(z, None).sample(key)

        return states, jax.vmap(seen)(jax.random.split(key_query, len(path)), path, states)

    # As veil.model.stepwise asks, of one path of regimes, each step's z integrated out:

    def carry(self, evidence: Float[Array, "T *P"] | None) -> Tracked:
        """No regime before."""
        mean = jnp.zeros(self.latent)
        return Tracked(jnp.zeros((), int), mean, jnp.zeros((self.latent, self.latent)), jnp.array(True))

    def _predicted(self, carry: Tracked, state: Array, evidence: Array | None) -> tuple[Array, Array]:
        """Moments of p(z_t | s_1..t, y_1..t-1)."""
        regime = jax.tree.map(lambda leaf: leaf[state], self._stacked())
        mean, factor, transition, drift, process, *_ = regime._parts()
        features = regime._features(None if evidence is None else evidence[None], 1)[0]
        onward = transition @ carry.mean + drift @ features
        spread = linear.symmetric(transition @ carry.covariance @ transition.T) + process @ process.T
        return jnp.where(carry.fresh, mean, onward), jnp.where(carry.fresh, factor @ factor.T, spread)

    def _updated(
        self, carry: Tracked, state: Array, evidence: Array | None, white: tuple[Array, Array, Array]
    ) -> tuple[Tracked, Float[Array, ""]]:
        """The carry after a whitened observation, and log p(y_t | s_1..t, y_1..t-1)."""
        query, emission, normaliser = white
        mean, covariance = self._predicted(carry, state, evidence)
        after, spread, _, value = kalman.update(mean, covariance, query, emission)
        return Tracked(state.astype(carry.state.dtype), after, spread, jnp.array(False)), value + normaliser

    def _whites(self, datum: Datum) -> tuple[Array, Array, Array]:
        """Observations as each regime whitens them: y [T, K, D], H [T, K, D, L], normalisers [T, K]."""
        count, size = datum.query.shape

        def one(regime: LDS) -> tuple[Array, Array, Array]:
            *_, emission, offset = regime._parts()
            white, rows, logs = kalman.whitened(
                datum.query - offset[None], emission, regime._variance(), datum.observed
            )
            rows = jnp.broadcast_to(rows, (count, size, self.latent))
            return white, rows, jnp.broadcast_to(logs, (count,))

        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), jax.vmap(one)(self._stacked()))

    def _white(self, query: Array, observed: Array | None) -> tuple[Array, Array, Array]:
        """The same of one step, without its axis."""
        one = Datum(query[None], observed=None if observed is None else observed[None])
        return jax.tree.map(lambda leaf: leaf[0], self._whites(one))

    def advance(
        self, carry: Tracked, latent: Array, query: Array, evidence: Array | None, observed: Array | None
    ) -> Tracked:
        """The Kalman filter of this path of regimes, one step on."""
        white = jax.tree.map(lambda leaf: leaf[latent], self._white(query, observed))
        return self._updated(carry, latent, evidence, white)[0]

    def step_prior(self, carry: Tracked, evidence: Float[Array, "*P"] | None) -> Distribution:
        """p(s_t | s_t-1)."""
        first, move = self._gates()
        return distributions.categorical(jnp.where(carry.fresh, first, move[carry.state]))

    def step_likelihood(self, carry: Tracked, latent: Array, evidence: Float[Array, "*P"] | None) -> Distribution:
        """p(y_t | s_1..t, y_1..t-1, x): a Gaussian, z_t integrated out."""
        mean, covariance = self._predicted(carry, latent, evidence)
        regime = jax.tree.map(lambda leaf: leaf[latent], self._stacked())
        *_, emission, offset = regime._parts()
        noise = regime._variance()
        spread = emission @ covariance @ emission.T + (noise if noise.ndim == 2 else jnp.diag(noise))
        return distributions.multivariate_normal(emission @ mean + offset, linear.cholesky(linear.symmetric(spread)))

    def step_posterior(self, carry: Tracked, datum: Datum) -> Distribution:
        """p(s_t | s_1..t-1, y_1..t), exact."""
        first, move = self._gates()
        white = self._white(datum.query, datum.observed)
        states = jnp.arange(self.states)
        values = jax.vmap(lambda state, white: self._updated(carry, state, datum.evidence, white)[1])(states, white)
        return distributions.categorical(jnp.where(carry.fresh, first, move[carry.state]) + values)

    def filtered(self, datum: Datum, key: PRNGKeyArray, count: int = 200) -> SwitchingMoments:
        """p(s_t, z_t | y_1..t) of one sequence by ``count`` particles, a Kalman filter in each (Rao-Blackwellised)."""
        record = lambda carry: (carry.mean, carry.covariance)  # noqa: E731
        found = proposals.filtered(self, Optimal(), datum, key, count, record=record)
        weights = jnp.exp(found.log_weights)
        regimes = jnp.einsum("tk,tks->ts", weights, jax.nn.one_hot(found.latents, self.states))
        means, covariances = found.recorded
        mean, spread = particles.weighted_moments(means, weights)
        covariance = spread + jnp.einsum("tk,tkij->tij", weights, covariances)
        return SwitchingMoments(regimes, mean, covariance, found.log_likelihood)

    # -- the mean-field posterior --------------------------------------------------------------------------------------

    def fields(self, datum: Datum, sweeps: int) -> Fields:
        """q(s) q(z) after ``sweeps`` rounds of coordinate ascent from an interacting-filters start; the ELBO rises.

        Ghahramani & Hinton 2000, section 3.1. With one regime the first round is the exact smoother.
        """
        starts, there = markov.steps(len(datum.query), datum.mask, datum.reset)
        first, move = self._gates()
        whites = self._whites(datum)
        seen = self._interacting(datum, whites, starts, there)
        discrete = markov.smooth(first, move, seen, starts, there)

        def sweep(_: Array | int, before: tuple[Any, ...]) -> tuple[Any, ...]:
            found = self._continuous(datum, whites, before[-1].marginals, starts, there)
            seen = self._expected(datum, whites, found, starts, there)
            return found, seen, markov.smooth(first, move, seen, starts, there)

        shapes = jax.eval_shape(lambda: self._continuous(datum, whites, discrete.marginals, starts, there))
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        found, seen, discrete = jax.lax.fori_loop(0, sweeps, sweep, (nothing, seen, discrete))
        elbo = discrete.log_likelihood + jnp.sum(jnp.where(there, found.entropies, 0.0))
        path, _ = markov.best_path(first, move, seen, starts, there)
        return Fields(seen, discrete.marginals, discrete.pairs, found.mean, found.covariance, found.lagged, path, elbo)

    def _interacting(self, datum: Datum, whites: Any, starts: Array, there: Array) -> Float[Array, "T K"]:
        """log p(y_t | s_t, y_1..t-1), the past's paths merged into one Gaussian a regime (Blom & Bar-Shalom 1988)."""
        first, move = self._gates()
        states = jnp.arange(self.states)

        def step(carry: tuple[Array, Tracked], now: tuple[Any, ...]) -> tuple[Any, Array]:
            logits, beliefs = carry
            x, white, start, real = now
            joint = logits[:, None] + move
            mixing = jax.nn.softmax(joint, axis=0)
            mean = mixing.T @ beliefs.mean
            away = beliefs.mean[:, None] - mean[None]
            spread = jnp.einsum("ij,ikl->jkl", mixing, beliefs.covariance)
            spread = spread + jnp.einsum("ij,ijk,ijl->jkl", mixing, away, away)
            mixed = Tracked(states, mean, spread, jnp.broadcast_to(start, states.shape))
            after, values = jax.vmap(lambda c, s, w: self._updated(c, s, x, w))(mixed, states, white)
            predicted = jnp.where(start, first, markov.log_sum(joint, 0))
            found = markov.floored(predicted + values)
            found = found - markov.log_sum(found, 0)
            after = Tracked(states, after.mean, after.covariance, jnp.zeros(self.states, bool))
            kept = jax.tree.map(lambda a, b: jnp.where(real, a, b), (found, after), carry)
            return kept, values

        one = self.carry(None)
        wide = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.states, *leaf.shape)), one)
        begin = (first, replace(wide, state=states, fresh=jnp.zeros(self.states, bool)))
        return jax.lax.scan(step, begin, (datum.evidence, whites, starts, there))[1]

    def _inverses(self) -> tuple[Array, ...]:
        """Of every regime P⁻¹ and P⁻¹ m, the whitener G⁻¹ of Q = G Gᵀ, and -½ log|2π P|, -½ log|2π Q|."""

        def one(regime: LDS) -> tuple[Array, ...]:
            mean, factor, _, _, process, *_ = regime._parts()
            identity = jnp.eye(self.latent, dtype=factor.dtype)
            # factors that a user gives, or a gradient step makes, may have any signs and shape
            first = linear.solve_lower(linear.cholesky(factor @ factor.T), identity)
            whitener = linear.solve_lower(linear.cholesky(process @ process.T), identity)
            logs = [
                jnp.sum(jnp.log(jnp.diagonal(w))) - 0.5 * self.latent * np.log(2 * np.pi) for w in (first, whitener)
            ]
            return first, first @ mean, whitener, logs[0], logs[1]

        return jax.vmap(one)(self._stacked())

    def _continuous(self, datum: Datum, whites: Any, regimes: Array, starts: Array, there: Array) -> tridiagonal.Solved:
        """q(z) given q(s): a Gaussian chain whose log-density is the average over regimes."""
        first, centred, whitener, *_ = self._inverses()
        stacked = self._stacked()
        features = self.regimes[0]._features(datum.evidence, len(datum.query))
        queries, rows, _ = whites
        real = there.astype(regimes.dtype)
        begun = regimes * (starts.astype(regimes.dtype))[:, None]
        moved = regimes * (real - starts.astype(regimes.dtype))[:, None]
        seen = regimes * real[:, None]
        gain = jnp.einsum("kij,kjl->kil", whitener, stacked.transition)  # G⁻¹ F
        pushed = jnp.einsum("kij,kjp,tp->tki", whitener, stacked.drift, features)  # G⁻¹ B [1, x_t]
        diagonal = (
            jnp.einsum("tk,kai,kaj->tij", begun, first, first)
            + jnp.einsum("tk,kai,kaj->tij", moved, whitener, whitener)
            + jnp.einsum("tk,tkdi,tkdj->tij", seen, rows, rows)
        )
        leaving = jnp.einsum("tk,kai,kaj->tij", moved, gain, gain)
        term = (
            jnp.einsum("tk,kai,ka->ti", begun, first, centred)
            + jnp.einsum("tk,kai,tka->ti", moved, whitener, pushed)
            + jnp.einsum("tk,tkdi,tkd->ti", seen, rows, queries)
        )
        term_before = -jnp.einsum("tk,kai,tka->ti", moved, gain, pushed)
        below = -jnp.einsum("tk,kai,kaj->tij", moved, whitener, gain)
        shift = lambda array: jnp.concatenate([array[1:], jnp.zeros_like(array[:1])])  # noqa: E731
        identity = jnp.eye(self.latent, dtype=regimes.dtype)[None]
        diagonal = jnp.where(there[:, None, None], diagonal, identity) + shift(leaving)
        return tridiagonal.solved(diagonal, below, term + shift(term_before))

    def _expected(
        self, datum: Datum, whites: Any, found: tridiagonal.Solved, starts: Array, there: Array
    ) -> Float[Array, "T K"]:
        """E_q(z)[log p(z_t, y_t | z_t-1, s_t = k)], nats."""
        first, centred, whitener, log_first, log_process = self._inverses()
        stacked = self._stacked()
        features = self.regimes[0]._features(datum.evidence, len(datum.query))
        queries, rows, normalisers = whites
        mean, covariance = found.mean, found.covariance
        before = jnp.concatenate([jnp.zeros_like(mean[:1]), mean[:-1]])
        spread = jnp.concatenate([jnp.zeros_like(covariance[:1]), covariance[:-1]])

        def one(first, centred, whitener, log_first, log_process, transition, drift, query, rows, logs):  # type: ignore[no-untyped-def]
            start = jnp.sum((mean @ first.T - centred[None]) ** 2, 1)
            start = log_first - 0.5 * (start + jnp.einsum("ai,aj,tij->t", first, first, covariance))
            gain = whitener @ transition
            away = mean @ whitener.T - before @ gain.T - features @ (whitener @ drift).T
            square = jnp.sum(away**2, 1) + jnp.einsum("ai,aj,tij->t", whitener, whitener, covariance)
            square = square + jnp.einsum("ai,aj,tij->t", gain, gain, spread)
            square = square - 2 * jnp.einsum("ai,aj,tij->t", whitener, gain, found.lagged)
            moved = log_process - 0.5 * square
            left = query - jnp.einsum("tdi,ti->td", rows, mean)
            seen = jnp.sum(left**2, 1) + jnp.einsum("tdi,tdj,tij->t", rows, rows, covariance)
            return jnp.where(starts, start, moved) + logs - 0.5 * seen

        across = [jnp.swapaxes(leaf, 0, 1) for leaf in (queries, rows, normalisers)]
        values = jax.vmap(one)(
            first, centred, whitener, log_first, log_process, stacked.transition, stacked.drift, *across
        ).T
        return jnp.where(there[:, None], values, 0.0)

    def mean_field(self, datum: Datum, sweeps: int) -> tuple[Any, Float[Array, ""]]:
        """What the M-step needs of q(s) q(z), and its ELBO."""
        found = self.fields(datum, sweeps)
        _, there = markov.steps(len(datum.query), datum.mask, datum.reset)
        regimes = jnp.where(there[:, None], found.regimes, 0.0)
        return (regimes, found.pairs, found.mean, found.covariance, found.lagged), found.elbo

    def mean_field_chain(self, datum: Datum, sweeps: int) -> DiscreteChain:
        """q(s) as a chain."""
        starts, there = markov.steps(len(datum.query), datum.mask, datum.reset)
        return DiscreteChain(markov.conditioned(*self._gates(), self.fields(datum, sweeps).seen, starts, there), there)

    # -- learning ------------------------------------------------------------------------------------------------------

    def used(self, expectations: Any) -> Float[Array, " K"]:
        """The expected number of steps in each regime."""
        return jnp.sum(expectations[0], 0)

    def statistics(self, datum: Datum, expectations: Any) -> Any:
        """Expected sums of one sequence, additive over sequences: of the chain, and of each regime an ``LDS``'s."""
        regimes, pairs, *moments = expectations
        starts, there = markov.steps(len(datum.query), datum.mask, datum.reset)
        begun = starts.astype(regimes.dtype) @ regimes
        moved = jnp.sum(jnp.where((there & ~starts)[:, None, None], pairs, 0.0), 0)
        sums = tuple(regime.statistics(datum, tuple(moments), regimes[:, k]) for k, regime in enumerate(self.regimes))
        return Outer(jnp.ones(self.states), begun[:, None]), Outer(jnp.ones(self.states), moved), sums

    def maximise(self, sums: Any) -> "SwitchingLDS":
        """The model that maximises the expected log-likelihood plus log-prior, from summed statistics."""
        begun, moved, each = sums
        total = jax.tree.map(lambda *leaves: sum(leaves), *each)
        # parameters that the regimes share are made of all regimes' sums
        common = ["starts", "first", "first_second"]
        if self.shared:
            common += ["steps", "states", "seen", "seen_second"]
        fitted = []
        for regime, mine in zip(self.regimes, each, strict=True):
            joined = {**mine, **{name: total[name] for name in common}}
            joined["steps"] = jnp.maximum(joined["steps"], 1e-3)
            fitted.append(regime.maximise(joined))
        transition = eqx.filter_vmap(lambda gate, row: gate.maximise((row[:, None],)))(self.transition, moved)
        return replace(self, regimes=tuple(fitted), initial=self.initial.maximise((begun,)), transition=transition)

    def recentred(self, sums: Any, to: "SwitchingLDS") -> Any:
        """Sums taken under this model as sums under ``to``."""
        return sums

    def log_prior(self) -> Float[Array, ""]:
        """The penalty of the penalised likelihood that EM raises (nats): floors of covariances, shared ones once."""
        total = sum((regime.log_prior() for regime in self.regimes), jnp.zeros(()))
        one = self.regimes[0]
        inverse = linear.solve_lower(one._parts()[1], jnp.eye(self.latent))
        once = -0.5 * one.floor * jnp.sum(inverse**2)
        if self.shared:
            once = once + one.noise.log_prior()
        return total - (self.states - 1) * once

    def responsibilities(self, points: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Where training starts: r [N T, K] of steps by where they are and how they moved, zero at padding."""
        moved = np.diff(points, axis=0, prepend=points[:1])
        scale = np.sqrt(np.average(moved**2, axis=0, weights=weights)) + 1e-12
        both = np.concatenate([points if not self.shared else 0.0 * points, moved / scale], 1)
        rows = np.flatnonzero(weights > 0)
        if len(rows) > SAMPLE:
            rows = np.sort(rng.choice(rows, SAMPLE, replace=False))
        found = np.full((len(points), self.states), 1.0 / self.states) * (weights > 0)[:, None]
        found[rows] = 0.8 * self.start(both[rows], weights[rows], self.states, rng) + 0.2 / self.states
        return found

    def initialise(self, data: Datum, responsibilities: Float[Array, "M K"], key: PRNGKeyArray) -> "SwitchingLDS":
        """One ``LDS`` of all data, then a first M-step with its smoother and these regimes; they tend to stay."""
        key_one, key_move = jax.random.split(key)
        one = LDS(self.latent, self.noise).initialise(data, None, key_one)
        count, steps = data.query.shape[:2]
        weight = jnp.ones(count) if data.weight is None else data.weight
        stay = STAY if self.states > 1 else 1.0
        matrix = jnp.full((self.states, self.states), (1 - stay) / max(self.states - 1, 1))
        logits = jnp.log(jnp.where(jnp.eye(self.states, dtype=bool), stay, matrix))
        noise = 0.05 * jax.random.normal(key_move, logits.shape)
        made = replace(
            self,
            regimes=(one,) * self.states,
            initial=self.initial.blank(self.states, 1),
            transition=Softmax(False, self.transition.ridge, (logits + noise)[:, :, None]),
        )
        regimes = responsibilities.reshape(count, steps, self.states)

        def sums(datum: Datum, regimes: Array) -> Any:
            moments, _ = one.expectations(datum)
            return tuple(one.statistics(datum, moments, regimes[:, k]) for k in range(self.states))

        terms = jax.vmap(sums)(replace(data, weight=None, index=None), regimes)
        each = jax.tree.map(
            lambda term: jnp.tensordot(weight, term.left, 1), terms, is_leaf=lambda node: isinstance(node, Outer)
        )
        kept = (jnp.ones((self.states, 1)), jnp.exp(logits), each)
        return replace(made.maximise(kept), transition=made.transition)

    # -- units ---------------------------------------------------------------------------------------------------------

    def rescaled(self, query: Units, evidence: Units | None) -> "SwitchingLDS":
        """The same model in the user's units; the state keeps its own."""
        return replace(self, regimes=tuple(regime.rescaled(query, evidence) for regime in self.regimes))

    def parameters(self) -> int:
        """How many numbers are free (for BIC and AIC); another basis of the state, common to all, changes nothing."""
        if not self.regimes:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        one, size = self.regimes[0], self.latent
        mean, _, transition, drift, _, emission, offset = one._parts()
        triangle = size * (size + 1) // 2
        seen = emission.size + offset.size + one.noise.parameters(1, offset.size)
        own = transition.size + drift.size + triangle + (0 if self.shared else seen)
        common = mean.size + triangle + (seen if self.shared else 0) - size * (size + 1)
        return self.states * own + common + self.states**2 - 1
