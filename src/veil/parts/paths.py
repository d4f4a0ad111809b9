"""Gaussian paths from data to noise, z_t = α(t) y + σ(t) ε: what flow matching and diffusion learn to walk back."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FIRST = 1e-3  # the time at which a path that begins without noise has just enough for a density

Time = Float[Array, ""] | float


class Path(eqx.Module):
    """z_t = α(t) y + σ(t) ε with ε ~ N(0, I): data y at t = 0 become noise at t = 1.

    Write ``alpha`` and ``sigma``; speeds follow. What a field learns is the direction v = u / s of the velocity
    u = α' y + σ' ε, s = sqrt(α'² + σ'²), which has variance one for standardised data at every t. Lipman et al. 2023;
    Kingma & Gao 2023, section 2.
    """

    @abstractmethod
    def alpha(self, time: Time) -> Float[Array, ""]:
        """α(t): how much of the data is left."""

    @abstractmethod
    def sigma(self, time: Time) -> Float[Array, ""]:
        """σ(t): how much noise there is."""

    @property
    def first(self) -> float:
        """The least time at which there is noise: a bound's and a chain's last step ends there."""
        return FIRST

    def spread(self, share: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """A time for ``share`` ~ U(0, 1), and one over its density: log-uniform, as the bound's terms grow as 1 / t."""
        length = -jnp.log(self.first)
        time = jnp.exp(-length * (1.0 - share))
        return time, time * length

    def grid(self, steps: int) -> Float[Array, " S"]:
        """The times of draws in so many steps, from 1 to 0: spaced so that each turns (α, σ) about as far."""
        return jnp.linspace(1.0, 0.0, steps + 1)

    def rates(self, time: Time) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """α'(t) and σ'(t)."""
        at = jnp.asarray(time, float)
        one = jnp.ones_like(at)
        return jax.jvp(self.alpha, (at,), (one,))[1], jax.jvp(self.sigma, (at,), (one,))[1]

    def speed(self, time: Time) -> Float[Array, ""]:
        """s(t) = sqrt(α'² + σ'²)."""
        return jnp.hypot(*self.rates(time))

    def noisy(self, clean: Float[Array, "*event"], noise: Float[Array, "*event"], time: Time) -> Float[Array, "*event"]:
        """z_t."""
        return self.alpha(time) * clean + self.sigma(time) * noise

    def direction(
        self, clean: Float[Array, "*event"], noise: Float[Array, "*event"], time: Time
    ) -> Float[Array, "*event"]:
        """v = (α' y + σ' ε) / s."""
        rates = self.rates(time)
        speed = jnp.hypot(*rates)
        return (rates[0] / speed) * clean + (rates[1] / speed) * noise

    def turn(self, time: Time) -> Float[Array, ""]:
        """(α σ' - α' σ) / s: by it errors of v become those of y and ε, y - ŷ = -σ (v - v̂) / turn."""
        rates = self.rates(time)
        return (self.alpha(time) * rates[1] - rates[0] * self.sigma(time)) / jnp.hypot(*rates)

    def split(
        self, value: Float[Array, "*event"], direction: Float[Array, "*event"], time: Time
    ) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
        """The data y and the noise ε that z_t and v are made of."""
        rates = self.rates(time)
        speed, turn = jnp.hypot(*rates), self.turn(time)
        clean = (rates[1] / speed / turn) * value - (self.sigma(time) / turn) * direction
        noise = (self.alpha(time) / turn) * direction - (rates[0] / speed / turn) * value
        return clean, noise

    def log_snr(self, time: Time) -> Float[Array, ""]:
        """log α² / σ²."""
        return 2.0 * (jnp.log(self.alpha(time)) - jnp.log(self.sigma(time)))


class Straight(Path):
    """α = 1 - t, σ = t: straight lines from data to noise. Liu et al. 2023 (rectified flow); Lipman et al. 2023."""

    def alpha(self, time: Time) -> Float[Array, ""]:
        return 1.0 - jnp.asarray(time, float)

    def sigma(self, time: Time) -> Float[Array, ""]:
        return jnp.asarray(time, float)

    def speed(self, time: Time) -> Float[Array, ""]:
        return jnp.sqrt(jnp.asarray(2.0))


class Cosine(Path):
    """α = cos(π t / 2), σ = sin(π t / 2): variance preserving. Nichol & Dhariwal 2021, eq. 17, without their offset."""

    def alpha(self, time: Time) -> Float[Array, ""]:
        return jnp.sin(0.5 * jnp.pi * (1.0 - jnp.asarray(time, float)))  # exactly zero at the end

    def sigma(self, time: Time) -> Float[Array, ""]:
        return jnp.sin(0.5 * jnp.pi * jnp.asarray(time, float))


class LogLinear(Path):
    """α² = sigmoid(-γ), σ² = sigmoid(γ), γ(t) = low + (high - low) t: the log signal-to-noise ratio falls linearly.

    Variance preserving. Kingma et al. 2021, section 3.2 and appendix H. ``low``: γ of the data's end, which has noise
    of standard deviation exp(low / 2) in standardised units; ``high``: of the other, where exp(-high / 2) of the data
    is left.
    """

    low: float = eqx.field(static=True, default=-12.0, converter=float)
    high: float = eqx.field(static=True, default=8.0, converter=float)

    def __check_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low: expected less than high ({self.high}); got {self.low}")

    def _gamma(self, time: Time) -> Float[Array, ""]:
        return self.low + (self.high - self.low) * jnp.asarray(time, float)

    @property
    def first(self) -> float:
        return 0.0

    def spread(self, share: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return share, jnp.ones_like(share)

    def grid(self, steps: int) -> Float[Array, " S"]:
        low, high = jnp.arctan(jnp.exp(0.5 * self.low)), jnp.arctan(jnp.exp(0.5 * self.high))
        gamma = 2.0 * jnp.log(jnp.tan(jnp.linspace(high, low, steps + 1)))
        return (gamma - self.low) / (self.high - self.low)

    def alpha(self, time: Time) -> Float[Array, ""]:
        return jnp.exp(0.5 * jax.nn.log_sigmoid(-self._gamma(time)))

    def sigma(self, time: Time) -> Float[Array, ""]:
        return jnp.exp(0.5 * jax.nn.log_sigmoid(self._gamma(time)))

    def log_snr(self, time: Time) -> Float[Array, ""]:
        return -self._gamma(time)
