"""Choices among alternatives: conditional, multinomial and latent-class logit."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Enumerable, SecondOrder
from veil.model.abilities import Sized, Sizes
from veil.model.checks import random_key
from veil.parts.nets import positive

SPREAD = 0.1  # of weights at the start, where classes must differ


class ConditionalLogit(Enumerable, SecondOrder, Sized):
    """p(j | a, c) = Σ_z p(z | c) softmax_j(w_zᵀ a_j + v_zjᵀ [1, c]): who chooses takes what is worth most to them.

    The intent of one decision with a horizon of one: the reward of alternative j is linear in its attributes a_j [F],
    in nats. Query: the number of the alternative that was chosen, from 0. Evidence: {"attributes": [J, F]}, with
    "chooser": c [G], what is known of who chooses, and "available": [J], zero or False of what could not be chosen.

    * conditional logit: ``ConditionalLogit(attributes=3)`` (McFadden 1974)
    * multinomial logit: ``ConditionalLogit(alternatives=4, chooser=2)``, where every alternative but the first has a
      constant and weights of the chooser, v_z0 = 0; with attributes it is the mixed form
    * latent-class logit: ``ConditionalLogit(attributes=3, classes=2, key=key)``; of several classes c says who belongs
      to which, p(z | c) = softmax_z(u_zᵀ [1, c]) with u_0 = 0, and alternatives have constants (Greene & Hensher 2003)

    Somebody who chooses several times stays in one class: ``veil.Episodic(ConditionalLogit(...))`` of a panel, whose
    datum is a person. ``veil.fit`` takes Newton's steps, and ``veil.standard_errors`` are those of the observed
    information. Of several classes the likelihood has several maxima: fit from several keys, and keep the likeliest.

    ``weights`` [K, F]; ``constants`` [K, J - 1, 1 + G], of several classes [K, J - 1, 1]; ``membership``
    [K - 1, 1 + G].

    >>> import numpy as np, veil
    >>> prices = np.random.default_rng(0).normal(size=(200, 3, 1))
    >>> chosen = np.argmax(np.random.default_rng(1).gumbel(size=(200, 3)) - 2 * prices[..., 0], 1)
    >>> data = veil.Data(chosen, {"attributes": prices})
    >>> fit = veil.fit(ConditionalLogit(attributes=1), data, key=jax.random.key(0))
    >>> bool(abs(fit.model.weights[0, 0] + 2) < 3 * veil.standard_errors(fit, data).weights[0, 0])
    True
    """

    weights: Float[Array, "K F"]
    constants: Float[Array, "K others P"]
    membership: Float[Array, "fewer P"]

    def __init__(
        self,
        attributes: int = 0,
        *,
        alternatives: int | None = None,
        chooser: int = 0,
        classes: int = 1,
        key: PRNGKeyArray | None = None,
        weights: Any = None,
        constants: Any = None,
        membership: Any = None,
    ) -> None:
        """``attributes`` F; ``alternatives`` J, of which each has a constant (None: no constants); ``chooser`` G.

        Or the parameters themselves, ``weights`` and what else there is: then numbers and ``key`` are not needed.
        """
        if weights is not None:
            self.weights = jnp.asarray(weights)
            kinds = len(self.weights)
            self.constants = jnp.zeros((kinds, 0, 1)) if constants is None else jnp.asarray(constants)
            self.membership = jnp.zeros((kinds - 1, 1)) if membership is None else jnp.asarray(membership)
            if len(self.constants) != kinds or len(self.membership) != kinds - 1:
                raise ValueError(
                    f"constants, membership: expected {kinds} and {kinds - 1} rows, as weights are of {kinds} classes; "
                    f"got {len(self.constants)} and {len(self.membership)}"
                )
            return
        for name, value in (("classes", classes), ("alternatives", alternatives)):
            if value is not None:
                positive(name, value)
        for name, value in (("attributes", attributes), ("chooser", chooser)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name}: expected how many numbers there are, 0 or more; got {value!r}")
        if not attributes and alternatives is None:
            raise ValueError("attributes: expected how many each alternative has, or alternatives=, with constants")
        if chooser and classes == 1 and alternatives is None:
            raise ValueError(
                "alternatives: what a chooser is worth to each is a weight of each: say how many there are"
            )
        if classes > 1:
            if key is None:
                raise ValueError("key: several classes must differ at the start; give key=jax.random.key(...)")
            random_key(key)
        others, width = (alternatives or 1) - 1, 1 + chooser
        shapes = (classes, attributes), (classes, others, width if classes == 1 else 1)
        keys = [None, None] if key is None or classes == 1 else list(jax.random.split(key))
        self.weights, self.constants = (
            jnp.zeros(shape) if key is None else SPREAD * jax.random.normal(key, shape)
            for shape, key in zip(shapes, keys, strict=True)
        )
        self.membership = jnp.zeros((classes - 1, width if classes > 1 else 1))

    @property
    def classes(self) -> int:
        """K."""
        return self.weights.shape[0]

    @property
    def sizes(self) -> Sizes:
        return Sizes((1,), values=self.classes)

    @property
    def smooth(self) -> bool:
        return True

    @property
    def work(self) -> int:
        return 0

    def prior(self, evidence: Any) -> Distribution:
        return distributions.categorical(self._belongs(evidence))

    def likelihood(self, latent: Int[Array, ""], evidence: Any) -> Distribution:
        return distributions.categoricals(self._chooses(evidence)[latent][None])

    def log_likelihoods(self, datum: Datum) -> Float[Array, " K"]:
        table = self._chooses(datum.evidence)
        one = lambda row: distributions.log_prob(distributions.categoricals(row[None]), datum.query, datum.observed)  # noqa: E731
        return jax.vmap(one)(table)

    def log_joints(self, datum: Datum) -> Float[Array, " K"]:
        return self._belongs(datum.evidence) + self.log_likelihoods(datum)

    def utilities(self, evidence: Any) -> Float[Array, "K J"]:
        """w_zᵀ a_j + v_zjᵀ [1, c], nats: what every alternative is worth to each class, up to a constant."""
        attributes = _part(evidence, "attributes")
        others, width = self.constants.shape[1:]
        found = jnp.zeros((self.classes, 1))
        if self.weights.shape[1]:
            if attributes is None or attributes.shape[-1] != self.weights.shape[1]:
                came = "none" if attributes is None else attributes.shape
                raise ValueError(
                    f"evidence: expected attributes [alternatives, {self.weights.shape[1]}] of each choice; got {came}"
                )
            found = self.weights @ attributes.T
        if others:
            if self.weights.shape[1] and found.shape[1] != others + 1:
                raise ValueError(f"evidence: expected {others + 1} alternatives; got attributes of {found.shape[1]}")
            known = self.constants @ self._known(evidence, width)
            found = found + jnp.concatenate([jnp.zeros((self.classes, 1)), known], 1)
        return found

    def _chooses(self, evidence: Any) -> Float[Array, "K J"]:
        """log p(j | a, c, z)."""
        worth = self.utilities(evidence)
        available = _part(evidence, "available")
        if available is not None:
            worth = jnp.where(available[None] > 0, worth, -jnp.inf)
        return jax.nn.log_softmax(worth, -1)

    def _belongs(self, evidence: Any) -> Float[Array, " K"]:
        """log p(z | c)."""
        known = self.membership @ self._known(evidence, self.membership.shape[1])
        return jax.nn.log_softmax(jnp.concatenate([jnp.zeros(1), known]))

    def _known(self, evidence: Any, width: int) -> Float[Array, " P"]:
        """[1, c], or [1] where nothing is asked of c."""
        one = jnp.ones(1)
        if width == 1:
            return one
        chooser = _part(evidence, "chooser")
        if chooser is None or chooser.shape != (width - 1,):
            came = "none" if chooser is None else chooser.shape
            raise ValueError(f"evidence: expected chooser [{width - 1}], what is known of who chooses; got {came}")
        return jnp.concatenate([one, chooser])


def _part(evidence: Any, name: str) -> Array | None:
    if evidence is not None and not isinstance(evidence, dict):
        raise ValueError('evidence: expected a dictionary, {"attributes": [alternatives, numbers], ...}; got an array')
    return None if evidence is None else evidence.get(name)
