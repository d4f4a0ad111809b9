"""Mixtures: a discrete latent that chooses an expert, in every decomposition."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.maths.markov import bayes
from veil.model import ClosedForm, Datum, Enumerable, Rescalable
from veil.model.abilities import Sizes, Space, started
from veil.model.scales import Scale
from veil.parts.experts import Experts, LinearGaussian
from veil.parts.gates import Gate, Single, Softmax
from veil.parts.joint import event_shape, seen, seen_sizes
from veil.parts.nets import Identity, flat_size
from veil.parts.start import KMeans, Start
from veil.parts.statistics import contract


class Mixture(Enumerable, ClosedForm, Rescalable):
    """p(y | x) = Σ_z p(z | x) p(y | x, z): a gate over K components and one expert for each.

    Gate and experts see features φ = [1, h(x)] of the evidence, h a trunk: the identity (linear), a network, or of
    evidence that is a dictionary ``joint.Readers`` of its parts. A factor with ``evidence=False`` sees only the 1,
    which gives the decompositions p(y|x,z) p(z|x), p(y|x,z) p(z) and p(y|z) p(z|x); without evidence in the data it is
    a plain mixture.

    * Gaussian mixture: ``Mixture(LinearGaussian(), components=3)`` on data without evidence
    * mixture of linear experts: the same on data with evidence
    * what was found: ``model.weights``, ``model.means``, ``model.covariances`` of a Gaussian mixture
    * mixture density network: ``Mixture(Linear(DiagonalGaussian()), components=5, trunk=MLP())``

    >>> import jax, veil
    >>> result = veil.fit(Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0), restarts=3)
    >>> round(float(veil.evaluate(result.model, veil.data.load("faithful")).log_likelihood))
    -1130
    """

    experts: Experts = LinearGaussian()
    components: int = eqx.field(static=True, default=2)
    gate: Gate = Softmax()
    trunk: Any = Identity()
    start: Start = KMeans()

    def __check_init__(self) -> None:
        if isinstance(self.components, bool) or not isinstance(self.components, int) or self.components < 1:
            raise ValueError(f"components: expected a positive integer; got {self.components!r}")
        if isinstance(self.gate, Single) and self.components != 1:
            raise ValueError(f"gate: Single() is the gate of one component; got components={self.components}")

    @property
    def closed_form(self) -> bool:
        """Whether EM has a closed-form M-step for all parameters."""
        return isinstance(self.trunk, Identity) and self.gate.closed_form and self.experts.closed_form

    @property
    def sizes(self) -> Sizes:
        if not started(self.experts):
            return Sizes(values=self.components)
        linear = isinstance(self.trunk, Identity)
        inputs = max(self.gate.inputs, self.experts.inputs) if linear else self.trunk.inputs
        return Sizes(self.experts.query_shape, inputs, not self.gate.sees and not self.experts.sees, self.components)

    @property
    def space(self) -> Space:
        return self.experts.space

    @property
    def weights(self) -> np.ndarray:
        """p(z) of the components [K], in the order of ``means``. ValueError where it depends on the evidence."""
        if self.gate.inputs:
            raise ValueError("weights: this mixture's depend on the evidence: ask model.prior(evidence)")
        return np.exp(np.asarray(self.gate.logits(jnp.ones(1))))

    @property
    def means(self) -> np.ndarray:
        """Means of Gaussian components [K, D], in the data's units. ValueError for any other experts."""
        return np.asarray(self._gaussian("means").mean)

    @property
    def covariances(self) -> np.ndarray:
        """Covariances of Gaussian components [K, D, D], whatever their structure. ValueError for any other experts."""
        found = np.asarray(self._gaussian("covariances").covariance.dense_covariance())
        return np.broadcast_to(found, (self.components, *found.shape[1:]))

    def _gaussian(self, name: str) -> LinearGaussian:
        if not isinstance(self.experts, LinearGaussian) or self.experts.inputs:
            raise ValueError(f"{name}: of Gaussian components without evidence only; these are {self.experts!r}")
        return self.experts

    def features(self, evidence: Any) -> Float[Array, " P"]:
        """φ = [1, h(x)]; [1] without evidence."""
        one = jnp.ones(1)
        return one if evidence is None else jnp.concatenate([one, self.trunk(seen(self.trunk, evidence))])

    def prior(self, evidence: Any) -> Distribution:
        return self.gate.distribution(self.features(evidence))

    def likelihood(self, latent: Array, evidence: Any) -> Distribution:
        return self.experts.distribution(self.gate.expert(latent), self.features(evidence))

    def log_joints(self, datum: Datum) -> Float[Array, " K"]:
        seen = self.features(datum.evidence)
        return self.gate.logits(seen) + self.experts.log_probs(datum.query, seen, datum.observed)

    def log_likelihoods(self, datum: Datum) -> Float[Array, " K"]:
        return self.experts.log_probs(datum.query, self.features(datum.evidence), datum.observed)

    def expectations(self, datum: Datum) -> tuple[Float[Array, " K"], Float[Array, ""]]:
        """p(z | y, x) [K] and log p(y | x)."""
        return bayes(self.log_joints(datum))

    def statistics(self, datum: Datum, weights: Float[Array, " K"]) -> Any:
        """Expected sufficient statistics of one datum under posterior weights r [K], additive over data."""
        seen = self.features(datum.evidence)
        gate: Any = self.gate
        experts = self.experts.statistics(datum.query, seen, datum.observed, weights)
        return gate.statistics(seen, weights), experts

    def maximise(self, sums: Any) -> "Mixture":
        """The mixture that maximises the expected log-likelihood plus log-prior, from summed statistics."""
        gate: Any = self.gate
        return replace(self, gate=gate.maximise(sums[0]), experts=self.experts.maximise(sums[1]))

    def recentred(self, sums: Any, to: "Mixture") -> Any:
        """Sums taken under this model as sums under ``to``."""
        return sums[0], self.experts.recentred(sums[1], to.experts)

    def log_prior(self) -> Float[Array, ""]:
        gate: Any = self.gate
        return gate.log_prior() + self.experts.log_prior()

    def responsibilities(self, points: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Where training starts: r [N, K] from standardised points [N, ·]; runs on the host."""
        return self.start(points, weights, self.components, rng)

    def initialise(self, data: Datum, responsibilities: Float[Array, "N K"], key: PRNGKeyArray) -> "Mixture":
        """Starting parameters from (a sample of) the data, batched, and responsibilities: one M-step from those."""
        key_trunk, key_experts = jax.random.split(key)
        inputs = flat_size(data.evidence, 1)
        trunk, width = Identity(), 1
        if inputs:
            sizes = seen_sizes(self.trunk, jax.tree.map(lambda leaf: leaf[0], data.evidence))
            trunk, width = self.trunk.initialise(sizes, key_trunk), 1 + self.trunk.outputs(sizes)
        gate = self.gate.blank(self.components, width)
        experts = self.experts.blank(self.components, width, event_shape(data.query))
        blank = replace(self, trunk=trunk, gate=gate, experts=experts)
        terms = jax.vmap(blank.statistics)(data, responsibilities)
        sums = contract(terms, jnp.ones(len(data)) if data.weight is None else data.weight)
        if isinstance(gate, Softmax) and gate.weight is not None and gate.weight.shape[1] == 1:
            gate = gate.maximise(sums[0])
        return replace(blank, gate=gate, experts=blank.experts.maximise(sums[1]).scattered(key_experts))

    def rescaled(self, query: Scale | None, evidence: Scale | None) -> "Mixture | None":
        """The same model in the user's units; None with a network as its trunk, or a head on the real line."""
        experts = self.experts.rescaled(query, evidence) if isinstance(self.trunk, Identity) else None
        return None if experts is None else replace(self, gate=self.gate.rescaled(evidence), experts=experts)


def density(experts: Experts, trunk: Any = None) -> Mixture:
    """p(y | x) with no latent: one expert and an empty z.

    A Gaussian density is ``density(LinearGaussian())`` on data without evidence, conditional linear-Gaussian regression
    the same on data with evidence, and a neural conditional density ``density(Linear(head), trunk=MLP())``.
    """
    return Mixture(experts, components=1, gate=Single(), trunk=trunk or Identity())
