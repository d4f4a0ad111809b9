"""Actor-critic in imagination: a policy and its values, learned from futures that a world model draws."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.continuous.temperatures import FixedTemperature, Temperature
from veil.control.imagination.actions import Actions
from veil.control.imagination.dreams import Dream, dreamt
from veil.control.imagination.gradients import Gradient, Pathwise, Reinforce, Signal
from veil.control.imagination.networks import (
    Flattened,
    Learnt,
    Net,
    StatePolicy,
    StateValue,
    expected,
    first_values,
    scored,
)
from veil.control.imagination.scales import Spread
from veil.control.imagined import Imagined
from veil.model.checks import whole
from veil.model.datum import frozen
from veil.parts.heads import Head, TwoHot
from veil.parts.nets import MLP


class ActorCriticState(eqx.Module):
    """All that must be carried from step to step: what is ``learnt``, a ``slow`` critic, sizes of returns, Adam's."""

    learnt: Learnt
    slow: Net
    spread: Spread
    optimiser: Any


class ImaginedActorCritic(eqx.Module):
    """A policy and its values, learned inside any ``Stepwise`` model: Dreamer's actor-critic.

    From a batch of states (carries) the policy is rolled out ``horizon`` steps; rewards r_h and chances of going on c_h
    are the problem's outcomes. A step lowers, by Adam,

        critic       -E[Σ_h w_h log p(R_h | s_h)], R_h = r_h + γ c_h ((1 - λ) V̄(s_h+1) + λ R_h+1), w_h = Π_s<h γ c_s
        policy       what ``gradient`` says, of R divided by the size of returns S, and entropy at τ a nat
        log τ        what its ``temperature`` says

    V̄ is the mean of a slow copy of the critic, which a share of ``follow`` a step takes after it; with ``steady`` the
    critic learns V̄(s_h), too, with that weight. S is the distance of running 5th and 95th percentiles of R, 1 at
    least, so that τ is of returns of size one. ``soft``: entropy that is earned later counts in R and V, maximum
    entropy as in soft actor-critic; else, as in Dreamer, that of the present only. γ is the problem's ``discount``,
    whose ``value`` and ``draws`` are for planners. ``critic`` is a head of one number, of squared error
    ``heads.HomoscedasticGaussian()``.

    ``gradient``: ``Pathwise()`` or ``Reinforce()``; None: the first for vectors, the second for one of several.
    Hafner et al. 2020 (Dreamer), 2021 (DreamerV2), 2023 (DreamerV3), section "Actor critic learning".

    >>> import veil
    >>> from veil.control import Imagined, Rewarded, Within
    >>> noise = veil.Diagonal(scale=jnp.full((1, 1), 0.1))
    >>> world = veil.NonlinearGaussian(  # a point that is pushed
    ...     lambda z, u: z + u, lambda z, u: z, 0.1 * jnp.eye(1), noise, jnp.zeros(1), jnp.eye(1)
    ... )
    >>> problem = Imagined(world, Rewarded(lambda step: -(step.latent[0] ** 2)), discount=0.9)
    >>> agent = ImaginedActorCritic(Within([-1.0], [1.0]), trunk=MLP((8,)), horizon=3)
    >>> state = agent.start(world.carry(None), jax.random.key(0))
    >>> places = jax.random.normal(jax.random.key(1), (5, 1))
    >>> states = jax.vmap(lambda place: veil.Before(place, jnp.array(False)))(places)
    >>> state, info = eqx.filter_jit(agent.step)(state, problem, states, jax.random.key(2))
    >>> sorted(info)
    ['critic', 'entropy', 'going', 'return', 'size', 'temperature', 'value']
    >>> agent.policy(state)(world.carry(None), jax.random.key(3)).shape
    (1,)
    """

    actions: Any
    trunk: Any = MLP((128, 128), "silu")
    horizon: int = eqx.field(static=True, default=15)
    mixing: float = eqx.field(static=True, default=0.95)
    gradient: Any = None
    temperature: Temperature = FixedTemperature(3e-4)
    soft: bool = eqx.field(static=True, default=False)
    critic: Head = TwoHot(-15.0, 15.0, 61)
    features: Callable[[Any], Float[Array, " F"]] = Flattened()
    rate: float = eqx.field(static=True, default=3e-4)
    critic_rate: float = eqx.field(static=True, default=3e-4)
    clip: float = eqx.field(static=True, default=100.0)
    follow: float = eqx.field(static=True, default=0.02)
    steady: float = eqx.field(static=True, default=0.0)
    decay: float = eqx.field(static=True, default=0.99)

    def __check_init__(self) -> None:
        if not isinstance(self.actions, Actions):
            raise TypeError(f"actions: expected Within(low, high) or OneOf(count); got {self.actions!r}")
        if self.gradient is not None and not isinstance(self.gradient, Gradient):
            raise TypeError(f"gradient: expected Pathwise() or Reinforce(); got {self.gradient!r}")
        whole("horizon", self.horizon)
        for name in ("rate", "critic_rate", "clip"):
            if not vars(self)[name] > 0:
                raise ValueError(f"{name}: expected a positive number; got {vars(self)[name]!r}")
        for name in ("mixing", "decay"):
            if not 0 <= vars(self)[name] <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1; got {vars(self)[name]!r}")
        if not 0 < self.follow <= 1:
            raise ValueError(f"follow: expected a share above 0 and up to 1; got {self.follow!r}")
        if not self.steady >= 0:
            raise ValueError(f"steady: expected a weight from 0; got {self.steady!r}")

    @property
    def teaching(self) -> Gradient:
        """How the policy learns."""
        if self.gradient is not None:
            return self.gradient
        return Pathwise() if self.actions.continuous else Reinforce()

    def start(self, state: Any, key: PRNGKeyArray) -> ActorCriticState:
        """The first state, for carries like this one: a policy about as wide as may be, values that are all alike."""
        key_actor, key_critic = jax.random.split(key)
        inputs = jax.eval_shape(self.features, state).size
        actor = Net.initialise(self.trunk, inputs, jnp.zeros(self.actions.numbers), key_actor)
        critic = Net.initialise(self.trunk, inputs, first_values(self.critic), key_critic)
        learnt = Learnt(actor, critic, jnp.log(jnp.asarray(self.temperature.start, float)))
        return ActorCriticState(learnt, critic, Spread.empty(), self._optimiser.init(_trained(learnt)))

    @property
    def _optimiser(self) -> Any:
        """Adam, the gradients of policy and critic each cut off at a norm of ``clip``."""
        each = lambda rate: optax.chain(optax.clip_by_global_norm(self.clip), optax.adam(rate))  # noqa: E731
        chains = {"actor": each(self.rate), "critic": each(self.critic_rate), "log_temperature": each(self.rate)}
        return optax.multi_transform(chains, {name: name for name in chains})

    def step(
        self,
        state: ActorCriticState,
        problem: Imagined,
        states: Any,
        key: PRNGKeyArray,
        weight: Float[Array, " B"] | None = None,
    ) -> tuple[ActorCriticState, dict[str, Float[Array, ""]]]:
        """The state after a step from a batch of ``states`` (carries, leaves [B, ...]), and what may be looked at.

        ``weight``: how much each start counts (None: once); 0 for one behind which nothing is. Pure, and to be jitted
        whole: then what no outcome asks for, such as pictures, is not computed.
        """
        problem, states = frozen((problem, states))
        slopes, (spread, info) = eqx.filter_grad(self.loss, has_aux=True)(
            state.learnt, state.slow, state.spread, problem, states, key, weight
        )
        updates, optimiser = self._optimiser.update(_trained(slopes), state.optimiser)
        learnt = eqx.apply_updates(state.learnt, Learnt(**updates))
        follow = lambda old, new: old + self.follow * (new - old)  # noqa: E731
        slow = jax.tree.map(follow, state.slow, learnt.critic)
        return ActorCriticState(learnt, slow, spread, optimiser), info

    def policy(self, state: ActorCriticState) -> StatePolicy:
        """π as it is now: called with (a carry of the model, a key) it draws; ``settled`` it does what is central."""
        return StatePolicy(state.learnt.actor, self.actions, self.features)

    def value(self, state: ActorCriticState) -> StateValue:
        """V as it is now, of a carry: what ``Imagined(value=...)`` takes. With ``soft`` entropy counts in it."""
        return StateValue(state.learnt.critic, self.critic, self.features)

    def loss(
        self,
        learnt: Learnt,
        slow: Net,
        spread: Spread,
        problem: Imagined,
        states: Any,
        key: PRNGKeyArray,
        weight: Float[Array, " B"] | None = None,
    ) -> tuple[Float[Array, ""], tuple[Spread, dict[str, Float[Array, ""]]]]:
        """The sum of what critic, policy and temperature minimise, none of which has a gradient for the others."""
        still, teaching, discount = frozen, self.teaching, problem.discount
        key_dream, key_entropy = jax.random.split(key)
        acting = learnt.actor if teaching.through else still(learnt.actor)
        policy = StatePolicy(acting, self.actions, self.features)
        dream = dreamt(teaching.prepared(problem), policy, states, self.horizon, discount, weight, key_dream)
        seen = dream.seen[:, :-1]
        entropy, log_probs = self._decided(learnt.actor, dream, key_entropy)
        temperature = still(jnp.exp(learnt.log_temperature))
        size = spread.size if self.soft else jnp.ones(())
        values = _each(lambda seen: expected(self.critic, still(slow)(seen)), dream.seen)
        paid = dream if not self.soft else replace(dream, reward=dream.reward + temperature * size * entropy)
        returns = paid.returns(values, discount, self.mixing)
        spread = spread.updated(still(returns), self.decay)
        signal = Signal(
            returns / spread.size, values[:, :-1] / spread.size, log_probs, entropy, temperature, self.mixing, self.soft
        )
        raised = teaching.objective(dream, signal)
        critic = self._critic_loss(learnt.critic, still(seen), still(returns), still(values[:, :-1]), dream.weight)
        share = dream.weight / jnp.maximum(jnp.sum(dream.weight), jnp.finfo(dream.weight.dtype).tiny)
        surprise = still(jnp.sum(share * entropy))
        turned = self.temperature.loss(learnt.log_temperature, surprise, self.actions.free)
        info = {
            "critic": critic,
            "entropy": surprise,
            "going": jnp.mean(dream.going),
            "return": jnp.mean(returns[:, 0]),
            "size": spread.size,
            "temperature": temperature,
            "value": jnp.mean(values[:, 0]),
        }
        return critic - raised + turned, (spread, still(info))

    def _decided(self, actor: Net, dream: Dream, key: PRNGKeyArray) -> tuple[Float[Array, "B H"], Float[Array, "B H"]]:
        """Entropy of π at each step, and log π of what was done there: functions of the policy alone, unless soft."""
        seen = dream.seen[:, :-1] if self.soft and self.teaching.through else frozen(dream.seen[:, :-1])
        keys = jax.random.split(key, seen.shape[:2])

        def one(seen: Array, action: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
            decision = self.actions.decision(actor(seen))
            return decision.entropy(key), decision.log_prob(action)

        return jax.vmap(jax.vmap(one))(seen, frozen(dream.action), keys)

    def _critic_loss(
        self, critic: Net, seen: Array, returns: Array, slow: Array, weight: Float[Array, "B H"]
    ) -> Float[Array, ""]:
        def one(seen: Array, wanted: Array, slow: Array) -> Array:
            vector = critic(seen)
            return scored(self.critic, vector, wanted) + self.steady * scored(self.critic, vector, slow)

        return -jnp.mean(weight * jax.vmap(jax.vmap(one))(seen, returns, slow))


def _each(function: Callable[[Array], Array], seen: Float[Array, "B T F"]) -> Float[Array, "B T"]:
    return jax.vmap(jax.vmap(function))(seen)


def _trained(learnt: Learnt) -> dict[str, Any]:
    """Its arrays by name, as the optimiser has them."""
    return {name: eqx.filter(part, eqx.is_inexact_array) for name, part in vars(learnt).items()}
