"""Gradient estimators: how the gradient of an expectation over q reaches q's parameters.

Each is a strategy for ``ELBO(gradient=...)``; those with ``weighted`` serve ``ImportanceWeighted``, too. The value is
an unbiased estimate of the bound whatever the strategy (of a relaxed one, for the relaxed draw); the gradient is
unbiased unless the docstring says otherwise.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.objective.base import with_gradient


class Problem(eqx.Module):
    """One datum's parts of a bound.

    ``q`` and ``p``: posterior and prior; ``fix()``: q, through whose parameters no gradient passes;
    ``log_likelihood``: z -> log p(y | x, z); ``term``: what counts for the KL by parts; ``local``: key ->
    log p(y | x, z) at a draw that the model makes inside; ``share``: this datum's share
    of the KL, 1/N of a latent that N data share; ``balance``: of the KL's gradient (see ``terms.Balanced``).
    """

    q: Any
    fix: Callable[[], Any]
    p: Any
    log_likelihood: Callable[[Any], Float[Array, ""]]
    term: Callable[[Float[Array, " G"]], Float[Array, " G"]]
    local: Callable[[PRNGKeyArray], Float[Array, ""]]
    share: Any = 1.0
    balance: float | None = eqx.field(static=True, default=None)

    def kl(self, value: Any = None) -> Float[Array, " G"] | None:
        """KL(q || p) by parts where known in closed form: of chains, given a path, that of its steps."""
        parts = distributions.kl_along(self.q, self.p, value, self.balance)
        return None if parts is None else self.share * parts

    def sampled_kl(self, q: Distribution, value: Any) -> Float[Array, " G"]:
        """log q(z) - log p(z) as a single part; of chains, of each step."""
        return self.share * distributions.log_ratio(q, self.p, value)

    def log_weight(self, q: Distribution, value: Any) -> Float[Array, ""]:
        """log p(y, z | x) - log q(z)."""
        return self.log_likelihood(value) - jnp.sum(self.term(self.sampled_kl(q, value)))


class Parts(eqx.Module):
    """A bound of one datum: its value (with the gradient to follow), and the two terms it is made of."""

    value: Float[Array, ""]
    reconstruction: Float[Array, ""]
    kl: Float[Array, ""]
    signal: Float[Array, ""]


class Estimator(eqx.Module):
    """A strategy: the ELBO of one datum from ``samples`` draws, with a gradient."""

    discrete: ClassVar[bool] = False  # whether it serves latents that cannot be reparameterised
    remembers: ClassVar[bool] = True  # whether it serves paths with a memory, through which a gradient must pass

    @abstractmethod
    def elbo(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Parts:
        """The ELBO and its gradient."""

    def weighted(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Float[Array, ""]:
        """The importance-weighted bound and its gradient."""
        raise TypeError(
            f"gradient: {type(self).__name__} is for the ELBO; ImportanceWeighted takes Pathwise(), "
            f"DoublyReparameterised() or ScoreFunction()"
        )

    def advanced(self, signal: Float[Array, ""]) -> Self:
        """This strategy after a training step with this mean learning signal."""
        return self

    def draw(self, q: Any, key: PRNGKeyArray) -> Any:
        """One value from which the gradient goes on."""
        return q.sample(key)

    def _draws(self, q: Any, key: PRNGKeyArray, samples: int) -> Any:
        if not self.discrete and not distributions.reparameterised(q):
            raise TypeError(
                f"gradient: {type(self).__name__} needs a latent that can be reparameterised, and this posterior is "
                f"{type(q).__name__}; use GumbelSoftmax(), StraightThrough(), ScoreFunction() or Enumerated(), or, if "
                "its draws are a differentiable function of its parameters, let it inherit "
                "veil.distributions.Reparameterised"
            )
        one = lambda key: distributions.drawn(q, key, self.draw)  # noqa: E731
        if not self.remembers and isinstance(q, distributions.StepDraws):
            raise TypeError(
                f"gradient: {type(self).__name__} is not for sequence models that remember; use Pathwise(), "
                "StickingTheLanding() or, for codes, StraightThrough()"
            )
        if samples == 1:
            return jax.tree.map(lambda leaf: leaf[None], one(key))
        return jax.vmap(one)(jax.random.split(key, samples))


def _through(problem: Problem, values: Any) -> Parts:
    """The ELBO from draws that carry the gradient: the KL in closed form, else averaged over them."""
    reconstruction = jnp.mean(jax.vmap(problem.log_likelihood)(values))
    parts = jax.vmap(problem.kl)(values)
    if parts is None:
        parts = jax.vmap(lambda z: problem.sampled_kl(problem.q, z))(values)
    return _assembled(problem, reconstruction, jnp.mean(parts, 0))


def _assembled(problem: Problem, reconstruction: Float[Array, ""], kl: Float[Array, " G"]) -> Parts:
    """Reconstruction less what counts of the KL's parts, itself the learning signal."""
    value = reconstruction - jnp.sum(problem.term(kl))
    return Parts(value, reconstruction, jnp.sum(kl), value)


