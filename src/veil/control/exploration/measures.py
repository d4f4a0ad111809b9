"""How much the members of an ensemble disagree about a step, in nats or in squared units: from means and variances."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.maths.gaussian import LOG_2PI


class Measure(eqx.Module):
    """A strategy: of K members' normals, ``mean`` and ``variance`` [K, D] of independent entries, one number."""

    @abstractmethod
    def __call__(self, mean: Float[Array, "K D"], variance: Float[Array, "K D"]) -> Float[Array, ""]:
        """How much they disagree."""


class VarianceOfMeans(Measure):
    """1/D Σ_d Var_k(mean_kd), in squared units of o' as they are learned; no nats.

    Pathak et al. 2019, "Self-supervised exploration via disagreement", eq. 1.
    """

    def __call__(self, mean: Float[Array, "K D"], variance: Float[Array, "K D"]) -> Float[Array, ""]:
        return jnp.mean(jnp.var(mean, 0))


class GainBound(Measure):
    """Σ_d ½ log(1 + Var_k(mean_kd) / noise_d), noise_d the members' mean variance, nats.

    An upper bound of the information about which function is right where it is a draw of a Gaussian process whose
    deviation is the members'. Sukhija et al. 2024, "MaxInfoRL: boosting exploration in reinforcement learning through
    information gain maximization".
    """

    def __call__(self, mean: Float[Array, "K D"], variance: Float[Array, "K D"]) -> Float[Array, ""]:
        return 0.5 * jnp.sum(jnp.log1p(jnp.var(mean, 0) / jnp.mean(variance, 0)))


def _between(mean: Float[Array, "K D"], variance: Float[Array, "K D"]) -> Float[Array, "K K"]:
    """log N(m_i; m_j, v_i + v_j), nats."""
    spread = variance[:, None] + variance[None]
    apart = (mean[:, None] - mean[None]) ** 2
    return -0.5 * jnp.sum(apart / spread + jnp.log(spread) + LOG_2PI, -1)


class JensenRenyi(Measure):
    """H(1/K Σ_k p_k) - 1/K Σ_k H(p_k), H(p) = -log ∫ p(y)² dy the Rényi entropy of order 2, nats: exact.

    ∫ p_i p_j = N(m_i; m_j, v_i + v_j). Where the members' variances differ much it may be negative, as no entropy of
    an order above one is concave; with equal ones it is not. Shyam et al. 2019, "Model-based active exploration"
    (MAX).
    """

    def __call__(self, mean: Float[Array, "K D"], variance: Float[Array, "K D"]) -> Float[Array, ""]:
        logs, members = _between(mean, variance), len(mean)
        return jnp.mean(jnp.diagonal(logs)) - (jax.nn.logsumexp(logs) - 2.0 * jnp.log(float(members)))


def _pairwise(distance: Float[Array, "K K"]) -> Float[Array, ""]:
    """-1/K Σ_i log 1/K Σ_j exp(-D(p_i || p_j)): Kolchinsky & Tracey 2017, without the members' own entropy."""
    return jnp.log(float(len(distance))) - jnp.mean(jax.nn.logsumexp(-distance, 1))


class InformationBelow(Measure):
    """A lower bound of I(o'; member), nats, by Bhattacharyya's distances between the members: BALD's from below.

    Between 0 and log K. Houlsby et al. 2011, "Bayesian active learning for classification and preference learning";
    Kolchinsky & Tracey 2017, "Estimating mixture entropy with pairwise distances".
    """

    def __call__(self, mean: Float[Array, "K D"], variance: Float[Array, "K D"]) -> Float[Array, ""]:
        spread = 0.5 * (variance[:, None] + variance[None])
        logs = jnp.log(variance)
        apart = (mean[:, None] - mean[None]) ** 2 / (4.0 * spread)
        return _pairwise(0.5 * jnp.sum(apart + jnp.log(spread) - 0.5 * (logs[:, None] + logs[None]), -1))


class InformationAbove(Measure):
    """An upper bound of I(o'; member), nats, by KL(p_i || p_j) between the members: BALD's from above; at most log K.

    Houlsby et al. 2011; Kolchinsky & Tracey 2017.
    """

    def __call__(self, mean: Float[Array, "K D"], variance: Float[Array, "K D"]) -> Float[Array, ""]:
        own, other = variance[:, None], variance[None]
        apart = (mean[:, None] - mean[None]) ** 2
        return _pairwise(0.5 * jnp.sum((own + apart) / other - 1.0 + jnp.log(other) - jnp.log(own), -1))


def mutual_information(log_probs: Float[Array, "K C"]) -> Float[Array, ""]:
    """I(c; member) of K members' categories, nats: H(1/K Σ_k p_k) - 1/K Σ_k H(p_k), exactly, for the logs of p [K, C].

    It is the Jensen-Shannon divergence of the members, and BALD (Houlsby et al. 2011, eq. 2).

    >>> round(float(mutual_information(jnp.log(jnp.array([[1.0, 0.0], [0.0, 1.0]])))), 4)  # each sure of another
    0.6931
    """
    mixed = jax.nn.logsumexp(log_probs, 0) - jnp.log(float(len(log_probs)))
    chances = jnp.exp(log_probs)
    ratio = jnp.where(chances > 0, log_probs - mixed[None], 0.0)
    return jnp.mean(jnp.sum(chances * ratio, 1))
