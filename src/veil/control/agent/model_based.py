"""Model-based reinforcement learning: act, keep what was seen, learn a model of it, act better, and again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from veil.control.agent.behaviour import Behaviour
from veil.control.agent.learning import Curriculum
from veil.control.agent.novelty import AT_ONCE, Novelty
from veil.control.agent.playing import play
from veil.control.agent.replay import Replay, Sampling, Uniform
from veil.control.agent.skill import ImaginingSkill
from veil.control.collecting import categories_of
from veil.control.imagined import Outcomes, Predicted
from veil.data import Episode
from veil.data.core.packages import needed
from veil.data.recorded import folders
from veil.host.checkpoints import Checkpoints, Keeper, filled, fingerprint, named_leaves
from veil.host.progress import Progress
from veil.learning.trainer import Trainer
from veil.model.checks import whole
from veil.posterior import Continuing
from veil.units import Units

EPISODES, CHECKPOINTS, REPLAY = "episodes", "checkpoints", "replay"
SHOWN = 5  # episodes whose mean return is shown


@dataclass(frozen=True)
class ModelBased:
    """An agent that learns a world model and acts by what it imagines in it; all of it is exchangeable.

    ``model``: any model of sequences that runs step by step and whose ``posterior`` filters (``veil.rssm``, ``dmm``);
    its query are parts of what an environment shows (``query``, as ``Recording.data`` takes it) and what comes of
    actions, "reward" and "terminated"; its evidence are actions. ``behaviour``: ``Planning(planner)``,
    ``Dreaming(actor_critic)``. ``outcomes``: what an imagined step earns; None: what the model says of "reward", and of
    "terminated" if it is in the query; ``discount``: γ of a decision.

    The time line of an iteration: play ``together`` episodes side by side, exploring; write them; take ``updates``
    steps of learning for each decision that was made, on ``batch_size`` windows of ``window`` steps; write a
    checkpoint. The first ``random`` episodes are of random actions, and are followed by ``first`` steps of learning.
    ``sampling``: where windows begin. Units are those of the random episodes. Hafner et al. 2019, algorithm 1.

    ``context``: a window goes on from what was known before it when its steps were last learned from, and not as if an
    episode began there (the replay context of Hafner et al. 2023, "Mastering diverse domains through world models",
    section 3.4); it is for posteriors that are ``Continuing``. ``bonus``: what is new, ``weight`` times of which is
    learned as reward beside what was earned (``Novelty``): by what it knows now, and before it has learned from the
    newest episodes. What the agent then maximises, and its dreams say of "reward", is the sum; returns are of rewards.
    """

    model: Any
    posterior: Any
    behaviour: Behaviour
    query: Any
    outcomes: Outcomes | None = None
    discount: float = 0.99
    objective: Any = None
    optimiser: Any = None
    batch_size: int = 16
    window: int = 50
    updates: float = 1.0
    random: int = 5
    first: int = 100
    together: int = 1
    sampling: Sampling = field(default_factory=Uniform)
    context: bool = False
    bonus: Any = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "window", "random", "together"):
            whole(name, vars(self)[name])
        if not self.updates > 0:
            raise ValueError(f"updates: expected a positive number of learning steps a decision; got {self.updates!r}")
        if not isinstance(self.behaviour, Behaviour):
            raise TypeError(f"behaviour: expected one, such as Planning(CrossEntropy(12)); got {self.behaviour!r}")
        if self.context and not isinstance(self.posterior, Continuing):
            raise TypeError(
                f"context: a {type(self.posterior).__name__} does not go on from what was known before a window; take "
                "a veil.posterior.Sequential, or leave context out"
            )
        if self.novelty is not None:
            self.novelty.check(self.query)

    @property
    def novelty(self) -> Novelty | None:
        """What is new, beside rewards; None without a bonus."""
        return None if self.bonus is None else Novelty(self.bonus, self.weight)

    def learn(
        self,
        env: Callable[[], Any],
        episodes: int,
        *,
        out: str | os.PathLike[str],
        seed: int,
        on_disk: bool = False,
        progress: bool | None = None,
        watch: Callable[[Progressed], None] | None = None,
    ) -> ImaginingSkill:
        """Learn from so many episodes, and keep everything in the folder ``out``; the same call goes on where it ended.

        Episodes are in ``out/episodes`` (a recording, ``veil.data.recording``), the whole state in ``out/checkpoints``.
        A process that is stopped at any moment and started again ends with the same bytes as one that was not; a
        larger number of episodes goes on.

        Args:
            env: makes an environment, as ``lambda: veil.control.prepared("Pendulum-v1", frames=32, repeat=2)``.
            episodes: how many in all, the random ones among them.
            out: the folder.
            seed: everything follows from it: episode k has its own, whatever is played beside it.
            on_disk: whether what windows are taken from is in files, ``out/replay``, made anew by each call, for more
                episodes than there is memory. What comes of it is the same.
            progress: whether a bar is shown (None: on a terminal).
            watch: called after each iteration.

        Raises:
            ValueError: another run's folder, numbers out of range, actions that are neither in a box nor one choice.
            ModuleNotFoundError: gymnasium, or what writes checkpoints, is not installed.
        """
        whole("episodes", episodes)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed: expected a whole number, zero or more; got {seed!r}")
        if episodes <= self.random:
            raise ValueError(f"episodes: expected more than the {self.random} random ones; got {episodes}")
        worlds = [env() for _ in range(self.together)]
        try:
            return _Run(self, worlds, Path(out), seed, on_disk).to(episodes, progress, watch)
        finally:
            for world in worlds:
                world.close()


@dataclass(frozen=True)
class Progressed:
    """How far a run is: ``done`` of so many ``episodes``; the ``returns`` of those, and how many of the environment's

    ``steps`` had been taken when each was over; ``seconds`` since this call; ``info``: what the last learning step
    says; ``skill()``: what it has learned.
    """

    done: int
    episodes: int
    returns: Sequence[float]
    steps: Sequence[int]
    seconds: float
    info: Mapping[str, float]
    skill: Callable[[], ImaginingSkill]


class _Run:
    """One run of an agent, from wherever its folder says."""

    def __init__(self, agent: ModelBased, worlds: list[Any], out: Path, seed: int, on_disk: bool) -> None:
        self.agent, self.worlds, self.out, self.seed = agent, worlds, out, seed
        gymnasium = needed("learning in an environment needs gymnasium", "control", "gymnasium")
        world = worlds[0]
        name = type(world.unwrapped).__name__ if world.spec is None else world.spec.id
        self.about = {"environment": name, "seed": seed, "categories": categories_of(gymnasium, world)}
        self.low, self.high = limits(gymnasium, world.action_space)
        folders.check_place(out / EPISODES, {"environment": name, "seed": seed}, False)
        folders.begin(out / EPISODES, self.about, False)
        self.returns: list[float] = []
        self.steps: list[int] = []
        first = self._played(None, range(agent.random))
        recording = replace(folders.read(out / EPISODES), episodes=first)
        self.view = recording.seen_as(agent.query, "action")
        data = recording.data(agent.query, "action")
        units = Units.of(data, agent.model)
        trainer = Trainer(agent.model, agent.posterior, agent.objective, agent.optimiser, units)
        outcomes = agent.outcomes or Predicted(terminated="terminated" if "terminated" in agent.query else None)
        rest = agent.discount, self.low, self.high, agent.novelty, agent.context
        self.curriculum = Curriculum(trainer, agent.behaviour, outcomes, *rest)
        self.state = self.curriculum.start(data, self._key(0))
        self.replay = Replay(self.view, out / REPLAY if on_disk else None, self.curriculum.begin(self.state))
        self._seen(first)
        self.done = self.updates = self.told = 0
        self.info: dict[str, float] = {}
        asked = {**{name: str(value) for name, value in self.about.items()}, "agent": fingerprint(vars(agent))}
        asked["what the environment shows"] = fingerprint(f"{world}, {world.observation_space}")
        self.keeper = Keeper(Checkpoints(out / CHECKPOINTS, every=0.0), lambda: asked)
        self._resume()

    def to(self, episodes: int, progress: bool | None, watch: Callable[[Progressed], None] | None) -> ImaginingSkill:
        begun = time.perf_counter()
        with Progress(progress, "learning") as bar:
            if self.done == 0:
                self._learn(self.agent.first)
                self._keep(self.agent.random)
            while self.done < episodes:
                numbers = range(self.done, min(self.done + self.agent.together, episodes))
                found = self._played(replace(self.skill(), exploring=True), numbers)
                self._seen(found)
                self._learn(round(self.agent.updates * sum(map(len, found))))
                self._keep(numbers.stop)
                bar.update(self.done, episodes, f"return {np.mean(self.returns[-SHOWN:]):.1f}")
                if watch is not None:
                    seconds = time.perf_counter() - begun
                    history = tuple(self.returns), tuple(self.steps)
                    watch(Progressed(self.done, episodes, *history, seconds, self.info, self.skill))
        self.keeper.close()
        return self.skill()

    def skill(self) -> ImaginingSkill:
        """What it has learned so far."""
        model, posterior = self.curriculum.trainer.result(self.state.trained)
        history = np.asarray(self.returns, np.float32), np.asarray(self.steps, np.int64)
        acting = self.agent.behaviour.acting(self.state.learned)
        inside = acting, self.curriculum.outcomes, self.agent.discount, self.low, self.high
        return ImaginingSkill(model, posterior, *inside, self.view, *history)

    def _played(self, skill: ImaginingSkill | None, numbers: range) -> list[Episode]:
        """Episodes of these numbers: those that are on the disk are what would be played again."""
        places = [folders.place_of(self.out / EPISODES, number) for number in numbers]
        if all(place.exists() for place in places):
            return [folders.read_episode(place) for place in places]
        found = play(self.worlds, skill, numbers, self.seed)
        for number, episode in zip(numbers, found, strict=True):
            folders.write_episode(self.out / EPISODES, number, episode)
        return found

    def _seen(self, episodes: Sequence[Episode]) -> None:
        for episode in episodes:
            self.replay.add(episode)
            self.returns.append(float(np.sum(episode.rewards)))
            self.steps.append(int(np.sum(episode.infos["steps"])) + (self.steps[-1] if self.steps else 0))

    def _learn(self, count: int) -> None:
        agent, info = self.agent, {}
        for number in range(self.updates, self.updates + count):
            rng = np.random.default_rng([self.seed, number])
            batch = self.replay.windows(rng, agent.batch_size, min(agent.window, len(self.replay)), agent.sampling)
            index = np.asarray(batch.index)
            before = None if agent.bonus is None else self.replay.steps(np.maximum(index - 1, 0)).query
            self.state, info, known = self.curriculum.step(self.state, batch, before, self._key(1 + number))
            if agent.context:
                self.replay.remember(index, known)
        self.updates += count
        while agent.bonus is not None and (rows := self.replay.led(self.told, AT_ONCE)) is not None:
            before, after = self.replay.steps(rows - 1).query, self.replay.steps(rows)
            self.state = self.curriculum.told(self.state, before, after)
            self.told += AT_ONCE
        self.info = {name: float(value) for name, value in info.items() if not name.startswith("_")}

    def _key(self, number: int) -> Any:
        return jax.random.fold_in(jax.random.key(self.seed), np.uint32(number))

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def _keep(self, done: int) -> None:
        self.done = done
        numbers = {"done": done, "updates": self.updates, "told": self.told}
        self.keeper.save(done, named_leaves(self._arrays(), "state"), numbers, wait=True)

    def _arrays(self) -> Any:
        """The state, and what the replay remembers."""
        return self.state, self.replay.known

    def _resume(self) -> None:
        saved = self.keeper.latest()
        if saved is None:
            return
        self.done, self.updates, self.told = (saved.number(name) for name in ("done", "updates", "told"))
        self._seen(self._played(None, range(self.agent.random, self.done)))
        arrays = self._arrays()
        named = named_leaves(arrays, "state").items()
        shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in named}
        self.state, known = filled(arrays, "state", saved.arrays(shapes))
        self.state = jax.tree.map(jnp.asarray, self.state)
        self.replay.recall(known)


def limits(gymnasium: Any, space: Any) -> tuple[Any, Any]:
    """The least and the greatest action [U], in the numbers of a model; of a choice zeros and ones.

    Raises ValueError for actions that are neither a bounded vector of real numbers nor one choice.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return jnp.zeros(int(space.n)), jnp.ones(int(space.n))
    real = isinstance(space, gymnasium.spaces.Box) and np.issubdtype(space.dtype, np.floating)
    if not real or not np.all(np.isfinite(space.low) & np.isfinite(space.high) & (space.low < space.high)):
        raise ValueError(
            f"env: expected actions that are real numbers between finite bounds, or one choice; got {space}"
        )
    return jnp.asarray(space.low.ravel(), float), jnp.asarray(space.high.ravel(), float)
