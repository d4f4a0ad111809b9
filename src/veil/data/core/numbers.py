"""Anything like an array as floats: lists, numpy and jax arrays, frames, tables, columns of objects."""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from veil.data.core.records import DataWarning

MISSING_TYPES = {"NoneType", "NAType", "NaTType"}
_INDEX = re.compile(r"Unnamed: 0(\.\d+)?|__index_level_\d+__")


def row_index(names: Sequence[str]) -> tuple[int, ...]:
    """The columns in which pandas or R writes the numbers or names of rows, which are no data."""
    return tuple(i for i, name in enumerate(names) if (i == 0 and not name.strip()) or _INDEX.fullmatch(name))


def unique(names: tuple[str, ...], where: object) -> tuple[str, ...]:
    """The names, which must differ from each other."""
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ValueError(f"{where} has two columns named {twice!r}; rename one of them")
    return names


def numbers(value: Any, argument: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Any table or array as floats [N, ...] with at least two axes, and the column names it brings."""
    array, names = array_of(value, argument)
    if array.ndim == 0:
        raise ValueError(
            f"{argument} must have one row per datum, shape [N] or [N, ...]; got the single value {value!r}"
            + (". Batches that come one after the other make a veil.data.Stream" if array.dtype == object else "")
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
    """Duck-typed, so that none of pandas, pyarrow, torch and scipy is imported to find out what came.

    What a masked array hides is missing, NaN, in a query; elsewhere it is refused, here or as NaN.
    """
    if isinstance(value, np.ma.MaskedArray):
        return _unmasked(value, argument), ()
    if isinstance(value, np.ndarray):  # a matrix is one, and has two axes whatever is taken of it
        return value if isinstance(value, np.memmap) else np.asarray(value), ()
    if isinstance(value, list | tuple):
        return _listed(value, argument), ()
    if hasattr(value, "tocsr"):
        raise TypeError(f"{argument} is a sparse matrix, and must be a full array; give {argument}.toarray()")
    if hasattr(value, "detach"):  # a tensor, perhaps with a gradient or on another device
        return np.asarray(value.detach().cpu()), ()
    if hasattr(value, "column_names") and hasattr(value, "column"):  # a pyarrow table
        return _framed(value.column_names, value.column, argument)
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):  # a pandas or polars frame
        return _framed(list(value.columns), lambda i: value[value.columns[i]], argument)
    if hasattr(value, "to_numpy"):  # a series, a pyarrow array
        name = value.name if hasattr(value, "name") else None
        return np.asarray(value), () if name is None else (str(name),)
    return np.asarray(value), ()


def _listed(value: list[Any] | tuple[Any, ...], argument: str) -> np.ndarray:
    if any(hasattr(each, "detach") and each.ndim for each in value):
        raise TypeError(
            f"{argument} is a list of tensors, as a batch of a PyTorch DataLoader is: give each its role, as in "
            "Data(batch[0], evidence=batch[1]); a list of rows becomes one array with torch.stack"
        )
    if any(isinstance(each, np.ma.MaskedArray) for each in value):
        return _unmasked(np.ma.array(value), argument)
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{argument} must be a rectangular array, every row as long as the first; got {error}"
        ) from None


def _unmasked(value: Any, argument: str) -> np.ndarray:
    if not np.ma.is_masked(value):
        return np.asarray(value.data)
    if argument.partition("[")[0] not in ("query", "evidence", "weight"):
        row = int(np.argwhere(np.ma.getmaskarray(value))[0][0])
        raise ValueError(f"{argument} must be complete; its mask hides an entry in row {row} (from 0). Fill it in")
    return np.asarray(value.astype(float_type(value.dtype, argument)).filled(np.nan))


def _framed(given: Any, column: Any, argument: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The columns of a frame or table, without the row index that somebody wrote as one."""
    if len(given) == 0:
        raise ValueError(f"{argument} must have at least one column; got a table without any")
    names = unique(tuple(str(name) for name in given), argument)
    index = row_index(names)
    kept = [i for i in range(len(names)) if i not in index] or list(range(len(names)))
    if len(kept) < len(names):
        left = ", ".join(repr(names[i]) for i in index)
        warnings.warn(f"{argument}: left out what is a row index: {left}", DataWarning, stacklevel=2)
    # Column by column, since a frame with one text or nullable column would come as objects altogether.
    converted = []
    for i in kept:
        array = np.asarray(column(i).to_numpy())
        if array.dtype == object:
            converted.append(_from_objects(array[:, np.newaxis], argument, (names[i],))[:, 0])
        else:
            converted.append(array.astype(float_type(array.dtype, f"{argument} column {names[i]!r}"), copy=False))
    return np.stack(converted, axis=1), tuple(names[i] for i in kept)


def float_type(dtype: np.dtype[Any], what: str) -> np.dtype[Any]:
    """The type that numbers of another one become: float32 if it holds them exactly."""
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
        if type(value).__name__ in MISSING_TYPES:
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
    """The place of the first entry that is NaN or infinite, None if there is none."""
    # The sum is finite if all entries are, bar an overflow, and needs no temporary of the array's size.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(np.sum(array, dtype=np.float64)):
            return None
    finite = np.isfinite(array)
    if finite.all():
        return None
    return tuple(int(i) for i in np.unravel_index(np.argmin(finite), array.shape))
