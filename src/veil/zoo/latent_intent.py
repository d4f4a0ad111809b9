"""Intent as a vector: what a person wants, or what all want, has a posterior over the weights of a linear reward."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Guided, Plate, Sized
from veil.model.abilities import Sizes, parameter
from veil.parts.decisions import MDP, expected_reward, log_policy_at, soft_values
from veil.parts.nets import positive
from veil.parts.priors import Prior
from veil.parts.rewards import FeatureTable, feature_table
from veil.posterior import Amortized, Posterior, Shared
from veil.zoo.intent import Decided, decision

WIDTH = 64  # of what a network keeps of a decision


class WeightedIntent(Sized):
    """p(a | s, w) = exp(Q_w(s, a) - V_w(s)), soft-optimal for the reward wᵀφ. Of ONE decision, see ``veil.Intent``."""

    problem: eqx.AbstractVar[MDP]
    features: eqx.AbstractVar[FeatureTable]
    outcomes: eqx.AbstractVar[bool]

    @property
    def sizes(self) -> Sizes:
        query = {"action": (1,), "next": (1,)} if self.outcomes else (1,)
        return Sizes(query, 1 if self.problem.horizon is None else 2)

    @abstractmethod
    def weights(self, latent: Array) -> Float[Array, " F"]:
        """w of a latent."""

    def log_policy(self, latent: Array) -> Float[Array, "*H S A"]:
        """log π_w(a | s), with a horizon at each decision."""
        return jax.nn.log_softmax(soft_values(self.problem, self._reward(latent))[1], -1)

    def _reward(self, latent: Array) -> Float[Array, "S A"]:
        return expected_reward(self.problem.transitions, self.features.numbers @ self.weights(latent))

    def likelihood(self, latent: Array, evidence: Any) -> Distribution:
        state, step = decision(self.problem, evidence)
        # values are of no decision: under vmap over those of one person they are found once
        policy = log_policy_at(self.problem, self._reward(latent), state, step)
        return Decided(policy, state, self.problem) if self.outcomes else distributions.categoricals(policy[None])

    def _check(self) -> None:
        if not isinstance(self.problem, MDP):
            raise TypeError(f"problem: expected an MDP, with the dynamics; got {self.problem!r:.80}")
        shape, known = self.features.numbers.shape[:-1], self.problem.transitions.shape
        if shape != known[: len(shape)]:
            raise ValueError(f"features: these are of {shape}; the problem's states, actions and outcomes {known}")


class LatentIntent(WeightedIntent, Guided):
    """p(a | s) = ∫ p(w) π_w(a | s) dw: a person acts soft-optimally for a reward wᵀφ, w ~ N(0, scale² I). ONE decision.

    A person is the same from one decision to the next: ``veil.Episodic(LatentIntent(...))`` of episodes, whose
    posterior is a network that reads what the person did (``veil.EpisodeEncoder``), and with ``veil.infer(...,
    filtered=True)`` what they did so far. Train it on episodes of several lengths, or their beginnings, to filter.

    ``features``: of states [S, F], of states and actions [S, A, F], or of outcomes, too [S, A, N, F]; ``latent``: a
    prior of its own, whose numbers are w, such as ``veil.priors.Codes(1, F)``: one of F goals. For evidence, query and
    ``outcomes`` see ``veil.Intent``.

    Ramachandran & Amir 2007, "Bayesian inverse reinforcement learning".

    Raises:
        TypeError, ValueError: no MDP, or features or a prior of another shape.

    >>> from veil.control import MDP, SparseTransitions
    >>> problem = MDP(SparseTransitions([[0, 1], [1, 0]]), discount=0.9)
    >>> model = LatentIntent(problem, [[0.0], [1.0]])
    >>> [round(float(p), 2) for p in jnp.exp(model.log_policy(jnp.array([2.0]))[0])]
    [0.14, 0.86]
    """

    problem: MDP
    features: FeatureTable = eqx.field(converter=feature_table)
    scale: float = eqx.field(static=True, default=1.0)
    latent: Prior | None = None
    outcomes: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        self._check()
        if not self.scale > 0:
            raise ValueError(f"scale: expected a positive number; got {self.scale!r}")
        count = self.features.numbers.shape[-1]
        if self.latent is not None and self.latent.dimensions != count:
            raise ValueError(f"latent: expected {count} numbers, one a feature; got {self.latent.dimensions}")

    @property
    def usual_posterior(self) -> Posterior:
        """A network that keeps a vector of each pair of state and action."""
        _, actions, _ = self.problem.transitions.shape
        return Amortized(DecisionTable(self.problem.states, actions, self.problem.horizon))

    def weights(self, latent: Array) -> Float[Array, " F"]:
        return latent if self.latent is None else self.latent.read(latent)

    def prior(self, evidence: Any) -> Distribution:
        if self.latent is not None:
            return self.latent(evidence)
        return _normal(self.features, self.scale)


class BayesianIntent(WeightedIntent, Guided, Plate):
    """p(a | s, w), w ~ N(0, scale² I): ONE reward wᵀφ that all decisions share; its posterior is learned.

    Bayesian inverse reinforcement learning. With N data the ELBO is Σ_n E_q[log p(a_n | s_n, w)] - KL(q(w) || p(w)).
    The posterior is ``veil.posterior.Shared()``, mean-field; for a full covariance
    ``Shared(veil.heads.FullGaussian(1e-6))``. A datum is one decision; equal ones may be one with a weight. For
    ``features``, evidence, query and ``outcomes`` see ``LatentIntent``.

    >>> import numpy as np, veil
    >>> from veil.control import MDP, SparseTransitions
    >>> problem = MDP(SparseTransitions([[0, 1], [1, 0]]), discount=0.9)
    >>> seen = veil.Data(query=[1, 0], evidence=[0, 0], weight=[80.0, 20.0])
    >>> fit = veil.fit(BayesianIntent(problem, [[0.0], [1.0]]), seen, key=jax.random.key(0), steps=500)
    >>> bool(0.3 < fit.posterior(fit.model, veil.Datum(seen.query[0])).mean[0] < 2.0)
    True
    """

    problem: MDP
    features: FeatureTable = eqx.field(converter=feature_table)
    scale: float = eqx.field(static=True, default=1.0)
    outcomes: bool = eqx.field(static=True, default=False)
    count: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        self._check()
        if not self.scale > 0:
            raise ValueError(f"scale: expected a positive number; got {self.scale!r}")

    @property
    def usual_posterior(self) -> Posterior:
        """Mean field over the weights."""
        return Shared()

    @property
    def shared_by(self) -> float:
        return self.count

    def shared_among(self, total: float) -> "BayesianIntent":
        return replace(self, count=float(max(1.0, total)))

    def weights(self, latent: Array) -> Float[Array, " F"]:
        return latent

    def prior(self, evidence: Any) -> Distribution:
        return _normal(self.features, self.scale)


class DecisionTable(eqx.Module):
    """A network of one decision: a vector for each pair of state and action, plus one times t / H of the t-th of H.

    For encoders: it reads [action, ..., state], with a horizon [action, ..., state, step], as
    ``veil.posterior.amortized.Reader`` shows them; an action that is missing has vectors of its own. Their mean over an
    episode is linear in how often each pair came, of which the likelihood of a person's reward is made.
    """

    states: int = eqx.field(static=True)
    actions: int = eqx.field(static=True)
    horizon: int | None = eqx.field(static=True, default=None)
    width: int = eqx.field(static=True, default=WIDTH)
    masked: int | None = parameter(static=True)
    table: Float[Array, "S A1 W"] | None = parameter()
    rate: Float[Array, " W"] | None = parameter()

    def __check_init__(self) -> None:
        for name in ("states", "actions", "width"):
            positive(name, vars(self)[name])

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "DecisionTable":
        """With starting parameters; of more inputs than there are numbers those in between say which are present."""
        key_table, key_rate = jax.random.split(key)
        last = 1 if self.horizon is None else 2
        masked = 1 if inputs == last + 2 else 0
        table = jax.random.normal(key_table, (self.states, self.actions + 1, self.width))
        return replace(self, masked=masked, table=table, rate=jax.random.normal(key_rate, (self.width,)))

    def outputs(self, inputs: int) -> int:
        return self.width

    @property
    def inputs(self) -> int | None:
        """How many numbers it takes; None before it has parameters."""
        return None if self.masked is None else 2 + self.masked + (self.horizon is not None)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        if self.table is None or self.rate is None:
            raise ValueError("this network has no parameters yet: call veil.fit, or initialise it first")
        state = x[-1 if self.horizon is None else -2].astype(int)
        action = x[0].astype(int)
        if self.masked:
            action = jnp.where(x[1] > 0, action, self.actions)
        found = self.table[state, action]
        return found if self.horizon is None else found + self.rate * x[-1] / self.horizon


def _normal(features: FeatureTable, scale: float) -> Distribution:
    count = features.numbers.shape[-1]
    return distributions.normal(jnp.zeros(count), jnp.full(count, scale))
