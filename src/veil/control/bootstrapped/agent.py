"""An ensemble of Q-networks, each with a prior of its own that stays, learned from what each was told: pure steps."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.control.bootstrapped.seeing import Eyes, numbered, valued
from veil.control.continuous.transitions import Replay
from veil.control.exploration.bonus import Bonus, Transition, arrived, left
from veil.control.exploration.counts import Counted, Tally
from veil.control.exploration.curiosity import Curiosity, PredictionError
from veil.control.exploration.densities import PredictionGain
from veil.control.exploration.distillation import RandomNetworkDistillation
from veil.control.exploration.learning import Network
from veil.control.exploration.playing import Player
from veil.control.worlds.walks import Act, Land, Walk
from veil.model.checks import whole
from veil.parts.nets import MLP


class Experience(eqx.Module):
    """Steps as they are learned from by K members: ``reward`` as each heard it, ``told`` which of them were told.

    ``going``: how much what follows counts, γ, or 0 where nothing does.
    ``guess`` and ``guesses``: what the priors say of what was done, and of all A actions where it led to. They never
    change, so that they are worked out once.
    """

    observation: Any
    action: Int[Array, "*N"]
    reward: Float[Array, "*N K"]
    following: Any
    going: Float[Array, "*N"]
    told: Bool[Array, "*N K"]
    guess: Float[Array, "*N K"]
    guesses: Float[Array, "*N K A"]


class BootstrappedState(eqx.Module):
    """What is carried: K networks that learn, K that never do, Q̄ and the steps since it was Q, and others' states."""

    networks: Network
    priors: Network
    slow: Network
    since: Int[Array, ""]
    optimiser: Any
    replay: Replay
    bonus: Any


