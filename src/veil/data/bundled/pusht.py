"""The human demonstrations of PushT (Chi et al. 2023), from a file that the user has."""

import os
import zipfile
from pathlib import Path

import numpy as np

from veil.data.recorded.recordings import Episode, Recording

FILE = "pusht_human.npz"
PARTS = {"state": (5,), "action": (2,), "keypoint": (9, 2)}  # and their axes, of one step


def find(folder: Path | None = None) -> Path | None:
    """The file in the folder, else in the one that the environment variable VEIL_DATA names; or in pusht/ in these."""
    named = os.environ.get("VEIL_DATA")
    places = [folder] if folder is not None else [Path(named)] if named else []
    each = (inside / FILE for place in places for inside in (place, place / "pusht"))
    return next((file for file in each if file.is_file()), None)


def read_pusht(file: Path, name: str = "pusht") -> Recording:
    """206 episodes in which people push a T onto its place: the data of Diffusion Policy, ten steps a second.

    Parts: "observation", 20 numbers: nine points of the T, (x, y) each, and (x, y) of the agent, in pixels of a field
    of 512 x 512 (the low-dimensional observation of Chi et al. 2023); "state": the agent's (x, y), the T's (x, y) and
    angle (rad, in [0, 2π), so that it jumps); "action": where the agent is wanted. The last action of an episode, of
    which nobody recorded what it led to, is left out. No rewards were recorded: they are missing (NaN).

    Args:
        file: an .npz with "state" [S, 5], "action" [S, 2], "keypoint" [S, 9, 2] of all S steps, and "episode_ends", the
            number of steps up to the end of each episode.
        name: of the recording.

    Raises:
        ValueError: it is not such a file.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            found = {part: archive[part] for part in (*PARTS, "episode_ends")}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: expected the arrays {', '.join(PARTS)} and episode_ends: {error}") from None
    ends = found["episode_ends"]
    steps = len(found["state"])
    for part, shape in PARTS.items():
        if found[part].shape != (steps, *shape) or not np.all(np.isfinite(found[part])):
            raise ValueError(
                f"{file}: {part}: expected finite numbers [{steps}, {', '.join(map(str, shape))}]; its shape is "
                f"{list(found[part].shape)}"
            )
    if ends.ndim != 1 or not len(ends) or np.any(np.diff(ends, prepend=0) < 2) or ends[-1] != steps:
        raise ValueError(f"{file}: episode_ends: expected increasing numbers up to {steps}, at least 2 apart")
    stops = ends.tolist()
    return Recording([_episode(found, *each) for each in zip([0, *stops[:-1]], stops, strict=True)], name=name)


def observed(keypoints: np.ndarray, agent: np.ndarray) -> np.ndarray:
    """[..., 20]: the points [..., 9, 2] and the agent's place [..., 2] side by side."""
    return np.concatenate([keypoints.reshape(*keypoints.shape[:-2], -1), agent], -1)


def _episode(found: dict[str, np.ndarray], begin: int, end: int) -> Episode:
    state = found["state"][begin:end]
    return Episode(
        {"observation": observed(found["keypoint"][begin:end], state[:, :2]), "state": state},
        {"action": found["action"][begin : end - 1]},
        np.full(end - begin - 1, np.nan, np.float32),
        truncated=True,
    )
