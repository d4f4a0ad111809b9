"""``save`` and ``load``: a folder with a model, a posterior or a ``Fit``, whole; loading executes no code.

    model.json                      what it is: classes and their plain fields (see ``trees``)
    parameters-<digest>.safetensors its arrays

``model.json`` is written last, in one step, and names by a digest of both files the arrays that belong to it: until
then what was saved before is still there, and a change to either file is noticed.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from veil.host.files import check_format, parse_json, read_bytes, write_atomically
from veil.learning.result import Fit
from veil.posterior import Posterior
from veil.saved import trees

FORMAT, VERSION = "veil model", 2
STRUCTURE = "model.json"
ARRAYS = re.compile(r"parameters-[0-9a-f]{16}\.safetensors")
LARGEST_STRUCTURE = 16 * 2**20  # bytes; a structure holds names and sizes, no arrays
UNSEALED = "0" * 64  # stands for the digest in the text that it is of


def save(path: str | os.PathLike[str], x: Any) -> Path:
    """Write a model, a posterior or a ``Fit`` into the folder ``path``; ``load`` gives it back.

    If anything goes wrong, what was saved there before is still there, whole. Other files in the folder stay. Classes
    that are not this library's are registered first (see ``register``).

    Raises:
        TypeError: something in it is neither a registered module, an array nor plain data; nothing is written.

    >>> import jax, tempfile, veil
    >>> fit = veil.fit(veil.Mixture(components=2), veil.data.load("faithful"), key=jax.random.key(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load(save(folder + "/geyser", fit))
    >>> again.status == fit.status
    True
    """
    from safetensors.numpy import save as encode

    if not isinstance(x, eqx.Module | Fit):
        raise TypeError(f"x: expected a model, a posterior or a Fit; got a {type(x).__name__}")
    arrays: dict[str, np.ndarray] = {}
    record = {"format": FORMAT, "version": VERSION, "sha256": UNSEALED, "saved": trees.describe(x, _root(x), arrays)}
    text, content = json.dumps(record, indent=1, allow_nan=False).encode(), encode(arrays)
    digest = _digest(text, content)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / _arrays_name(digest), content)
    write_atomically(folder / STRUCTURE, text.replace(UNSEALED.encode(), digest.encode(), 1))
    for other in folder.iterdir():
        if ARRAYS.fullmatch(other.name) and other.name != _arrays_name(digest):
            other.unlink(missing_ok=True)
    return folder


def load(path: str | os.PathLike[str]) -> Any:
    """The model, posterior or ``Fit`` that ``save`` wrote into the folder ``path``. Executes no code from the files.

    JAX's floating-point arrays come in its present precision, numpy's as they were.

    Raises:
        FileNotFoundError: nothing was saved there.
        ValueError: not this format, damaged, or altered: another digest, classes that are not registered, wrong shapes
            or types, sizes that no array of the file accounts for.
    """
    folder = Path(path)
    file = folder / STRUCTURE
    if not file.is_file():
        raise FileNotFoundError(f"path: {folder} holds nothing that veil.save wrote: {STRUCTURE} is missing")
    try:
        text = read_bytes(file, LARGEST_STRUCTURE)
        record = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{file}: damaged or not a saved model: {error}") from error
    if isinstance(record, dict) and (record.get("format"), record.get("version")) == (FORMAT, 1):
        raise ValueError(
            f"{file}: written in version 1 of the format, which this library does not read: fit the model again, or "
            "load it with the veil that wrote it"
        )
    check_format(record, file, FORMAT, VERSION, "a veil model")
    arrays = _arrays(folder, text, record.get("sha256"))
    try:
        found = trees.restore(record.get("saved"), arrays)
        if not isinstance(found, eqx.Module | Fit):
            raise ValueError("holds no model, no posterior and no Fit")
        if arrays:
            raise ValueError(f"array {min(arrays):.200} is in no part of it")
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return found


def _root(x: Any) -> str:
    """What names of arrays, and messages, begin with; of a ``Fit``, with its fields."""
    return "" if isinstance(x, Fit) else "posterior" if isinstance(x, Posterior) else "model"


def _digest(text: bytes, arrays: bytes) -> str:
    """Of both files together, in hexadecimal."""
    sum_ = hashlib.sha256(text)
    sum_.update(arrays)
    return sum_.hexdigest()


def _arrays_name(digest: str) -> str:
    return f"parameters-{digest[:16]}.safetensors"


def _arrays(folder: Path, text: bytes, digest: Any) -> dict[str, np.ndarray]:
    """The arrays that belong to a structure. Raises ValueError for any others, or a structure that was altered."""
    from safetensors.numpy import load as decode

    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{folder / STRUCTURE}: damaged: sha256 must be 64 hexadecimal digits; got {digest!r:.80}")
    file = folder / _arrays_name(digest)
    if not file.is_file():
        raise FileNotFoundError(f"path: {folder} holds no whole saved model: {file.name} is missing")
    content = file.read_bytes()
    if _digest(text.replace(digest.encode(), UNSEALED.encode(), 1), content) != digest:
        raise ValueError(f"{folder}: damaged: {STRUCTURE} or {file.name} is not as it was saved (the digests differ)")
    if int.from_bytes(content[:8], "little") > LARGEST_STRUCTURE:  # before as much memory is asked for
        raise ValueError(f"{file}: damaged: a header larger than any that this library writes")
    try:
        return decode(content)
    except Exception as error:  # the reader's own errors, and KeyError for types that numpy does not have
        raise ValueError(f"{file}: damaged or not a saved model: {error!r:.300}") from error
