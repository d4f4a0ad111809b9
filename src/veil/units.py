"""Standardised coordinates: what a fit works in, whatever units and offsets the user's columns have.

The scale is robust (half the distance between the 16th and 84th percentiles), so that one outlier does not set it.
All of it is numpy in float64: digits are lost once, when standardised numbers become float32.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil.data import Data

LARGEST = 1e150


class Units(eqx.Module):
    """The affine map between a user's units and the standardised ones that models are trained in.

    standard = (value - shift) / scale. Shapes [*event]. Not trained.
    """

    shift: Float[Array, "*event"] | np.ndarray
    scale: Float[Array, "*event"] | np.ndarray

    def inverse(self) -> "Units":
        """The map back: standard -> user units."""
        return Units(-self.shift / self.scale, 1.0 / self.scale)

    @staticmethod
    def applied(units: "Units | None", value: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """Standardised; as it is without units."""
        if units is None:
            return value
        shift, scale = jax.lax.stop_gradient((jnp.asarray(units.shift), jnp.asarray(units.scale)))
        return (value - shift) / scale

    @staticmethod
    def composed(inner: "Units | None", outer: "Units | None") -> "Units | None":
        """One map for data that were standardised by ``outer`` and then by ``inner``."""
        if outer is None or inner is None:
            return inner if outer is None else outer
        return Units(outer.shift + outer.scale * inner.shift, outer.scale * inner.scale)


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Lower weighted quantiles: the first value at which the cumulated weight reaches the level.

    A row of weight two counts exactly like two rows.
    """
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    if not cumulative[-1] > 0:
        return np.zeros(len(levels))
    place = np.searchsorted(cumulative, np.asarray(levels) * cumulative[-1] * (1 - 1e-12))
    return values[order][np.minimum(place, len(values) - 1)]


def column_units(column: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """(shift, scale) of one column: the median and a robust scale; never zero, never infinite."""
    if not np.any(weights > 0):
        return 0.0, 1.0
    low, middle, high = weighted_quantiles(column, weights, (0.16, 0.5, 0.84))
    scale = 0.5 * (high - low)
    if not scale > 0:  # more than two thirds of the values are one value
        scale = float(np.sqrt(np.average((column - middle) ** 2, weights=weights)))
    if not scale > 1e-14 * abs(middle):  # constant, to the last digit
        scale = abs(middle)
    return float(middle), float(scale) if scale > 0 else 1.0


def table_units(array: np.ndarray, weights: np.ndarray, observed: np.ndarray | None, isotropic: bool) -> Units:
    """Units of an array [N, *event], one for each entry, or one common scale."""
    flat = np.asarray(array, np.float64).reshape(len(array), -1)
    seen = None if observed is None else observed.reshape(len(array), -1)
    pairs = [column_units(flat[:, j], weights if seen is None else weights * seen[:, j]) for j in range(flat.shape[1])]
    shift, scale = (np.array(part).reshape(array.shape[1:]) for part in zip(*pairs, strict=True))
    if isotropic:
        scale = np.full_like(scale, np.sqrt(np.mean(scale**2)))
    return Units(shift, scale)


def standardised(units: Units | None, array: np.ndarray | None) -> np.ndarray | None:
    """Standardised numbers in float64."""
    if array is None:
        return None
    exact = np.asarray(array, np.float64)
    return exact if units is None else (exact - np.asarray(units.shift)) / np.asarray(units.scale)


def refuse_huge(data: Data) -> None:
    """Raise ValueError for numbers whose squares overflow even float64."""
    for role, array, names in (
        ("query", data.query, data.query_names),
        ("evidence", data.evidence, data.evidence_names),
    ):
        if array is not None and float(np.max(np.abs(array))) > LARGEST:
            place = np.unravel_index(np.argmax(np.abs(array)), array.shape)
            column = names[place[-1]] if array.ndim == 2 and len(names) == array.shape[1] else place[1:]
            raise ValueError(
                f"{role}: expected numbers up to {LARGEST:g} in size; column {column} has {array[place]:g} in row "
                f"{place[0]}: rescale the column or drop the row"
            )


def rescale_features(weight: Float[Array, "*batch P"], evidence: Units | None) -> Float[Array, "*batch P"]:
    """Coefficients of [1, (x - shift)/scale] as coefficients of [1, x]."""
    if evidence is None or weight.shape[-1] == 1:
        return weight
    exact = np.asarray(weight, np.float64)
    slopes = exact[..., 1:] / np.asarray(evidence.scale, np.float64).ravel()
    offset = exact[..., :1] - np.sum(slopes * np.asarray(evidence.shift, np.float64).ravel(), -1, keepdims=True)
    return jnp.asarray(np.concatenate([offset, slopes], -1), jnp.result_type(float))