class BootstrappedQ(Player):
    """K Q-networks that begin as different guesses, and each follow their own for an episode: deep exploration.

        Q_k(o, a) = f_k(o, a) + ``prior`` p_k(o, a)
        f_k lowers  ½ told_k (r + ``noise`` ε_k + γ max_a' Q̄_k(o', a') - Q_k(o, a))²        told_k ~ B(``told``)

    over steps that were met, for each of ``members``. The prior p_k is a network as f_k was at first, and is never
    trained: where nothing was learned the members go on to differ, as draws of a posterior do, and who believes in what
    was not seen goes and looks. Before every episode one member is drawn, and followed greedily. Each step was told to
    some of the members (a bootstrap); ε is a standard normal, drawn once for each step and member. Osband, Aslanides &
    Cassirer 2018, "Randomized prior functions for deep reinforcement learning"; Osband et al. 2016, "Deep exploration
    via bootstrapped DQN".

    With a ``bonus`` of what is done where, b(o, a), what is followed and learned from is Q + ``weight`` b, both of now:

        f + b lowers  (r + γ max_a' (Q̄(o', a') + weight b(o', a')) - Q(o, a))²

    That is the Q of rewards r + weight b less its first term, which is known and need not be learned: what was never
    done is worth weight b at once, whatever a network makes of it (as in Rashid et al. 2020, "Optimistic exploration
    even with a pessimistic initialisation"). ``optimistic`` makes one network of this kind; it needs no prior.

    A learning step is one of Adam's (``rate``) on ``batch`` of the last ``capacity`` steps; there are ``updates`` of
    them for each step that is played, and after every ``every`` of them Q̄ becomes Q. A few are enough on short ways
    through finite worlds; where many steps follow each other values run away with few, and some hundreds hold.

    On a ``Land`` the networks see what ``eyes`` make of a state's number, by default a row of one 1; see ``pictured``
    for pictures. There the bonus is told numbers of states, and γ is ``discount`` times the land's own.

    Raises:
        TypeError: a trunk that is no ``MLP``, a bonus that is none.
        ValueError: numbers out of range, or a bonus that is of where a step leads (which is not known of what was not
            done): say ``about=left``, or ``about=Chosen(actions)``.

    >>> from veil.control.worlds.deep_sea import DeepSea
    >>> land = DeepSea(4).land
    >>> learner = BootstrappedQ(members=4)
    >>> state = learner.start(land, jax.random.key(0))
    >>> state, walks = learner.play(state, land, 60, jax.random.key(1))
    >>> bool(jnp.max(jnp.sum(walks.reward, 1)) > 0.98)
    True
    """

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
    eyes: Any = None

    def __check_init__(self) -> None:
        if not isinstance(self.trunk, MLP):
            raise TypeError(f"trunk: expected an MLP, such as MLP((50, 50), 'relu'); got {self.trunk!r}")
        if self.eyes is not None and not isinstance(self.eyes, Eyes):
            raise TypeError(f"eyes: expected them, such as pictured(pictures), or None; got {self.eyes!r}")
        if self.bonus is not None and not isinstance(self.bonus, Bonus):
            raise TypeError(f"bonus: expected one, such as Counted(Hashed(), about=left), or None; got {self.bonus!r}")
        _of_what_is_done(self.bonus)
        for name in ("members", "batch", "every", "capacity"):
            whole(name, vars(self)[name])
        for name in ("prior", "noise", "weight"):
            if not vars(self)[name] >= 0:
                raise ValueError(f"{name}: expected a number from 0; got {vars(self)[name]!r}")
        for name in ("told", "discount"):
            if not 0 < vars(self)[name] <= 1:
                raise ValueError(f"{name}: expected a share above 0, up to 1; got {vars(self)[name]!r}")
        for name in ("rate", "updates"):
            if not vars(self)[name] > 0:
                raise ValueError(f"{name}: expected a positive number; got {vars(self)[name]!r}")

    # -- an ensemble anywhere --------------------------------------------------------------------------------------

    def prepared(
        self, example: Any, eyes: Eyes, actions: int, key: PRNGKeyArray, capacity: int | None = None
    ) -> BootstrappedState:
        """The first state, for observations like the ``example`` and so many actions."""
        key_networks, key_priors, key_bonus = jax.random.split(key, 3)
        made = jax.vmap(lambda key: Network.initialise(self.trunk, eyes.size, actions, key))
        networks = made(jax.random.split(key_networks, self.members))
        priors = made(jax.random.split(key_priors, self.members))
        one = jax.tree.map(lambda leaf: jnp.zeros((1, *jnp.shape(leaf)), jnp.asarray(leaf).dtype), example)
        done, none, each = jnp.zeros(1, jnp.int32), jnp.zeros(1), jnp.zeros((1, self.members))
        rows = Experience(one, done, each, one, none, each > 0, each, jnp.zeros((1, self.members, actions)))
        step = Transition(example, jnp.zeros((), jnp.int32), example)
        told = None if self.bonus is None else self.bonus.init(step, key_bonus)
        optimiser = optax.adam(self.rate).init(eqx.filter(networks, eqx.is_inexact_array))
        replay = Replay.of(rows, self.capacity if capacity is None else capacity)
        zero = jnp.zeros((), jnp.int32)
        return BootstrappedState(networks, priors, networks, zero, optimiser, replay, told)

    def met(
        self,
        state: BootstrappedState,
        eyes: Eyes,
        steps: tuple[Any, Int[Array, " T"], Float[Array, " T"], Any, Float[Array, " T"]],
        there: Bool[Array, " T"],
        key: PRNGKeyArray,
    ) -> BootstrappedState:
        """The state after some steps (o, a, r, o', going), of which those that are not ``there`` teach nothing."""
        observation, action, reward, following, going = steps
        key_told, key_noise = jax.random.split(key)
        shape = len(action), self.members
        told = (jax.random.uniform(key_told, shape) < self.told) & there[:, None]
        heard = reward[:, None] + self.noise * jax.random.normal(key_noise, shape)
        here, after = (jnp.moveaxis(_all(state.priors, eyes, seen), 0, 1) for seen in (observation, following))
        guess = jnp.take_along_axis(here, action[:, None, None], -1)[..., 0]
        rows = Experience(observation, action, heard, following, going, told, guess, after)
        learned = state.bonus
        if self.bonus is not None:
            learned = self.bonus.update(state.bonus, Transition(observation, action, following))
        return replace(state, replay=state.replay.added(rows), bonus=learned)

    def step(
        self, state: BootstrappedState, eyes: Eyes, rows: Experience
    ) -> tuple[BootstrappedState, Float[Array, ""]]:
        """The state after a learning step on some of what was met, Q̄ as it was; and the mean squared error.

        Members that were not told of a step do not learn from it.
        """
        guesses = self.prior * jnp.moveaxis(rows.guesses, 1, 0)
        actions = guesses.shape[-1]
        news = jax.vmap(lambda seen: self.news(state.bonus, seen, actions))(rows.following)
        ahead = jnp.max(_all(state.slow, eyes, rows.following) + guesses + news[None], -1)
        wanted = rows.reward.T + rows.going[None] * ahead - self.prior * rows.guess.T
        arrays, rest = eqx.partition(state.networks, eqx.is_inexact_array)

        def loss(arrays: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
            values = _all(eqx.combine(arrays, rest), eyes, rows.observation)
            said = jnp.take_along_axis(values, rows.action[None, :, None], -1)[..., 0]
            wrong = jnp.where(rows.told.T, (said - wanted) ** 2, 0.0)
            return 0.5 * jnp.sum(jnp.mean(wrong, -1)), jnp.mean(wrong)

        slopes, wrong = jax.grad(loss, has_aux=True)(arrays)
        change, optimiser = optax.adam(self.rate).update(slopes, state.optimiser)
        networks = eqx.combine(optax.apply_updates(arrays, change), rest)
        return replace(state, networks=networks, optimiser=optimiser), wrong

    def taught(
        self, state: BootstrappedState, eyes: Eyes, steps: int, key: PRNGKeyArray
    ) -> tuple[BootstrappedState, Float[Array, ""]]:
        """The state after so many learning steps on what was met, and the error.

        Q̄ becomes Q at the beginning of each ``every`` of them; of fewer, once there were as many.
        """
        whole("steps", steps)
        rounds, length = (max(1, round(steps / self.every)), self.every) if steps >= self.every else (1, steps)
        moving = lambda state: (state.networks, state.optimiser)  # noqa: E731

        def round_of(moved: Any, keys: Array) -> tuple[Any, Float[Array, ""]]:
            slow = moved[0] if steps >= self.every else state.slow

            def one(moved: Any, key: PRNGKeyArray) -> tuple[Any, Float[Array, ""]]:
                now = replace(state, networks=moved[0], optimiser=moved[1], slow=slow)
                after, wrong = self.step(now, eyes, state.replay.drawn(key, self.batch))
                return moving(after), wrong

            moved, wrongs = jax.lax.scan(one, moved, keys)
            return moved, jnp.mean(wrongs)

        keys = jax.random.split(key, (rounds, length))
        (networks, optimiser), wrongs = jax.lax.scan(round_of, moving(state), keys)
        since = state.since + rounds * length
        anew = since >= self.every
        slow = jax.tree.map(lambda new, old: jnp.where(anew, new, old), networks, state.slow)
        since = jnp.where(anew, 0, since)
        return replace(state, networks=networks, slow=slow, since=since, optimiser=optimiser), wrongs[-1]

    def news(self, told: Any, observation: Any, actions: int) -> Float[Array, " A"]:
        """``weight`` times the bonus of every action."""
        if self.bonus is None:
            return jnp.zeros(actions)
        new = lambda action: self.bonus(told, observation, action, observation)[0]  # noqa: E731
        return self.weight * jax.vmap(new)(jnp.arange(actions))

    def followed(self, state: BootstrappedState, eyes: Eyes, member: Any, observation: Any) -> Int[Array, ""]:
        """What a member believes to be best."""
        own, prior = jax.tree.map(lambda leaf: leaf[member], (state.networks, state.priors))
        seen = eyes(observation)
        values = valued(own, seen) + self.prior * valued(prior, seen)
        return jnp.argmax(values + self.news(state.bonus, observation, len(values)))

    # -- on a land -------------------------------------------------------------------------------------------------

    def _eyes(self, land: Land) -> Eyes:
        return numbered(land.problem.states) if self.eyes is None else self.eyes

    def start(self, land: Land, key: PRNGKeyArray) -> BootstrappedState:
        return self.prepared(jnp.zeros((), jnp.int32), self._eyes(land), land.problem.actions, key)

    def begin(self, state: BootstrappedState, land: Land, key: PRNGKeyArray) -> Act:
        member, eyes = jax.random.randint(key, (), 0, self.members), self._eyes(land)
        return lambda place, step, key: self.followed(state, eyes, member, place)

    def finish(self, state: BootstrappedState, land: Land, walk: Walk, key: PRNGKeyArray) -> BootstrappedState:
        key_met, key_learn = jax.random.split(key)
        problem, count, eyes = land.problem, len(walk.state), self._eyes(land)
        if count > self.capacity:
            raise ValueError(f"capacity: expected place for an episode of {count} steps; got {self.capacity}")
        ended = problem.ends[walk.following]
        last_of_all = self.discount * problem.discount * problem.final[walk.following]
        reward = walk.reward + jnp.where(ended, last_of_all, 0.0)
        last = jnp.arange(count) == count - 1
        over = ended | last if problem.horizon == count else ended
        going = jnp.where(over, 0.0, self.discount * problem.discount)
        state = self.met(state, eyes, (walk.state, walk.action, reward, walk.following, going), walk.there, key_met)
        return self.taught(state, eyes, max(1, round(self.updates * count)), key_learn)[0]


def optimistic(land: Land, weight: float | None = None, best: float = 1.0, **options: Any) -> BootstrappedQ:
    """One network that counts what it did where: weight / √n for what was done n times, ``best`` for what never was.

    ``weight``: None is 1 / H of a horizon H, so that an episode of things done n times is worth 1 / √n; ``best``: about
    the best return there may be. ``options`` of ``BootstrappedQ``. Raises ValueError for a land without a horizon and
    no weight.
    """
    problem = land.problem
    if weight is None:
        if problem.horizon is None:
            raise ValueError("weight: this problem has no horizon to choose it by; give a number")
        weight = 1.0 / problem.horizon
    if not (weight > 0 and best > 0):
        raise ValueError(f"weight, best: expected positive numbers; got {weight!r} and {best!r}")
    counts = Counted(Tally((problem.states, problem.actions)), about=left, offset=(weight / best) ** 2)
    chosen: dict[str, Any] = {"members": 1, "prior": 0.0, "told": 1.0, "bonus": counts, "weight": weight}
    return BootstrappedQ(**(chosen | options))


def _all(networks: Network, eyes: Eyes, observations: Any) -> Float[Array, "K N A"]:
    """What every member says of every observation."""
    seen = jax.vmap(eyes)(observations)
    return jax.vmap(lambda network: jax.vmap(lambda one: valued(network, one))(seen))(networks)


def _of_what_is_done(bonus: Any) -> None:
    """Raise ValueError for a bonus of where a step leads."""
    told_later = isinstance(bonus, Curiosity | PredictionError)
    if told_later or (
        isinstance(bonus, Counted | PredictionGain | RandomNetworkDistillation) and bonus.about is arrived
    ):
        raise ValueError(
            "bonus: expected one of what is done where, which is asked before it is done, such as "
            f"Counted(Hashed(), about=Chosen(2)); {type(bonus).__name__} is of where a step leads"
        )
