"""Episodes of a Gymnasium environment, written to disk as they are played."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np

from veil.control.actors import Actor, Taught, act, begin
from veil.control.rendering import picture
from veil.data import Episode, Recording
from veil.data.core.arrays import check_rows
from veil.data.core.packages import needed
from veil.data.recorded import folders
from veil.data.recorded.views import join, named

SEED = "seed"  # where the info of a reset says which it was, if not the one that was asked for
MUJOCO = "pip install 'gymnasium[mujoco]'"
CONTROL = "pip install 'veil[control]'"


def collect(
    env: Any,
    episodes: int,
    *,
    out: str | os.PathLike[str],
    seed: int,
    policy: Any = None,
    frames: int | None = None,
    max_steps: int | None = None,
    force: bool = False,
    watch: Callable[[int, int, str], None] | None = None,
) -> Recording:
    """Play episodes of a Gymnasium environment and keep them in a folder, one file each.

    Each episode is written when it is over, whole or not at all: a process that is stopped leaves those that were
    finished, and the same call goes on to the number asked for (a larger number collects more). Episode k depends on
    the seed and on k only, so that going on gives what one go would have.

    With `frames` what the environment renders is kept as well, as the observation "frame": 8-bit [T+1, S, S, 3],
    which `Recording.data` turns into numbers in [0, 1]. MuJoCo renders small images without shadows and reflections,
    which is some fifty times faster, and from the camera that follows the body if the model has one; without a display
    MUJOCO_GL=egl and SDL_VIDEODRIVER=dummy are set.

    Args:
        env: the name of an environment, such as "Pendulum-v1", or an environment (for frames with
            render_mode="rgb_array"), or a function that makes one, which is then closed in the end.
        episodes: how many the folder is to hold.
        out: the folder.
        seed: not negative.
        policy: any `veil.Actor`, such as `veil.Policy(fit)`; it sees observations as the environment gives them
            (without text), runs under jit if it is pure, and gets a key for each step that follows from the seed, the
            episode and the step. By default actions are drawn from the action space. Of a fit to a recording's data a
            policy sees and acts by the recording's `view`, so that choices and images are what they were in the data.
        frames: the side of the images in pixels, or None for no images.
        max_steps: actions after which an episode is cut off, in place of the environment's own limit.
        force: delete a collection that is there, and begin anew.
        watch: called as (done, total, words) after each episode.

    Returns:
        the recording in the folder.

    Raises:
        ModuleNotFoundError: gymnasium, pygame, MuJoCo or Pillow is not installed; the message has the command.
        ValueError: an unknown environment, an environment that cannot render, numbers out of range, a folder with
            episodes of other settings; a policy's observation or action that is NaN, or an action of another shape.
        FileExistsError: the folder holds other things.
        TypeError: a policy that is no actor.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = collect("CartPole-v1", 2, out=f"{folder}/carts", seed=0, max_steps=5)
    ...     made.data(evidence="action")
    Data('carts': N=2, query [6, 4], evidence [6, 2])
    """
    check_rows(episodes, "episodes")
    for name, number in (("frames", frames), ("max_steps", max_steps)):
        if number is not None:
            check_rows(number, name)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be an integer that is not negative; got {seed!r}")
    if policy is not None and not isinstance(policy, Actor):
        raise TypeError(
            f"policy: expected an actor, such as veil.Policy(fit), or veil.ScriptedActor(function); got {policy!r}"
        )
    gymnasium = needed("collecting needs gymnasium", "control", "gymnasium")
    folder = Path(out)
    by_name = isinstance(env, str)
    made = by_name or (callable(env) and not isinstance(env, gymnasium.Env))
    world = _make(gymnasium, env, frames, max_steps) if by_name else env() if made else env
    try:
        if not isinstance(world, gymnasium.Env):
            came = type(world).__name__
            raise TypeError(f"env: expected a name, a Gymnasium environment or a function that makes one; got a {came}")
        spec = world.spec
        about: dict[str, Any] = {
            "environment": env if by_name else type(world.unwrapped).__name__ if spec is None else spec.id,
            "seed": int(seed),
            "frames": frames,
            "max_steps": max_steps,
            "policy": "random" if policy is None else type(policy).__name__,
        }
        folders.check_place(folder, about, force)
        if frames is not None and world.render_mode != "rgb_array":
            raise ValueError(f'env: frames need an environment with render_mode="rgb_array"; got {world.render_mode!r}')
        categories = categories_of(gymnasium, world)
        if isinstance(policy, Taught):
            categories |= _categories(gymnasium, world.action_space, "played")
        folders.begin(folder, {**about, "categories": categories}, force)
        for number in range(episodes):
            if not folders.place_of(folder, number).exists():
                try:
                    episode = _play(gymnasium, world, int(seed), number, policy, frames, max_steps)
                except gymnasium.error.DependencyNotInstalled as error:
                    raise _missing(error) from error
                folders.write_episode(folder, number, episode)
            if watch is not None:
                watch(number + 1, episodes, about["environment"])
    finally:
        if made and isinstance(world, gymnasium.Env):
            world.close()
    return folders.read(folder)


# -- the environment ---------------------------------------------------------------------------------------------------


def environment(name: str, *, render: bool = False, frames: int | None = None, max_steps: int | None = None) -> Any:
    """A Gymnasium environment by its name, which draws itself if it is to ``render``, or for ``frames`` of this side.

    Raises ValueError for an unknown one, ModuleNotFoundError, with the command, for what it needs.
    """
    return _make(needed("environments need gymnasium", "control", "gymnasium"), name, frames, max_steps, render)


def _make(gymnasium: Any, name: str, frames: int | None, max_steps: int | None, render: bool = False) -> Any:
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    options: dict[str, Any] = {} if max_steps is None else {"max_episode_steps": max_steps}
    options |= {"render_mode": "rgb_array"} if render else {}
    if name.startswith("veil/"):
        import_module("veil.control.worlds")  # which makes them known
    try:
        spec = gymnasium.spec(name)
        physical = "mujoco" in str(spec.entry_point)
        if frames is not None:
            needed("frames need Pillow", "control", "PIL.Image")
            options["render_mode"] = "rgb_array"
            if "render_size" in spec.kwargs:  # it draws in the size that is wanted
                options["render_size"] = frames
            if physical:
                # "track" is by custom the camera that follows the body; without one in the model it is the default
                options |= {"width": frames, "height": frames, "camera_name": "track"}
        world = gymnasium.make(name, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise _missing(error) from error
    except gymnasium.error.Error as error:
        raise ValueError(f"env: {error}") from error
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    if frames is not None and physical:
        _plain(world.unwrapped.model)
    return world


def _plain(model: Any) -> None:
    """MuJoCo without what costs most of the time of a small image: shadows, reflections and smoothing."""
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0


def _missing(error: BaseException) -> ModuleNotFoundError:
    text = str(error)
    if "mujoco" in text.lower():
        return ModuleNotFoundError(f"env: this environment needs MuJoCo; install it with: {MUJOCO}")
    if "pygame" in text.lower():
        return ModuleNotFoundError(f"env: this environment is drawn by pygame; install it with: {CONTROL}")
    return ModuleNotFoundError(f"env: {text}")


def categories_of(gymnasium: Any, world: Any) -> dict[str, Any]:
    """The values of the parts of an environment that are choices."""
    seen, done = world.observation_space, world.action_space
    return {**_categories(gymnasium, seen, "observation"), **_categories(gymnasium, done, "action")}


def _categories(gymnasium: Any, space: Any, name: str) -> dict[str, Any]:
    """The values of the parts that are choices: the first and the one behind the last, of several a list of them."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return {name: (int(space.start), int(space.start + space.n))}
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        starts = np.ravel(space.start)
        return {name: [[int(a), int(a + n)] for a, n in zip(starts, np.ravel(space.nvec), strict=True)]}
    inside: Any = ()
    if isinstance(space, gymnasium.spaces.Dict):
        inside = space.spaces.items()
    elif isinstance(space, gymnasium.spaces.Tuple):
        inside = ((f"_index_{i}", each) for i, each in enumerate(space.spaces))
    parts = [_categories(gymnasium, each, join(name, key)) for key, each in inside]
    return {key: values for part in parts for key, values in part.items()}


