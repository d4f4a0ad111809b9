"""Environments side by side: play some steps in all, learn from them, and again."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil.control.actors import Actor, or_nan, refuse_nan
from veil.control.collecting import environment
from veil.control.exploration.bonus import Bonus
from veil.control.exploration.scales import ReturnScale, Scaling
from veil.control.exploration.standards import Moments, vector
from veil.control.exploration.wrapping import curious
from veil.control.imagination.actions import Actions, OneOf, Within
from veil.control.imagination.networks import Net
from veil.control.proximal.agent import ProximalPolicy, ProximalState, Rollout, standard
from veil.data.core.packages import needed
from veil.host.progress import Progress
from veil.model.checks import random_key, whole
from veil.saved.registry import register

SHOWN = 20  # episodes whose mean return is shown


@register(name="veil.control.ProximalActor")
class ProximalActor(Actor):
    """What was learned: it draws from π, or with ``settled`` does what is central. Choices are numbers from 0."""

    net: Net
    actions: Actions
    moments: Moments
    settled: bool = eqx.field(static=True, default=False)

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def act(self, memory: tuple[()], observation: Any, key: PRNGKeyArray) -> tuple[Any, tuple[()]]:
        refuse_nan(observation)
        decision = self.actions.decision(self.net(standard(self.moments, vector(observation))))
        action = decision.central() if self.settled else decision.sample(key)
        action = or_nan(action, observation)
        return (action if self.actions.continuous else jnp.argmax(action)), ()


@dataclass(frozen=True)
class Proximal:
    """What came of it: the ``actor``; of the episodes that were played while it learned the ``returns``, of rewards

    only, and the environment's ``steps`` when each was over; ``new``: the mean bonus of each iteration, after scaling,
    before it is weighted. ``bonus_state``: what the bonus has learned; None without one.
    """

    actor: ProximalActor
    returns: np.ndarray
    steps: np.ndarray
    new: np.ndarray
    bonus_state: Any = field(repr=False)

    def first_reward(self) -> int | None:
        """Steps after which an episode with another return than 0 was over; None: there was none."""
        found = np.flatnonzero(self.returns != 0)
        return int(self.steps[found[0]]) if len(found) else None


def proximal(
    env: str | Callable[[], Any],
    steps: int,
    *,
    key: PRNGKeyArray,
    agent: ProximalPolicy | None = None,
    bonus: Bonus | None = None,
    scaling: Scaling | None = None,
    together: int = 8,
    length: int = 128,
    progress: bool | None = None,
    watch: Callable[[int, int, str], None] | None = None,
) -> Proximal:
    """Learn a policy in an environment for so many steps in all, with a ``bonus`` for what is new, or without.

    In turns: ``together`` environments play ``length`` steps each; then a step of the ``agent``. A bonus is scaled
    (None: ``ReturnScale(discount_new)``) and has a value of its own; a step's is of what was seen before it. It learns
    of all steps of all environments, step by step. Choices are one-hot rows for the agent; the bonus sees what the
    environment sees, as it is.

    Args:
        env: the name of a Gymnasium environment, or a function that makes one.
        steps: of all environments together; whole turns are played, not more than that.
        key: everything follows from it.
        agent: its settings, as ``ProximalPolicy(entropy=0.001)``; None: ``ProximalPolicy()``.
        bonus, scaling: what is new, and how large that is.
        together, length: how much is played before it learns.
        progress: whether a bar is shown (None: on a terminal).
        watch: called as (done, total, words) after each turn.

    Raises:
        ValueError: numbers out of range, an environment of other actions, or of observations that are no numbers.
        ModuleNotFoundError: gymnasium, or what the environment needs, is not installed.
    """
    gymnasium = needed("learning in an environment needs gymnasium", "control", "gymnasium")
    random_key(key)
    for name, number in (("steps", steps), ("together", together), ("length", length)):
        whole(name, number)
    turns = steps // (together * length)
    if not turns:
        raise ValueError(f"steps: expected {together * length} or more, what is played in a turn; got {steps}")
    make = (lambda: environment(env)) if isinstance(env, str) else env
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    worlds = gymnasium.vector.SyncVectorEnv([make] * together, autoreset_mode=mode)
    try:
        return _learned(gymnasium, worlds, turns, key, agent, bonus, scaling, length, progress, watch)
    finally:
        worlds.close()


def _learned(
    gymnasium: Any,
    worlds: Any,
    turns: int,
    key: PRNGKeyArray,
    agent: ProximalPolicy | None,
    bonus: Bonus | None,
    scaling: Scaling | None,
    length: int,
    progress: bool | None,
    watch: Callable[[int, int, str], None] | None,
) -> Proximal:
    key_agent, key_bonus, key_seed, key_play, key_learn = jax.random.split(key, 5)
    agent = ProximalPolicy() if agent is None else agent
    if agent.actions is None:
        agent = replace(agent, actions=actions_of(gymnasium, worlds.single_action_space))
    if bonus is not None:
        scaling = ReturnScale(agent.discount_new) if scaling is None else scaling
        worlds = curious(worlds, bonus, key_bonus, weight=0.0, scaling=scaling)
    seeds = np.asarray(jax.random.bits(key_seed, (worlds.num_envs,))) % 2**31
    seen, _ = worlds.reset(seed=seeds.tolist())
    state = agent.start(vector(worlds.single_observation_space.sample()).size, key_agent)
    earned, returns, ends, new = np.zeros(worlds.num_envs), [], [], []
    with Progress(progress, "learning") as bar:
        for turn in range(turns):
            played: list[Any] = []
            for t in range(length):
                rows = _rows(seen)
                step_key = jax.random.fold_in(key_play, np.uint32(turn * length + t))
                action, log_prob = _decided(agent, state, jnp.asarray(rows), step_key)
                done = np.asarray(action)
                given = done if agent.actions.continuous else np.argmax(done, -1)
                seen, reward, terminated, truncated, info = worlds.step(given.astype(worlds.action_space.dtype))
                over = terminated | truncated
                final = _rows(seen)
                for number in np.flatnonzero(over):
                    final[number] = vector(info["final_obs"][number])
                extra = info.get("intrinsic", np.zeros(len(over)))
                played.append((rows, done, np.asarray(log_prob), reward, extra, final, terminated, over))
                earned += reward
                count = (turn * length + t + 1) * worlds.num_envs
                returns += earned[over].tolist()
                ends += [count] * int(over.sum())
                earned[over] = 0.0
            parts = [np.stack(part) for part in zip(*played, strict=True)]
            numbers = [jnp.asarray(part, bool if part.dtype == bool else jnp.result_type(float)) for part in parts]
            rollout = Rollout(*[*numbers, jnp.asarray(_rows(seen))])
            state, told = _stepped(agent, state, rollout, jax.random.fold_in(key_learn, turn))
            new.append(float(np.mean(parts[4])))
            last = np.mean(returns[-SHOWN:]) if returns else float("nan")
            words = f"return {last:.2f}, new {new[-1]:.3f}, entropy {float(told['entropy']):.2f} nats"
            for tell in (bar.update, watch):
                if tell is not None:
                    tell((turn + 1) * length * len(earned), turns * length * len(earned), words)
    actor = ProximalActor(state.actor, agent.actions, state.moments)
    kept = None if bonus is None else worlds.bonus_state
    return Proximal(actor, np.asarray(returns), np.asarray(ends, np.int64), np.asarray(new), kept)


def actions_of(gymnasium: Any, space: Any) -> Actions:
    """What an environment's actions are for a policy. Raises ValueError for others than choices and bounded vectors."""
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
        return OneOf(int(space.n), even=0.0)
    real = isinstance(space, gymnasium.spaces.Box) and np.issubdtype(space.dtype, np.floating) and len(space.shape) == 1
    if real and np.all(np.isfinite(space.low) & np.isfinite(space.high) & (space.low < space.high)):
        return Within(space.low, space.high)
    raise ValueError(f"env: expected one of some actions (Discrete, from 0), or a vector between bounds; got {space}")


def _rows(observations: Any) -> np.ndarray:
    """``vector`` of each environment, on the host [N, O]."""
    leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(observations)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], 1)


@eqx.filter_jit
def _decided(agent: ProximalPolicy, state: ProximalState, rows: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
    def one(row: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        decision, _ = agent.seen(state, row)
        action = decision.sample(key)
        return action, decision.log_prob(action)

    return jax.vmap(one)(rows, jax.random.split(key, len(rows)))


@eqx.filter_jit
def _stepped(agent: ProximalPolicy, state: ProximalState, played: Rollout, key: PRNGKeyArray) -> Any:
    return agent.step(state, played, key)
