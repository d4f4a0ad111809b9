"""``diagnose``: what may be wrong with an agent that learns a world model, by name, and how well its model predicts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.control.agent.replay import Replay
from veil.control.agent.skill import ImaginingSkill
from veil.control.diagnosis import recorded
from veil.control.diagnosis.acted import acting_check
from veil.control.diagnosis.covered import coverage_checks, covered
from veil.control.diagnosis.findings import FAULT, LEAKED, Finding, merged
from veil.control.diagnosis.judged import prediction_checks
from veil.control.diagnosis.lagged import parted, shifted
from veil.control.diagnosis.predictions import predict
from veil.control.diagnosis.replayed import replay_checks
from veil.control.diagnosis.result import Diagnosis
from veil.control.diagnosis.returned import dream_checks, return_checks
from veil.control.diagnosis.wiring import inference_checks, rollout_checks
from veil.data import Data, Episode, Recording
from veil.data.core import trees
from veil.data.recorded.recordings import stepped
from veil.data.recorded.views import OBSERVED, View
from veil.evaluation.paths import PathLatents, path_latents
from veil.model import Datum, checks
from veil.model.abilities import space_of
from veil.model.batching import as_datum, there
from veil.model.chains import Chain
from veil.posterior import Online
from veil.posterior.arguments import parts

PIECE = 8  # steps of the stretches that inference is tried on
LOOKED = 6  # episodes whose replay is checked
MOST = 200  # episodes that are looked at


def diagnose(
    skill: Any,
    recording: Recording,
    *,
    key: PRNGKeyArray,
    fresh: Recording | None = None,
    reported: Sequence[float] | np.ndarray | None = None,
    episodes: int = 10,
    horizon: int = 15,
    starts: int = 6,
    draws: int = 8,
    random: int = 0,
    repeat: int | None = None,
    limit: int | None = None,
    replay: Callable[[View], Any] = Replay,
    name: str = "",
) -> Diagnosis:
    """Look for named faults in an agent's run, and measure how well its world model predicts: a ``Diagnosis``.

    The recording is checked by itself (ends, copies, repeats, returns, which action leads to what is seen). The parts
    that act and learn, the user's own among them, are driven by their contracts, and compared with what they are
    defined to be: the filter and the posterior (what they may know), the model's rollout, returns of plans and of
    dreams, the replay. Then the model predicts episodes.

    Args:
        skill: what ``ModelBased.learn`` returned.
        recording: the episodes that it learned from, ``veil.data.recording(run / "episodes")``.
        key: random numbers.
        fresh: episodes that the skill played without exploring, after it had learned: these are predicted. None: the
            newest ``episodes`` of the recording, which the model has learned from.
        reported: returns that are reported as the skill's; None: those of ``fresh``.
        episodes: how many are predicted, at most.
        horizon: how many steps ahead.
        starts: from how many places of each episode.
        draws: futures of each.
        random: how many of the recording's first episodes have random actions, which tell best whether actions stand
            where they belong.
        repeat: how often each action is done, if that is known.
        limit: after how many of its own steps the environment cuts episodes off, if that is known.
        replay: what makes the replay of a view.
        name: what the run is called.

    Raises:
        TypeError: no such skill or recording.
        ValueError: numbers out of range, episodes that are too short, or of another environment.
    """
    if not isinstance(skill, ImaginingSkill):
        raise TypeError(f"skill: expected what ModelBased.learn returns; got {type(skill).__name__}")
    for called, each in (("recording", recording), ("fresh", fresh)):
        if each is not None and not isinstance(each, Recording):
            raise TypeError(f"{called}: expected a Recording, such as veil.data.recording(folder); got {each!r:.80}")
    for called, number in (("episodes", episodes), ("horizon", horizon), ("starts", starts), ("draws", draws)):
        checks.whole(called, number)
    checks.random_key(key)
    keys = jax.random.split(key, 6)
    model, posterior = parts(skill.model, skill.posterior)
    assert isinstance(posterior, Online)
    filter, problem = posterior.filter(model), skill.problem
    recording, returns, notes = _some(recording, skill.returns)
    every = list(recording.episodes)
    chosen = list(fresh.episodes)[:episodes] if fresh is not None else every[-episodes:]
    which = (
        f"{len(chosen)} {'fresh episodes of the skill' if fresh is not None else 'newest episodes of the recording'}"
    )
    judged = None if fresh is None else recorded.sums(fresh)
    found = [
        shifted(recording, skill.view, random),
        recorded.ends(recording, limit),
        recorded.copies(recording),
        recorded.repeats(recording, repeat),
        recorded.returns(recording, returns),
        recorded.reported(recording, judged if reported is None else reported),
        acting_check(skill, every[0], keys[0]),
        *_evidence(skill.view),
        *replay_checks(sorted(every, key=len)[:LOOKED], skill.view, replay),
        *return_checks(problem),
        *dream_checks(problem),
    ]
    pieces = _pieces(every, skill.view)
    if pieces is None:
        notes.append("inference was not tried: it takes 3 episodes, or stretches, of 2 steps or more")
    else:
        found += inference_checks(model, posterior, filter, pieces, keys[1])
        actions = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), pieces.evidence)
        state = jax.tree.map(jnp.asarray, problem.model.carry(actions))
        found += rollout_checks(problem, state, jax.tree.map(lambda leaf: leaf[1:], actions), keys[2])
    data = _data(replace(recording, episodes=chosen, about={}), skill.view)
    result = _results(chosen, there(data).shape[1])
    datum = as_datum(data, space=space_of(model))
    steps = Datum(datum.query, datum.evidence, mask=jnp.asarray(there(data)))
    predicted = predict(model, filter, skill.outcomes, steps, result, keys[3], horizon, starts, draws)
    latents = _latents(model, posterior, data, keys[4])
    done, own = (np.concatenate([parted(each, skill.view)[1] for each in some]) for some in (every, chosen))
    coverage = covered(done, None if fresh is None else own, np.asarray(skill.low), np.asarray(skill.high), predicted)
    found += [*prediction_checks(predicted, latents), *coverage_checks(coverage)]
    return Diagnosis(
        name or recording.name,
        which,
        merged(found),
        predicted,
        latents,
        coverage,
        recorded.sums(recording),
        judged,
        tuple(notes),
    )


def _some(recording: Recording, returns: np.ndarray) -> tuple[Recording, np.ndarray, list[str]]:
    """The first and the newest episodes of a long recording, which are read once, with their returns."""
    count = len(recording)
    if count <= MOST:
        return replace(recording, episodes=list(recording.episodes)), returns, []
    numbers = [*range(MOST // 2), *range(count - MOST // 2, count)]
    told = [f"of {count} episodes the first and the newest {MOST // 2} were looked at"]
    known = np.asarray(returns)[[number for number in numbers if number < len(returns)]]
    return replace(recording, episodes=[recording.episodes[number] for number in numbers]), known, told


def _evidence(view: View) -> list[Finding]:
    """Whether what is given to a step is more than actions."""
    told = [name for _, names in view.evidence for name in names]
    if seen := [name for name in told if view.part(name).kind == OBSERVED]:
        words = f"the evidence of a step has {', '.join(seen)}, which are seen with it"
        return [Finding(LEAKED, FAULT, words, "the evidence of a world model's step is the action that led to it")]
    return []


def _names(roles: Any) -> Any:
    """What ``Recording.data`` takes for an array, or a dictionary of them."""
    made = {path: list(names) for path, names in roles}
    return [made[()]] if () in made else trees.nested(made)


def _data(recording: Recording, view: View) -> Data:
    return recording.data(_names(view.query), _names(view.evidence) if view.evidence else None)


def _results(episodes: list[Episode], length: int) -> tuple[np.ndarray, np.ndarray]:
    """The reward that led to each step, and whether it ended its episode, [N, T]."""
    rewards, ended = np.zeros((len(episodes), length)), np.zeros((len(episodes), length))
    for row, each in enumerate(episodes):
        rewards[row, 1 : len(each) + 1] = each.rewards
        ended[row, len(each)] = float(each.terminated)
    return rewards, ended


def _pieces(episodes: list[Episode], view: View) -> Datum | None:
    """The first steps of the three longest episodes that are unlike, as a model sees them [3, L, ...]."""
    some = sorted(episodes, key=len)[-3:]
    length = min(PIECE, *(len(each) + 1 for each in some)) if len(some) == 3 else 0
    if length < 3:
        return None
    rows = [stepped(each, view, number) for number, each in enumerate(some)]
    cut = jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf[:length], jnp.result_type(float)) for leaf in leaves]), *rows
    )
    return Datum(cut["query"], cut.get("evidence"))


def _latents(model: Any, posterior: Any, data: Data, key: PRNGKeyArray) -> PathLatents | None:
    """How the latents of paths are used; None of posteriors that are no chain."""
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), as_datum(data, space=space_of(model)))
    if not isinstance(posterior(model, first), Chain):
        return None
    try:
        return path_latents(model, posterior, data, key=key, samples=2, progress=False)
    except TypeError:  # no closed form of the divergence is known
        return None
