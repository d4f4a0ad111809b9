"""Rewards with parameters: what somebody may want in a finite decision problem, for each of K kinds of people.

In nats: an action that is worth one more is e times as likely, so that a person's rationality is the scale of the
reward.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.model.scales import Untrained
from veil.parts.nets import MLP, positive

SPREAD = 0.1  # of weights at the start, where kinds must differ


class FeatureTable(Untrained):
    """φ of a state [S, F], of state and action [S, A, F], or of the outcome, too [S, A, N, F]. They are known."""

    numbers: Float[Array, "S *AN F"]


class Reward(eqx.Module):
    """r(s, a; z) of K kinds z."""

    @property
    @abstractmethod
    def kinds(self) -> int:
        """K."""

    @abstractmethod
    def tables(self) -> Float[Array, "K S *A"]:
        """Of every kind a reward of states [S], of states and actions [S, A], or of outcomes, too [S, A, N]."""


class LinearReward(Reward):
    """r = wᵀφ, of features of states, of states and actions, or of outcomes: one weight vector [F] a kind.

    The log-likelihood is concave in the weights of one kind, and at its maximum what is demonstrated has the features
    that the policy leads to expect (Ziebart 2010). Of indicators it is a ``TableReward``.
    """

    features: FeatureTable
    weights: Float[Array, "K F"]

    def __init__(self, features: Any, kinds: int = 1, *, key: Any = None, weights: Any = None) -> None:
        self.features = feature_table(features)
        self.weights = _begun((kinds, self.features.numbers.shape[-1]), key) if weights is None else weights

    @property
    def kinds(self) -> int:
        return self.weights.shape[0]

    def tables(self) -> Float[Array, "K S *A"]:
        return jnp.moveaxis(self.features.numbers @ self.weights.T, -1, 0)


class TableReward(Reward):
    """A number for every state [K, S], or every state and action [K, S, A]; what is never decided on stays as it was.

    States' rewards are found up to a constant where dynamics allow, and carry over to other dynamics; those of states
    and actions are not found: any shaping γ Φ(s') - Φ(s) leaves the policy as it is (Ng et al. 1999; Fu et al. 2018).
    """

    numbers: Float[Array, "K S *A"]

    def __init__(
        self,
        states: int | None = None,
        actions: int | None = None,
        kinds: int = 1,
        *,
        key: Any = None,
        numbers: Any = None,
    ) -> None:
        if numbers is None:
            shape = [each for each in (states, actions) if each is not None]
            positive("states", states)
            numbers = _begun((kinds, *shape), key)
        self.numbers = numbers

    @property
    def kinds(self) -> int:
        return self.numbers.shape[0]

    def tables(self) -> Float[Array, "K S *A"]:
        return self.numbers


class NeuralReward(Reward):
    """r = network(φ): of features of states, of states and actions, or of outcomes; one output a kind."""

    features: FeatureTable
    network: MLP
    readout: Float[Array, "K W"]

    def __init__(
        self,
        features: Any,
        widths: tuple[int, ...] = (64, 64),
        kinds: int = 1,
        *,
        key: PRNGKeyArray | None = None,
        network: MLP | None = None,
        readout: Any = None,
    ) -> None:
        self.features = feature_table(features)
        if network is None or readout is None:
            if key is None:
                raise ValueError("key: a network starts at random; give key=jax.random.key(...)")
            key_network, key_readout = jax.random.split(key)
            network = MLP(widths).initialise(self.features.numbers.shape[-1], key_network)
            readout = SPREAD * jax.random.normal(key_readout, (kinds, widths[-1]))
        self.network, self.readout = network, readout

    @property
    def kinds(self) -> int:
        return self.readout.shape[0]

    def tables(self) -> Float[Array, "K S *A"]:
        numbers = self.features.numbers
        hidden = jax.vmap(self.network)(numbers.reshape(-1, numbers.shape[-1]))
        return (self.readout @ hidden.T).reshape(self.kinds, *numbers.shape[:-1])


class KnownReward(Reward):
    """Rewards that are known, of which somebody has one, such as goals; their scale, the rationality, is learned.

    ``rewards`` [K, S], [K, S, A] or [K, S, A, N]. To infer the rationality together with the goal, give every goal at
    several scales: ``KnownReward(goals, rationalities=(0.3, 1.0, 3.0))``, whose kinds are the pairs, goal by goal.
    """

    known: FeatureTable
    log_rationality: Float[Array, ""]

    def __init__(
        self,
        rewards: Any = None,
        rationalities: tuple[float, ...] = (1.0,),
        *,
        known: FeatureTable | None = None,
        log_rationality: Any = None,
    ) -> None:
        self.known = _scaled(rewards, rationalities) if known is None else known
        self.log_rationality = jnp.zeros(()) if log_rationality is None else log_rationality

    @property
    def kinds(self) -> int:
        return self.known.numbers.shape[0]

    def tables(self) -> Float[Array, "K S *A"]:
        return jnp.exp(self.log_rationality) * self.known.numbers


def feature_table(features: Any) -> FeatureTable:
    """Features as a table of them. Raises ValueError for an array of another shape."""
    if isinstance(features, FeatureTable):
        return features
    numbers = jnp.asarray(features, jnp.result_type(float))
    if numbers.ndim not in (2, 3, 4):
        raise ValueError(
            "features: expected [states, features], [states, actions, features] or [states, actions, outcomes, "
            f"features]; got the shape {numbers.shape}"
        )
    return FeatureTable(numbers)


def _scaled(rewards: Any, rationalities: tuple[float, ...]) -> FeatureTable:
    """Every table at every scale, one after the other."""
    tables = jnp.asarray(rewards, jnp.result_type(float))
    if tables.ndim not in (2, 3, 4):
        raise ValueError(f"rewards: expected one table a goal, [goals, states, ...]; got the shape {tables.shape}")
    if not all(each > 0 for each in rationalities):
        raise ValueError(f"rationalities: expected positive numbers; got {rationalities!r}")
    scales = jnp.asarray(rationalities, tables.dtype).reshape(1, -1, *[1] * (tables.ndim - 1))
    return FeatureTable((tables[:, None] * scales).reshape(-1, *tables.shape[1:]))


def _begun(shape: tuple[int, ...], key: Any) -> Float[Array, "..."]:
    """Zeros; of several kinds, which must differ to be told apart, small normal numbers."""
    positive("kinds", shape[0])
    if shape[0] == 1:
        return jnp.zeros(shape)
    if key is None:
        raise ValueError("key: several kinds must differ at the start; give key=jax.random.key(...)")
    return SPREAD * jax.random.normal(key, shape)