# -- an episode --------------------------------------------------------------------------------------------------------


def _play(
    gymnasium: Any, world: Any, seed: int, number: int, actor: Actor | None, frames: int | None, max_steps: int | None
) -> Episode:
    reset, random, draw = (int(each) for each in np.random.SeedSequence([seed, number]).generate_state(3))
    world.action_space.seed(random)
    memory: Any = None
    key: Any = None
    if actor is not None:
        key_begin, key = jax.random.split(jax.random.key(np.uint32(draw)))
        memory = begin(actor, key_begin)
    observation, said = world.reset(seed=reset)
    seen: dict[str, list[Any]] = {}
    done: dict[str, list[Any]] = {}
    rewards: list[float] = []
    kept(seen, observation, "observation")
    _look(seen, world, frames)
    terminated = truncated = False
    while not (terminated or truncated):
        if actor is None:
            action = world.action_space.sample()
        else:
            where = f"step {len(rewards)} of episode {number}"
            for name, each in named(observation, "observation"):
                if np.any(np.isnan(each)):
                    raise ValueError(f"env: the observation {name!r} holds NaN at {where}; a policy needs numbers")
            chosen, memory = act(actor, memory, shown(observation), key, len(rewards))
            action = accepted(gymnasium, world.action_space, chosen, where)
        observation, reward, terminated, truncated, _ = world.step(action)
        if isinstance(actor, Taught):
            wanted, by_expert = actor.lesson(memory)
            kept(done, accepted(gymnasium, world.action_space, wanted, where), "action")
            kept(done, action, "played")
            kept(done, by_expert, "expert")
        else:
            kept(done, action, "action")
        kept(seen, observation, "observation")
        _look(seen, world, frames)
        rewards.append(float(reward))
        truncated = truncated or (max_steps is not None and len(rewards) >= max_steps)
    return Episode(
        {name: np.stack(each) for name, each in seen.items()},
        {name: np.stack(each) for name, each in done.items()},
        np.array(rewards),
        bool(terminated),
        bool(truncated),
        seed=said.get(SEED, reset),
    )


