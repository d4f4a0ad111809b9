"""Pictures of a world from above, as an environment renders them."""

import numpy as np
from jaxtyping import Float, UInt8

from veil.control.worlds.frame import Scene
from veil.data.core.packages import needed

FIELD, DISC, LINE, PATH, HERE = (246, 247, 248), (139, 195, 158), (120, 120, 120), (0, 114, 178), (213, 94, 0)
FINE = 2  # pixels drawn for each pixel shown, a side


def draw(scene: Scene, *paths: Float[np.ndarray, "T S"], side: int = 384) -> UInt8[np.ndarray, "height width 3"]:
    """The obstacles, the finish, paths so far and where they are now; the longer side has ``side`` pixels."""
    needed("drawing needs Pillow", "control", "PIL.Image", "PIL.ImageDraw")
    from PIL import Image, ImageDraw

    low, high = np.array(scene.low), np.array(scene.high)
    scale = side / np.max(high - low)
    width, height = (int(each) for each in np.round((high - low) * scale))
    image = Image.new("RGB", (width * FINE, height * FINE), FIELD)
    pen = ImageDraw.Draw(image)

    def at(points: np.ndarray) -> list[tuple[float, float]]:
        """Pixels of places: y goes up."""
        x, y = np.asarray(points, float)[:, :2].T
        return list(zip((x - low[0]) * scale * FINE, (high[1] - y) * scale * FINE, strict=True))

    def disc(place: tuple[float, float], radius: float, colour: tuple[int, int, int]) -> None:
        (x, y), r = place, radius * FINE
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    for x, y, radius in scene.discs:
        disc(at(np.array([[x, y]]))[0], radius * scale, DISC)
    pen.line(at(np.array(scene.finish)), fill=LINE, width=3 * FINE)
    for path in paths:
        if len(path) > 1:
            pen.line(at(path), fill=PATH, width=2 * FINE, joint="curve")
    for path in paths:
        disc(at(path[-1:])[0], side / 80, HERE)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))
