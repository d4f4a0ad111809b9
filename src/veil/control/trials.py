"""An actor on trial: episodes in an environment, and what came of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from veil.control import worlds
from veil.control.actors import Actor
from veil.control.collecting import SEED, collect, environment, shown
from veil.control.policies import Policy
from veil.control.preparing import prepared
from veil.control.worlds.drawing import draw
from veil.control.worlds.frame import Drives, World, drives, entropy
from veil.data.core.checks import check_rows
from veil.data.core.packages import needed
from veil.data.recorded import folders
from veil.data.recorded.views import ACTED, OBSERVED, View, named
from veil.host.showing import Shown

NAMES = {"tree": "veil/Tree-v0", "slalom": "veil/Slalom-v0", "pusht": "veil/PushT-v0"}
OURS: dict[str, Callable[[], World]] = {"veil/Tree-v0": worlds.Tree, "veil/Slalom-v0": worlds.Slalom}
PUSHT = NAMES["pusht"]
FILMED, DRAWN = 4, 100  # episodes of a film, and paths in one picture


@dataclass(frozen=True, repr=False)
class Trials(Shown):
    """N episodes: the ``returns`` [N], and what the environment says of how they ended.

    ``success`` [N], None where it does not say; ``outcomes`` [N], which of its ``ways`` to succeed an episode took (-1:
    none), None where there are none to tell apart. A return is the sum of the rewards, of PushT the greatest one, which
    is its score. If pictures were asked for, ``frames`` are those of the first episodes, step by step, and ``picture``
    shows how they went, of our worlds a hundred of them.
    """

    environment: str
    returns: np.ndarray
    success: np.ndarray | None = None
    outcomes: np.ndarray | None = None
    ways: int | None = None
    frames: list[list[np.ndarray]] = field(default_factory=list)
    picture: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.returns)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers: ``success`` (the share), ``return_mean``, ``return_standard_error``, ``episodes``; if they are
        known ``success_standard_error``, ``entropy`` of the outcomes of successful episodes and its standard error.
        """
        count = len(self)
        error = float(np.std(self.returns, ddof=1) / np.sqrt(count)) if count > 1 else None
        rate = None if self.success is None else float(np.mean(self.success))
        found: dict[str, Any] = {"environment": self.environment, "episodes": count, "success": rate}
        found |= {"return_mean": float(np.mean(self.returns)), "return_standard_error": error}
        if rate is not None:
            found["success_standard_error"] = float(np.sqrt(rate * (1 - rate) / count))
        if self.success is not None and self.outcomes is not None and self.ways is not None:
            found["entropy"], found["entropy_standard_error"] = entropy(self.outcomes[self.success], self.ways)
            found["outcomes"] = np.bincount(self.outcomes[self.success], minlength=self.ways).tolist()
        return found


def trials(
    env: str,
    actor: Actor,
    episodes: int,
    *,
    seed: int,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    film: bool = False,
    frames: int | None = None,
    grey: bool = False,
    repeat: int = 1,
    watch: Callable[[int, int, str], None] | None = None,
) -> Trials:
    """Let an actor play so many episodes of an environment, and see what comes of them.

    ``env``: "tree", "slalom", "pusht", or the name of a Gymnasium environment. Those of the tree and the slalom are
    played at once, in one compiled program; those of PushT begin as in the tests of its protocol (seeds 100000, ...)
    and are played side by side; others one by one. The success of an environment's episode is what its info says at the
    end, "success" or "is_success".

    Args:
        env, actor, episodes: what plays what, and how often.
        seed: what the actor draws, and how episodes begin (but for PushT's), follow from it.
        out: a folder to keep the episodes in, as ``veil.collect`` does.
        force: delete episodes that are there.
        film: keep pictures of the first episodes.
        frames, grey, repeat: what the actor sees of a Gymnasium environment, and how long its actions last, as in
            ``veil.control.prepared``.
        watch: called as (done, total, words) after each episode that is played alone.

    Raises:
        ModuleNotFoundError: a package of the environment is missing; the message has the command that installs it.
        ValueError: an unknown environment, or an actor whose observations or actions are not those of it.
        FileExistsError: the folder holds other things.

    >>> from veil.control.worlds import Tree, tree
    >>> from veil import ScriptedActor
    >>> trials("tree", ScriptedActor(tree.Demonstrator(Tree(), side=1.0)), 10, seed=0).as_dict()["success"]
    1.0
    """
    check_rows(episodes, "episodes")
    name = NAMES.get(env, env)
    key = jax.random.key(seed)
    if out is not None and not force and Path(out).exists() and folders.is_here(Path(out)):
        raise FileExistsError(f"out: {out} holds episodes; choose another place, or begin anew with force")
    plain = frames is None and repeat == 1
    if name in OURS and plain:
        world = OURS[name]()
        _check(env, _view(actor), np.zeros(world.bounds()[0].shape), world.limits()[0].shape)
        found = drives(world, actor, episodes, key)
        if out is not None:
            _keep(found, Path(out), {"environment": name, "seed": seed, "policy": type(actor).__name__}, force)
        films = [_frames(found, i) for i in range(min(FILMED, episodes))] if film else []
        picture = draw(world.scene(), *found.paths[:DRAWN]) if film else None
        return Trials(
            env, found.rewards.sum(1, dtype=float), found.success, found.outcome, world.outcomes, films, picture
        )
    world = prepared(name, frames=frames, grey=grey, repeat=repeat, render=film)
    _check(env, _view(actor), shown(world.observation_space.sample()), world.action_space.shape)
    if name == PUSHT and plain and not film and out is None:
        from veil.control.worlds.pusht import SEEDS, pusht_scores

        world.close()
        scores = pusht_scores(actor, key, range(SEEDS[0], SEEDS[0] + episodes))
        return Trials(env, scores, scores >= 1)
    with ExitStack() as stack:
        stack.enter_context(closing(world))
        looker: Any = _looking(world, name == PUSHT, film)
        place = out or stack.enter_context(tempfile.TemporaryDirectory())
        collect(looker, episodes, out=place, seed=seed, policy=actor, force=force, watch=watch)
    said = None if None in looker.success else np.array(looker.success, bool)
    returns = np.array(looker.best if name == PUSHT else looker.total)
    picture = np.concatenate([frames[-1] for frames in looker.frames], axis=1) if film else None
    return Trials(env, returns, said, frames=looker.frames, picture=picture)


