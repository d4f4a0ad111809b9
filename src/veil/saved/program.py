"""Exported functions of a model, read back: StableHLO bytes, and a JSON file beside them that says what they are.

    policy.stablehlo        what ``jax.export.deserialize`` reads: one function of arrays, its weights inside
    policy.stablehlo.json   what it computes, names, shapes, types and units of what goes in and comes out, versions

The bytes are a program, but no Python: XLA compiles it and runs it on arrays. It has no access to files, the network or
Python. The one door in the format, calls of functions that are registered in the process, is shut but for the linear
algebra and random numbers that models need. XLA's own parser is not built for hostile bytes: load what you would run.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from veil.host.files import check_format, read_bytes, read_json

FORMAT, VERSION = "veil export", 1
LARGEST_RECORD = 2**20  # bytes of JSON
LARGEST_PROGRAM = 2**31 - 1  # bytes; the format's own limit
ROWS = "N"  # stands for the number of rows in shapes
TYPES = ("float32", "float64", "int32", "uint32")
DRAWING, FACTORISING = ("cu_threefry2x32_ffi", "hip_threefry2x32_ffi"), ("potrf", "trsm", "syrk")
LIBRARIES = ("lapack_s", "lapack_d", "cusolver_", "cublas_", "hipsolver_", "hipblas_")
ALLOWED = {"shape_assertion", *DRAWING, *(f"{a}{b}_ffi" for a in LIBRARIES for b in FACTORISING)}


@dataclass(frozen=True)
class Port:
    """What goes into an exported function, or comes out of it: ``shape`` has "N" where it has rows.

    ``columns``: names of the entries of a row, where they are known; ``below``: a whole number is from 0 to this minus
    one.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    unit: str
    columns: tuple[str, ...] | None = None
    below: int | None = None

    def array(self, value: Any) -> np.ndarray | jax.Array:
        """The value as an array of this type. Raises ValueError, TypeError for another shape or for what is none."""
        array = value if isinstance(value, jax.Array) else np.asarray(value)
        kind = np.dtype(self.dtype).kind
        if array.dtype.kind not in ("biuf" if kind == "f" else "iu"):
            expected = "numbers" if kind == "f" else "whole numbers"
            raise TypeError(f"{self.name}: expected {expected}; got {array.dtype}")
        shape, expected = tuple(array.shape), ", ".join(map(str, self.shape))
        alike = [a == b or (b == ROWS and a > 0) for a, b in zip(shape, self.shape, strict=False)]
        if len(shape) != len(self.shape) or not all(alike):
            raise ValueError(f"{self.name}: expected shape [{expected}]; got {list(shape)}")
        limit = np.iinfo(self.dtype).max + 1 if kind in "iu" and self.below is None else self.below
        if limit is not None and (np.any(np.asarray(array) < 0) or np.any(np.asarray(array) >= limit)):
            raise ValueError(f"{self.name}: expected whole numbers from 0 to {limit - 1}; got others")
        return array.astype(self.dtype)


@dataclass(frozen=True, repr=False)
class Export:
    """A function that ``veil.export`` wrote: call it with the arrays that ``inputs`` names, in that order.

    It answers with a dictionary of arrays, named as in ``outputs``. Rows are independent, and there may be any number
    of them. ``record``: all that the JSON file says.
    """

    path: Path
    what: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    record: dict[str, Any]
    program: Callable[..., dict[str, jax.Array]]

    def __repr__(self) -> str:
        taken, given = (
            ", ".join(f"{port.name} [{', '.join(map(str, port.shape))}]" for port in ports)
            for ports in (self.inputs, self.outputs)
        )
        return f"Export({self.what}: {taken} -> {given}; {self.path})"

    def __call__(self, *arrays: Any) -> dict[str, jax.Array]:
        """Raises TypeError for another number of arrays, or other types; ValueError for other shapes."""
        names = ", ".join(port.name for port in self.inputs)
        if len(arrays) != len(self.inputs):
            raise TypeError(f"expected {len(self.inputs)} arrays ({names}); got {len(arrays)}")
        with jax.enable_x64(any(port.dtype == "float64" for port in self.inputs + self.outputs)):
            given = [port.array(array) for port, array in zip(self.inputs, arrays, strict=True)]
            rows = [len(array) for port, array in zip(self.inputs, given, strict=True) if ROWS in port.shape]
            if len(set(rows)) > 1:
                raise ValueError(f"{names}: expected the same number of rows in each; got {rows}")
            return self.program(*given)