def shown(observation: Any) -> Any:
    """What an actor sees: arrays, or dictionaries and tuples of them, without text."""
    if isinstance(observation, dict):
        return {name: shown(each) for name, each in observation.items() if not isinstance(each, str)}
    if isinstance(observation, tuple):
        return tuple(shown(each) for each in observation if not isinstance(each, str))
    return np.asarray(observation)


def accepted(gymnasium: Any, space: Any, action: Any, where: str) -> Any:
    """An actor's action as the environment wants it. Raises ValueError for NaN, another shape, what is no choice."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {name: accepted(gymnasium, each, action[name], where) for name, each in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(accepted(gymnasium, each, part, where) for each, part in zip(space.spaces, action, strict=True))
    found = np.asarray(action)
    if found.shape != space.shape and (space.shape or found.size != 1):
        raise ValueError(
            f"policy: expected actions of shape {space.shape}; got {found.shape}. One that learned the choices of a "
            "recording acts in them if it is made of the Fit to Recording.data"
        )
    if np.any(np.isnan(found)):
        raise ValueError(f"policy: its action at {where} is NaN; look at the observations it gets")
    whole = np.issubdtype(space.dtype, np.integer)
    found = (np.rint(found) if whole else found).reshape(space.shape).astype(space.dtype)
    if whole and not space.contains(found):
        raise ValueError(f"policy: its action at {where}, {found}, is not in {space}")
    return int(found) if isinstance(space, gymnasium.spaces.Discrete) else found


def kept(kept: dict[str, list[Any]], value: Any, name: str) -> None:
    """One entry more of each part; text is left out."""
    for part, each in named(value, name):
        # a copy: some environments give the same array again and again
        kept.setdefault(part, []).append(np.array(each))


def _look(kept: dict[str, list[Any]], world: Any, frames: int | None) -> None:
    if frames is not None:
        kept.setdefault("frame", []).append(picture(world, frames))
