"""Scripted demonstrations in the two small worlds of ``veil.control.worlds``, which come with the library."""

from pathlib import Path

import numpy as np

from veil.data.formats.writing import whole
from veil.data.recorded.recordings import Episode, Recording

_FOLDER = Path(__file__).parent


def tree() -> Recording:
    """200 drives round a tree, about half of them on the left, by a script: ``demonstrations(Tree(), 200, key(0))``.

    Parts: "observation", x and y (m) and the heading (rad); "action", the steering rate (rad/s, held for half a
    second); "reward", 1 at the end. The side is in the infos as "outcome", 1 on the left.

    >>> tree().data("action", "observation")
    Data('tree, actions taken': N=2528, query (action), evidence (observation0, observation1, observation2))
    """
    return read(_FOLDER / "tree.npz")


def slalom() -> Recording:
    """96 drives through three rows of cylinders by a script, four for each of 24 routes.

    They are ``demonstrations(Slalom(), 96, key(0))``. Parts: "observation", where the disc is and where it is wanted,
    (x, y, x*, y*); "action", by how much the latter is moved; "reward", 1 at the end. The route is in the infos as
    "outcome".

    >>> slalom()
    Recording('slalom': 96 episodes, observation, action, reward, terminated)
    """
    return read(_FOLDER / "slalom.npz")


def write(recording: Recording, file: Path) -> None:
    """Keep demonstrations that all succeed in one small file: how the two were made."""
    with whole(file) as opened:
        np.savez_compressed(
            opened,
            observation=np.concatenate([each.observations["observation"] for each in recording.episodes]),
            action=np.concatenate([each.actions["action"] for each in recording.episodes]),
            lengths=np.array([len(each) for each in recording.episodes], np.int32),
            outcome=np.array([each.infos["outcome"][0] for each in recording.episodes], np.int32),
        )


def read(file: Path) -> Recording:
    """What ``write`` has kept."""
    with np.load(file, allow_pickle=False) as found:
        parts = {name: found[name] for name in found.files}
    lengths = parts["lengths"]
    seen = np.split(parts["observation"], np.cumsum(lengths + 1)[:-1])
    done = np.split(parts["action"], np.cumsum(lengths)[:-1])
    episodes = [
        Episode(
            {"observation": observation},
            {"action": action},
            np.append(np.zeros(len(action) - 1, np.float32), np.float32(1)),
            terminated=True,
            infos={"outcome": np.full(len(observation), outcome)},
        )
        for observation, action, outcome in zip(seen, done, parts["outcome"], strict=True)
    ]
    return Recording(episodes, name=file.stem)
