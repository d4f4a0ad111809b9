"""Densities that learn as they go, and what they say of counts: pseudo-counts and prediction gain."""

import math
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.bonus import About, Bonus, Transition, arrived
from veil.control.exploration.counts import Counter


class Density(eqx.Module):
    """ρ_n(x), the probability (or density) of the next x given n of them, and how it learns one more.

    ρ'_n(x), the probability of x after one more observation of it, is that of ``update`` with x alone.
    """

    @abstractmethod
    def init(self, example: Any, key: PRNGKeyArray) -> Any:
        """The state before anything was seen, for x like this one."""

    @abstractmethod
    def log_prob(self, state: Any, x: Any) -> Float[Array, ""]:
        """log ρ_n(x), nats."""

    @abstractmethod
    def update(self, state: Any, batch: Any) -> Any:
        """The state after x [B, ...], one after the other."""


class Incremental(Density):
    """One that says what it would learn without learning it: no second state is made, and no digits are lost.

    Of an image log ρ is some -1000 nats, and the difference of two such numbers has no digits left for a count of
    thousands; a sum of small differences, one an entry, has them all.
    """

    @abstractmethod
    def gain(self, state: Any, x: Any) -> Float[Array, ""]:
        """log ρ'_n(x) - log ρ_n(x), nats."""


def gain(density: Density, state: Any, x: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """log ρ_n(x) and log ρ'_n(x) - log ρ_n(x), nats; the second is 0 of what has no probability even then."""
    before = density.log_prob(state, x)
    if isinstance(density, Incremental):
        return before, density.gain(state, x)
    after = density.log_prob(density.update(state, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)), x)
    return before, jnp.where(after > -jnp.inf, after - before, 0.0)


class PseudoCounts(Counter):
    """N̂(x) = ρ (1 - ρ') / (ρ' - ρ), how often a ``density`` behaves as if it had seen x.

    It solves ρ = N̂ / n̂ and ρ' = (N̂ + 1) / (n̂ + 1): Bellemare et al. 2016, "Unifying count-based exploration and
    intrinsic motivation", eqs. 1 and 2. With the gain g = log ρ' - log ρ it is (1 - ρ') / (e^g - 1), which needs no ρ,
    however small. Where x became no likelier (g <= 0) the count is infinite, and ``most`` is told; so is a larger one.

    ``volume``: of a density over real numbers ρ is no probability; that of a cell of this volume around x is. 0 is the
    limit of small cells, N̂ = 1 / (e^g - 1); 1 what discrete x need, of which a cell is one.

    Of a lower bound on log ρ (an ELBO) g is the gain of log ρ plus the change of the bound's gap: learning may close
    the gap, so that N̂ is too small by no known factor, or open it, so that it is ``most``. ``ScaledPseudoCounts`` is
    the remedy that is known.

    >>> from veil.control.exploration.tables import DirichletCategorical
    >>> counter = PseudoCounts(DirichletCategorical((3,), alpha=0.5))
    >>> state = counter.update(counter.init(jnp.array(0), jax.random.key(0)), jnp.array([1, 1, 2]))
    >>> round(float(counter.count(state, jnp.array(1))), 5)
    2.5
    """

    density: Density
    volume: float = eqx.field(static=True, default=1.0)
    most: float = eqx.field(static=True, default=1e8)

    def __check_init__(self) -> None:
        _a_density(self.density)
        if not self.volume >= 0:
            raise ValueError(
                f"volume: expected that of a cell, 1 for discrete x, 0 for small ones; got {self.volume!r}"
            )
        if not self.most > 0:
            raise ValueError(f"most: expected a positive number; got {self.most!r}")

    def init(self, example: Any, key: PRNGKeyArray) -> Any:
        return self.density.init(example, key)

    def count(self, state: Any, x: Any) -> Float[Array, ""]:
        before, learned = gain(self.density, state, x)
        cell = math.log(self.volume) if self.volume > 0 else -math.inf
        rest = -jnp.expm1(jnp.minimum(before + learned + cell, 0.0))  # 1 - ρ'
        return _finite(rest, learned, self.most)

    def update(self, state: Any, batch: Any) -> Any:
        return self.density.update(state, batch)


