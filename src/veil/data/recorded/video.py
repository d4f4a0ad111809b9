"""Frames of a video at given times, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from veil.data.core.packages import needed


def frames(file: Path, times: np.ndarray, fps: float) -> np.ndarray:
    """The frames [T, H, W, 3] of a video at ``times`` [T], in seconds and in order, as bytes.

    A frame is taken that stands within a quarter of 1/fps of its time, so that none is ever the one before or after.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: PyAV is not installed; the message has the command that installs it.
        ValueError: no video, a damaged one, or one without a frame at one of the times.
    """
    av = needed(f"{file}: video needs PyAV", "video", "av")
    if not file.is_file():
        raise FileNotFoundError(f"there is no video {file}; copy it to there, or name other parts than its frames")
    near = 0.25 / fps
    made: np.ndarray | None = None
    found = 0
    at = None
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise ValueError("it holds no video")
            stream = container.streams.video[0]
            container.seek(max(0, int((times[0] - near) / stream.time_base)), stream=stream)  # to a key frame before
            for frame in _decoded(container, stream):
                at = frame.time
                if at is None or at < times[found] - near:
                    continue
                if at > times[found] + near:
                    break
                image = frame.to_ndarray(format="rgb24")
                made = np.empty((len(times), *image.shape), np.uint8) if made is None else made
                made[found] = image
                found += 1
                if found == len(times):
                    return made
    except (av.FFmpegError, ValueError) as error:
        raise ValueError(f"{file} is not a whole video: {error}; copy it again") from error
    last = (
        "it has no frame that late" if at is None or at < times[found] else f"the nearest one behind is at {at:.4f} s"
    )
    raise ValueError(
        f"{file}: expected a frame at {times[found]:.4f} s (of {len(times)} from {times[0]:.4f} s on, {fps:g} a "
        f"second); {last}. Copy the video again, or name other parts than its frames"
    )


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """The frames from here on, in the order of their times; of a packet that was cut off none are made up."""
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise ValueError(f"what stands at {packet.pts and float(packet.pts * packet.time_base)} s is cut off")
        yield from packet.decode()