def load_export(path: str | os.PathLike[str]) -> Export:
    """The function that ``veil.export`` wrote into the file ``path``. Runs nothing until it is called, and no Python.

    Raises:
        FileNotFoundError: the file, or the JSON file beside it, is missing.
        ValueError: damaged, altered, not of one export, made for other devices, or calling functions of the process
            that no model needs.
        ModuleNotFoundError: flatbuffers is not installed (``pip install 'veil[export]'``).
    """
    file = Path(path)
    record = read_json(beside(file), LARGEST_RECORD)
    content = read_bytes(file, LARGEST_PROGRAM)
    check_format(record, beside(file), FORMAT, VERSION, "the description of an export")
    if record.get("sha256") != digest(content):
        raise ValueError(f"{file}: damaged, or not what {beside(file).name} describes: the digests differ")
    what = record.get("what")
    try:
        if not isinstance(what, str):
            raise ValueError(f"what: expected text; got {what!r:.40}")
        inputs, outputs = _ports(record.get("inputs"), "inputs"), _ports(record.get("outputs"), "outputs")
    except ValueError as error:
        raise ValueError(f"{beside(file)}: {error}") from error
    return Export(file, what, inputs, outputs, record, compiled(content, inputs, outputs, file))


def beside(path: Path) -> Path:
    """The JSON file of an exported function."""
    return path.with_name(path.name + ".json")


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def library() -> ModuleType:
    """``jax.export``, which needs flatbuffers for what is asked of it here. Raises ModuleNotFoundError without."""
    import jax.export

    try:
        import flatbuffers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("exports need flatbuffers: pip install 'veil[export]'", name="flatbuffers") from error
    assert flatbuffers
    return jax.export


def compiled(content: bytes, inputs: tuple[Port, ...], outputs: tuple[Port, ...], file: Path) -> Callable[..., Any]:
    """The function in the bytes, if it is one of these inputs and outputs. Raises ValueError, naming the file."""
    jax_export = library()
    try:
        found = jax_export.deserialize(bytearray(content))
        text = found.mlir_module()
        taken = jax.tree.unflatten(found.in_tree, [_text(aval) for aval in found.in_avals])
        given = jax.tree.unflatten(found.out_tree, [_text(aval) for aval in found.out_avals])
    except Exception as error:  # whatever a parser may make of bytes that are no program
        raise ValueError(f"{file}: not a program that jax.export wrote: {error!s:.400}") from error
    if taken != (tuple(map(_said, inputs)), {}) or given != {port.name: _said(port) for port in outputs}:
        raise ValueError(f"{file}: takes or gives other arrays than {beside(file).name} says")
    calls = re.findall(r"stablehlo\.custom_call @(\w+)\(", text)
    strange = sorted(set(calls) - ALLOWED)
    if strange or text.count("custom_call") != len(calls) or found.nr_devices != 1 or found.ordered_effects:
        named = ", ".join(strange) or "some that it hides, or several devices"
        raise ValueError(f"{file}: calls functions of the process that no model needs ({named}); not loaded")
    if (here := jax_export.default_export_platform()) not in found.platforms:
        raise ValueError(
            f"{file}: made for {', '.join(found.platforms)}, and this process runs on {here}; export it again with "
            f"--platforms {','.join([*found.platforms, here])}"
        )
    return jax.jit(found.call)


def _text(aval: Any) -> tuple[tuple[Any, ...], str]:
    """Shape and type; a symbolic size by its name."""
    return tuple(size if isinstance(size, int) else str(size) for size in aval.shape), str(aval.dtype)


def _said(port: Port) -> tuple[tuple[Any, ...], str]:
    return port.shape, port.dtype


def _ports(value: Any, name: str) -> tuple[Port, ...]:
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise ValueError(f"{name}: expected a list of objects")
    return tuple(_port(part, f"{name}[{i}]") for i, part in enumerate(value))


def _port(value: dict[str, Any], place: str) -> Port:
    shape, columns, below = value.get("shape"), value.get("columns"), value.get("below")
    plain = (value.get("name"), value.get("unit"), *(columns if isinstance(columns, list) else ()))
    sizes: list[Any] = shape if isinstance(shape, list) else [None]
    if not (
        all(isinstance(part, str) for part in plain)
        and (columns is None or isinstance(columns, list))
        and all(size == ROWS or (type(size) is int and size >= 0) for size in sizes)
        and value.get("dtype") in TYPES
        and (below is None or (type(below) is int and below > 0))
    ):
        raise ValueError(f"{place}: expected name, unit, shape, dtype (one of {', '.join(TYPES)}); got {value!r:.200}")
    names = None if columns is None else tuple(columns)
    return Port(value["name"], tuple(sizes), value["dtype"], value["unit"], names, below)
