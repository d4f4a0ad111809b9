"""Residual vector quantisation: a point as a sum of rows of codebooks, one from each. Zeghidour et al. 2021.

Level by level the code nearest to what is left is taken away: r_0 = e, k_l = argmin_k |r_l - C_l[k]|²,
r_{l+1} = r_l - C_l[k_l] (algorithm 1 there). Juang & Gray 1982 for the idea.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def nearest(points: Float[Array, "*N D"], codebook: Float[Array, "C D"]) -> Int[Array, "*N"]:
    """The number of the row of a codebook that is nearest to each point."""
    products = points @ codebook.T
    squares = jnp.broadcast_to(jnp.sum(codebook**2, 1), products.shape)  # |x|² is the same for all rows
    return jnp.argmin(squares - 2.0 * products, -1)


def residual_codes(
    point: Float[Array, " D"], codebooks: Float[Array, "L C D"]
) -> tuple[Float[Array, "L C"], Float[Array, "L D"]]:
    """One-hot codes of each level, and what was left before each.

    >>> codes, left = residual_codes(jnp.array([1.2]), jnp.array([[[0.0], [1.0]], [[-0.2], [0.2]]]))
    >>> codes.tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """

    def level(left: Array, codebook: Array) -> tuple[Array, tuple[Array, Array]]:
        chosen = jax.nn.one_hot(nearest(left, codebook), len(codebook), dtype=left.dtype)
        return left - chosen @ codebook, (chosen, left)

    return jax.lax.scan(level, point, codebooks)[1]


def kmeans(
    points: Float[Array, "N D"], codes: int, key: PRNGKeyArray, iterations: int = 20
) -> tuple[Float[Array, "C D"], Int[Array, " N"]]:
    """Centres and labels: k-means++ seeding (Arthur & Vassilvitskii 2007), then Lloyd's iterations, on the device.

    A centre left without points goes to the point that is farthest from its own.
    """
    far = lambda centre: jnp.sum((points - centre[None]) ** 2, 1)  # noqa: E731
    keys = jax.random.split(key, codes)
    first = points[jax.random.randint(keys[0], (), 0, len(points))]

    def seed(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, distances = carry
        chance = jnp.where(jnp.any(distances > 0), jnp.log(distances), 0.0)
        centre = points[jax.random.categorical(keys[i], chance)]
        return centres.at[i].set(centre), jnp.minimum(distances, far(centre))

    centres = jnp.zeros((codes, points.shape[1]), points.dtype).at[0].set(first)
    centres, _ = jax.lax.fori_loop(1, codes, seed, (centres, far(first)))

    def improve(_: Array, centres: Array) -> Array:
        labels = nearest(points, centres)
        members = jax.nn.one_hot(labels, codes, dtype=points.dtype)
        mass = jnp.sum(members, 0)
        means = members.T @ points / jnp.maximum(mass, 1.0)[:, None]
        lonely = points[jnp.argmax(jnp.sum((points - centres[labels]) ** 2, 1))]
        empty = mass == 0
        moved = jnp.where(empty[:, None], centres, means)
        return jnp.where(jnp.any(empty), moved.at[jnp.argmax(empty)].set(lonely), moved)

    centres = jax.lax.fori_loop(0, iterations, improve, centres)
    return centres, nearest(points, centres)


def residual_kmeans(
    points: Float[Array, "N D"], levels: int, codes: int, key: PRNGKeyArray
) -> Float[Array, "levels codes D"]:
    """Codebooks of all levels: k-means of what is left by the levels before."""
    codebooks = []
    for key_level in jax.random.split(key, levels):
        centres, labels = kmeans(points, codes, key_level)
        codebooks.append(centres)
        points = points - centres[labels]
    return jnp.stack(codebooks)