class Seen(eqx.Module):
    """What a density has learned, and from how many x."""

    learned: Any
    number: Float[Array, ""]


class ScaledPseudoCounts(Counter):
    """N̂(x) = 1 / (exp(c n^-½ max(g, 0)) - 1) after n of them: of densities whose gain g does not fall as 1 / n.

    A network that learns by gradient steps of a constant size may gain as much from the thousandth x as from the
    first, and one of which only a bound is known gains what its bound does: the falling factor is put in by hand, and
    what became no likelier has the count ``most``. Ostrovski et al. 2017, "Count-based exploration with neural density
    models", with c = ``scale`` = .1. It is no count any more, but a schedule with an order: within the same n, what is
    gained more from was seen less.
    """

    density: Density
    scale: float = eqx.field(static=True, default=0.1)
    most: float = eqx.field(static=True, default=1e8)

    def __check_init__(self) -> None:
        _a_density(self.density)
        for name in ("scale", "most"):
            if not vars(self)[name] > 0:
                raise ValueError(f"{name}: expected a positive number; got {vars(self)[name]!r}")

    def init(self, example: Any, key: PRNGKeyArray) -> Seen:
        return Seen(self.density.init(example, key), jnp.zeros(()))

    def count(self, state: Seen, x: Any) -> Float[Array, ""]:
        _, learned = gain(self.density, state.learned, x)
        scaled = self.scale * learned / jnp.sqrt(jnp.maximum(state.number, 1.0))
        return _finite(jnp.ones(()), scaled, self.most)

    def update(self, state: Seen, batch: Any) -> Seen:
        return Seen(self.density.update(state.learned, batch), state.number + jax.tree.leaves(batch)[0].shape[0])


class PredictionGain(Bonus):
    """max(log ρ'(x) - log ρ(x), 0), nats, for x what the step is ``about``: how much likelier one sight makes it.

    It is at most 1 / N̂(x), and of a Bayesian mixture at least the information gain (Bellemare et al. 2016, section 4).
    What became less likely is worth 0. Of a lower bound it is the gain of log ρ plus the change of the bound's gap, of
    either sign: part of what it pays is for a posterior, not for a model, that learned.

    >>> from veil.control.exploration.tables import DirichletCategorical
    >>> bonus = PredictionGain(DirichletCategorical((2,), alpha=1.0))
    >>> step = Transition(jnp.array(0), jnp.array(0), jnp.array(1))
    >>> value, _ = bonus(bonus.init(step, jax.random.key(0)), step.observation, step.action, step.following)
    >>> round(float(jnp.exp(value)), 5)  # from 1/2 to 2/3
    1.33333
    """

    density: Density
    about: About = eqx.field(static=True, default=arrived)

    def __check_init__(self) -> None:
        _a_density(self.density)

    def init(self, example: Transition, key: PRNGKeyArray) -> Any:
        return self.density.init(self.about(example), key)

    def __call__(self, state: Any, observation: Any, action: Any, following: Any) -> tuple[Float[Array, ""], Any]:
        _, learned = gain(self.density, state, self.about(Transition(observation, action, following)))
        return jnp.maximum(learned, 0.0), state

    def update(self, state: Any, batch: Transition) -> Any:
        return self.density.update(state, jax.vmap(self.about)(batch))


def _a_density(density: Any) -> None:
    if not isinstance(density, Density):
        raise TypeError(f"density: expected one, such as DirichletCategorical((10,)); got {density!r}")


def _finite(rest: Float[Array, ""], learned: Float[Array, ""], most: float) -> Float[Array, ""]:
    """rest / (e^g - 1), ``most`` where that is larger or g is not positive."""
    some = learned > 0
    return jnp.where(some, jnp.minimum(rest / jnp.expm1(jnp.where(some, learned, 1.0)), most), most)
