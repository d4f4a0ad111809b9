"""``save`` and ``load``: arrays as safetensors, structure as JSON; loading executes no code.

A model is a tree of known classes. ``model.json`` names the classes and holds their plain fields,
``parameters.safetensors`` the arrays. ``load`` builds only classes that are registered here, and only from arrays of
the recorded shapes.
"""

import dataclasses
import json
import math
import os
import warnings
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil.host.files import check_format, read_json, write_atomically
from veil.parts import covariance, dynamics, experts, flows, gates, heads, images, nets, priors, start
from veil.posterior import (
    Exact,
    Posterior,
    amortized,
    assumed,
    exact,
    mean_field,
    proposals,
    refined,
    resampled,
    sequential,
    table,
)
from veil.zoo import bayesian, factor, hmm, lds, mixture, nonlinear, state_space, switching, vae

FORMAT, VERSION = "veil model", 2
STRUCTURE, ARRAYS = "model.json", "parameters.safetensors"
POSTERIOR = "posterior"  # the folder beside them that holds an approximate posterior in the same form
LARGEST_STRUCTURE = 16 * 2**20  # bytes; a structure holds names and sizes, no arrays
DEEPEST = 64
LARGEST_SIZE = 65536  # larger numbers in a structure need arrays as large
COUNTS = {(bayesian.BayesianNetwork, "count")}  # numbers that are not sizes

T = TypeVar("T", bound=type)
_REGISTRY: dict[str, type] = {}


def register(cls: T, name: str | None = None) -> T:
    """Let ``load`` build a class of yours (an ``equinox.Module``): call it, or decorate with it, before loading.

    Raises TypeError for what is not a module, ValueError for a name that is taken.
    """
    name = name or _name(cls)
    if not issubclass(cls, eqx.Module):
        raise TypeError(f"cls: expected an equinox.Module; got {cls!r}")
    if _REGISTRY.get(name, cls) is not cls:
        raise ValueError(f"name: {name!r} is registered for another class")
    _REGISTRY[name] = cls
    return cls


def _name(cls: type) -> str:
    """Classes of this library by their bare names, which outlive moves of files; others with their module."""
    return cls.__qualname__ if cls.__module__.startswith("veil.") else f"{cls.__module__}.{cls.__qualname__}"


for _module in (
    covariance,
    dynamics,
    experts,
    flows,
    gates,
    heads,
    images,
    nets,
    priors,
    start,
    amortized,
    assumed,
    exact,
    mean_field,
    sequential,
    refined,
    resampled,
    proposals,
    table,
    factor,
    hmm,
    lds,
    mixture,
    state_space,
    nonlinear,
    switching,
    vae,
    bayesian,
):
    for _value in list(vars(_module).values()):
        if isinstance(_value, type) and issubclass(_value, eqx.Module) and _value.__module__ == _module.__name__:
            register(_value)


def save(path: str | os.PathLike[str], model: Any) -> Path:
    """Write a model into the directory ``path``: model.json and parameters.safetensors; a ``Fit`` with its posterior.

    An approximate posterior is written into the folder ``posterior`` in it (see ``load_posterior``). Files appear whole
    or not at all. Other files in the directory stay.

    Raises:
        TypeError: the model holds something that is neither a registered class, an array nor plain data.

    >>> import jax, tempfile, veil
    >>> model = veil.fit(veil.Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0)).model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load(save(folder + "/run", model))
    >>> bool((again.experts.mean == model.experts.mean).all())
    True
    """
    from safetensors.numpy import save as encode

    if not isinstance(model, eqx.Module) and hasattr(model, "model"):
        if not isinstance(model.posterior, Exact):
            save(Path(path) / POSTERIOR, model.posterior)
        model = model.model
    arrays: dict[str, np.ndarray] = {}
    structure = {"format": FORMAT, "version": VERSION, "model": _describe(model, "model", arrays)}
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / ARRAYS, encode(arrays))
    write_atomically(folder / STRUCTURE, json.dumps(structure, indent=1).encode())
    return folder


