"""A film of dreams beside reality: above what the environment showed, below what the model predicts, open loop."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from veil import distributions
from veil.control.agent.skill import ImaginingSkill
from veil.data import Episode
from veil.data.core import trees
from veil.data.recorded.recordings import stepped
from veil.host.films import write_film
from veil.model import Datum
from veil.model.stepwise import rollout
from veil.posterior import Online
from veil.posterior.arguments import parts

SEEN = 5  # frames
GAP = 2  # pixels
SIDE = 96  # pixels of a frame, at least
BLUE = np.array([0, 114, 178], np.uint8)  # round what is predicted


def film(
    path: str | os.PathLike[str],
    skill: ImaginingSkill,
    episodes: Sequence[Episode],
    *,
    key: PRNGKeyArray,
    seen: int = SEEN,
    steps: int = 50,
    draws: int = 4,
    rate: int = 10,
) -> None:
    """Write a .gif or .mp4 of some episodes, side by side: above their frames, below the mean of the open loop.

    The model sees the first ``seen`` frames with their actions, then the actions only, for ``steps`` more at most; the
    mean is over ``draws`` futures. What is predicted has a blue edge.

    Raises:
        ValueError: a skill that sees no frames, or episodes that are too short.
        ModuleNotFoundError: Pillow, or for .mp4 imageio-ffmpeg, is not installed; the message has the command.
    """
    where = [place for place, names in skill.view.query if len(names) == 1 and skill.view.part(names[0]).image]
    if not where:
        raise ValueError("skill: a film needs frames, and it sees none; learn with prepared(..., frames=32)")
    model, posterior = parts(skill.model, skill.posterior)
    assert isinstance(posterior, Online)
    rows = [stepped(each, skill.view, number) for number, each in enumerate(episodes)]
    length = (
        min(seen + steps, *(len(each) + 1 for each in episodes))
        if len(episodes) > 1
        else min(seen + steps, len(episodes[0]) + 1)
    )
    if length <= seen:
        raise ValueError(f"episodes: expected more than {seen} steps in each, to predict some; got {length}")
    cut = jax.tree.map(
        lambda *leaves: jnp.stack([jnp.asarray(leaf[:length], jnp.result_type(float)) for leaf in leaves]), *rows
    )
    dreamt = _dreamt(model, posterior.filter(model), Datum(cut["query"], cut.get("evidence")), key, seen, draws)
    images = lambda tree: np.asarray(dict(trees.leaves(tree))[where[0]])  # noqa: E731
    true, guess = images(cut["query"]), images(dreamt)
    shown = np.concatenate([true[:, :seen], guess], 1)
    write_film(Path(path), [_frame(true[:, t], shown[:, t], t >= seen) for t in range(length)], rate)


@eqx.filter_jit
def _dreamt(model: Any, filter: Any, data: Datum, key: PRNGKeyArray, seen: int, draws: int) -> Any:
    """The mean of the query [N, T - seen, ...] of futures after the first steps."""

    def one(datum: Datum, key: PRNGKeyArray) -> Any:
        past, future = (
            jax.tree.map(lambda leaf, cut=cut: leaf[cut], datum) for cut in (slice(seen), slice(seen, None))
        )

        def draw(key: PRNGKeyArray) -> Any:
            key_filter, key_ahead = jax.random.split(key)

            def step(belief: Any, now: tuple[Any, ...]) -> tuple[Any, None]:
                return filter.update(belief, Datum(now[0].query, now[0].evidence), now[1]), None

            keys = jax.random.split(key_filter, seen)
            belief = jax.lax.scan(step, filter.init(), (past.each_step(), keys))[0]
            state = filter.draw(belief, key_ahead)
            steps = rollout(model, state, future.evidence, len(future), key_ahead)
            return steps.emissions(model, lambda each: distributions.moments(each)[0])

        means = jax.vmap(draw)(jax.random.split(key, draws))
        return jax.tree.map(lambda leaf: jnp.mean(leaf, 0), means)

    return jax.vmap(one)(data, jax.random.split(key, len(data)))


def _frame(above: np.ndarray, below: np.ndarray, ahead: bool) -> np.ndarray:
    """Rows of images [N, H, W, C] in [0, 1] as 8-bit colours, enlarged by repeating pixels."""

    def row(images: np.ndarray, edge: np.ndarray) -> np.ndarray:
        each = []
        factor = max(1, -(-SIDE // max(images.shape[1:3])))
        for image in images:
            colours = np.repeat(image, 3, 2) if image.shape[2] == 1 else image[..., :3]
            large = np.round(255 * np.clip(colours, 0, 1)).astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
            framed = np.tile(edge, (large.shape[0] + 2 * GAP, large.shape[1] + 2 * GAP, 1))
            framed[GAP:-GAP, GAP:-GAP] = large
            each.append(framed)
        return np.concatenate(each, 1)

    white = np.full(3, 255, np.uint8)
    whole = np.concatenate([row(above, white), row(below, BLUE if ahead else white)], 0)
    return whole[: whole.shape[0] // 2 * 2, : whole.shape[1] // 2 * 2]
