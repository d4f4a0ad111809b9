"""Learning in an environment: play some steps, learn from as many, and again."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.continuous.networks import Learnt
from veil.control.continuous.playground import Playground, opened, standard, units_of
from veil.control.continuous.skill import Skill
from veil.control.continuous.transitions import Replay, Transitions, transitions
from veil.data import Recording
from veil.host.keys import generator
from veil.host.progress import Progress
from veil.model.checks import random_key, whole
from veil.units import Units


class Learner(eqx.Module):
    """Something that learns to act from transitions. Its steps are pure: jit, scan and vmap them."""

    newest: eqx.AbstractVar[int | None]  # of how many of the last own transitions it learns; None: of all

    @property
    @abstractmethod
    def discount(self) -> float:
        """γ of a step."""

    @property
    @abstractmethod
    def imitates(self) -> bool:
        """Whether it learns from what an expert did, and not from rewards."""

    @abstractmethod
    def start(self, example: Transitions, key: PRNGKeyArray) -> Any:
        """The state before the first step, from some transitions, observations about standardised."""

    @abstractmethod
    def step(self, state: Any, batch: Transitions, key: PRNGKeyArray) -> tuple[Any, dict[str, Float[Array, ""]]]:
        """The state after a step on a batch, and what may be looked at."""

    @abstractmethod
    def learnt(self, state: Any) -> Learnt:
        """The policy and the critics as they are now."""

    def learn(
        self,
        env: Any,
        steps: int,
        *,
        key: Any,
        recording: Recording | None = None,
        begin: int = 1000,
        every: int = 50,
        updates: int = 1,
        batch_size: int = 256,
        capacity: int = 1_000_000,
        progress: bool | None = None,
        watch: Callable[[int, int, str], None] | None = None,
    ) -> Skill:
        """Play ``steps`` steps of an environment and learn from them; the same key gives the same skill.

        The first ``begin`` steps are random, and say in which units observations are standardised. After that each
        ``every`` steps are followed by ``updates`` times as many steps of the learner, in one compiled program, each on
        ``batch_size`` transitions, half of them of a ``recording`` where there is one.

        Args:
            env: the name of a Gymnasium environment, an environment, or a function that makes one (closed in the end).
            steps: of the environment, in all.
            key: what all draws, and the environment's seeds, follow from.
            recording: what an expert did, episodes of the same environment (``veil.collect``).
            capacity: how many transitions are kept.
            progress: whether a bar is shown (None: on a terminal).
            watch: called as (done, total, words) from time to time.

        Raises:
            ValueError: an environment whose observations or actions are no array of real numbers, a recording of
                another environment, no recording where one is needed, or numbers out of range.
            ModuleNotFoundError: gymnasium, or what the environment needs, is not installed.
        """
        random_key(key)
        numbers = {"steps": steps, "begin": begin, "every": every, "updates": updates, "batch_size": batch_size}
        for name, number in numbers.items():
            whole(name, number)
        whole("capacity", capacity)
        if steps <= begin:
            raise ValueError(f"steps: expected more than the {begin} random ones of the beginning; got {steps}")
        if capacity < max(begin, every):
            raise ValueError(f"capacity: expected place for {max(begin, every)} transitions or more; got {capacity}")
        shown = self._shown(recording)
        key_begin, key_act, key_learn, key_seed = jax.random.split(key, 4)
        rng = generator(key_seed)
        with opened(env) as world, Progress(progress, "learning") as bar:
            played = Playground(world, rng)
            if shown is not None:
                played.check(shown)
            first = played.steps(begin, lambda seen: rng.uniform(played.low, played.high))
            units = units_of(first, shown, played)
            shown = None if shown is None else standard(shown, units)
            rows = standard(first, units)
            state = self.start(rows, key_begin)
            replay = Replay.of(rows, min(capacity, steps)).added(rows)
            while len(played) < steps:
                count, policy = min(every, steps - len(played)), self.learnt(state).policy

                def acting(seen: np.ndarray, policy: Any = policy) -> np.ndarray:
                    return np.asarray(_acted(policy, units, seen, key_act, np.uint32(len(played))))

                replay = _added(replay, standard(played.steps(count, acting), units))
                source = replay, shown, jax.random.fold_in(key_learn, len(played))
                state, info = _learned(self, state, *source, updates * count, batch_size)
                words = played.words(f"entropy {float(info['entropy']):.2f} nats")
                for told in (bar.update, watch):
                    if told is not None:
                        told(len(played), steps, words)
        return Skill.of(self.learnt(state), units, self.discount, played.returns, played.ends)

    def _shown(self, recording: Recording | None) -> Transitions | None:
        """What is demonstrated. Raises ValueError if it is missing, or its rewards are where they are needed."""
        if recording is None:
            if self.imitates:
                raise ValueError(f"recording: a {type(self).__name__} with this objective learns from one; give it")
            return None
        shown = transitions(recording)
        if not self.imitates and not np.all(np.isfinite(shown.reward)):
            raise ValueError("recording: its rewards are not known, and they are what is learned from; leave it out")
        return shown


@eqx.filter_jit
def _acted(policy: Any, units: Units, seen: Any, key: PRNGKeyArray, step: Any) -> Any:
    return units.back(policy.sample(jax.random.fold_in(key, step), units.given(seen))[1])


@eqx.filter_jit
def _added(replay: Replay, rows: Transitions) -> Replay:
    return replay.added(rows)


@eqx.filter_jit
def _learned(
    learner: Learner,
    state: Any,
    replay: Replay,
    shown: Transitions | None,
    key: PRNGKeyArray,
    count: int,
    batch_size: int,
) -> tuple[Any, dict[str, Any]]:
    """The state after ``count`` steps of the learner, and what the last says."""
    arrays, rest = eqx.partition(state, eqx.is_array)
    own = batch_size if shown is None else batch_size // 2

    def step(arrays: Any, key: PRNGKeyArray) -> tuple[Any, dict[str, Any]]:
        key_own, key_shown, key_step = jax.random.split(key, 3)
        batch = replay.drawn(key_own, own, learner.newest)
        if shown is not None:
            places = jax.random.randint(key_shown, (batch_size - own,), 0, len(shown.reward))
            batch = batch.together(jax.tree.map(lambda leaf: leaf[places], shown))
        after, info = learner.step(eqx.combine(arrays, rest), batch, key_step)
        return eqx.filter(after, eqx.is_array), info

    arrays, infos = jax.lax.scan(step, arrays, jax.random.split(key, count))
    return eqx.combine(arrays, rest), jax.tree.map(lambda leaf: leaf[-1], infos)
