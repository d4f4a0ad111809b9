"""Films: frames as an animated GIF."""

import io
from collections.abc import Sequence

import numpy as np


def gif(frames: Sequence[np.ndarray], rate: int = 10, hold: float = 0.0) -> bytes:
    """Frames [H, W, 3] of 8-bit colours, ``rate`` a second, the last for ``hold`` seconds more, over and over.

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
