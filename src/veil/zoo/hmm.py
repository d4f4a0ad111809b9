"""Hidden Markov models: a discrete latent path, and at each step the expert that it chooses."""

from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import linear, markov
from veil.model import Datum, Model
from veil.model.chains import DiscreteChain, Emissions, length
from veil.model.stepwise import Before
from veil.parts.experts import Experts, LinearGaussian
from veil.parts.gates import Softmax
from veil.parts.nets import positive
from veil.parts.start import KMeans, Start
from veil.parts.statistics import Outer, contract
from veil.units import Units

SAMPLE = 20_000  # steps from which a start is made


class DiscreteBelief(eqx.Module):
    """What is known while acting: log p(z_t | y_1..t) [K]; ``fresh`` before the first step of an episode."""

    logits: Float[Array, " K"]
    fresh: Bool[Array, ""]


class HMM(Model):
    """p(y, z | x) = Π_t p(z_t | z_t-1, x_t) p(y_t | z_t, x_t), z_t one of K states: a mixture whose choice remembers.

    A datum is a sequence, query [T, ...]. ``experts`` are those of mixtures (``LinearGaussian`` with any covariance,
    ``Linear`` with any head) and learn as they do there: the M-step is a mixture's with smoothed weights.
    ``transition`` is one ``Softmax`` for each state before; with ``evidence=True`` it is driven by x_t. ``initial`` is
    p(z) at the start of every episode. Likelihood, posterior and EM are exact (Baum-Welch; Bishop 2006, section 13.2),
    with missing entries, padding and resets; experts without closed form learn by gradients of the same likelihood.

    >>> import jax, veil
    >>> waiting = veil.data.episodes([veil.data.load("faithful").query])
    >>> result = veil.fit(HMM(states=2), waiting, key=jax.random.key(0))
    >>> round(float(veil.evaluate(result.model, waiting).log_likelihood))
    -1096
    """

    standardised: ClassVar[bool] = True
    sequential: ClassVar[bool] = True
    experts: Experts = LinearGaussian()
    states: int = eqx.field(static=True, default=2)
    transition: Softmax = Softmax(evidence=False)
    initial: Softmax = Softmax(evidence=False)
    start: Start = KMeans()

    def __check_init__(self) -> None:
        positive("states", self.states)
        if self.initial.evidence:
            raise ValueError("initial: expected Softmax(evidence=False): the first state does not depend on evidence")

    @property
    def components(self) -> int:
        """The number of states: what mixtures call components."""
        return self.states

    @property
    def closed_form(self) -> bool:
        return self.experts.closed_form

    @property
    def ready(self) -> bool:
        return getattr(self.experts, "weight", None) is not None

    @property
    def real(self) -> bool:
        return self.experts.real

    @property
    def isotropic(self) -> bool:
        return self.experts.isotropic

    @property
    def query_shape(self) -> tuple[int, ...] | None:
        """The shape of one step's query, None before a fit."""
        return self.experts.query_shape if self.ready else None

    @property
    def inputs(self) -> int | None:
        """How many evidence columns a step has: 0 for none."""
        weights = [getattr(part, "weight", None) for part in (self.transition, self.experts)]
        return max((weight.shape[-1] - 1 for weight in weights if weight is not None), default=0)

    @property
    def blind(self) -> bool:
        """Whether every factor ignores evidence on purpose."""
        return not (self.transition.evidence or getattr(self.experts, "evidence", False))

    @property
    def transition_matrix(self) -> Float[Array, "K K"]:
        """p(z_t = j | z_t-1 = i) without evidence, rows i."""
        if self.transition.weight is None or self.transition.weight.shape[-1] > 1:
            raise ValueError("transition: it depends on the evidence, or there are no parameters yet")
        return jnp.exp(self._moves(jnp.ones((1, 1))))

    def _features(self, evidence: Float[Array, "T *P"] | None, count: int) -> Float[Array, "T P"]:
        ones = jnp.ones((count, 1))
        return ones if evidence is None else jnp.concatenate([ones, evidence.reshape(count, -1)], 1)

    def _moves(self, features: Float[Array, "T P"]) -> Float[Array, "*T K K"]:
        """log p(z_t | z_t-1, x_t): [K, K] if it is the same at every step, else [T, K, K]."""
        if self.transition.weight is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        logits = lambda seen: eqx.filter_vmap(lambda gate: gate.logits(seen))(self.transition)  # noqa: E731
        return logits(features[0]) if self.transition.weight.shape[-1] == 1 else jax.vmap(logits)(features)

    def _parts(self, datum: Datum) -> tuple[Array, Array, Array, Array, Array]:
        """What ``maths.markov`` takes."""
        count = len(datum.query)
        features = self._features(datum.evidence, count)
        axes = (0, 0, None if datum.observed is None else 0)
        seen = jax.vmap(self.experts.log_probs, axes)(datum.query, features, datum.observed)
        starts, there = markov.steps(count, datum.mask, datum.reset)
        return self.initial.logits(jnp.ones(1)), self._moves(features), seen, starts, there

    # -- the model -----------------------------------------------------------------------------------------------------

    def prior(self, evidence: Float[Array, "*evidence"] | None, steps: int | None = None) -> Distribution:
        """p(z_1..T | x): a chain of as many steps as the evidence has, or ``steps``."""
        count = length(evidence, steps)
        return self.prior_for(Datum(jnp.zeros(count), evidence))

    def prior_for(self, datum: Datum) -> DiscreteChain:
        """p(z | x) over the steps of a datum, with its resets and padding."""
        count = len(datum.query)
        starts, there = markov.steps(count, datum.mask, datum.reset)
        moves = self._moves(self._features(datum.evidence, count))
        return DiscreteChain(markov.transitions(self.initial.logits(jnp.ones(1)), moves, starts), there)

    def _emission(self, state: Array, evidence: Float[Array, "*P"] | None) -> Distribution:
        one = jnp.ones(1)
        return self.experts.distribution(state, one if evidence is None else jnp.concatenate([one, evidence.ravel()]))

    def likelihood(self, latent: Int[Array, " T"], evidence: Float[Array, "*evidence"] | None) -> Distribution:
        return Emissions(self._emission, latent, evidence)

    def log_likelihood(self, latent: Int[Array, " T"], datum: Datum) -> Float[Array, ""]:
        """Σ_t log p(y_t | z_t, x_t), nats, over the steps that are there and the entries present."""
        *_, seen, _, there = self._parts(datum)
        each = jnp.take_along_axis(seen, latent[:, None], 1)[:, 0]
        return jnp.sum(jnp.where(there, each, 0.0))

    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        """log p(y | x), the paths summed out by the forward recursion (nats, exact)."""
        return markov.log_likelihood(*self._parts(datum))

    def posterior(self, datum: Datum) -> Distribution:
        """p(z | y, x), exact: again a chain, whose transitions know what is to come."""
        parts = self._parts(datum)
        return DiscreteChain(markov.conditioned(*parts), parts[-1])

    def marginals(self, datum: Datum) -> Float[Array, "T K"]:
        """log p(z_t | y, x) of every step, given all of the sequence."""
        return jnp.log(markov.smooth(*self._parts(datum)).marginals)

    def filtered(self, datum: Datum) -> Float[Array, "T K"]:
        """log p(z_t | y_1..t, x) of every step, given it and those before it."""
        return markov.forward(*self._parts(datum))[0]

    def best_path(self, datum: Datum) -> Int[Array, " T"]:
        """The most likely path (Viterbi)."""
        return markov.best_path(*self._parts(datum))[0]

    def sample(
        self, key: PRNGKeyArray, evidence: Float[Array, "*evidence"] | None = None, steps: int | None = None
    ) -> tuple[Array, Array]:
        """(path [T], y [T, ...]) drawn from the model, as long as the evidence, or ``steps``."""
        key_path, key_query = jax.random.split(key)
        path = self.prior(evidence, steps).sample(key_path)
        return path, self.likelihood(path, evidence).sample(key_query).astype(jnp.result_type(float))

    # -- one step at a time --------------------------------------------------------------------------------------------

    def init(self) -> DiscreteBelief:
        """The belief before anything is seen."""
        return DiscreteBelief(jnp.zeros(self.states), jnp.array(True))

    def step(self, belief: DiscreteBelief, datum: Datum) -> tuple[DiscreteBelief, Float[Array, ""]]:
        """The belief after one more step, and log p(y_t | y_1..t-1): ``datum`` is that step, query [...], evidence [P].

        The numbers are the batch filter's. ``datum.reset`` (a single bool) starts a new episode.
        """
        features = self._features(None if datum.evidence is None else datum.evidence[None], 1)
        seen = self.experts.log_probs(datum.query, features[0], datum.observed)
        moves = self._moves(features)
        fresh = belief.fresh if datum.reset is None else belief.fresh | datum.reset
        there = jnp.array(True) if datum.mask is None else datum.mask
        first, move, seen = map(
            markov.floored, (self.initial.logits(jnp.ones(1)), moves.reshape(moves.shape[-2:]), seen)
        )
        logits, value = markov.update(belief.logits, first, move, seen, fresh, there)
        return DiscreteBelief(logits, fresh & ~there), value

    # As veil.model.stepwise asks, of one path:

    def carry(self, evidence: Float[Array, "T *P"] | None) -> Before:
        """No state before."""
        return Before(jnp.zeros((), int), jnp.array(True))

    def advance(self, carry: Before, latent: Array, query: Array, evidence: Any, observed: Any) -> Before:
        """The state is what the next step needs."""
        return Before(latent.astype(carry.latent.dtype), jnp.array(False))

    def _next(self, carry: Before, evidence: Array | None) -> tuple[Float[Array, " K"], Float[Array, " P"]]:
        features = self._features(None if evidence is None else evidence[None], 1)
        moves = self._moves(features)
        onward = moves.reshape(moves.shape[-2:])[carry.latent]
        return jnp.where(carry.fresh, self.initial.logits(jnp.ones(1)), onward), features[0]

    def step_prior(self, carry: Before, evidence: Float[Array, "*P"] | None) -> Distribution:
        """p(z_t | z_t-1, x_t)."""
        return distributions.categorical(self._next(carry, evidence)[0])

    def step_likelihood(self, carry: Before, latent: Array, evidence: Float[Array, "*P"] | None) -> Distribution:
        """p(y_t | z_t, x_t)."""
        return self._emission(latent, evidence)

    def step_posterior(self, carry: Before, datum: Datum) -> Distribution:
        """p(z_t | z_t-1, y_t, x_t), exact."""
        logits, features = self._next(carry, datum.evidence)
        return distributions.categorical(logits + self.experts.log_probs(datum.query, features, datum.observed))

    # -- learning ------------------------------------------------------------------------------------------------------

    def expectations(self, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """(p(z_t | y) [T, K], p(z_t-1, z_t | y) [T, K, K]) of the exact posterior, and log p(y | x).

        Of transitions that ignore the evidence the second is summed over the steps, [K, K].
        """
        found = markov.expected(*self._parts(datum))
        _, there = markov.steps(len(datum.query), datum.mask, datum.reset)
        return (jnp.where(there[:, None], found.marginals, 0.0), found.pairs), found.log_likelihood

    def summary(self, draws: Int[Array, "S T"]) -> tuple[Float[Array, "T K"], Float[Array, "T K K"]]:
        """The same of sampled paths: frequencies (Monte Carlo EM)."""
        chosen = jax.nn.one_hot(draws, self.states)
        before = jnp.concatenate([jnp.zeros_like(chosen[:, :1]), chosen[:, :-1]], 1)
        return jnp.mean(chosen, 0), jnp.einsum("sti,stj->tij", before, chosen) / len(draws)

    def used(self, expectations: Any) -> Float[Array, " K"]:
        """The expected number of steps in each state."""
        return jnp.sum(expectations[0], 0)

    def statistics(self, datum: Datum, expectations: tuple[Float[Array, "T K"], Float[Array, "*T K K"]]) -> Any:
        """Expected sufficient statistics of one sequence, additive over sequences: its steps' sums."""
        marginals, pairs = expectations
        count = len(datum.query)
        starts, there = markov.steps(count, datum.mask, datum.reset)
        features = self._features(datum.evidence, count)
        axes = (0, 0, None if datum.observed is None else 0, 0)
        emitted = jax.vmap(self.experts.statistics, axes)(datum.query, features, datum.observed, marginals)
        begun = jax.vmap(self.initial.statistics)(features, marginals)
        if pairs.ndim == 2:  # the same at every step: one row of features stands for all
            pairs, rows = pairs[None], features[:1]
        else:
            pairs, rows = jnp.where((there & ~starts)[:, None, None], pairs, 0.0), features

        def out_of(gate: Softmax, joint: Float[Array, "T K"]) -> Any:
            left = jnp.sum(joint, 1)
            chosen = joint / jnp.where(left > 0, left, 1.0)[:, None]
            return contract(jax.vmap(gate.statistics)(rows, chosen), left)

        sums = (
            contract(emitted, there.astype(marginals.dtype)),
            contract(begun, starts.astype(marginals.dtype)),
            eqx.filter_vmap(out_of, in_axes=(eqx.if_array(0), 1))(self.transition, pairs),
        )
        return jax.tree.map(lambda total: Outer(jnp.ones(len(total)), total), sums)

    def maximise(self, sums: Any) -> "HMM":
        """The model that maximises the expected log-likelihood plus log-prior, from summed statistics."""
        emitted, begun, moved = sums
        experts = self.experts.maximise(emitted)
        moved = linear.after(moved, jax.tree.leaves(eqx.filter(experts, eqx.is_inexact_array))[-1])
        transition = eqx.filter_vmap(lambda gate, sums: gate.maximise(sums))(self.transition, moved)
        return replace(self, experts=experts, initial=self.initial.maximise(begun), transition=transition)

    def recentred(self, sums: Any, to: "HMM") -> Any:
        """Sums taken under this model as sums under ``to``."""
        return self.experts.recentred(sums[0], to.experts), *sums[1:]

    def log_prior(self) -> Float[Array, ""]:
        """The penalty of the penalised likelihood that EM raises (nats)."""
        gates = jnp.sum(eqx.filter_vmap(lambda gate: gate.log_prior())(self.transition))
        return self.experts.log_prior() + self.initial.log_prior() + gates

    def responsibilities(self, points: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Where training starts: r [N T, K] of standardised steps, zero at padding and beyond a sample of steps."""
        rows = np.flatnonzero(weights > 0)
        if len(rows) > SAMPLE:
            rows = np.sort(rng.choice(rows, SAMPLE, replace=False))
        found = np.zeros((len(points), self.states))
        found[rows] = self.start(points[rows], weights[rows], self.states, rng)
        return found

    def initialise(self, data: Datum, responsibilities: Float[Array, "M K"], key: PRNGKeyArray) -> "HMM":
        """Experts as a mixture starts them; transitions close to uniform, so that the first E-step is a mixture's."""
        key_move, key_experts = jax.random.split(key)
        count, steps = data.query.shape[:2]
        flat = lambda array: None if array is None else array.reshape(count * steps, *array.shape[2:])  # noqa: E731
        query: Any = flat(data.query)
        observed = flat(data.observed)
        features = self._features(flat(data.evidence), count * steps)
        width = features.shape[1]
        weight = jnp.ones(count) if data.weight is None else data.weight
        there = jnp.ones((count, steps)) if data.mask is None else data.mask.astype(weight.dtype)
        blank = self.experts.blank(self.states, width, data.query.shape[2:])
        axes = (0, 0, None if observed is None else 0, 0)
        terms = jax.vmap(blank.statistics, axes)(query, features, observed, responsibilities)
        experts = blank.maximise(contract(terms, (weight[:, None] * there).ravel())).scattered(key_experts)
        gates = eqx.filter_vmap(lambda _: self.transition.blank(self.states, width))(jnp.arange(self.states))
        if gates.weight is not None:
            # a little noise, without which states that start alike would stay so
            noise = 0.05 * jax.random.normal(key_move, gates.weight.shape[:2], gates.weight.dtype)
            gates = eqx.tree_at(lambda gate: gate.weight, gates, gates.weight.at[..., 0].add(noise))
        return replace(self, experts=experts, transition=gates, initial=self.initial.blank(self.states, 1))

    # -- units ---------------------------------------------------------------------------------------------------------

    def with_expanded_sums(self, expanded: bool) -> "HMM":
        return replace(self, experts=self.experts.with_expanded_sums(expanded))

    def rescaled(self, query: Units, evidence: Units | None) -> "HMM":
        """The same model in the user's units."""
        gates = [
            jax.tree.map(lambda leaf, i=i: leaf[i], self.transition).rescaled(evidence) for i in range(self.states)
        ]
        transition = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gates)
        return replace(self, experts=self.experts.rescaled(query, evidence), transition=transition)

    def largest_precision(self) -> Float[Array, ""] | float:
        return self.experts.largest_precision()

    def check(self, query: np.ndarray, names: tuple[str, ...]) -> None:
        self.experts.check(query, names)

    def parameters(self) -> int:
        """How many numbers are free (for BIC and AIC)."""
        if self.transition.weight is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        moves = self.states * (self.states - 1) * self.transition.weight.shape[-1]
        return moves + self.states - 1 + self.experts.parameters()
