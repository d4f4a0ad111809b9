"""A tree of modules as plain JSON and named arrays, and back. Going back builds registered classes and nothing else.

A module is ``{"class": its name, "fields": {...}}`` (``registered`` for a user's class, ``result`` for a ``Fit`` and
its parts), an array ``{"array": its name, "shape": [...], "dtype": ...}`` (``numpy`` for one of numpy's), a container
``{"tuple": [...]}``, ``list`` or ``{"dict": {...}}``; numbers, text, true, false and null are themselves.
"""

import dataclasses
import math
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from veil.host.files import LARGEST_INTEGER
from veil.host.keys import is_key
from veil.saved import registry

DEEPEST = 64
LARGEST_SIZE = 65536  # larger numbers in a structure need arrays as large
COUNTS = {("BayesianNetwork", "count")}  # numbers that are not sizes
KINDS = (registry.OWN, registry.REGISTERED, registry.RESULT)


def describe(node: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    """What JSON says of a value; its arrays go into ``arrays``, named by their places.

    Raises TypeError for what cannot be saved, naming its place.
    """
    if isinstance(node, jax.Array | np.ndarray | np.generic):
        return _describe_array(node, place, arrays)
    try:
        entry = registry.entry(node)
    except TypeError as error:
        raise TypeError(f"{place}: {error}") from None
    if entry is not None:
        given = {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}
        return {entry[0]: entry[1], "fields": _describe_all(given, place, arrays)}
    if type(node) in (tuple, list):
        parts = _describe_all({str(i): part for i, part in enumerate(node)}, place, arrays)
        return {type(node).__name__: list(parts.values())}
    if type(node) is dict:
        if strange := [name for name in node if type(name) is not str]:
            raise TypeError(f"{place}: a dictionary is saved if its keys are text; got {strange[0]!r:.80}")
        return {"dict": _describe_all(node, place, arrays)}
    if node is None or type(node) in (bool, str):
        return node
    if (type(node) is int and abs(node) <= LARGEST_INTEGER) or (type(node) is float and math.isfinite(node)):
        return node
    if callable(node):
        name = getattr(node, "__name__", type(node).__name__)
        raise TypeError(
            f"{place}: cannot save the function {name}; make it an equinox.Module with a __call__, and write "
            "@veil.register above its class"
        )
    what = repr(node)[:80] if isinstance(node, int | float) else f"a {type(node).__name__}"
    raise TypeError(
        f"{place}: cannot save {what}; what is saved are registered modules, arrays, finite numbers, text, None, and "
        "tuples, lists and dictionaries of them"
    )


def _describe_all(parts: dict[str, Any], place: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    inside = f"{place}." if place else ""
    return {name: describe(part, f"{inside}{name}", arrays) for name, part in parts.items()}


def _describe_array(node: Any, place: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if is_key(node):
        raise TypeError(f"{place}: cannot save a random key; keys are given to verbs and never stored")
    array = np.asarray(node, order="C")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{place}: cannot save an array of {array.dtype}; arrays hold real numbers")
    while place in arrays:  # keys of dictionaries may hold dots
        place += "'"
    arrays[place] = array
    kind = "array" if isinstance(node, jax.Array) else "numpy"
    return {kind: place, "shape": list(np.shape(node)), "dtype": str(array.dtype)}


def restore(structure: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value that ``describe`` described. Takes its arrays out of ``arrays``.

    Raises ValueError for what it never wrote: unknown classes, other fields, shapes or types, sizes that no array
    accounts for.
    """
    return _Builder(arrays).build(structure, 0)


class _Builder:
    """Builds known classes from a structure and arrays; each array is used once."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        # a size is that of an array, up to a factor that makes no difference to memory
        self.largest = max(LARGEST_SIZE, sum(array.size for array in arrays.values()))

    def build(self, node: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError("nested too deeply")

        def deeper(part: Any) -> Any:
            return self.build(part, depth + 1)

        match node:
            case None | bool() | int() | float() | str():
                return node
            case {"array": str(name), "shape": list(shape), "dtype": str(dtype)}:
                return _on_device(name, self.array(name, shape, dtype))
            case {"numpy": str(name), "shape": list(shape), "dtype": str(dtype)}:
                return self.array(name, shape, dtype)[()]
            case {"tuple": list(parts)}:
                return tuple(map(deeper, parts))
            case {"list": list(parts)}:
                return list(map(deeper, parts))
            case {"dict": dict(parts)}:
                return {name: deeper(part) for name, part in parts.items()}
            case {"fields": dict(fields)}:
                for kind in KINDS:
                    if isinstance(name := node.get(kind), str):
                        return self.instance(kind, name, fields, depth)
        raise ValueError(f"unexpected {type(node).__name__} {node!r:.200}")

    def instance(self, kind: str, name: str, given: dict[str, Any], depth: int) -> Any:
        cls: Any = registry.found(kind, name)
        fields = {f.name for f in dataclasses.fields(cls)}
        if kind == registry.RESULT:  # what an earlier version did not write has its default
            optional = [f for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING]
            given = {f.name: {"tuple": []} if f.default == () else f.default for f in optional} | given
        if set(given) != fields:
            raise ValueError(f"{name:.200}: fields {sorted(set(given) ^ fields)!r:.200} do not match")
        built = {field: self.build(value, depth + 1) for field, value in given.items()}
        if kind == registry.OWN:
            self.check_sizes(name, built)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # such as that of an array in the place of a size
                return registry.build(kind, cls, built)
        except Exception as error:
            raise ValueError(f"{name:.200}: its fields do not fit: {error!s:.400}") from error

    def check_sizes(self, name: str, fields: dict[str, Any]) -> None:
        """Raise ValueError for numbers that would make a model ask for far more memory than its arrays take."""
        for field, value in fields.items():
            for number in _integers(value):
                if abs(number) > self.largest and (name, field) not in COUNTS:
                    raise ValueError(f"{name}: {field} is {number}, and no array of the model is as large")

    def array(self, name: str, shape: list[Any], dtype: str) -> np.ndarray:
        array = self.arrays.pop(name, None)
        if array is None:
            raise ValueError(f"array {name:.200} is missing, or used twice")
        if list(array.shape) != shape or str(array.dtype) != dtype:
            raise ValueError(
                f"array {name:.200}: recorded as {dtype!r:.50} {shape!r:.200}, "
                f"found {str(array.dtype)!r} {list(array.shape)}"
            )
        return array


def _integers(value: Any) -> Iterator[int]:
    """Every whole number in a field that is one, or a container of some."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _integers(part)


def _on_device(name: str, array: np.ndarray) -> jax.Array:
    """A JAX array, in JAX's present precision. Raises ValueError for numbers beyond it."""
    try:
        with np.errstate(over="raise"):
            real = array.dtype in (np.float32, np.float64)
            made = jax.device_put(array.astype(jnp.result_type(float)) if real else array)
    except FloatingPointError:
        raise ValueError(f"array {name:.200}: numbers too large for float32; load it in float64") from None
    if array.dtype.kind in "iu" and not np.array_equal(made, array):
        raise ValueError(f"array {name:.200}: numbers too large for {made.dtype}; load it in float64")
    return made
