"""A bonus added to the reward of any Gymnasium environment, so that any agent looks for what is new."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.control.exploration.bonus import Bonus, Episodic, Remembered, Transition
from veil.control.exploration.scales import Scaling, Unscaled
from veil.data.core.packages import needed
from veil.model.checks import random_key, whole

Weight = float | Callable[[int], Any]


def curious(
    env: Any,
    bonus: Any,
    key: PRNGKeyArray,
    *,
    weight: Weight = 1.0,
    scaling: Scaling | None = None,
    every: int = 1,
) -> Any:
    """An environment, single or vector, whose reward is r + weight x bonus: for an agent that knows of no bonus.

    A step's bonus is of what was learned before it; the bonus learns from the last ``every`` steps (of each
    environment), each once, after they are over. What is earned and what is new apart are in the info, "extrinsic" and
    "intrinsic": the bonus after ``scaling``, before ``weight``. ``weight``: a number, or a schedule of the number of
    steps so far, as optax has them. The wrapper's ``bonus_state`` is what was learned.

    Args:
        env: a Gymnasium environment, or a vector one.
        bonus: what is new.
        key: what its random parts follow from.
        weight: nats, counts or what the bonus is in, to units of reward.
        scaling: ``ReturnScale()``, or None: as they are.
        every: steps after which it learns.

    Raises:
        TypeError: no environment, no bonus.
        ValueError: numbers out of range.
        ModuleNotFoundError: gymnasium is not installed.

    >>> import gymnasium
    >>> from veil.control.exploration.counts import Counted, Tally
    >>> env = curious(gymnasium.make("veil.control.worlds:veil/DeepSea-v0"), Counted(Tally(101)), jax.random.key(0))
    >>> seen, info = env.reset(seed=0)
    >>> seen, reward, terminated, truncated, info = env.step(0)
    >>> round(reward, 3), round(info["intrinsic"], 3), round(info["extrinsic"], 3)
    (10.0, 10.0, 0.0)
    """
    gymnasium = needed("environments need gymnasium", "control", "gymnasium")
    random_key(key)
    whole("every", every)
    if not isinstance(bonus, Bonus):
        raise TypeError(f"bonus: expected one, such as Counted(Tally((10,))); got {bonus!r}")
    if not callable(weight) and not np.isfinite(weight):
        raise ValueError(f"weight: expected a finite number, or a schedule; got {weight!r}")
    if not isinstance(env, gymnasium.Env | gymnasium.vector.VectorEnv):
        raise TypeError(f"env: expected a Gymnasium environment, single or vector; got a {type(env).__name__}")
    scaling = Unscaled() if scaling is None else scaling
    if isinstance(env, gymnasium.vector.VectorEnv):
        return _vector(gymnasium, env, Adding(bonus, scaling, weight, every, env.num_envs, key))
    return _single(gymnasium, env, Adding(bonus, scaling, weight, every, 1, key))


class Adding:
    """What a wrapper carries from step to step: states of a bonus and its scaling, and steps that are yet to learn."""

    def __init__(
        self, bonus: Bonus, scaling: Scaling, weight: Weight, every: int, count: int, key: PRNGKeyArray
    ) -> None:
        self.bonus, self.scaling, self.weight, self.every, self.count, self.key = (
            bonus, scaling, weight, every, count, key,
        )  # fmt: skip
        self.state: Any = None
        self.scales = scaling.init(count)
        self.taken = 0
        self._waiting: Any = None  # steps [M, ...] that it has not learned from

    def begin(self, observations: Any, starts: np.ndarray) -> None:
        """Episodes begin with these observations [N, ...], where ``starts`` says so."""
        if isinstance(self.bonus, Episodic) and self.state is not None and starts.any():
            self.state = _begun(self.bonus, self.state, observations, starts)

    def __call__(self, steps: Transition, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of a step of each environment [N, ...]: its scaled bonus, and that times the weight; 0 where is none."""
        if self.state is None:
            self.state = self._first(steps)
        values, self.state = _valued(self.bonus, self.state, steps, there)
        scaled, self.scales = _scaled(self.scaling, self.scales, values)
        weight = self.weight(self.taken) if callable(self.weight) else self.weight
        self.taken += 1
        self._learn(jax.tree.map(lambda leaf: np.asarray(leaf)[there], steps))
        scaled = np.asarray(scaled, float)
        return scaled, scaled * float(weight)

    def _first(self, steps: Transition) -> Any:
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], steps)
        state = self.bonus.init(one, self.key)
        if not isinstance(self.bonus, Episodic):
            return state
        many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.count, *jnp.shape(leaf))), state.memory)
        started = replace(state, memory=many)
        return _begun(self.bonus, started, steps.observation, np.ones(self.count, bool))

    def _learn(self, rows: Transition) -> None:
        """From as many steps as ``every`` of each environment makes, always: programs are compiled for one size."""
        join = lambda *leaves: np.concatenate(leaves)  # noqa: E731
        waiting = rows if self._waiting is None else jax.tree.map(join, self._waiting, rows)
        size = self.every * self.count
        if len(jax.tree.leaves(waiting)[0]) >= size:
            self.state = _learned(self.bonus, self.state, jax.tree.map(lambda leaf: leaf[:size], waiting))
            waiting = jax.tree.map(lambda leaf: leaf[size:], waiting)
        self._waiting = waiting


