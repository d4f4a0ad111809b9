"""A Gymnasium environment as an agent wants it: seen as frames, each action done several times."""

from typing import Any

import numpy as np

from veil.control.collecting import environment
from veil.control.rendering import picture
from veil.data.core.checks import check_rows
from veil.data.core.packages import needed


def prepared(
    env: Any,
    *,
    frames: int | None = None,
    grey: bool = False,
    repeat: int = 1,
    max_steps: int | None = None,
    render: bool = False,
) -> Any:
    """An environment by its name, or one that is there, whose observations have a "frame", and whose actions last.

    With ``frames`` the observation is a dictionary: what the environment says, "observation" or its own parts, and
    "frame", 8-bit [S, S, 3], what it renders; with ``grey`` [S, S, 1], the mean of the colours. With ``repeat`` an
    action is done so many times, or until the episode is over, in every episode; the reward is the sum. Its info says
    under "steps" how many of the environment's own steps that were. ``render``: it can draw itself, without frames too.

    Raises:
        ValueError: an unknown environment, one that cannot render, numbers out of range.
        ModuleNotFoundError: gymnasium, or what the environment needs, is not installed; the message has the command.

    >>> env = prepared("Pendulum-v1", frames=32, repeat=2)
    >>> observation, info = env.reset(seed=0)
    >>> observation["frame"].shape, env.step(env.action_space.sample())[4]["steps"]
    ((32, 32, 3), 2)
    """
    gymnasium = needed("environments need gymnasium", "control", "gymnasium")
    for name, number in (("frames", frames), ("repeat", repeat), ("max_steps", max_steps)):
        if number is not None:
            check_rows(number, name)
    world = environment(env, frames=frames, max_steps=max_steps, render=render) if isinstance(env, str) else env
    if not isinstance(world, gymnasium.Env):
        raise TypeError(f"env: expected a name or a Gymnasium environment; got a {type(world).__name__}")
    if frames is not None and world.render_mode != "rgb_array":
        raise ValueError(f'env: frames need an environment with render_mode="rgb_array"; got {world.render_mode!r}')
    return _wrapped(gymnasium, world, frames, 1 if grey else 3, repeat)


def _wrapped(gymnasium: Any, world: Any, frames: int | None, channels: int, repeat: int) -> Any:
    class Prepared(gymnasium.Wrapper):
        """Frames beside what the environment says, and actions that last."""

        def __init__(self) -> None:
            gymnasium.Wrapper.__init__(self, world)  # which is not abstract, and has an __init__ of its own
            if frames is not None:
                box = gymnasium.spaces.Box(0, 255, (frames, frames, channels), np.uint8)
                said = world.observation_space
                parts = dict(said.spaces) if isinstance(said, gymnasium.spaces.Dict) else {"observation": said}
                self.observation_space = gymnasium.spaces.Dict({**parts, "frame": box})

        def __str__(self) -> str:
            seen = "" if frames is None else f"{frames} x {frames} x {channels} pixels, "
            return f"<Prepared {seen}each action {repeat} times {world}>"

        def _seen(self, observation: Any) -> Any:
            if frames is None:
                return observation
            parts = observation if isinstance(observation, dict) else {"observation": observation}
            return {**parts, "frame": picture(world, frames, channels)}

        def reset(self, **options: Any) -> Any:
            observation, info = world.reset(**options)
            return self._seen(observation), info

        def step(self, action: Any) -> Any:
            total, taken = 0.0, 0
            terminated = truncated = False
            while taken < repeat and not (terminated or truncated):
                observation, reward, terminated, truncated, info = world.step(action)
                total, taken = total + float(reward), taken + 1
            return self._seen(observation), total, bool(terminated), bool(truncated), {**info, "steps": taken}

    return Prepared()
