"""Episodes of a pendulum that come with the library: images, actions, and the true state beside them."""

from pathlib import Path

import numpy as np

from veil.data.recorded.recordings import Episode, Recording

_FILE = Path(__file__).parent / "pendulum.npz"


def pendulum() -> Recording:
    """24 random episodes of 60 actions of Gymnasium's Pendulum-v1, made by ``collect(..., seed=0, frames=16)``.

    Parts: "frame", 16 x 16 pixels of 8-bit colours; "observation", cos and sin of the angle (from upright, rad) and the
    angular velocity (rad/s); "action", the torque (N m, held for 0.05 s); "reward". Gymnasium is under the MIT licence.

    >>> pendulum().data("frame", "action")
    Data('pendulum': N=24, query [61, 16, 16, 3], evidence [61, 1])
    """
    with np.load(_FILE) as file:
        parts = {name: file[name] for name in file.files}
    episodes = [
        Episode({"frame": frame, "observation": seen}, {"action": action}, reward, truncated=True)
        for frame, seen, action, reward in zip(
            parts["frame"], parts["observation"], parts["action"], parts["reward"], strict=True
        )
    ]
    return Recording(episodes, name="pendulum")
