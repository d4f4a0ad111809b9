"""A policy and its values, learned from what was just played, a little at a time: one pure step."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.control.exploration.standards import Moments, Running
from veil.control.imagination.actions import Actions, Decision
from veil.control.imagination.networks import Net
from veil.maths.returns import lambda_returns
from veil.model.checks import whole
from veil.parts.nets import MLP

REACH = 10.0  # deviations from the mean that are seen
UNITS = Running()


class Rollout(eqx.Module):
    """T steps of N environments side by side: what was seen [T, N, O], done [T, N, U] and came of it.

    ``log_prob``: of the action, as it was drawn; ``new``: the bonus, zeros without one; ``final``: what the step led
    to, at the end of an episode its last observation; ``last`` [N, O]: what is seen after all. ``terminated``: nothing
    comes after ``final``; ``over``: the next step is another episode's, of which ``terminated`` are some.
    """

    observation: Float[Array, "T N O"]
    action: Float[Array, "T N U"]
    log_prob: Float[Array, "T N"]
    reward: Float[Array, "T N"]
    new: Float[Array, "T N"]
    final: Float[Array, "T N O"]
    terminated: Bool[Array, "T N"]
    over: Bool[Array, "T N"]
    last: Float[Array, "N O"]


def standard(moments: Moments, seen: Float[Array, " O"]) -> Float[Array, " O"]:
    """An observation in deviations from the mean of all so far, cut at ±10."""
    return jnp.clip(UNITS(moments, seen), -REACH, REACH)


class ProximalState(eqx.Module):
    """All that must be carried: the networks of π and of both values, units of observations, the optimiser's own."""

    actor: Net
    critic: Net
    moments: Moments
    optimiser: Any


class Rows(eqx.Module):
    """Steps [M, ...] as they are learned from: standardised observations, and what is wanted of each."""

    seen: Float[Array, "M O"]
    action: Float[Array, "M U"]
    log_prob: Float[Array, " M"]
    returns: Float[Array, "M 2"]
    advantage: Float[Array, " M"]


