"""Objectives of fields, which need no simulation: one time of the path for each datum and step."""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.maths.gaussian import LOG_2PI
from veil.model import Datum, Model
from veil.model.abilities import name_of
from veil.objective.base import Estimate, Objective
from veil.parts.fields import Chaining, Field, Transporting
from veil.parts.transport import carried
from veil.posterior.base import Posterior
from veil.posterior.noising import times_of


class Times(eqx.Module):
    """From which distribution the time t in [0, 1] is drawn (0: data, 1: noise)."""

    @abstractmethod
    def __call__(self, key: PRNGKeyArray) -> Float[Array, ""]:
        """One time."""


class Uniform(Times):
    """t ~ U(0, 1)."""

    def __call__(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.uniform(key)


class BetaTimes(Times):
    """t ~ Beta(a, b): with a > b more of the times are near noise, where a policy decides. Black et al. 2024 (π0)."""

    a: float = eqx.field(static=True, default=1.5)
    b: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not (self.a > 0 and self.b > 0):
            raise ValueError(f"a, b: expected positive numbers; got {self.a} and {self.b}")

    def __call__(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.beta(key, self.a, self.b)


class AtNoise(Times):
    """t = 1 always: only the first step is learned, which is all that a flow of one step takes (distillation)."""

    def __call__(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.ones(())


def _field(model: Any, objective: str) -> Field:
    if not isinstance(model, Transporting):
        raise TypeError(
            f"objective: {objective} trains the field of a flow or a diffusion, and {name_of(model)} has none; use "
            "veil.ContinuousFlow or veil.Diffusion, or leave the objective out"
        )
    return model.field


class FlowMatching(Objective):
    """- Σ_i (v_i - v̂_i(z_t, t, x))² / D at z_t = α y + σ ε, ε ~ N(0, I) and t from ``times``: to be maximised.

    v = (α' y + σ' ε) / sqrt(α'² + σ'²), of a straight path (ε - y) / √2. Lipman et al. 2023, eq. 9; with a diffusion's
    path this is velocity prediction (Salimans & Ho 2022), a weighted ELBO (Kingma & Gao 2023). No likelihood: its unit
    is a squared error of standardised data, and its optimum is not zero. Missing entries have no share in the sum, and
    D counts all: padding takes no weight from what is there.

    ``teacher``: a ``ContinuousFlow`` with parameters, of data in the same (standardised) units: y is then what the
    teacher makes of ε, so that the student's paths do not cross and few steps are enough (Liu et al. 2023, reflow);
    with ``AtNoise()`` one.
    """

    kind: ClassVar[str] = "squared error"
    unit: ClassVar[str | None] = "negative mean squared error"
    times: Times = Uniform()
    teacher: Any = None

    def __check_init__(self) -> None:
        if self.teacher is not None and not isinstance(self.teacher, Transporting):
            raise TypeError(
                "teacher: expected a ContinuousFlow with parameters, of standardised data: of a Fit that is "
                f"veil.units.unwrapped(fit.model)[0]; got a {type(self.teacher).__name__}"
            )

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        field = _field(model, "FlowMatching()")
        key_time, key_noise = jax.random.split(key)
        clean, given = datum.query, field.read(datum.evidence)
        time, noise = self.times(key_time), jax.random.normal(key_noise, clean.shape, clean.dtype)
        if self.teacher is not None:
            source = self.teacher.field
            clean = jax.lax.stop_gradient(carried(source, noise, source.read(datum.evidence), self.teacher.steps or 64))
        elif datum.observed is not None:
            clean = jnp.where(datum.observed, clean, 0.0)
        found = field(field.path.noisy(clean, noise, time), time, given)
        error = (field.path.direction(clean, noise, time) - found) ** 2
        if datum.observed is not None:
            error = jnp.where(datum.observed, error, 0.0)
        return Estimate(-jnp.sum(error) / error.size)


class Denoising(Objective):
    """The ELBO of a ``Diffusion``, nats, estimated without bias from one step of its chain.

    log p(y | z_0) - KL(q(z_1 | y) || N(0, I)) - Σ_i ½ (SNR(s_i) - SNR(t_i)) ‖y - ŷ(z_t, t, x)‖², the sum T times one of
    its terms; in continuous time ½ ∫ -SNR'(t) ‖y - ŷ‖² dt at one time. Kingma et al. 2021, eqs. 11-17. Missing entries
    are refused: their noise cannot be told from theirs that are there.
    """

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        if not isinstance(model, Chaining):
            raise TypeError(
                f"objective: Denoising() is the ELBO of a veil.Diffusion, and this is {name_of(model)}; use "
                "FlowMatching() or Marginal()"
            )
        if datum.observed is not None:
            raise TypeError("observed: a diffusion's ELBO needs whole data; drop the rows with missing entries")
        field, path, clean = model.field, model.field.path, datum.query
        key_time, key_noise = jax.random.split(key)
        noise = jax.random.normal(key_noise, clean.shape, clean.dtype)
        given, share = field.read(datum.evidence), jax.random.uniform(key_time)
        if model.steps is None:
            time, length = path.spread(share)
            slope = jax.grad(path.log_snr)(time)
            weight = -0.5 * slope * jnp.exp(path.log_snr(time)) * length
        else:
            times, step = times_of(path, model.steps, model.draws), jnp.floor(share * model.steps).astype(int)
            time, before = times[step], times[step + 1]
            weight = 0.5 * model.steps * (jnp.exp(path.log_snr(before)) - jnp.exp(path.log_snr(time)))
        guess = field.clean(path.noisy(clean, noise, time), time, given)[0]
        diffusion = weight * jnp.sum((clean - guess) ** 2)
        # of q(z_1 | y) against N(0, I), in closed form
        alpha, sigma = path.alpha(1.0), path.sigma(1.0)
        end = 0.5 * jnp.sum((alpha * clean) ** 2 + sigma**2 - 1.0 - 2.0 * jnp.log(sigma))
        # log p(y | z_0), its mean over z_0 ~ q
        spread = path.sigma(path.first) / path.alpha(path.first)
        likelihood = -0.5 * clean.size * (LOG_2PI + 1.0) - clean.size * jnp.log(spread)
        value = likelihood - end - diffusion
        return Estimate(
            value, jax.lax.stop_gradient({"elbo": value, "reconstruction": likelihood, "kl": end + diffusion})
        )
