"""Standardised coordinates: the affine map that a fit works behind, whatever units and offsets the user's columns have.

The scale is robust (half the distance between the 16th and 84th percentiles), so that one outlier does not set it. What
is done on the host is numpy in float64: digits are lost once, when standardised numbers become float32.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Untrained(eqx.Module):
    """A part of a model whose numbers are known, not learned: no fit changes them."""


class Scale(Untrained):
    """standard = (value - shift) / scale, of one array. Shapes [*event]. Not trained."""

    shift: Float[Array, "*event"] | np.ndarray
    scale: Float[Array, "*event"] | np.ndarray

    def inverse(self) -> "Scale":
        """The map back: standard -> the user's units."""
        return Scale(-self.shift / self.scale, 1.0 / self.scale)

    @property
    def square_held(self) -> bool:
        """Whether the present precision holds the scale's square, a variance in the user's units."""
        held, scale = np.finfo(np.dtype(jnp.result_type(float))), np.abs(np.asarray(self.scale, np.float64))
        return bool(np.all((scale > 10 * np.sqrt(held.tiny)) & (scale < 0.1 * np.sqrt(held.max))))

    def standard(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """In standardised coordinates, on the device; of many values [..., *event] at once."""
        shift, scale = (jnp.broadcast_to(part, value.shape) for part in self.held())
        return (value - shift) / scale

    def back(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """In the user's units, on the device."""
        shift, scale = (jnp.broadcast_to(part, value.shape) for part in self.held())
        return shift + scale * value

    def held(self) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
        """Shift and scale as arrays through which no gradient passes."""
        return jax.lax.stop_gradient((jnp.asarray(self.shift), jnp.asarray(self.scale)))

    def exactly(self, value: np.ndarray) -> np.ndarray:
        """Standardised numbers in float64, on the host."""
        return (np.asarray(value, np.float64) - np.asarray(self.shift)) / np.asarray(self.scale)


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Lower weighted quantiles along the last axis: the first value at which the cumulated weight reaches the level.

    A row of weight two counts exactly like two rows.
    """
    if np.ptp(weights) > 0:
        order = np.argsort(values, axis=-1, kind="stable")
        values, weights = (np.take_along_axis(part, order, -1) for part in (values, weights))
    else:
        values = np.sort(values, axis=-1)  # three times as fast
    cumulative = np.cumsum(weights, axis=-1)
    total = cumulative[..., -1:]
    place = [np.sum(cumulative < level * total * (1 - 1e-12), axis=-1, keepdims=True) for level in levels]
    found = [np.take_along_axis(values, np.minimum(at, values.shape[-1] - 1), -1) for at in place]
    return np.moveaxis(np.where(total > 0, np.concatenate(found, -1), 0.0), -1, 0)


def column_scale(column: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(shift, scale) of columns [*D, N]: the median and a robust scale; never zero, never infinite."""
    low, middle, high = map(np.asarray, weighted_quantiles(column, weights, (0.16, 0.5, 0.84)))
    return middle, harmless(column, weights, middle, np.asarray(0.5 * (high - low)))


def harmless(column: np.ndarray, weights: np.ndarray, shift: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """A scale [*D] of columns [*D, N] that is never zero: of a constant, to the last digit, its size, or 1.

    Where a scale is zero because most values are one value, it is the deviation of all of them from ``shift``.
    """
    if not np.all(scale > 0):
        _, spread = deviation(column, weights, shift)
        scale = np.where(scale > 0, scale, spread)
    scale = np.where(scale > 1e-14 * np.abs(shift), scale, np.abs(shift))
    return np.where(scale > 0, scale, 1.0)


def deviation(
    column: np.ndarray, weights: np.ndarray, centre: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and root mean square distance from it, or from a ``centre`` [*D], of columns [*D, N]."""
    shares = weights / np.maximum(np.sum(weights, axis=-1, keepdims=True), np.finfo(float).tiny)
    mean = np.asarray(np.sum(shares * column, axis=-1) if centre is None else centre)
    return mean, np.asarray(np.sqrt(np.sum(shares * (column - mean[..., None]) ** 2, axis=-1)))


def table_scale(
    array: np.ndarray,
    weights: np.ndarray,
    observed: np.ndarray | None,
    isotropic: bool,
    by: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] = column_scale,
) -> Scale:
    """Shift and scale of an array [N, *event], one for each entry, or one common scale; ``by``: of columns."""
    flat = np.asarray(array, np.float64).reshape(len(array), -1).T
    seen = None if observed is None else observed.reshape(len(array), -1).T
    many, parts = max(1, 2**18 // len(array)), []
    for j in range(0, len(flat), many):  # so many columns at a time: memory
        some = np.ascontiguousarray(flat[j : j + many])
        shares = np.broadcast_to(weights, some.shape)
        parts.append(by(some, shares if seen is None else shares * seen[j : j + many]))
    shift, scale = (np.concatenate(part).reshape(array.shape[1:]) for part in zip(*parts, strict=True))
    if isotropic:
        scale = np.full_like(scale, np.sqrt(np.mean(scale**2)))
    return Scale(shift, scale)


def rescale_features(weight: Float[Array, "*batch P"], evidence: Scale | None) -> Float[Array, "*batch P"]:
    """Coefficients of [1, (x - shift)/scale] as coefficients of [1, x]."""
    if evidence is None or weight.shape[-1] == 1:
        return weight
    exact = np.asarray(weight, np.float64)
    slopes = exact[..., 1:] / np.asarray(evidence.scale, np.float64).ravel()
    offset = exact[..., :1] - np.sum(slopes * np.asarray(evidence.shift, np.float64).ravel(), -1, keepdims=True)
    return jnp.asarray(np.concatenate([offset, slopes], -1), jnp.result_type(float))
