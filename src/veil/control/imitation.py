"""DAgger: the learner plays, the expert says what it would have done there, and the learner learns from all of it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.control import actors
from veil.control.actors import Actor, Taught
from veil.control.collecting import collect
from veil.data import Episode, Recording
from veil.data.core.checks import check_rows
from veil.data.recorded import folders
from veil.data.recorded.recordings import OnDisk

Gate = Callable[[Any, Any, Any], Any]


class Mixed(Taught):
    """At each step the expert's action with probability ``beta``, else the learner's; the expert's is the lesson.

    With a ``gate`` the expert takes over where ``gate(observation, learner's action, expert's action)`` is true.
    Without a learner the expert plays.
    """

    expert: Actor
    learner: Actor | None
    beta: float = eqx.field(static=True)
    gate: Gate | None = eqx.field(static=True)

    def init(self, key: PRNGKeyArray) -> Any:
        key_expert, key_learner = jax.random.split(key)
        learner = None if self.learner is None else actors.begin(self.learner, key_learner)
        return actors.begin(self.expert, key_expert), learner, (None, True)

    def act(self, memory: Any, observation: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        expert, learner, _ = memory
        key_expert, key_learner, key_coin = jax.random.split(key, 3)
        wanted, expert = actors.act(self.expert, expert, observation, key_expert, 0)
        if self.learner is None:
            return wanted, (expert, learner, (wanted, True))
        own, learner = actors.act(self.learner, learner, observation, key_learner, 0)
        if self.gate is not None:
            over = bool(self.gate(observation, *jax.tree.map(np.asarray, (own, wanted))))
        else:
            over = bool(jax.random.uniform(key_coin) < self.beta)
        return wanted if over else own, (expert, learner, (wanted, over))

    def lesson(self, memory: Any) -> tuple[Any, bool]:
        return memory[2]


@dataclass(frozen=True)
class Imitation:
    """What ``dagger`` returns: the last learner, and all that it learned from."""

    policy: Any
    recording: Recording


def first_round(number: int) -> float:
    """1 in the first round and 0 after it: the choice of Ross et al. that has no parameter."""
    return 1.0 if number == 0 else 0.0


def dagger(
    env: Any,
    expert: Any,
    learn: Callable[[Recording, PRNGKeyArray], Actor],
    *,
    rounds: int,
    episodes: int,
    out: str | os.PathLike[str],
    seed: int,
    beta: Callable[[int], float] = first_round,
    gate: Gate | None = None,
    max_steps: int | None = None,
) -> Imitation:
    """Learn from an expert at the states that the learner itself gets into (Ross et al. 2011, algorithm 3.1).

    In round i a mixture plays ``episodes`` episodes, at each step the expert with probability β_i, else the learner of
    the rounds before. At every state the expert says what it would do there: these are the actions of the recording.
    The next learner learns from the episodes of all rounds. In the first round the expert plays.

    With a ``gate`` it is HG-DAgger (Kelly et al. 2019): the expert takes over where the gate says so, and of the later
    rounds only the steps at which it did are learned from; each stretch of them is an episode of the recording.

    Each round is a folder of ``collect`` in ``out``, with what was done as "played" and whether the expert did it as
    "expert" among the actions. Everything follows from the seed; the same call goes on where one was stopped, and
    learns only where there is something left to play.

    Args:
        env: as in ``collect``.
        expert: any actor; a stable-baselines3 agent by ``veil.control.Predicting``.
        learn: ``learn(recording, key)`` gives the actor that has learned from a recording, such as
            ``lambda found, key: veil.Policy(veil.fit(model, found.data("action", "observation"), key=key))``.
        rounds, episodes: how many rounds, of how many episodes each.
        out: a folder.
        seed: not negative.
        beta: β of each round, from 0; by default 1 in the first and 0 after it.
        gate: ``gate(observation, learner's action, expert's action)``, true where the expert takes over, in place of β.
        max_steps: as in ``collect``.

    Raises:
        TypeError: the expert, or what ``learn`` gives, is no actor.
        ValueError: as ``collect``, and a β that is no probability.
    """
    check_rows(rounds, "rounds")
    check_rows(episodes, "episodes")
    _check_actor(expert, "expert")
    folder = Path(out)
    played: list[Recording] = []
    learner: Actor | None = None
    for number in range(rounds):
        place, share = folder / f"round_{number:03d}", float(beta(number))
        if not 0 <= share <= 1:
            raise ValueError(f"beta: expected a probability; got {share} of round {number}")
        whole = all(folders.place_of(place, each).exists() for each in range(episodes))
        if number and not whole:
            learner = _learned(learn, _together(played, gate), seed, number)
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        actor = Mixed(expert, learner, share, gate)
        played.append(collect(env, episodes, out=place, seed=own, policy=actor, max_steps=max_steps))
    recording = _together(played, gate)
    return Imitation(_learned(learn, recording, seed, rounds), recording)


def _learned(learn: Any, recording: Recording, seed: int, number: int) -> Actor:
    return _check_actor(learn(recording, jax.random.fold_in(jax.random.key(seed), number)), "learn")


def _check_actor(actor: Any, name: str) -> Actor:
    if not isinstance(actor, Actor):
        raise TypeError(f"{name}: expected an actor, such as veil.Policy(fit); got {actor!r}")
    return actor


def _together(played: Sequence[Recording], gate: Gate | None) -> Recording:
    """One recording of all rounds; with a gate of the later ones only what the expert did."""
    places: list[tuple[int, int, int, int]] = []
    for number, recording in enumerate(played):
        for row, episode in enumerate(recording.episodes):
            acted = np.ones(len(episode), bool) if gate is None or number == 0 else episode.actions["expert"]
            places += [(number, row, *ends) for ends in stretches(acted)]

    def read(place: tuple[int, int, int, int]) -> Episode:
        number, row, start, stop = place
        return part(played[number].episodes[row], start, stop)

    first = played[0]
    return Recording(OnDisk(places, read), first.categories, "imitation", {"rounds": len(played), **first.about})


def stretches(acted: np.ndarray) -> list[tuple[int, int]]:
    """Where runs of true begin, and where the step behind each is.

    >>> stretches(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.diff(np.concatenate([[False], acted, [False]]).astype(np.int8))
    return [(int(a), int(b)) for a, b in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)]


def part(episode: Episode, start: int, stop: int) -> Episode:
    """The steps of an episode from ``start`` until before ``stop``, cut off where it went on."""
    last = stop == len(episode)
    return Episode(
        {name: array[start : stop + 1] for name, array in episode.observations.items()},
        {name: array[start:stop] for name, array in episode.actions.items()},
        episode.rewards[start:stop],
        episode.terminated and last,
        episode.truncated or not last,
        seed=episode.seed if start == 0 else None,
    )
