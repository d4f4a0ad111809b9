"""How an action, or a chunk of them, is chosen from p(a | o): small strategies for any model, whatever its latent."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil import distributions
from veil.model import Datum, Model, Tractable, checks
from veil.model.abilities import Wrapped
from veil.units import Units, unwrapped


class Choice(eqx.Module):
    """How an action is chosen from p(a | o) of a model, whatever its latent. A chunk of actions is chosen whole."""

    @abstractmethod
    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        """The action, a draw of y or what stands for one."""


class Following(Choice):
    """It looks at what is left of the chunk before, too."""

    @abstractmethod
    def follow(self, model: Model, observation: Any, key: PRNGKeyArray, rest: Any, planned: Bool[Array, " H"]) -> Any:
        """A chunk. ``rest``: what the chunk before has for its steps, [H, ...], where ``planned`` says so."""


class Sample(Choice):
    """A draw from p(a | o)."""

    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        return model.sample(key, observation)[1]


class LowNoise(Choice):
    """A draw of the latent, then almost the centre of p(a | o, z): centre + ``scale`` (draw - centre).

    It stays on one mode, the draw's, without the noise that demonstrations had. Categories are the likeliest ones.
    """

    scale: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        if not 0 <= self.scale <= 1:
            raise ValueError(f"scale: expected a share of the noise from 0 to 1; got {self.scale!r}")

    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        key_latent, key_action = jax.random.split(key)
        seen = model.likelihood(model.prior(observation).sample(key_latent), observation)
        centre, draw = distributions.central(seen), seen.sample(key_action)

        def one(whole: bool, centre: Array, draw: Array) -> Array:
            if whole:
                return jnp.round(centre).astype(jnp.result_type(float))
            return centre + self.scale * (draw - centre)

        return jax.tree.map(one, _whole(seen), centre, draw)


class Likeliest(Choice):
    """The likeliest of ``candidates`` draws, which is on one mode where there are several.

    By p(a | o) itself where that is known; else by its estimate from the candidates' own latents,
    1/S Σ_s p(a | o, z_s).
    """

    candidates: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        checks.whole("candidates", self.candidates)

    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        keys = jax.random.split(key, self.candidates)
        latents, actions = jax.vmap(lambda key: model.sample(key, observation))(keys)
        if isinstance(model, Tractable):
            scores = jax.vmap(lambda action: model.log_marginal(Datum(action, observation)))(actions)
        else:
            each = lambda z, action: model.log_likelihood(z, Datum(action, observation))  # noqa: E731
            table = jax.vmap(lambda action: jax.vmap(lambda z: each(z, action))(latents))(actions)
            scores = jax.scipy.special.logsumexp(table, axis=1)
        return jax.tree.map(lambda leaf: leaf[jnp.argmax(scores)], actions)


class _Chances(eqx.Module):
    """The probabilities of categories, where other leaves have a mean."""

    each: Float[Array, "... C"]


class Mean(Choice):
    """E[a | o], which of several modes may be between them: exact for a latent that can be listed, else from draws.

    Categories have no mean: the most probable ones.
    """

    draws: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        checks.whole("draws", self.draws)

    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        prior = model.prior(observation)
        if distributions.enumerable(prior):
            latents = distributions.support(prior)
            weights = jnp.exp(jax.vmap(prior.log_prob)(latents))
        else:
            latents = jax.vmap(prior.sample)(jax.random.split(key, self.draws))
            weights = jnp.full(self.draws, 1.0 / self.draws)
        each = jax.vmap(lambda latent: _means(model.likelihood(latent, observation)))(latents)
        total = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), each)
        chances = lambda node: isinstance(node, _Chances)  # noqa: E731
        likeliest = lambda node: jnp.argmax(node.each, -1).astype(node.each.dtype)  # noqa: E731
        return jax.tree.map(lambda node: likeliest(node) if chances(node) else node, total, is_leaf=chances)


def _means(y: Any) -> Any:
    if isinstance(y, distributions.Joint):
        return {name: _means(part) for name, part in y.parts.items()}
    found = distributions.probabilities(y)
    return distributions.moments(y)[0] if found is None else _Chances(found)


class Coherent(Following):
    """Of ``candidates`` chunks drawn the one that goes on best with the chunk that is already being executed.

    The nearest to what is left of it, Σ_τ decay^τ ‖u_τ - rest_τ‖² over the steps that both plan, in the model's
    standardised units: a policy with several modes stays on the one it chose. Without such steps, a draw. Backward
    coherence of Liu et al. 2024, Bidirectional Decoding, section 4 (without its contrast to a weaker policy).
    """

    candidates: int = eqx.field(static=True, default=16)
    decay: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        checks.whole("candidates", self.candidates)
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay: expected a factor a step, above 0 and up to 1; got {self.decay!r}")

    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        return model.sample(key, observation)[1]

    def follow(self, model: Model, observation: Any, key: PRNGKeyArray, rest: Any, planned: Bool[Array, " H"]) -> Any:
        draw = lambda key: model.sample(key, observation)[1]  # noqa: E731
        chunks = jax.vmap(draw)(jax.random.split(key, self.candidates))
        standard = units_of(model).asked
        weight = jnp.where(planned, self.decay ** jnp.arange(len(planned)), 0.0)

        def distance(chunk: Any) -> Float[Array, ""]:
            def one(a: Array, b: Array) -> Float[Array, ""]:
                # rows that no plan has may hold anything
                apart = jnp.where(planned[:, None], (a - b).reshape(len(planned), -1), 0.0)
                return weight @ jnp.sum(apart**2, axis=1)

            return sum(jax.tree.leaves(jax.tree.map(one, standard(chunk), standard(rest))), jnp.zeros(()))

        best = jnp.argmin(jax.vmap(distance)(chunks))
        return jax.tree.map(lambda leaf: leaf[best], chunks)


def units_of(model: Any) -> Units:
    """The units in which a model's actions are of about the same size; of a plain model its own."""
    inner, units = unwrapped(model)
    if units is not None:
        return units
    return units_of(inner.model) if isinstance(inner, Wrapped) else Units()


def whole_numbers(model: Model, observation: Any) -> Any:
    """Of each array of an action whether it is of counts or categories, which have no average. Nothing is computed."""
    found: list[Any] = []

    def look() -> None:
        key = jax.random.key(0)
        found.append(_whole(model.likelihood(model.prior(observation).sample(key), observation)))

    jax.eval_shape(look)
    return found[0]


def _whole(y: Any) -> Any:
    if isinstance(y, distributions.Joint):  # whose draws are floats, as a query is
        return {name: _whole(part) for name, part in y.parts.items()}
    draw = jax.eval_shape(lambda: y.sample(jax.random.key(0)))
    return jax.tree.map(lambda leaf: not jnp.issubdtype(leaf.dtype, jnp.inexact), draw)
