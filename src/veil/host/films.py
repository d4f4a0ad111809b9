"""Pictures one after the other as a film in a file."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

ENDINGS = (".gif", ".mp4")


def gif(frames: Sequence[UInt8[np.ndarray, "height width 3"]], rate: int = 10, hold: float = 0.0) -> bytes:
    """Pictures as the bytes of a .gif, ``rate`` a second, the last for ``hold`` seconds more, over and over.

    Raises:
        ModuleNotFoundError: Pillow is not installed.

    >>> gif([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)])[:3]
    b'GIF'
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a .gif needs Pillow; install it with: pip install 'veil[sequences]'") from error
    pictures = [Image.fromarray(frame) for frame in frames]
    each = round(1000 / rate)
    durations = [each] * (len(pictures) - 1) + [each + round(1000 * hold)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return buffer.getvalue()


def write_film(path: Path, frames: Sequence[UInt8[np.ndarray, "height width 3"]], rate: int) -> None:
    """Write pictures of one size, ``rate`` a second, as a .gif, which plays over and over, or as an .mp4.

    Raises:
        ValueError: another ending.
        ModuleNotFoundError: Pillow, or for .mp4 imageio-ffmpeg, is not installed; the message has the command.
    """
    if path.suffix == ".gif":
        path.write_bytes(gif(frames, rate))
    elif path.suffix == ".mp4":
        _video(path, frames, rate)
    else:
        raise ValueError(f"path must end in .gif or .mp4; got {path.name!r}")


def _video(path: Path, frames: Sequence[np.ndarray], rate: int) -> None:
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "an .mp4 needs imageio-ffmpeg; install it with: pip install imageio-ffmpeg, or write a .gif"
        ) from error
    height, width = (size // 2 * 2 for size in frames[0].shape[:2])  # codecs want even sides
    writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=rate, macro_block_size=2)
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame[:height, :width]))
    writer.close()
