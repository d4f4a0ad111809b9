"""``save`` and ``load``: arrays as safetensors, structure as JSON; loading executes no code.

A model is a tree of known classes. ``model.json`` names the classes and holds their plain fields,
``parameters.safetensors`` the arrays. ``load`` builds only classes that are registered here, and only from arrays of
the recorded shapes.
"""

import dataclasses
import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil import covariance, experts, flows, gates, heads, images, nets, priors, start
from veil.posterior import Exact, amortized, exact, refined, resampled, table
from veil.zoo import bayesian, factor, hmm, lds, mixture, vae

FORMAT, VERSION = "veil model", 1
STRUCTURE, ARRAYS = "model.json", "parameters.safetensors"
POSTERIOR = "posterior"  # the folder beside them that holds an approximate posterior in the same form
LARGEST_STRUCTURE = 16 * 2**20  # bytes; a structure holds names and sizes, no arrays
DEEPEST = 64

T = TypeVar("T", bound=type)
_REGISTRY: dict[str, type] = {}


def register(cls: T, name: str | None = None) -> T:
    """Let ``load`` build a class of yours (an ``equinox.Module``): call it, or decorate with it, before loading.

    Raises TypeError for what is not a module, ValueError for a name that is taken.
    """
    name = name or f"{cls.__module__}.{cls.__qualname__}"
    if not issubclass(cls, eqx.Module):
        raise TypeError(f"cls: expected an equinox.Module; got {cls!r}")
    if _REGISTRY.get(name, cls) is not cls:
        raise ValueError(f"name: {name!r} is registered for another class")
    _REGISTRY[name] = cls
    return cls


for _module in (
    covariance,
    experts,
    flows,
    gates,
    heads,
    images,
    nets,
    priors,
    start,
    amortized,
    exact,
    refined,
    resampled,
    table,
    factor,
    hmm,
    lds,
    mixture,
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


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never half."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, temporary) if path.exists() else os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _describe(node: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(node, eqx.Module):
        name = f"{type(node).__module__}.{type(node).__qualname__}"
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
        ValueError: not this format, damaged, or altered: unknown classes, wrong shapes or types.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as decode

    folder = Path(path)
    for name in (STRUCTURE, ARRAYS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"path: {folder} holds no saved model: {name} is missing")
    if (folder / STRUCTURE).stat().st_size > LARGEST_STRUCTURE:
        raise ValueError(f"{folder / STRUCTURE}: larger than any structure this library writes; not loaded")
    try:
        structure = json.loads((folder / STRUCTURE).read_bytes())
        arrays = decode((folder / ARRAYS).read_bytes())
    except (ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{folder}: damaged or not a saved model: {error}") from error
    if not isinstance(structure, dict) or structure.get("format") != FORMAT:
        raise ValueError(f"{folder / STRUCTURE}: not a veil model")
    if structure.get("version") != VERSION:
        raise ValueError(
            f"{folder / STRUCTURE}: written in version {structure.get('version')!r} of the format; "
            f"this library reads version {VERSION}"
        )
    try:
        model = _build(structure.get("model"), arrays, 0)
    except ValueError as error:
        raise ValueError(f"{folder / STRUCTURE}: {error}") from error
    if not isinstance(model, eqx.Module):
        raise ValueError(f"{folder / STRUCTURE}: holds no model")
    return model


def load_posterior(path: str | os.PathLike[str]) -> Any:
    """The posterior that ``save`` of a ``Fit`` wrote beside the model; ``Exact()`` if it wrote none.

    Raises ValueError for files that are not this format, damaged or altered.
    """
    folder = Path(path) / POSTERIOR
    return load(folder) if folder.is_dir() else Exact()


def _build(node: Any, arrays: dict[str, np.ndarray], depth: int) -> Any:
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if not isinstance(node, dict):
        raise ValueError(f"unexpected {type(node).__name__}")
    if "array" in node:
        return _array(node, arrays)
    if "tuple" in node and isinstance(node["tuple"], list):
        return tuple(_build(part, arrays, depth + 1) for part in node["tuple"])
    cls, given = _REGISTRY.get(str(node.get("class"))), node.get("fields")
    if cls is None or not isinstance(given, dict):
        raise ValueError(f"unknown class {node.get('class')!r}; if it is yours, veil.register it before loading")
    known = {f.name for f in dataclasses.fields(cls)}
    if set(given) != known:
        raise ValueError(f"{cls.__name__}: fields {sorted(set(given) ^ known)} do not match")
    try:
        return cls(**{name: _build(value, arrays, depth + 1) for name, value in given.items()})
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{cls.__name__}: its fields do not fit: {error}") from error


def _array(node: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    name = str(node["array"])
    if name not in arrays:
        raise ValueError(f"array {name} is missing from {ARRAYS}")
    array = arrays[name]
    if list(array.shape) != node.get("shape") or str(array.dtype) != node.get("dtype"):
        raise ValueError(
            f"array {name}: recorded as {node.get('dtype')} {node.get('shape')}, "
            f"found {array.dtype} {list(array.shape)}"
        )
    if np.issubdtype(array.dtype, np.floating):
        return jnp.asarray(array.astype(jnp.result_type(float)))
    return jnp.asarray(array)
