"""PushT of Chi et al. (2023), Diffusion Policy, by gym-pusht: what its low-dimensional protocol sees and scores."""

import os
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.actors import Actor
from veil.data.bundled.pusht import observed
from veil.data.core.packages import needed

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # which gym-pusht imports
needed("PushT needs gymnasium", "pusht", "gymnasium")
import gymnasium  # noqa: E402 -- with the words above where it is not installed

SEEDS = range(100000, 100050)  # of the protocol's tests
STEPS = 300
SIDE = 512.0  # pixels of the field
# (x, y) of nine points of the T in pixels, where it lies at the origin with the angle zero: from the human data, whose
# keypoints are these at the recorded pose (to 2e-5 pixels where the T lies still)
POINTS = np.array(
    [(9.2698, 90.0410), (-60.9835, -1.1867), (60.9128, -1.3934), (-0.2705, 25.5436), (-14.0649, 122.8159),
     (39.0027, 32.8574), (-39.9664, 32.7297), (-16.8243, 62.8632), (23.5415, -1.7003)]
)  # fmt: skip


def keypoints(pose: Float[np.ndarray, "*many 3"]) -> Float[np.ndarray, "*many 9 2"]:
    """The nine points of the T where its pose is (x, y, angle), in the order of the human data.

    >>> np.round(keypoints(np.array([100.0, 200.0, np.pi / 2]))[0]).tolist()
    [10.0, 209.0]
    """
    angle = pose[..., 2]
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2)
    return np.einsum("...ij,kj->...ki", turn, POINTS) + pose[..., None, :2]


def beginning(seed: int) -> np.ndarray:
    """The state that the protocol begins an episode with: agent (x, y), T (x, y), angle. The T is then turned about its
    centre of mass, so that its place is another one, as in the protocol's tests (``legacy_test``).
    """
    rng = np.random.RandomState(seed)
    return np.array([*rng.randint(50, 450, 2), *rng.randint(100, 400, 2), rng.randn() * 2 * np.pi - np.pi])


class PushT(gymnasium.Env):
    """A T is to be pushed onto its place. Observation [20]: nine points of the T and the agent, (x, y) each, in pixels.

    The action is where the agent is wanted, in [0, 512]². The reward is clip(coverage / 0.95, 0, 1), and the episode
    terminates where the coverage is above 0.95: "success" in the info, which has "coverage" too. A seed begins with the
    state that Diffusion Policy's tests begin with.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        package = needed("PushT needs gym-pusht", "pusht", "gym_pusht.envs")
        self.game = package.envs.PushTEnv(obs_type="state", render_mode="rgb_array")
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Box(0.0, SIDE, (2,), np.float32)
        # the T may stick out of the field a little
        self.observation_space = gymnasium.spaces.Box(-SIDE, 2 * SIDE, (20,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        state, _ = self.game.reset(options={"reset_to_state": beginning(seed)})
        return _seen(state), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        wanted = np.clip(np.asarray(action, np.float64), 0.0, SIDE)
        state, reward, over, _, info = self.game.step(wanted)
        return _seen(state), float(reward), bool(over), False, {"success": bool(over), "coverage": info["coverage"]}

    def render(self) -> Any:
        return self.game.render() if self.render_mode == "rgb_array" else None


def _seen(state: np.ndarray) -> np.ndarray:
    return observed(keypoints(state[2:]), state[:2]).astype(np.float32)


def pusht(render_mode: str | None = None) -> PushT:
    """``veil/PushT-v0``, cut off after 300 steps."""
    return PushT(render_mode)


@eqx.filter_jit
def _begun(actor: Actor, keys: Any) -> Any:
    return jax.vmap(actor.init)(keys)


@eqx.filter_jit
def _acted(actor: Actor, memory: Any, seen: Float[Array, "N 20"], key: PRNGKeyArray, step: Any) -> Any:
    keys = jax.random.split(jax.random.fold_in(key, step), len(seen))
    return jax.vmap(actor.act)(memory, seen, keys)


def pusht_scores(
    actor: Actor, key: PRNGKeyArray, seeds: Sequence[int] = SEEDS, steps: int = STEPS
) -> Float[np.ndarray, " N"]:
    """The greatest reward of each episode, one of each seed, which are played side by side: one decision for all.

    An episode that succeeds is over, with the score 1. The mean of the scores is what Diffusion Policy reports.

    Raises:
        ModuleNotFoundError: gym-pusht is not installed; the message has the command that installs it.
        ValueError: an action that is not finite or of another shape.
    """
    games = [PushT() for _ in seeds]
    seen = np.stack([game.reset(seed=int(seed))[0] for game, seed in zip(games, seeds, strict=True)])
    scores, playing = np.zeros(len(games)), np.ones(len(games), bool)
    key_begin, key_act = jax.random.split(key)
    memory = _begun(actor, jax.random.split(key_begin, len(games)))
    for step in range(steps):
        actions, memory = _acted(actor, memory, jnp.asarray(seen), key_act, np.uint32(step))
        wanted = np.asarray(actions)
        if wanted.shape != (len(games), 2) or not np.all(np.isfinite(wanted[playing])):
            raise ValueError(f"actor: expected finite actions of shape (2,); got {wanted[playing][:1]} at step {step}")
        for i in np.flatnonzero(playing):
            seen[i], reward, over, _, _ = games[i].step(wanted[i])
            scores[i], playing[i] = max(scores[i], reward), not over
        if not playing.any():
            break
    return scores
