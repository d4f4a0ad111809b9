"""Small pictures of bodies from the side: shapes with soft edges laid over one another, in JAX.

A shape is its share of each pixel, [size, size] in [0, 1]; a picture [size, size, 3] of numbers to 255 is made from
back to front. Lengths are in metres; (0, 0) is the middle of the picture, y goes up, and ``reach`` is how far one sees
to each side. All of it jits with a fixed ``size``, and maps over many.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

Colour = tuple[float, float, float]

SKY_HIGH, SKY_LOW = (71.0, 105.0, 138.0), (49.0, 73.0, 97.0)
FLOOR_FAR, FLOOR_NEAR = (20.0, 34.0, 48.0), (32.0, 56.0, 80.0)
HORIZON = -0.317  # where the floor begins, of the reach


def background(size: int) -> Float[Array, "size size 3"]:
    """The sky, lighter above, and a dark floor."""
    up = -_middles(size, 1.0)[:, None]
    sky = _between(SKY_LOW, SKY_HIGH, (up - HORIZON) / (1.0 - HORIZON))
    floor = _between(FLOOR_FAR, FLOOR_NEAR, (HORIZON - up) / (1.0 + HORIZON))
    rows = jnp.where(up > HORIZON, sky, floor)
    return jnp.broadcast_to(rows[:, None, :], (size, size, 3))


def box(size: int, reach: float, centre: Float[Array, "2"], half: tuple[float, float]) -> Float[Array, "size size"]:
    """An upright rectangle of ``half`` the width and the height: exactly how much of each pixel it covers."""

    def along(middles: Float[Array, " size"], place: Float[Array, ""], half: float) -> Float[Array, " size"]:
        side = reach / size  # half a pixel's
        low = jnp.maximum(middles - side, place - half)
        return jnp.clip(jnp.minimum(middles + side, place + half) - low, 0.0) / (2.0 * side)

    across = _middles(size, reach)
    return along(-across, centre[1], half[1])[:, None] * along(across, centre[0], half[0])[None, :]


def rod(
    size: int, reach: float, begin: Float[Array, "2"], end: Float[Array, "2"], radius: float
) -> Float[Array, "size size"]:
    """All that is nearer than ``radius`` to the line between two places; the edge is one pixel wide."""
    across = _middles(size, reach)
    x, y = across[None, :] - begin[0], -across[:, None] - begin[1]
    way = end - begin
    share = jnp.clip((x * way[0] + y * way[1]) / jnp.sum(way * way), 0.0, 1.0)
    distance = jnp.sqrt((x - share * way[0]) ** 2 + (y - share * way[1]) ** 2)
    return jnp.clip(0.5 + (radius - distance) * size / (2.0 * reach), 0.0, 1.0)


def over(
    picture: Float[Array, "size size 3"], shape: Float[Array, "size size"], colour: Colour
) -> Float[Array, "size size 3"]:
    """The picture with a shape in front."""
    share = shape[..., None]
    return picture + share * (jnp.array(colour)[None, None] - picture)


def bytes_of(picture: Float[Array, "size size 3"]) -> UInt8[Array, "size size 3"]:
    """Numbers to 255, rounded."""
    return (picture + 0.5).astype(jnp.uint8)


def _middles(size: int, reach: float) -> Float[Array, " size"]:
    """Where the middles of pixels are, from left to right."""
    return reach * ((2.0 * jnp.arange(size) + 1.0) / size - 1.0)


def _between(low: Colour, high: Colour, share: Float[Array, "size 1"]) -> Float[Array, "size 3"]:
    """Colours on the way from one to another."""
    share = jnp.clip(share, 0.0, 1.0)
    return jnp.array(low)[None] * (1.0 - share) + jnp.array(high)[None] * share