def _axes(bonus: Bonus) -> Any:
    return Remembered(None, 0) if isinstance(bonus, Episodic) else None


@eqx.filter_jit
def _valued(bonus: Bonus, state: Any, steps: Transition, there: Any) -> Any:
    axes = _axes(bonus)
    one = lambda state, step: bonus(state, step.observation, step.action, step.following)  # noqa: E731
    values, after = jax.vmap(one, (axes, 0), (0, axes))(state, steps)
    return jnp.where(there, values, 0.0), after


@eqx.filter_jit
def _scaled(scaling: Scaling, state: Any, values: Any) -> Any:
    return scaling(state, values)


@eqx.filter_jit
def _begun(bonus: Episodic, state: Remembered, observations: Any, starts: Any) -> Remembered:
    fresh = jax.vmap(bonus.begin, (_axes(bonus), 0), _axes(bonus))(state, observations)
    pick = lambda new, old: jnp.where(starts.reshape(-1, *[1] * (new.ndim - 1)), new, old)  # noqa: E731
    return replace(state, memory=jax.tree.map(pick, fresh.memory, state.memory))


@eqx.filter_jit
def _learned(bonus: Bonus, state: Any, batch: Transition) -> Any:
    return bonus.update(state, batch)


def _row(tree: Any) -> Any:
    """One step as a batch of one."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], tree)


def _single(gymnasium: Any, env: Any, adding: Adding) -> Any:
    class Curious(gymnasium.Wrapper):
        """A bonus beside the reward."""

        def __init__(self) -> None:
            gymnasium.Wrapper.__init__(self, env)  # which is not abstract, and has an __init__ of its own
            self._seen: Any = None

        @property
        def bonus_state(self) -> Any:
            return adding.state

        def reset(self, **options: Any) -> Any:
            observation, info = env.reset(**options)
            self._seen = observation
            adding.begin(_row(observation), np.ones(1, bool))
            return observation, info

        def step(self, action: Any) -> Any:
            following, reward, terminated, truncated, info = env.step(action)
            steps = Transition(*map(_row, (self._seen, action, following)))
            scaled, added = adding(steps, np.ones(1, bool))
            self._seen = following
            told = {**info, "extrinsic": float(reward), "intrinsic": float(scaled[0])}
            return following, float(reward) + float(added[0]), terminated, truncated, told

    return Curious()


def _vector(gymnasium: Any, env: Any, adding: Adding) -> Any:
    modes = gymnasium.vector.AutoresetMode
    mode = env.metadata.get("autoreset_mode", modes.NEXT_STEP)
    if mode not in (modes.NEXT_STEP, modes.SAME_STEP):
        raise ValueError(f"env: expected one that begins episodes by itself, at the next or the same step; got {mode}")

    class Curious(gymnasium.vector.VectorWrapper):
        """A bonus beside the reward of each environment."""

        def __init__(self) -> None:
            gymnasium.vector.VectorWrapper.__init__(self, env)
            self._seen: Any = None
            self._over = np.zeros(env.num_envs, bool)

        @property
        def bonus_state(self) -> Any:
            return adding.state

        def reset(self, **options: Any) -> Any:
            observations, info = env.reset(**options)
            self._seen, self._over = _copied(observations), np.zeros(env.num_envs, bool)
            adding.begin(self._seen, np.ones(env.num_envs, bool))
            return observations, info

        def step(self, actions: Any) -> Any:
            observations, rewards, terminated, truncated, info = env.step(actions)
            shown, done = _copied(observations), np.asarray(terminated) | np.asarray(truncated)
            following = shown if mode == modes.NEXT_STEP else _final(shown, info, done)
            there = ~self._over  # where an episode only begins nothing was done
            scaled, added = adding(Transition(self._seen, np.asarray(actions), following), there)
            begins = self._over if mode == modes.NEXT_STEP else done
            adding.begin(shown, begins)
            self._seen, self._over = shown, done & (mode == modes.NEXT_STEP)
            told = {**info, "extrinsic": np.asarray(rewards, float), "intrinsic": scaled}
            return observations, np.asarray(rewards, float) + added, terminated, truncated, told

    return Curious()


def _copied(observations: Any) -> Any:
    return jax.tree.map(np.array, observations)  # environments write the next ones in the same place


def _final(shown: Any, info: Any, done: np.ndarray) -> Any:
    """Observations, where an episode is over its last one, which the info has."""
    if not done.any():
        return shown
    last = _copied(shown)
    for number in np.flatnonzero(done):
        for kept, final in zip(jax.tree.leaves(last), jax.tree.leaves(info["final_obs"][number]), strict=True):
            kept[number] = final
    return last
