"""What an environment renders, as small square pictures."""

from typing import Any

import numpy as np

from veil.data.core.packages import needed


def picture(world: Any, side: int, channels: int = 3) -> np.ndarray:
    """What it renders now, 8-bit [S, S, 3], or grey [S, S, 1]: the mean of the colours."""
    image = world.render()
    if image.shape[:2] != (side, side):
        pillow = needed("frames need Pillow", "control", "PIL.Image").Image
        image = np.asarray(pillow.fromarray(image).resize((side, side), pillow.Resampling.BILINEAR, reducing_gap=2.0))
    if channels == 1:
        image = np.rint(np.mean(image, -1, keepdims=True))
    return np.array(image, np.uint8)