def _log_mean(log_weights: Float[Array, " S"]) -> Float[Array, ""]:
    return jax.scipy.special.logsumexp(log_weights) - jnp.log(log_weights.shape[0])


class Pathwise(Estimator):
    """Differentiate through the draw, z = z(φ, ε). Kingma & Welling 2014; closed-form KL where there is one."""

    def elbo(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Parts:
        return _through(problem, self._draws(problem.q, key, samples))

    def weighted(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Float[Array, ""]:
        values = self._draws(problem.q, key, samples)
        return _log_mean(jax.vmap(lambda z: problem.log_weight(problem.q, z))(values))


class LocalReparameterisation(Estimator):
    """Noise where the model puts it instead of on z: for the weights of a ``BayesianNetwork``, on the units' sums.

    The value and gradient have the same means as the pathwise ones and much less variance, since every datum of a
    minibatch has noise of its own. Kingma, Salimans & Welling 2015. Needs a closed-form KL.
    """

    def elbo(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Parts:
        reconstruction = jnp.mean(jax.vmap(problem.local)(jax.random.split(key, samples)))
        parts = problem.kl()
        if parts is None:
            raise TypeError("gradient: LocalReparameterisation needs a posterior of independent normals")
        return _assembled(problem, reconstruction, parts)


class StickingTheLanding(Estimator):
    """Pathwise without the score term: log q is evaluated at fixed parameters. Roeder et al. 2017.

    Unbiased, since the score's mean is zero, and of zero variance where q is the exact posterior.
    """

    def elbo(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Parts:
        values = self._draws(problem.q, key, samples)
        reconstruction = jnp.mean(jax.vmap(problem.log_likelihood)(values))
        fixed = problem.fix()
        kl = jnp.mean(jax.vmap(lambda z: problem.sampled_kl(fixed, z))(values), 0)
        return _assembled(problem, reconstruction, kl)


class DoublyReparameterised(Estimator):
    """The pathwise gradient of the importance-weighted bound with the score term reparameterised once more.

    For q's parameters Σ_s w̃_s² ∂log w_s/∂z_s ∂z_s/∂φ, for the model's Σ_s w̃_s ∂log w_s/∂θ, with normalised weights w̃.
    Unbiased; its signal-to-noise grows with the number of samples. Tucker et al. 2019, eq. 8. With one sample it is
    ``StickingTheLanding``.
    """

    remembers: ClassVar[bool] = False

    def elbo(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Parts:
        return StickingTheLanding().elbo(problem, key, samples)

    def weighted(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Float[Array, ""]:
        values = self._draws(problem.q, key, samples)
        fixed_q = problem.fix()
        log_weight = lambda z: problem.log_weight(fixed_q, z)  # noqa: E731
        # both passes forward are of the same numbers, which the compiler sees, and makes only one
        fixed = jax.lax.stop_gradient(jax.vmap(log_weight)(values))
        share = jax.nn.softmax(fixed)
        # a draw whose gradient is multiplied by its share, so that q's parameters get the square of it
        scaled = _damped(values, share.reshape(-1, *[1] * (values.ndim - 1)))
        surrogate = jnp.sum(share * jax.vmap(log_weight)(scaled))
        return with_gradient(_log_mean(fixed), surrogate)


@jax.custom_jvp
def _damped(values: Array, scale: Array) -> Array:
    """The values, whose gradient is ``scale`` times as large."""
    return values


@_damped.defjvp
def _damped_tangent(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[0], primals[1] * tangents[0]


class Baseline(eqx.Module):
    """What is subtracted from the learning signal of a score-function gradient."""

    @abstractmethod
    def __call__(self, signals: Float[Array, " S"]) -> Float[Array, "..."]:
        """For each draw, a number that does not depend on it."""

    @abstractmethod
    def weighted(self, log_weights: Float[Array, " S"]) -> Float[Array, "..."]:
        """The same for the importance-weighted bound."""

    def advanced(self, signal: Float[Array, ""]) -> Self:
        """After a training step with this mean signal."""
        return self


class RunningMean(Baseline):
    """The mean signal of earlier steps, averaged exponentially. Mnih & Gregor 2014, section 2.3."""

    decay: float = eqx.field(static=True, default=0.9)
    mean: Float[Array, ""] | float = 0.0
    steps: Float[Array, ""] | float = 0.0

    def __call__(self, signals: Float[Array, " S"]) -> Float[Array, ""]:
        return jnp.asarray(self.mean) / jnp.maximum(1.0 - self.decay ** jnp.asarray(self.steps), 1e-6)

    def weighted(self, log_weights: Float[Array, " S"]) -> Float[Array, ""]:
        return self(log_weights)

    def advanced(self, signal: Float[Array, ""]) -> "RunningMean":
        mean = self.decay * jnp.asarray(self.mean) + (1.0 - self.decay) * signal
        return RunningMean(self.decay, mean, jnp.asarray(self.steps) + 1.0)


class LeaveOneOut(Baseline):
    """The mean signal of the other draws of the same datum (two or more). Mnih & Rezende 2016 (VIMCO).

    For the importance-weighted bound: the bound with this draw's weight replaced by the geometric mean of the others.
    """

    def __call__(self, signals: Float[Array, " S"]) -> Float[Array, " S"]:
        if signals.shape[0] < 2:
            raise ValueError("samples: a leave-one-out baseline needs two or more draws of each datum")
        return (jnp.sum(signals) - signals) / (signals.shape[0] - 1)

    def weighted(self, log_weights: Float[Array, " S"]) -> Float[Array, " S"]:
        others = self(log_weights)
        count = log_weights.shape[0]
        replaced = jnp.where(jnp.eye(count, dtype=bool), others[:, None], log_weights[None, :])
        return jax.scipy.special.logsumexp(replaced, axis=1) - jnp.log(count)


class NoBaseline(Baseline):
    """Nothing is subtracted."""

    def __call__(self, signals: Float[Array, " S"]) -> Float[Array, ""]:
        return jnp.zeros(())

    def weighted(self, log_weights: Float[Array, " S"]) -> Float[Array, ""]:
        return jnp.zeros(())


class ScoreFunction(Estimator):
    """E_q[(f(z) - b) ∇ log q(z)] for any latent, discrete ones too. Williams 1992 (REINFORCE); b is the baseline.

    With ``ImportanceWeighted`` and ``LeaveOneOut()`` it is VIMCO.
    """

    discrete: ClassVar[bool] = True
    remembers: ClassVar[bool] = False
    baseline: Baseline = LeaveOneOut()

    def elbo(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Parts:
        values = jax.lax.stop_gradient(self._draws(problem.q, key, samples))
        likelihoods = jax.vmap(problem.log_likelihood)(values)
        log_q = jax.vmap(problem.q.log_prob)(values)
        parts = problem.kl()
        if parts is None:
            fixed = problem.fix()
            sampled = jax.vmap(lambda z: problem.sampled_kl(fixed, z))(values)
            counted, kl = jnp.sum(jax.vmap(problem.term)(sampled), 1), jnp.sum(sampled, 1)
        else:
            counted, kl = jnp.zeros(()), jnp.zeros(())
        signals = likelihoods - counted
        advantage = jax.lax.stop_gradient(signals - self.baseline(jax.lax.stop_gradient(signals)))
        value = with_gradient(jnp.mean(signals), jnp.mean(signals) + jnp.mean(advantage * log_q))
        total = jnp.mean(kl)
        if parts is not None:
            value, total = value - jnp.sum(problem.term(parts)), jnp.sum(parts)
        return Parts(value, jnp.mean(likelihoods), total, jax.lax.stop_gradient(jnp.mean(signals)))

    def weighted(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Float[Array, ""]:
        values = jax.lax.stop_gradient(self._draws(problem.q, key, samples))
        log_weights = jax.vmap(lambda z: problem.log_weight(problem.q, z))(values)
        log_q = jax.vmap(problem.q.log_prob)(values)
        bound = _log_mean(log_weights)
        fixed = jax.lax.stop_gradient(log_weights)
        advantage = jax.lax.stop_gradient(bound) - self.baseline.weighted(fixed)
        return with_gradient(bound, bound + jnp.sum(jax.lax.stop_gradient(advantage) * log_q))

    def advanced(self, signal: Float[Array, ""]) -> "ScoreFunction":
        return ScoreFunction(self.baseline.advanced(signal))


class Enumerated(Estimator):
    """Σ_z q(z) log p(y | x, z) - KL: every value of a discrete latent. No variance; the cost is their number."""

    discrete: ClassVar[bool] = True

    def elbo(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Parts:
        values = distributions.support(problem.q)
        log_q = jax.vmap(problem.q.log_prob)(values)
        probabilities = jnp.exp(log_q)
        terms = jax.vmap(problem.log_likelihood)(values)
        reconstruction = jnp.sum(jnp.where(probabilities > 0, probabilities * terms, 0.0))
        parts = problem.kl()
        if parts is None:
            log_p = jax.vmap(lambda z: distributions.log_prob(problem.p, z))(values)
            parts = jnp.sum(jnp.where(probabilities > 0, probabilities * (log_q - log_p), 0.0))[None]
        return _assembled(problem, reconstruction, parts)


def _temperature(value: float) -> float:
    if not value > 0:
        raise ValueError(f"temperature: expected a positive number; got {value!r}")
    return value


class GumbelSoftmax(Estimator):
    """Differentiate through a relaxed one-hot draw. Jang et al. 2017, Maddison et al. 2017. For ``priors.Codes``.

    BIASED for the discrete model, less so at low temperature (where the variance grows). The value is the relaxed
    model's, not a bound on the discrete one's: evaluate with ``veil.evaluate``.
    """

    discrete: ClassVar[bool] = True
    temperature: float = eqx.field(static=True, default=0.5, converter=_temperature)

    def draw(self, q: Any, key: PRNGKeyArray) -> Float[Array, "L C"]:
        return _codes(q).relaxed(key, self.temperature)

    def elbo(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Parts:
        return _through(problem, self._draws(problem.q, key, samples))


class StraightThrough(Estimator):
    """A one-hot draw forward, the relaxed one's gradient backward. Jang et al. 2017, section 2.2. For ``priors.Codes``.

    The value is that of a true draw; the gradient is BIASED.
    """

    discrete: ClassVar[bool] = True
    temperature: float = eqx.field(static=True, default=0.5, converter=_temperature)

    def draw(self, q: Any, key: PRNGKeyArray) -> Float[Array, "L C"]:
        soft = _codes(q).relaxed(key, self.temperature)
        one = jax.nn.one_hot(jnp.argmax(soft, -1), soft.shape[-1], dtype=soft.dtype)
        return soft + jax.lax.stop_gradient(one - soft)

    def elbo(self, problem: Problem, key: PRNGKeyArray, samples: int) -> Parts:
        return _through(problem, self._draws(problem.q, key, samples))


def _codes(q: Any) -> distributions.Codes:
    if not isinstance(q, distributions.Codes):
        raise TypeError(
            f"gradient: relaxed draws are for a latent of codes (veil.priors.Codes); this posterior is "
            f"{type(q).__name__}"
        )
    return q
