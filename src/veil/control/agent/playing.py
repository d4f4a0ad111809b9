"""Episodes of several environments side by side, all acted in by one actor at once."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Key

from veil.control.actors import Actor
from veil.control.collecting import accepted, kept, shown
from veil.data import Episode
from veil.data.core.packages import needed


@eqx.filter_jit
def _begun(actor: Actor, keys: Key[Array, " B"]) -> Any:
    return jax.vmap(actor.init)(keys)


@eqx.filter_jit
def _acted(actor: Actor, memory: Any, observation: Any, keys: Key[Array, " B"], step: Any) -> tuple[Any, Any]:
    each = lambda memory, seen, key: actor.act(memory, seen, jax.random.fold_in(key, step))  # noqa: E731
    return jax.vmap(each)(memory, observation, keys)


def play(worlds: Sequence[Any], actor: Actor | None, numbers: Sequence[int], seed: int) -> list[Episode]:
    """The episodes of these numbers, as many at a time as there are environments, which are all alike.

    Episode k begins, and has its noise, by the seed and k only, whatever is played beside it. ``actor``: a pure one;
    None: draws from the action space. Raises ValueError for observations or actions that are NaN, or no actions.
    """
    found: list[Episode] = []
    for begin in range(0, len(numbers), len(worlds)):
        found += _together(worlds, actor, numbers[begin : begin + len(worlds)], seed)
    return found


def _together(worlds: Sequence[Any], actor: Actor | None, numbers: Sequence[int], seed: int) -> list[Episode]:
    gymnasium = needed("environments need gymnasium", "control", "gymnasium")
    seeds = [np.random.SeedSequence([seed, number]).generate_state(3) for number in numbers]
    worlds = worlds[: len(numbers)]
    seen: list[dict[str, list[Any]]] = [{} for _ in worlds]
    done: list[dict[str, list[Any]]] = [{} for _ in worlds]
    rewards: list[list[float]] = [[] for _ in worlds]
    steps: list[list[int]] = [[] for _ in worlds]
    over: list[tuple[bool, bool] | None] = [None] * len(worlds)
    now: list[Any] = []
    for world, (reset, random, _), parts in zip(worlds, seeds, seen, strict=True):
        world.action_space.seed(int(random))
        observation, _ = world.reset(seed=int(reset))
        kept(parts, observation, "observation")
        now.append(shown(observation))
    keys: Any = jax.vmap(jax.random.key)(np.array([draw for *_, draw in seeds], np.uint32))
    memory = None if actor is None else _begun(actor, jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys))
    step = 0
    while not all(over):
        chosen = None
        if actor is not None:
            for number, observation in zip(numbers, now, strict=True):
                _check(observation, step, number)
            together = jax.tree.map(lambda *each: np.stack(each), *now)
            chosen, memory = _acted(actor, memory, together, keys, np.uint32(step + 1))
            chosen = jax.tree.map(np.asarray, chosen)
        for i, world in enumerate(worlds):
            if over[i] is not None:
                continue
            if chosen is None:
                action = world.action_space.sample()
            else:
                one = jax.tree.map(lambda leaf, i=i: leaf[i], chosen)
                action = accepted(gymnasium, world.action_space, one, f"step {step} of episode {numbers[i]}")
            observation, reward, terminated, truncated, info = world.step(action)
            kept(done[i], action, "action")
            kept(seen[i], observation, "observation")
            now[i] = shown(observation)
            rewards[i].append(float(reward))
            steps[i].append(int(info.get("steps", 1)))
            if terminated or truncated:
                over[i] = bool(terminated), bool(truncated)
        step += 1
    return [
        Episode(
            {name: np.stack(each) for name, each in seen[i].items()},
            {name: np.stack(each) for name, each in done[i].items()},
            np.array(rewards[i]),
            *end,
            infos={"steps": np.array(steps[i])},
            seed=int(seeds[i][0]),
        )
        for i, end in enumerate(over)
        if end is not None
    ]


def _check(observation: Any, step: int, number: int) -> None:
    for leaf in jax.tree.leaves(observation):
        if leaf.dtype.kind == "f" and np.any(np.isnan(leaf)):
            raise ValueError(
                f"env: an observation holds NaN at step {step} of episode {number}; an actor needs numbers"
            )
