"""Who believes in a model of a finite world, tables of rewards and dynamics, and plans in it before every episode."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from veil.control.exploration.playing import Player
from veil.control.worlds.walks import Act, Land, Walk
from veil.parts.decisions import SparseTransitions, soft_values


class Seen(eqx.Module):
    """What was done where, how often [S, A], what that earned in all, and to which of M places it led; and episodes."""

    visits: Float[Array, "S A"]
    earned: Float[Array, "S A"]
    arrived: Float[Array, "S A M"]
    episodes: Float[Array, ""]


class Beliefs(eqx.Module):
    """A prior of any finite world: r(s, a) ~ N(m, ``unsure``²), p(s' | s, a) ~ Dirichlet(1/M, ..., 1/M).

    m is 0, and a reward has noise of the same deviation: after n of them the mean is Σ r / (n + 1) and the variance
    ``unsure``² / (n + 1). ``reach`` [S, M]: the M places to which a state may lead, whatever is done there (a place may
    be named twice); None: any state at all.
    """

    unsure: float = eqx.field(static=True, default=0.1)
    reach: Any = eqx.field(default=None, converter=lambda given: None if given is None else jnp.asarray(given))

    def __check_init__(self) -> None:
        if not self.unsure > 0:
            raise ValueError(f"unsure: expected a positive deviation of rewards; got {self.unsure!r}")
        whole = self.reach is None or (self.reach.ndim == 2 and jnp.issubdtype(self.reach.dtype, jnp.integer))
        if not whole:
            raise ValueError(f"reach: expected the numbers of states [states, places]; got {self.reach!r:.80}")

    def places(self, land: Land) -> Int[Array, "S M"]:
        """Where a state may lead."""
        states = land.problem.states
        if self.reach is None:
            return jnp.broadcast_to(jnp.arange(states)[None], (states, states))
        if len(self.reach) != states:
            raise ValueError(f"reach: expected a row for each of the {states} states; got {len(self.reach)}")
        return self.reach

    def start(self, land: Land) -> Seen:
        """Before anything was seen."""
        places = self.places(land)
        shape = land.problem.states, land.problem.actions
        return Seen(jnp.zeros(shape), jnp.zeros(shape), jnp.zeros((*shape, places.shape[1])), jnp.zeros(()))

    def told(self, seen: Seen, land: Land, walk: Walk) -> Seen:
        """After an episode."""
        at, there = (walk.state, walk.action), walk.there.astype(seen.visits.dtype)
        slot = jnp.argmax(self.places(land)[walk.state] == walk.following[:, None], 1)
        return Seen(
            seen.visits.at[at].add(there),
            seen.earned.at[at].add(there * walk.reward),
            seen.arrived.at[(*at, slot)].add(there),
            seen.episodes + 1.0,
        )

    def means(self, seen: Seen) -> tuple[Float[Array, "S A"], Float[Array, "S A M"]]:
        """E[r] and E[p]."""
        number = seen.visits + 1.0
        return seen.earned / number, (seen.arrived + 1.0 / seen.arrived.shape[-1]) / number[..., None]

    def drawn(self, seen: Seen, key: PRNGKeyArray) -> tuple[Float[Array, "S A"], Float[Array, "S A M"]]:
        """r and p, a draw of what is believed."""
        key_reward, key_chances = jax.random.split(key)
        noise = jax.random.normal(key_reward, seen.visits.shape)
        reward = self.means(seen)[0] + self.unsure * noise / jnp.sqrt(seen.visits + 1.0)
        # by logarithms: most of a Dirichlet(1/M, ..) is smaller than the least number
        logs = jax.random.loggamma(key_chances, seen.arrived + 1.0 / seen.arrived.shape[-1])
        return reward, jax.nn.softmax(logs, -1)

    def planned(self, land: Land, reward: Any, chances: Any, temperature: Any) -> Float[Array, "*H S A"]:
        """Q of what is believed, soft at a temperature, of every step where there is a horizon."""
        places = jnp.broadcast_to(self.places(land)[:, None], chances.shape)
        problem = eqx.tree_at(lambda each: each.transitions, land.problem, SparseTransitions(places, chances))
        return soft_values(problem, reward, temperature)[1]


def softly(scores: Float[Array, "*H S A"], temperature: Any) -> Act:
    """π(a | s) ∝ exp(Q / τ); at τ = 0 what is best, ties by chance."""
    always = scores.ndim == 2

    def act(place: Int[Array, ""], step: Int[Array, ""], key: PRNGKeyArray) -> Int[Array, ""]:
        here = scores[place] if always else scores[step, place]
        if isinstance(temperature, float) and temperature == 0:
            return jax.random.categorical(key, jnp.where(here == jnp.max(here), 0.0, -jnp.inf))
        return jax.random.categorical(key, here / temperature)

    return act


class Believer(Player):
    """Somebody who keeps count of what was seen, and plans in what is believed of it."""

    beliefs: eqx.AbstractVar[Beliefs]

    def start(self, land: Land, key: PRNGKeyArray) -> Seen:
        return self.beliefs.start(land)

    def finish(self, state: Seen, land: Land, walk: Walk, key: PRNGKeyArray) -> Seen:
        return self.beliefs.told(state, land, walk)


class SoftQ(Believer):
    """Soft-optimal for what is believed on average, at a fixed temperature: control as inference, which explores not.

    What is not known is worth nothing more to it.
    """

    beliefs: Beliefs = Beliefs()
    temperature: float = eqx.field(static=True, default=0.01)

    def __check_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature: expected a positive number, in units of reward; got {self.temperature!r}")

    def begin(self, state: Seen, land: Land, key: PRNGKeyArray) -> Act:
        scores = self.beliefs.planned(land, *self.beliefs.means(state), self.temperature)
        return softly(scores, self.temperature)


class KLearning(Believer):
    """Soft-optimal at a temperature that falls, τ = ``risk`` / √(number of the episode), and fond of what is not known.

        r(s, a) = E[r] + unsure² / (2 τ (n + 1)) = τ log E[exp(r / τ)]

    of a reward that is believed to be normal: the soft value of a random reward. O'Donoghue, Osband & Ionescu 2020,
    "Making sense of reinforcement learning and probabilistic inference".

    >>> from veil.control.worlds.deep_sea import DeepSea
    >>> sea = DeepSea(4)
    >>> learner = KLearning(Beliefs(reach=sea.below))
    >>> _, walks = learner.play(learner.start(sea.land, jax.random.key(0)), sea.land, 100, jax.random.key(1))
    >>> bool(jnp.max(jnp.sum(walks.reward, 1)) > 0.98)
    True
    """

    beliefs: Beliefs = Beliefs()
    risk: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not self.risk > 0:
            raise ValueError(f"risk: expected a positive number, in units of reward; got {self.risk!r}")

    def begin(self, state: Seen, land: Land, key: PRNGKeyArray) -> Act:
        temperature = self.risk / jnp.sqrt(state.episodes + 1.0)
        reward, chances = self.beliefs.means(state)
        fond = self.beliefs.unsure**2 / (2.0 * temperature * (state.visits + 1.0))
        return softly(self.beliefs.planned(land, reward + fond, chances, temperature), temperature)


class PosteriorSampling(Believer):
    """Before every episode a world is drawn from what is believed, and what is best there is done (Thompson's rule).

    Strens 2000, "A Bayesian framework for reinforcement learning"; Osband, Russo & Van Roy 2013, "(More) efficient
    reinforcement learning via posterior sampling".

    >>> from veil.control.worlds.deep_sea import DeepSea
    >>> sea = DeepSea(4)
    >>> learner = PosteriorSampling(Beliefs(reach=sea.below))
    >>> _, walks = learner.play(learner.start(sea.land, jax.random.key(0)), sea.land, 100, jax.random.key(1))
    >>> bool(jnp.max(jnp.sum(walks.reward, 1)) > 0.98)
    True
    """

    beliefs: Beliefs = Beliefs()

    def begin(self, state: Seen, land: Land, key: PRNGKeyArray) -> Act:
        return softly(self.beliefs.planned(land, *self.beliefs.drawn(state, key), 0.0), 0.0)
