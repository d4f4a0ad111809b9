"""Anything like an array as floats: lists, numpy and jax arrays, frames, tables, columns of objects."""

from __future__ import annotations

from typing import Any

import numpy as np

_MISSING_TYPES = {"NoneType", "NAType", "NaTType"}


def numbers(value: Any, argument: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Any table or array as floats [N, ...] with at least two axes, and the column names it brings.

    Raises:
        TypeError: it does not hold real numbers.
        ValueError: it is empty, or has no rows.

    >>> numbers([1, 2], "query")
    (array([[1.],
           [2.]]), ())
    """
    array, names = array_of(value, argument)
    if array.ndim == 0:
        raise ValueError(
            f"{argument} must have one row per datum, shape [N] or [N, ...]; got the single value {value!r}"
        )
    if array.size == 0:
        raise ValueError(f"{argument} must have at least one row and one column; got shape {array.shape}")
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if isinstance(array, np.memmap):
        float_type(array.dtype, argument)
        return array, names
    if array.dtype == object:
        return _from_objects(array, argument, names), names
    return array.astype(float_type(array.dtype, argument), copy=False), names


def array_of(value: Any, argument: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Duck-typed, so that neither pandas nor pyarrow is imported to find out what came."""
    if isinstance(value, np.ndarray):
        return value, ()
    if hasattr(value, "column_names") and hasattr(value, "column"):  # a pyarrow table
        names = tuple(str(name) for name in value.column_names)
        return _stack([value.column(i).to_numpy() for i in range(len(names))], names, argument), names
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):  # a pandas or polars frame
        names = tuple(str(name) for name in value.columns)
        return _stack([value[name].to_numpy() for name in value.columns], names, argument), names
    if hasattr(value, "to_numpy"):  # a series, a pyarrow array
        name = getattr(value, "name", None)
        return np.asarray(value.to_numpy()), () if name is None else (str(name),)
    try:
        return np.asarray(value), ()
    except ValueError as error:
        raise ValueError(
            f"{argument} must be a rectangular array, every row as long as the first; got {error}"
        ) from None


def _stack(columns: list[np.ndarray], names: tuple[str, ...], argument: str) -> np.ndarray:
    # Column by column, since a frame with one text or nullable column would come as objects altogether.
    if not columns:
        raise ValueError(f"{argument} must have at least one column; got a table without any")
    converted = []
    for column, name in zip(columns, names, strict=True):
        if column.dtype == object:
            converted.append(_from_objects(column[:, np.newaxis], argument, (name,))[:, 0])
        else:
            converted.append(column.astype(float_type(column.dtype, f"{argument} column {name!r}"), copy=False))
    return np.stack(converted, axis=1)


def float_type(dtype: np.dtype[Any], what: str) -> np.dtype[Any]:
    """The type that numbers of another one become: float32 if it holds them exactly.

    Raises:
        TypeError: they are not real numbers.

    >>> float_type(np.dtype(np.uint8), "query"), float_type(np.dtype(np.int32), "query")
    (dtype('float32'), dtype('float64'))
    """
    if dtype.kind == "b" or dtype.name in ("float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16"):
        return np.dtype(np.float32)
    if dtype.kind in "iuf":
        return np.dtype(np.float64)
    raise TypeError(
        f"{what} must hold real numbers; got {dtype}. Select the numeric columns, or encode the others as numbers"
    )


def _from_objects(array: np.ndarray, argument: str, names: tuple[str, ...]) -> np.ndarray:
    out = np.empty(array.shape, np.float64)
    for place, value in np.ndenumerate(array):
        if type(value).__name__ in _MISSING_TYPES:
            out[place] = np.nan
        elif isinstance(value, str | bytes | complex) or not hasattr(value, "__float__"):
            column = names[place[-1]] if names else str(place[-1])
            raise TypeError(
                f"{argument} must hold real numbers; column {column}, row {place[0]} (from 0) holds {value!r}. "
                "Select the numeric columns, or encode the others as numbers"
            )
        else:
            out[place] = float(value)
    return out


def first_not_finite(array: np.ndarray) -> tuple[int, ...] | None:
    """The place of the first entry that is NaN or infinite, None if there is none.

    >>> first_not_finite(np.array([[1.0, 2.0], [np.inf, 0.0]]))
    (1, 0)
    """
    # The sum is finite if all entries are, bar an overflow, and needs no temporary of the array's size.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(np.sum(array, dtype=np.float64)):
            return None
    finite = np.isfinite(array)
    if finite.all():
        return None
    return tuple(int(i) for i in np.unravel_index(np.argmin(finite), array.shape))