def check_environment(env: str, view: View) -> None:
    """Raise ValueError where an environment is unknown, or its observations or actions are not those of a ``view``."""
    name = NAMES.get(env, env)
    if name in OURS:
        world: Any = OURS[name]()
        _check(env, view, np.zeros(world.bounds()[0].shape), world.limits()[0].shape)
        return
    with closing(environment(name)) as world:
        _check(env, view, shown(world.observation_space.sample()), world.action_space.shape)


def _view(actor: Actor) -> View | None:
    return actor.view if isinstance(actor, Policy) else None


def _check(env: str, view: View | None, observation: Any, action: tuple[int, ...] | None) -> None:
    if view is None:
        return
    found = {name: np.shape(each) for name, each in named(observation, OBSERVED)}
    for part in _parts(view, OBSERVED):
        if found.get(part.name) != part.shape:
            came = ", ".join(f"{name!r} {list(shape)}" for name, shape in found.items())
            raise ValueError(
                f"env: {env} is not where the demonstrations are from: they have {part.name!r} {list(part.shape)}; "
                f"{env} shows {came}"
            )
    acts = _parts(view, ACTED)
    if len(acts) == 1 and acts[0].name == ACTED and action is not None and acts[0].shape != tuple(action):
        raise ValueError(
            f"env: {env} is not where the demonstrations are from: their actions are {list(acts[0].shape)}; {env} "
            f"takes {list(action)}"
        )


def _parts(view: View, kind: str) -> list[Any]:
    return [part for part in view.parts if part.kind == kind]


def _keep(found: Drives, folder: Path, about: dict[str, Any], force: bool) -> None:
    folders.check_place(folder, about, force)
    folders.begin(folder, about, force)
    for number, episode in enumerate(found.recording(folder.name).episodes):
        folders.write_episode(folder, number, episode)


def _frames(found: Drives, number: int) -> list[np.ndarray]:
    """An episode from above, a picture a step."""
    path, every = found.paths[number], (found.paths.shape[1] - 1) // found.world.steps
    scene = found.world.scene()
    return [draw(scene, path[: 1 + step * every]) for step in range(int(found.lengths[number]) + 1)]


def _looking(world: Any, protocol: bool, film: bool) -> Any:
    """The environment, which notes what comes of each episode; with ``protocol`` it begins as PushT's tests do."""
    gymnasium = needed("environments need gymnasium", "control", "gymnasium")

    class Looking(gymnasium.Wrapper):  # type: ignore[name-defined]
        """The world, and beside it total and greatest reward, and success, of each episode."""

        def __init__(self) -> None:
            gymnasium.Wrapper.__init__(self, world)  # which is not abstract, and has an __init__ of its own
            self.total: list[float] = []
            self.best: list[float] = []
            self.success: list[bool | None] = []
            self.frames: list[list[np.ndarray]] = []

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            from_protocol = 100000 + len(self.total) if protocol else seed
            observation, info = self.env.reset(seed=from_protocol, options=options)
            self.total.append(0.0)
            self.best.append(-np.inf)
            self.success.append(None)
            if film and len(self.frames) < FILMED:
                self.frames.append([])
            self._look()
            return observation, {**info, SEED: from_protocol}

        def step(self, action: Any) -> Any:
            observation, reward, terminated, truncated, info = self.env.step(action)
            self.total[-1] += float(reward)
            self.best[-1] = max(self.best[-1], float(reward))
            said = next((info[name] for name in ("success", "is_success") if name in info), None)
            self.success[-1] = said if said is None else bool(said)
            self._look()
            return observation, reward, terminated, truncated, info

        def _look(self) -> None:
            if len(self.total) <= len(self.frames):
                self.frames[-1].append(np.asarray(self.env.render(), np.uint8))

    return Looking()