class ProximalPolicy(eqx.Module):
    """π and V of vectors, from what π itself just did: proximal policy optimisation.

        L = E[min(ratio A, clip(ratio, 1 ± ``clip``) A)] + ``entropy`` H[π] - ½ E[(V(o) - R)²] - ½ E[(V'(o) - R')²]

    with ratio = π(a | o) / π_then(a | o), R the λ-returns of rewards (``discount``, ``mixing``), A = R - V(o). Where
    steps have a bonus, too, it has a value V' and returns R' of its own (``discount_new``), which go on over the ends
    of episodes: somebody who died has learned something. Then A = ``earned`` (R - V) + ``new`` (R' - V'), made of mean
    0 and deviation 1 in each minibatch. ``epochs`` times over all steps, in ``minibatches`` of them, by Adam.

    ``actions``: ``OneOf(n)``, ``Within(low, high)``; None: those of the environment it learns in. Observations are
    vectors, and are standardised by running moments.
    Schulman et al. 2017, "Proximal policy optimization algorithms", eqs. 7, 9, 11; the two values are Burda et al.'s
    (2018), "Exploration by random network distillation", section 2.3.

    >>> from veil.control.imagination.actions import OneOf
    >>> agent = ProximalPolicy(OneOf(2), trunk=MLP((8,)))
    >>> state = agent.start(4, jax.random.key(0))
    >>> decision, values = agent.seen(state, jnp.zeros(4))
    >>> decision.sample(jax.random.key(1)).shape, values.shape
    ((2,), (2,))
    """

    actions: Any = None
    trunk: Any = MLP((64, 64), "tanh")
    discount: float = eqx.field(static=True, default=0.99)
    discount_new: float = eqx.field(static=True, default=0.99)
    mixing: float = eqx.field(static=True, default=0.95)
    clip: float = eqx.field(static=True, default=0.2)
    entropy: float = eqx.field(static=True, default=0.01)
    earned: float = eqx.field(static=True, default=1.0)
    new: float = eqx.field(static=True, default=1.0)
    rate: float = eqx.field(static=True, default=3e-4)
    critic_rate: float = eqx.field(static=True, default=1e-3)
    epochs: int = eqx.field(static=True, default=4)
    minibatches: int = eqx.field(static=True, default=4)

    def __check_init__(self) -> None:
        if not isinstance(self.actions, Actions | None):
            raise TypeError(f"actions: expected Within(low, high), OneOf(count) or None; got {self.actions!r}")
        for name in ("epochs", "minibatches"):
            whole(name, vars(self)[name])
        for name in ("discount", "discount_new", "mixing"):
            if not 0 <= vars(self)[name] <= 1:
                raise ValueError(f"{name}: expected a number from 0 to 1; got {vars(self)[name]!r}")
        for name in ("clip", "rate", "critic_rate"):
            if not vars(self)[name] > 0:
                raise ValueError(f"{name}: expected a positive number; got {vars(self)[name]!r}")
        for name in ("entropy", "earned", "new"):
            if not vars(self)[name] >= 0:
                raise ValueError(f"{name}: expected a number from 0; got {vars(self)[name]!r}")

    @property
    def _optimiser(self) -> Any:
        """Adam, the gradients of policy and critic each cut off at a norm of a half: returns are of any size."""
        each = lambda rate: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate, eps=1e-5))  # noqa: E731
        chains = {"actor": each(self.rate), "critic": each(self.critic_rate)}
        return optax.multi_transform(chains, ("actor", "critic"))

    def start(self, observations: int, key: PRNGKeyArray) -> ProximalState:
        """The first state, for observations of so many numbers: a policy about as wide as may be, values of zero."""
        key_actor, key_critic = jax.random.split(key)
        actor = Net.initialise(self.trunk, observations, jnp.zeros(self.actions.numbers), key_actor)
        critic = Net.initialise(self.trunk, observations, jnp.zeros(2), key_critic)
        learnt = eqx.filter((actor, critic), eqx.is_inexact_array)
        return ProximalState(actor, critic, UNITS.init(observations), self._optimiser.init(learnt))

    def seen(self, state: ProximalState, observation: Float[Array, " O"]) -> tuple[Decision, Float[Array, "2"]]:
        """π(a | o), and V and V' of an observation."""
        inside = standard(state.moments, observation)
        return self.actions.decision(state.actor(inside)), state.critic(inside)

    def step(
        self, state: ProximalState, played: Rollout, key: PRNGKeyArray
    ) -> tuple[ProximalState, dict[str, Float[Array, ""]]]:
        """The state after learning from what was played with it, and what may be looked at. Pure."""
        returns, advantage = self.judged(state, played)
        flat = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])  # noqa: E731
        seen = jax.vmap(lambda seen: standard(state.moments, seen))(flat(played.observation))
        rows = Rows(seen, *map(flat, (played.action, played.log_prob, returns, advantage)))
        total, size = len(seen), len(seen) // self.minibatches
        if not size:
            raise ValueError(f"minibatches: expected no more than the {total} steps that were played")
        nets, rest = eqx.partition((state.actor, state.critic), eqx.is_inexact_array)

        def descend(carry: Any, now: tuple[Rows, PRNGKeyArray]) -> tuple[Any, dict[str, Array]]:
            nets, optimiser = carry
            rows, key = now

            def loss(nets: Any) -> tuple[Array, dict[str, Array]]:
                actor, critic = eqx.combine(nets, rest)
                return self.loss(actor, critic, rows, key)

            slopes, info = jax.grad(loss, has_aux=True)(nets)
            updates, optimiser = self._optimiser.update(slopes, optimiser)
            return (optax.apply_updates(nets, updates), optimiser), info

        def epoch(carry: Any, key: PRNGKeyArray) -> tuple[Any, dict[str, Array]]:
            key_order, key_steps = jax.random.split(key)
            order = jax.random.permutation(key_order, total)[: size * self.minibatches]
            split = jax.tree.map(lambda leaf: leaf[order].reshape(self.minibatches, size, *leaf.shape[1:]), rows)
            return jax.lax.scan(descend, carry, (split, jax.random.split(key_steps, self.minibatches)))

        (nets, optimiser), infos = jax.lax.scan(epoch, (nets, state.optimiser), jax.random.split(key, self.epochs))
        actor, critic = eqx.combine(nets, rest)
        moments = UNITS.update(state.moments, flat(played.observation))
        return ProximalState(actor, critic, moments, optimiser), jax.tree.map(jnp.mean, infos)

    def loss(
        self, actor: Net, critic: Net, rows: "Rows", key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """-L of some rows, and its parts."""
        decide = lambda seen: self.actions.decision(actor(seen))  # noqa: E731
        log_prob = jax.vmap(lambda seen, action: decide(seen).log_prob(action))(rows.seen, rows.action)
        keys = jax.random.split(key, len(rows.seen))
        entropy = jnp.mean(jax.vmap(lambda seen, key: decide(seen).entropy(key))(rows.seen, keys))
        advantage = (rows.advantage - jnp.mean(rows.advantage)) / (jnp.std(rows.advantage) + 1e-8)
        ratio = jnp.exp(log_prob - rows.log_prob)
        kept = jnp.clip(ratio, 1.0 - self.clip, 1.0 + self.clip)
        gain = jnp.mean(jnp.minimum(ratio * advantage, kept * advantage))
        wrong = 0.5 * jnp.mean(jnp.sum((jax.vmap(critic)(rows.seen) - rows.returns) ** 2, -1))
        info = {"entropy": entropy, "values": wrong, "clipped": jnp.mean(ratio != kept), "gain": gain}
        return wrong - gain - self.entropy * entropy, info

    def judged(self, state: ProximalState, played: Rollout) -> tuple[Float[Array, "T N 2"], Float[Array, "T N"]]:
        """λ-returns of what was earned and of what was new, and the advantage of every action."""
        value = lambda seen: state.critic(standard(state.moments, seen))  # noqa: E731
        here, final = (jax.vmap(jax.vmap(value))(each) for each in (played.observation, played.final))
        after = jnp.concatenate([here[1:], jax.vmap(value)(played.last)[None]])
        going = 1.0 - played.terminated.astype(here.dtype)
        stays = self.mixing * (1.0 - played.over.astype(here.dtype))
        each = jax.vmap(lambda_returns, (1, 1, 1, None, 1), 1)
        earned = each(played.reward, going, final[..., 0], self.discount, stays)
        always = jnp.full_like(stays, self.mixing)
        new = each(played.new, jnp.ones_like(going), after[..., 1], self.discount_new, always)
        returns = jnp.stack([earned, new], -1)
        weights = jnp.array([self.earned, self.new], here.dtype)
        return returns, (returns - here) @ weights
