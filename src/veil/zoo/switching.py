"""Switching linear dynamics: a discrete chain that chooses, at each step, how a continuous latent moves."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import kalman, linear, markov
from veil.model import ClosedForm, Datum, Guided, Rescalable
from veil.model.abilities import RealLine, Redundant, Sizes, Space, parameter
from veil.model.chains import DiscreteChain, length
from veil.model.scales import Scale
from veil.model.stepwise import Marginal
from veil.parts.covariance import Covariance, Diagonal
from veil.parts.gates import Softmax
from veil.parts.nets import positive, with_one
from veil.parts.start import KMeans, Start
from veil.parts.statistics import Outer, contract
from veil.posterior import MeanField
from veil.posterior.mean_field import Factorised, Fields
from veil.zoo import ascent
from veil.zoo.ascent import Tracked
from veil.zoo.lds import LDS

SAMPLE = 20_000  # steps from which a start is made
STAY = 0.9  # how likely a regime is to stay, before anything is learned


class Switched(Distribution):
    """p(y_1..T | s_1..T, x), the continuous path integrated out by the Kalman filter."""

    model: Any
    path: Int[Array, " T"]
    evidence: Any

    def log_prob(self, query: Float[Array, "T D"]) -> Float[Array, ""]:
        return self.model.log_likelihood(self.path, Datum(query, self.evidence))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "T D"]:
        return self.model.emitted(key, self.path, self.evidence)[1]


class SwitchingLDS(Factorised, ClosedForm, Rescalable, Guided, Redundant):
    """s_t ~ p(s_t | s_t-1), z_t = F_s z_t-1 + B_s [1, x_t] + N(0, Q_s), y_t = H_s z_t + d_s + N(0, R_s) for s = s_t.

    ``states`` regimes, each an ``LDS`` with ``latent`` numbers in its state. All start with the same z ~ N(m, P), and
    with ``shared`` see z alike (one H, d, R). A datum is a sequence, query [T, D], with controls x [T, U] or none,
    missing entries, padding and resets. The latent is the path s; z is integrated out given s, by the Kalman filter.

    Over all K^T paths nothing is exact. ``veil.fit`` is variational EM with q(s) q(z) (``MeanField``: Ghahramani &
    Hinton 2000), which raises an ELBO; ``veil.evaluate`` gives the bound of a particle filter that carries a Kalman
    filter in each particle (Rao-Blackwellised: Doucet, de Freitas, Murphy & Russell 2000); so does the filter.

    >>> import jax, numpy as np, veil
    >>> turns = np.cumsum(np.where(np.arange(60) % 30 < 15, 1.0, -1.0))[:, None]
    >>> data = veil.data.episodes([turns + 0.1 * np.sin(np.arange(60))[:, None]])
    >>> result = veil.fit(SwitchingLDS(states=2, latent=1), data, key=jax.random.key(0), steps=20)
    >>> veil.infer(result, data).probabilities.shape
    (1, 60, 2)
    """

    states: int = eqx.field(static=True, default=2)
    latent: int = eqx.field(static=True, default=2)
    noise: Covariance = Diagonal()
    shared: bool = eqx.field(static=True, default=True)
    start: Start = KMeans()
    transition: Softmax = Softmax(evidence=False)
    initial: Softmax = Softmax(evidence=False)
    regimes: tuple[LDS, ...] | None = parameter()

    def __check_init__(self) -> None:
        positive("states", self.states)
        positive("latent", self.latent)
        if self.transition.evidence or self.initial.evidence:
            raise ValueError("transition, initial: expected Softmax(evidence=False): regimes do not depend on evidence")
        if self.regimes and len(self.regimes) != self.states:
            raise ValueError(f"regimes: expected {self.states}, one for each state; got {len(self.regimes)}")

    @property
    def sizes(self) -> Sizes:
        if self.regimes is None:
            return Sizes(values=self.states)
        one = self.regimes[0].sizes
        return Sizes(one.query, one.inputs, values=self.states)

    @property
    def space(self) -> Space:
        return RealLine(self.noise.isotropic)

    @property
    def usual_posterior(self) -> MeanField:
        """q(s) q(z)."""
        return MeanField()

    @property
    def transition_matrix(self) -> Float[Array, "K K"]:
        """p(s_t = j | s_t-1 = i), rows i."""
        return jnp.exp(self._gates()[1])

    def _regimes(self) -> tuple[LDS, ...]:
        if self.regimes is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        return self.regimes

    def _stacked(self) -> LDS:
        """The regimes as one LDS whose parameters have a leading axis."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *self._regimes())

    def _gates(self) -> tuple[Float[Array, " K"], Float[Array, "K K"]]:
        """log p(s_1) and log p(s_t = j | s_t-1 = i)."""
        one = jnp.ones(1)
        return self.initial.logits(one), eqx.filter_vmap(lambda gate: gate.logits(one))(self.transition)

    # -- the model -----------------------------------------------------------------------------------------------------

    def prior(self, evidence: Any, steps: int | None = None) -> Distribution:
        """p(s_1..T): a chain of as many steps as the evidence has, or ``steps``."""
        return self.prior_for(Datum(jnp.zeros(length(evidence, steps)), evidence))

    def prior_for(self, datum: Datum) -> DiscreteChain:
        """p(s) over the steps of a datum, with its resets and padding."""
        starts, there = datum.starts, datum.there
        return DiscreteChain(markov.transitions(*self._gates(), starts), there)

    def likelihood(self, latent: Int[Array, " T"], evidence: Any) -> Switched:
        return Switched(self, latent, evidence)

    def log_likelihood(self, latent: Int[Array, " T"], datum: Datum) -> Float[Array, ""]:
        """log p(y | s, x), nats, z integrated out: a Kalman filter along the path of regimes."""
        starts, there = datum.starts, datum.there
        whites = self._whites(datum)

        def step(carry: Tracked, now: tuple[Any, ...]) -> tuple[Tracked, Array]:
            state, x, white, start, real = now
            before = jax.tree.map(lambda a, b: jnp.where(start, a, b), self.carry(None), carry)
            after, value = self._updated(before, state, x, jax.tree.map(lambda leaf: leaf[state], white))
            after = jax.tree.map(lambda a, b: jnp.where(real, a, b), after, carry)
            return after, jnp.where(real, value, 0.0)

        xs = (latent, datum.evidence, whites, starts, there)
        return jnp.sum(jax.lax.scan(step, self.carry(None), xs)[1])

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Array, Array]:
        """(regimes [T], y [T, D]) drawn from the model, as long as the evidence, or ``steps``."""
        key_path, key_rest = jax.random.split(key)
        path = self.prior(evidence, steps).sample(key_path)
        return path, self.emitted(key_rest, path, evidence)[1]

    def emitted(
        self, key: PRNGKeyArray, path: Int[Array, " T"], evidence: Any
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

    # -- one step at a time (see ``veil.model.stepwise``), of one path of regimes, each step's z integrated out -------

    def carry(self, evidence: Any) -> Tracked:
        """No regime before."""
        mean = jnp.zeros(self.latent)
        return Tracked(jnp.zeros((), int), mean, jnp.zeros((self.latent, self.latent)), jnp.array(True))

    def _predicted(self, carry: Tracked, state: Array, evidence: Any) -> tuple[Array, Array]:
        """Moments of p(z_t | s_1..t, y_1..t-1)."""
        regime = jax.tree.map(lambda leaf: leaf[state], self._stacked())
        mean, factor, transition, drift, process, *_ = regime._parts()
        features = with_one(evidence)
        onward = transition @ carry.mean + drift @ features
        spread = linear.symmetric(transition @ carry.covariance @ transition.T) + process @ process.T
        return jnp.where(carry.fresh, mean, onward), jnp.where(carry.fresh, factor @ factor.T, spread)

    def _updated(
        self, carry: Tracked, state: Array, evidence: Any, white: tuple[Array, Array, Array]
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

    def advance(self, carry: Tracked, latent: Array, query: Array, evidence: Any, observed: Array | None) -> Tracked:
        """The Kalman filter of this path of regimes, one step on."""
        white = jax.tree.map(lambda leaf: leaf[latent], self._white(query, observed))
        return self._updated(carry, latent, evidence, white)[0]

    def latent_of(self, carry: Tracked) -> Marginal:
        """The regime, and the moments of the place."""
        regime = jnp.where(jnp.arange(self.states) == carry.state, 0.0, -jnp.inf)
        return Marginal(regime, carry.mean, jnp.diagonal(carry.covariance))

    def step_prior(self, carry: Tracked, evidence: Any) -> Distribution:
        """p(s_t | s_t-1)."""
        first, move = self._gates()
        return distributions.categorical(jnp.where(carry.fresh, first, move[carry.state]))

    def step_likelihood(self, carry: Tracked, latent: Array, evidence: Any) -> Distribution:
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

    # -- the mean-field posterior --------------------------------------------------------------------------------------

    def fields(self, datum: Datum, sweeps: int) -> Fields:
        return ascent.fields(self, datum, sweeps)

    def regime_chain(self, datum: Datum, fields: Fields) -> DiscreteChain:
        starts, there = datum.starts, datum.there
        return DiscreteChain(markov.conditioned(*self._gates(), fields.seen, starts, there), there)

    # -- learning ------------------------------------------------------------------------------------------------------

    def expectations(self, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """Those of the mean-field posterior, and its ELBO."""
        return self.usual_posterior.expectations(self, datum)

    def statistics(self, datum: Datum, expectations: Any) -> Any:
        """Expected sums of one sequence, additive over sequences: of the chain, and of each regime an ``LDS``'s."""
        regimes, pairs, *moments = expectations
        starts, there = datum.starts, datum.there
        begun = starts.astype(regimes.dtype) @ regimes
        moved = jnp.sum(jnp.where((there & ~starts)[:, None, None], pairs, 0.0), 0)
        sums = tuple(
            regime.statistics(datum, tuple(moments), regimes[:, k]) for k, regime in enumerate(self._regimes())
        )
        return Outer(jnp.ones(self.states), begun[:, None]), Outer(jnp.ones(self.states), moved), sums

    def maximise(self, sums: Any) -> "SwitchingLDS":
        """The model that maximises the expected log-likelihood plus log-prior, from summed statistics."""
        begun, moved, each = sums
        total = jax.tree.map(lambda *leaves: sum(leaves), *each)
        # parameters that the regimes share are made of all regimes' sums
        common = {"starts", "first", "first_spread"}
        if self.shared:
            common |= {"steps", "seen", "states_spread", "seen_spread", "squares", "missing_spread"} & total.keys()
        fitted = []
        for regime, mine in zip(self._regimes(), each, strict=True):
            joined = {**mine, **{name: total[name] for name in common}}
            joined["steps"] = jnp.maximum(joined["steps"], 1e-3)
            fitted.append(regime.maximise(joined))
        transition = eqx.filter_vmap(lambda gate, row: gate.maximise((row[:, None],)))(self.transition, moved)
        return replace(self, regimes=tuple(fitted), initial=self.initial.maximise((begun,)), transition=transition)

    def log_prior(self) -> Float[Array, ""]:
        """The penalty of the penalised likelihood that EM raises (nats): floors of covariances, shared ones once."""
        total = sum((regime.log_prior() for regime in self._regimes()), jnp.zeros(()))
        one = self._regimes()[0]
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

        each = contract(jax.vmap(sums)(replace(data, weight=None, index=None), regimes), weight)
        kept = (jnp.ones((self.states, 1)), jnp.exp(logits), each)
        return replace(made.maximise(kept), transition=made.transition)

    def rescaled(self, query: Scale, evidence: Scale | None) -> "SwitchingLDS | None":
        """The same model in the user's units; the state keeps its own."""
        regimes = [each for regime in self._regimes() if (each := regime.rescaled(query, evidence)) is not None]
        return replace(self, regimes=tuple(regimes)) if regimes else None

    def parameters(self) -> int:
        """How many numbers are free (for BIC and AIC); another basis of the state, common to all, changes nothing."""
        one, size = self._regimes()[0], self.latent
        mean, _, transition, drift, _, emission, offset = one._parts()
        triangle = size * (size + 1) // 2
        seen = emission.size + offset.size + one.noise.parameters(1, offset.size)
        own = transition.size + drift.size + triangle + (0 if self.shared else seen)
        common = mean.size + triangle + (seen if self.shared else 0) - size * (size + 1)
        return self.states * own + common + self.states**2 - 1
