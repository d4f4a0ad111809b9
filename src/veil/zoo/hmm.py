"""Hidden Markov models: a discrete latent path, and at each step the expert that it chooses."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.maths import linear, markov, viterbi
from veil.model import ClosedForm, Datum, Rescalable
from veil.model.abilities import Sizes, Space, started
from veil.model.chains import DiscreteChain, Emissions
from veil.model.filter import ExactChain
from veil.model.scales import Scale
from veil.model.stepwise import Before, Marginal
from veil.parts.experts import Experts, LinearGaussian
from veil.parts.gates import Softmax
from veil.parts.joint import event_shape
from veil.parts.nets import each_with_one, positive, with_one
from veil.parts.start import KMeans, Start
from veil.parts.statistics import Outer, contract
from veil.zoo.filters import DiscreteFilter

SAMPLE = 20_000  # steps from which a start is made


class HMM(ExactChain, ClosedForm, Rescalable):
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
    def sizes(self) -> Sizes:
        if not started(self.experts):
            return Sizes(values=self.states)
        inputs = max(self.transition.inputs, self.experts.inputs)
        return Sizes(self.experts.query_shape, inputs, not self.transition.sees and not self.experts.sees, self.states)

    @property
    def space(self) -> Space:
        return self.experts.space

    @property
    def remembers(self) -> bool:
        return False

    @property
    def closed_form(self) -> bool:
        return self.experts.closed_form

    @property
    def transition_matrix(self) -> Float[Array, "K K"]:
        """p(z_t = j | z_t-1 = i) without evidence, rows i."""
        if self.transition.weight is None or self.transition.weight.shape[-1] > 1:
            raise ValueError("transition: it depends on the evidence, or there are no parameters yet")
        return jnp.exp(self._moves(jnp.ones((1, 1))))

    def _moves(self, features: Float[Array, "T P"]) -> Float[Array, "*T K K"]:
        """log p(z_t | z_t-1, x_t): [K, K] if it is the same at every step, else [T, K, K]."""
        if self.transition.weight is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        logits = lambda seen: eqx.filter_vmap(lambda gate: gate.logits(seen))(self.transition)  # noqa: E731
        return logits(features[0]) if self.transition.weight.shape[-1] == 1 else jax.vmap(logits)(features)

    def _parts(self, datum: Datum) -> tuple[Array, Array, Array, Array, Array]:
        """What ``maths.markov`` takes."""
        count = len(datum)
        features = each_with_one(datum.evidence, count)
        axes = (0, 0, None if datum.observed is None else 0)
        seen = jax.vmap(self.experts.log_probs, axes)(datum.query, features, datum.observed)
        return self.initial.logits(jnp.ones(1)), self._moves(features), seen, datum.starts, datum.there

    # -- the model -----------------------------------------------------------------------------------------------------

    def prior_for(self, datum: Datum) -> DiscreteChain:
        """p(z | x) over the steps of a datum, with its resets and padding."""
        count = len(datum)
        moves = self._moves(each_with_one(datum.evidence, count))
        first = self.initial.logits(jnp.ones(1))
        return DiscreteChain(markov.transitions(first, moves, datum.starts), datum.there)

    def _emission(self, state: Array, evidence: Any) -> Distribution:
        return self.experts.distribution(state, with_one(evidence))

    def likelihood(self, latent: Int[Array, " T"], evidence: Any) -> Distribution:
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

    def marginals(self, datum: Datum) -> Marginal:
        parts = self._parts(datum)
        return Marginal(jnp.log(markov.smooth(*parts).marginals), path=viterbi.best_path(*parts)[0])

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Array, Array]:
        """(path [T], y [T, ...]) drawn from the model, as long as the evidence, or ``steps``."""
        key_path, key_query = jax.random.split(key)
        path = self.prior(evidence, steps).sample(key_path)
        return path, self.likelihood(path, evidence).sample(key_query).astype(jnp.result_type(float))

    # -- one step at a time: see ``veil.model.stepwise`` and ``filter`` ------------------------------------------------

    def filter(self) -> DiscreteFilter:
        """log p(z_t | y_1..t), exact: the numbers of the forward recursion."""
        return DiscreteFilter(self.states, self._step_parts)

    def _step_parts(self, datum: Datum) -> tuple[Array, Array, Array]:
        features = with_one(datum.evidence)
        move = self._moves(features[None])
        seen = self.experts.log_probs(datum.query, features, datum.observed)
        return self.initial.logits(jnp.ones(1)), move.reshape(move.shape[-2:]), seen

    def carry(self, evidence: Any) -> Before:
        """No state before."""
        return Before(jnp.zeros((), int), jnp.array(True))

    def advance(self, carry: Before, latent: Array, query: Any, evidence: Any, observed: Any) -> Before:
        """The state is what the next step needs."""
        return Before(latent.astype(carry.latent.dtype), jnp.array(False))

    def _next(self, carry: Before, evidence: Any) -> tuple[Float[Array, " K"], Float[Array, " P"]]:
        features = with_one(evidence)
        moves = self._moves(features[None])
        onward = moves.reshape(moves.shape[-2:])[carry.latent]
        return jnp.where(carry.fresh, self.initial.logits(jnp.ones(1)), onward), features

    def step_prior(self, carry: Before, evidence: Any) -> Distribution:
        """p(z_t | z_t-1, x_t)."""
        return distributions.categorical(self._next(carry, evidence)[0])

    def step_likelihood(self, carry: Before, latent: Array, evidence: Any) -> Distribution:
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
        return (jnp.where(datum.there[:, None], found.marginals, 0.0), found.pairs), found.log_likelihood

    def statistics(self, datum: Datum, expectations: tuple[Float[Array, "T K"], Float[Array, "*T K K"]]) -> Any:
        """Expected sufficient statistics of one sequence, additive over sequences: its steps' sums."""
        marginals, pairs = expectations
        count = len(datum)
        starts, there = datum.starts, datum.there
        features = each_with_one(datum.evidence, count)
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
        count, steps = jax.tree.leaves(data.query)[0].shape[:2]
        side = lambda leaf: leaf.reshape(count * steps, *leaf.shape[2:])  # noqa: E731
        query, observed, evidence = jax.tree.map(side, (data.query, data.observed, data.evidence))
        features = each_with_one(evidence, count * steps)
        width = features.shape[1]
        weight = jnp.ones(count) if data.weight is None else data.weight
        there = jnp.ones((count, steps)) if data.mask is None else data.mask.astype(weight.dtype)
        blank = self.experts.blank(self.states, width, event_shape(data.query, 2))
        axes = (0, 0, None if observed is None else 0, 0)
        terms = jax.vmap(blank.statistics, axes)(query, features, observed, responsibilities)
        experts = blank.maximise(contract(terms, (weight[:, None] * there).ravel())).scattered(key_experts)
        gates = eqx.filter_vmap(lambda _: self.transition.blank(self.states, width))(jnp.arange(self.states))
        if gates.weight is not None:
            # a little noise, without which states that start alike would stay so
            noise = 0.05 * jax.random.normal(key_move, gates.weight.shape[:2], gates.weight.dtype)
            gates = eqx.tree_at(lambda gate: gate.weight, gates, gates.weight.at[..., 0].add(noise))
        return replace(self, experts=experts, transition=gates, initial=self.initial.blank(self.states, 1))

    def rescaled(self, query: Scale | None, evidence: Scale | None) -> "HMM | None":
        """The same model in the user's units; None with a head on the real line, which knows no units."""
        experts = self.experts.rescaled(query, evidence)
        if experts is None:
            return None
        gates = [
            jax.tree.map(lambda leaf, i=i: leaf[i], self.transition).rescaled(evidence) for i in range(self.states)
        ]
        return replace(self, experts=experts, transition=jax.tree.map(lambda *leaves: jnp.stack(leaves), *gates))
