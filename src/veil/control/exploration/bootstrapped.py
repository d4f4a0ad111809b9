"""Bootstrapped Q-networks with priors that stay: each member of an ensemble believes, and follows, a guess of its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.control.continuous.transitions import Replay
from veil.control.exploration.bonus import Bonus, Transition
from veil.control.exploration.learning import Network
from veil.control.exploration.playing import Act, Player
from veil.control.worlds.walks import Land, Walk
from veil.model.checks import whole
from veil.parts.nets import MLP, activated

Eyes = Callable[[Any], Any]  # from an observation what networks see: a vector [D], or a Lit


class Lit(eqx.Module):
    """A picture of which one pixel is ``light``, and the others are 0."""

    pixel: Int[Array, ""]
    light: Float[Array, ""]


class Experience(eqx.Module):
    """A step as it is learned from: rewards as each of K members was told them, and whether it was told.

    ``guess`` [K] and ``guesses`` [K, A]: what the priors said of what was done, and of all that might be done after it.
    """

    observation: Any
    action: Int[Array, "*N"]
    reward: Float[Array, "*N K"]
    following: Any
    terminated: Bool[Array, "*N"]
    told: Bool[Array, "*N K"]
    guess: Float[Array, "*N K"]
    guesses: Float[Array, "*N K A"]


class Bootstrapped(eqx.Module):
    """What is carried: K networks that learn and K that never do, the optimiser's own, what was met, the bonus' own."""

    networks: Network
    priors: Network
    optimiser: Any
    replay: Replay
    bonus: Any


class BootstrappedQ(Player):
    trunk: Any = MLP((50, 50), "relu")
    members: int = eqx.field(static=True, default=20)
    prior: float = eqx.field(static=True, default=3.0)
    told: float = eqx.field(static=True, default=0.5)
    noise: float = eqx.field(static=True, default=0.0)
    bonus: Any = None
    weight: float = eqx.field(static=True, default=1.0)
    discount: float = eqx.field(static=True, default=0.99)
    rate: float = eqx.field(static=True, default=1e-3)
    batch: int = eqx.field(static=True, default=128)
    updates: float = eqx.field(static=True, default=1.0)
    every: int = eqx.field(static=True, default=4)
    capacity: int = eqx.field(static=True, default=10_000)
    light: float = eqx.field(static=True, default=1.0)

    # -- values ----------------------------------------------------------------------------------------------------

    def values(self, networks: Network, seen: Any) -> Float[Array, "K B A"]:
        return jax.vmap(lambda network: jax.vmap(lambda one: valued(network, one))(seen))(networks)

    def news(self, told: Any, observation: Any, actions: int) -> Float[Array, " A"]:
        if self.bonus is None:
            return jnp.zeros(actions)
        return jax.vmap(lambda action: self.weight * self.bonus(told, observation, action, None)[0])(
            jnp.arange(actions)
        )

    # -- learning --------------------------------------------------------------------------------------------------

    def taught(self, state: Bootstrapped, eyes: Eyes, steps: int, key: PRNGKeyArray) -> Bootstrapped:
        optimiser, beta = optax.adam(self.rate), self.prior
        arrays, rest = eqx.partition(state.networks, eqx.is_inexact_array)
        actions = state.replay.rows.guesses.shape[-1]

        def block(carry: Any, keys: Array) -> tuple[Any, None]:
            before = eqx.combine(carry[0], rest)

            def step(carry: Any, key: PRNGKeyArray) -> tuple[Any, None]:
                arrays, inner = carry
                rows = state.replay.drawn(key, self.batch)
                ahead = self.values(before, jax.vmap(eyes)(rows.following)) + beta * jnp.moveaxis(rows.guesses, 1, 0)
                ahead = ahead + jax.vmap(lambda seen: self.news(state.bonus, seen, actions))(rows.following)[None]
                going = jnp.where(rows.terminated, 0.0, self.discount)
                wanted = rows.reward.T + going[None] * jnp.max(ahead, -1) - beta * rows.guess.T
                here = jax.vmap(eyes)(rows.observation)

                def loss(arrays: Any) -> Float[Array, ""]:
                    values = self.values(eqx.combine(arrays, rest), here)
                    said = jnp.take_along_axis(values, rows.action[None, :, None], -1)[..., 0]
                    return 0.5 * jnp.sum(jnp.mean(jnp.where(rows.told.T, (said - wanted) ** 2, 0.0), -1))

                slopes = jax.grad(loss)(arrays)
                change, inner = optimiser.update(slopes, inner)
                return (optax.apply_updates(arrays, change), inner), None

            return jax.lax.scan(step, carry, keys)

        keys = jax.random.split(key, (max(1, round(steps / self.every)), self.every))
        (arrays, inner), _ = jax.lax.scan(block, (arrays, state.optimiser), keys)
        return replace(state, networks=eqx.combine(arrays, rest), optimiser=inner)

    def met(self, state: Bootstrapped, eyes: Eyes, steps: Any, there: Any, key: PRNGKeyArray) -> Bootstrapped:
        observation, action, reward, following, terminated = steps
        count, shape = len(action), (len(action), self.members)
        key_told, key_noise = jax.random.split(key)
        told = jax.random.bernoulli(key_told, self.told, shape) & there[:, None]
        if self.told >= 1:
            told = jnp.broadcast_to(there[:, None], shape)
        heard = reward[:, None] + self.noise * jax.random.normal(key_noise, shape)
        guess = jnp.moveaxis(self.values(state.priors, jax.vmap(eyes)(observation)), 0, 1)
        guess = guess[jnp.arange(count), :, action]
        guesses = jnp.moveaxis(self.values(state.priors, jax.vmap(eyes)(following)), 0, 1)
        rows = Experience(observation, action, heard, following, terminated, told, guess, guesses)
        learned = state.bonus
        if self.bonus is not None:
            learned = self.bonus.update(state.bonus, Transition(observation, action, None))
        return replace(state, replay=state.replay.added(rows), bonus=learned)

    def began(self, example: Any, eyes: Eyes, inputs: int, actions: int, key: PRNGKeyArray) -> Bootstrapped:
        key_networks, key_priors, key_bonus = jax.random.split(key, 3)
        made = jax.vmap(lambda key: Network.initialise(self.trunk, inputs, actions, key))
        networks = made(jax.random.split(key_networks, self.members))
        priors = made(jax.random.split(key_priors, self.members))
        optimiser = optax.adam(self.rate).init(eqx.filter(networks, eqx.is_inexact_array))
        one = jax.tree.map(lambda leaf: jnp.zeros((1, *jnp.shape(leaf)), jnp.asarray(leaf).dtype), example)
        numbers = jnp.zeros((1, self.members))
        rows = Experience(
            one,
            jnp.zeros(1, jnp.int32),
            numbers,
            one,
            jnp.zeros(1, bool),
            numbers > 0,
            numbers,
            jnp.zeros((1, self.members, actions)),
        )
        told = None
        if self.bonus is not None:
            told = self.bonus.init(Transition(example, jnp.zeros((), jnp.int32), None), key_bonus)
        return Bootstrapped(networks, priors, optimiser, Replay.of(rows, self.capacity), told)

    # -- on a land -------------------------------------------------------------------------------------------------

    def start(self, land: Land, key: PRNGKeyArray) -> Bootstrapped:
        states = land.problem.states
        return self.began(jnp.zeros((), jnp.int32), self._eyes(land), states, land.problem.actions, key)

    def _eyes(self, land: Land) -> Eyes:
        return lambda place: Lit(place, jnp.asarray(self.light))

    def begin(self, state: Bootstrapped, land: Land, key: PRNGKeyArray) -> Act:
        member = jax.random.randint(key, (), 0, self.members)
        network, prior = jax.tree.map(lambda leaf: leaf[member], (state.networks, state.priors))
        eyes = self._eyes(land)

        def act(place: Int[Array, ""], key: PRNGKeyArray) -> Int[Array, ""]:
            seen = eyes(place)
            values = valued(network, seen) + self.prior * valued(prior, seen)
            return jnp.argmax(values + self.news(state.bonus, place, land.problem.actions))

        return act

    def learn(self, state: Bootstrapped, land: Land, walk: Walk, key: PRNGKeyArray) -> Bootstrapped:
        key_met, key_learn = jax.random.split(key)
        problem, most, eyes = land.problem, len(walk.state), self._eyes(land)
        ended = problem.ends[walk.following]
        reward = walk.reward + jnp.where(ended, self.discount * problem.final[walk.following], 0.0)
        over = ended | (jnp.arange(most) == (most - 1 if problem.horizon == most else most))
        steps = walk.state, walk.action, reward, walk.following, over
        state = self.met(state, eyes, steps, walk.there, key_met)
        return self.taught(state, eyes, round(self.updates * most), key_learn)


def valued(network: Network, seen: Any) -> Float[Array, " A"]:
    """Q of every action: of a picture with one light the product with the first layer is a column of its weights."""
    if not isinstance(seen, Lit):
        return network(seen)
    first, *others = network.net.layers
    x = activated(network.net.activation, seen.light * first.weight[:, seen.pixel] + first.bias)
    for layer in others:
        x = activated(network.net.activation, layer(x))
    return network.output(x)