def _describe(node: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(node, eqx.Module):
        name = _name(type(node))
        if _REGISTRY.get(name) is not type(node):
            raise TypeError(f"{place}: {name} is not registered; call veil.register on the class before saving")
        fields = {
            f.name: _describe(getattr(node, f.name), f"{place}.{f.name}", arrays) for f in dataclasses.fields(node)
        }
        return {"class": name, "fields": fields}
    if isinstance(node, jax.Array | np.ndarray | np.generic):
        array = np.ascontiguousarray(np.asarray(node))
        arrays[place] = array
        return {"array": place, "shape": list(np.shape(node)), "dtype": str(array.dtype)}
    if isinstance(node, tuple | list):
        return {"tuple": [_describe(part, f"{place}.{i}", arrays) for i, part in enumerate(node)]}
    if node is None or isinstance(node, bool | int | str) or (isinstance(node, float) and math.isfinite(node)):
        return node
    raise TypeError(f"{place}: cannot save a {type(node).__name__}; models hold modules, arrays, numbers and text")


def load(path: str | os.PathLike[str]) -> Any:
    """The model that ``save`` wrote into the directory ``path``. Executes no code from the files.

    Raises:
        FileNotFoundError: no model there.
        ValueError: not this format, damaged, or altered: unknown classes, wrong shapes or types, sizes that no array
            of the file accounts for.
    """
    folder = Path(path)
    for name in (STRUCTURE, ARRAYS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"path: {folder} holds no saved model: {name} is missing")
    try:
        structure = read_json(folder / STRUCTURE, LARGEST_STRUCTURE)
        arrays = _arrays(folder / ARRAYS)
    except ValueError as error:
        raise ValueError(f"{folder}: damaged or not a saved model: {error}") from error
    check_format(structure, folder / STRUCTURE, FORMAT, VERSION, "a veil model")
    try:
        model = _Builder(arrays).build(structure.get("model"), 0)
        if not isinstance(model, eqx.Module):
            raise ValueError("holds no model")
        if arrays:
            raise ValueError(f"{ARRAYS} is not of this model: array {min(arrays)} is in no part of it")
    except ValueError as error:
        raise ValueError(f"{folder / STRUCTURE}: {error}") from error
    return model


def load_posterior(path: str | os.PathLike[str]) -> Any:
    """The posterior that ``save`` of a ``Fit`` wrote beside the model; ``Exact()`` if it wrote none.

    Raises ValueError for files that are not this format, damaged or altered, or not a posterior.
    """
    folder = Path(path) / POSTERIOR
    if not folder.exists():
        return Exact()
    posterior = load(folder)
    if not isinstance(posterior, Posterior):
        raise ValueError(f"{folder / STRUCTURE}: expected a posterior; it holds a {type(posterior).__name__}")
    return posterior


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file. Raises ValueError for any other file."""
    from safetensors.numpy import load as decode

    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > LARGEST_STRUCTURE:  # before as much memory is asked for
        raise ValueError(f"{path}: a header of {header} bytes, larger than any that this library writes")
    try:
        return decode(path.read_bytes())
    except Exception as error:  # the reader's own errors, and KeyError for types that numpy does not have
        raise ValueError(f"{path}: {error!r:.300}") from error


class _Builder:
    """Builds known classes from a structure and arrays; each array is used once, and taken out."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        # a size is that of an array, up to a factor that makes no difference to memory
        self.largest = max(LARGEST_SIZE, sum(array.size for array in arrays.values()))

    def build(self, node: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if not isinstance(node, dict):
            raise ValueError(f"unexpected {type(node).__name__}")
        if "array" in node:
            return self.array(node)
        if "tuple" in node and isinstance(node["tuple"], list):
            return tuple(self.build(part, depth + 1) for part in node["tuple"])
        cls, given = _REGISTRY.get(str(node.get("class"))), node.get("fields")
        if cls is None or not isinstance(given, dict):
            raise ValueError(
                f"unknown class {node.get('class')!r:.200}; if it is yours, veil.register it before loading"
            )
        known = {f.name for f in dataclasses.fields(cls)}
        if set(given) != known:
            raise ValueError(f"{cls.__name__}: fields {sorted(set(given) ^ known)!r:.200} do not match")
        fields = {name: self.build(value, depth + 1) for name, value in given.items()}
        if cls.__module__.startswith("veil."):
            self.check_sizes(cls, fields)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # such as that of an array in the place of a size
                return cls(**fields)
        except Exception as error:
            raise ValueError(f"{cls.__name__}: its fields do not fit: {error!s:.400}") from error

    def check_sizes(self, cls: type, fields: dict[str, Any]) -> None:
        """Raise ValueError for numbers that would make a model ask for far more memory than its arrays take."""
        for name, value in fields.items():
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, int) and abs(part) > self.largest and (cls, name) not in COUNTS:
                    raise ValueError(f"{cls.__name__}: {name} is {part}, and no array of the model is as large")

    def array(self, node: dict[str, Any]) -> Any:
        name = str(node["array"])
        array = self.arrays.pop(name, None)
        if array is None:
            raise ValueError(f"array {name[:200]} is missing from {ARRAYS}, or used twice")
        if list(array.shape) != node.get("shape") or str(array.dtype) != node.get("dtype"):
            raise ValueError(
                f"array {name}: recorded as {node.get('dtype')!r:.50} {node.get('shape')!r:.200}, "
                f"found {str(array.dtype)!r} {list(array.shape)}"
            )
        if np.issubdtype(array.dtype, np.floating):
            try:
                with np.errstate(over="raise"):
                    return jnp.asarray(array.astype(jnp.result_type(float)))
            except FloatingPointError:
                raise ValueError(f"array {name}: numbers too large for float32; load it in float64") from None
        return jnp.asarray(array)
