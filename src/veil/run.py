"""The run directory: what was fitted to what, the model, its metrics; later its plots and its report.

    config.json             what was asked for: model, data and columns, options, seed, precision, versions
    model.json              the structure of the fitted model      (veil.save)
    parameters.safetensors  its arrays
    metrics.jsonl           one line a step, and a last one with how the fit ended
    plots/, report.html     made by ``veil report``

Reading one executes no code from it.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from veil import checkpoint
from veil.files import parse_json, read_bytes, read_json
from veil.model import Datum, Model
from veil.posterior import Exact

FORMAT, VERSION = "veil run", 1
CONFIG, METRICS = "config.json", "metrics.jsonl"
LARGEST_CONFIG, LARGEST_METRICS = 64 * 2**20, 2**30  # bytes
PRECISIONS = ("float32", "float64")


@dataclass(frozen=True)
class Columns:
    """The columns of the data that the model was fitted to, in the order the model knows them."""

    query: tuple[str, ...]
    evidence: tuple[str, ...]
    weight: str | None
    query_shape: tuple[int, ...]
    evidence_shape: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """A run directory that was read: its ``config``, and from it what the verbs need."""

    path: Path
    config: dict[str, Any]
    columns: Columns
    precision: str

    @property
    def model_name(self) -> str:
        return str(self.config["model"]["name"])

    @property
    def data_name(self) -> str:
        return str(self.config["data"]["name"])

    def load(self) -> Any:
        """The fitted model, in the run's ``precision`` if JAX is set to it.

        Raises ValueError if the files are damaged, altered, or not of one run.
        """
        model = checkpoint.load(self.path)
        dtype = jnp.result_type(float)
        given = jax.ShapeDtypeStruct(self.columns.evidence_shape, dtype) if self.columns.evidence else None
        expected = math.prod(self.columns.evidence_shape) if self.columns.evidence else 0
        try:
            if not isinstance(model, Model):
                raise TypeError(f"{checkpoint.STRUCTURE} holds a {type(model).__name__}")
            drawn = jax.eval_shape(lambda key, x: model.sample(key, x)[1], jax.random.key(0), given).shape
            inputs = getattr(model, "inputs", None)
        except Exception as error:  # a model that was altered can fail anywhere
            raise ValueError(f"{self.path}: {CONFIG} and the model do not belong together: {error!s:.400}") from error
        if drawn != self.columns.query_shape or (inputs is not None and inputs != expected):
            raise ValueError(
                f"{self.path}: {CONFIG} and the model do not belong together: {CONFIG} has "
                f"{list(self.columns.query_shape)} query and {expected} evidence columns, the model {list(drawn)} "
                f"and {expected if inputs is None else inputs}"
            )
        return model

    def load_posterior(self) -> Any:
        """The posterior it was fitted with; ``Exact()`` where that is exact.

        Raises ValueError if the files are damaged, altered, or not of this run's model.
        """
        posterior = checkpoint.load_posterior(self.path)
        if isinstance(posterior, Exact):
            return posterior
        model, dtype = self.load(), jnp.result_type(float)
        evidence = jax.ShapeDtypeStruct(self.columns.evidence_shape, dtype) if self.columns.evidence else None
        query = jax.ShapeDtypeStruct(self.columns.query_shape, dtype)
        index = jax.ShapeDtypeStruct((), int) if posterior.per_datum else None

        def draw(y: Any, x: Any, n: Any, key: Any) -> tuple[Any, Any]:
            return posterior(model, Datum(y, x, index=n)).sample(key), model.prior(x).sample(key)

        try:
            one, other = jax.eval_shape(draw, query, evidence, index, jax.random.key(0))
            if one.shape != other.shape:
                raise ValueError(f"a latent of shape {list(one.shape)}, where the model's is {list(other.shape)}")
        except Exception as error:
            place = self.path / checkpoint.POSTERIOR
            raise ValueError(f"{place}: the posterior and the model do not belong together: {error!s:.400}") from error
        return posterior

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, each a dictionary; the last one says how the fit ended."""
        path = self.path / METRICS
        try:
            lines = [parse_json(line) for line in read_bytes(path, LARGEST_METRICS).splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from error
        if not all(isinstance(line, dict) for line in lines):
            raise ValueError(f"{path}: expected one JSON object a line")
        for name in ("status", "evaluation"):
            if not all(isinstance(line.get(name, {}), dict) for line in lines):
                raise ValueError(f"{path}: {name} must be an object")
        return lines


def read(path: str | os.PathLike[str]) -> Run:
    """Read a run directory's configuration, and check it.

    Raises:
        FileNotFoundError: no such directory, or no run in it.
        ValueError: not this format, damaged, or altered.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no run directory {folder}; make one with: veil fit MODEL DATA --out {folder}"
        )
    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a run directory: {CONFIG} is missing")
    config = read_json(file, LARGEST_CONFIG)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{file}: not the configuration of a run")
    if config.get("version") != VERSION:
        raise ValueError(f"{file}: written in version {config.get('version')!r:.40}; this library reads {VERSION}")
    data, model = _object(config, "data", file), _object(config, "model", file)
    if not isinstance(model.get("name"), str) or not isinstance(data.get("name"), str):
        raise ValueError(f"{file}: model.name and data.name must be text")
    if config.get("precision") not in PRECISIONS:
        raise ValueError(
            f"{file}: precision must be one of {', '.join(PRECISIONS)}; got {config.get('precision')!r:.40}"
        )
    weight = data.get("weight")
    if weight is not None and not isinstance(weight, str):
        raise ValueError(f"{file}: data.weight must be text or null; got {weight!r:.80}")
    columns = Columns(
        _list(data, "query", str, file),
        _list(data, "evidence", str, file),
        weight,
        _list(data, "query_shape", int, file),
        _list(data, "evidence_shape", int, file),
    )
    if not columns.query or not columns.query_shape:
        raise ValueError(f"{file}: data.query and data.query_shape must not be empty")
    return Run(folder, config, columns, config["precision"])


def _object(config: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    value = config.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{file}: {name} must be an object; got {value!r:.80}")
    return value


def _list(data: dict[str, Any], name: str, kind: type, file: Path) -> tuple[Any, ...]:
    value = data.get(name)
    if not isinstance(value, list) or any(type(part) is not kind for part in value):
        raise ValueError(f"{file}: data.{name} must be a list of {kind.__name__}; got {value!r:.80}")
    if kind is int and any(part < 1 for part in value):
        raise ValueError(f"{file}: data.{name} must hold positive numbers; got {value!r:.80}")
    return tuple(value)


# -- writing -----------------------------------------------------------------------------------------------------------


def configuration(
    *,
    model: str,
    options: dict[str, Any],
    data: dict[str, Any],
    fit: dict[str, Any],
    precision: str,
    command: Sequence[str],
) -> dict[str, Any]:
    """What config.json holds: everything that was asked for, and the versions of what did it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "command": list(command),
        "model": {"name": model, "options": options},
        "data": data,
        "fit": fit,
        "precision": precision,
        "versions": {name: version(name) for name in ("veil", "jax", "numpy", "equinox", "numpyro", "optax")},
    }


def check_free(path: str | os.PathLike[str], force: bool) -> None:
    """Refuse a place for a run that is taken: by anything, or with ``force`` by anything but another run.

    Raises FileExistsError.
    """
    place = Path(path)
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not _is_run(place):
        raise FileExistsError(
            f"{place} exists and is not a run directory: it is never overwritten; choose another place"
        )
    if not force:
        raise FileExistsError(f"{place} holds a run already; choose another place, or overwrite it with --force")


def _is_run(path: Path) -> bool:
    try:
        return bool(json.loads((path / CONFIG).read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


@contextmanager
def creating(path: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """A directory to write a run into, which becomes ``path`` at the end, or vanishes if anything goes wrong.

    Folders above it are made as needed, and vanish too.

    Raises FileExistsError if the place is taken (see ``check_free``), before and after.
    """
    check_free(path, force)
    place = Path(path).resolve()
    made = [folder for folder in place.parents if not folder.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        check_free(place, force)
        _replace(temporary, place)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()
        raise


def _replace(temporary: Path, place: Path) -> None:
    """Put a directory where another may be, which is put back if that fails."""
    if not place.exists():
        temporary.rename(place)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".old", dir=place.parent))
    place.rename(aside / place.name)
    try:
        temporary.rename(place)
    except BaseException:
        (aside / place.name).rename(place)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """config.json, in a directory from ``creating``."""
    (folder / CONFIG).write_text(json.dumps(plain(config), indent=1, allow_nan=False) + "\n", "utf-8")


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers of numpy and JAX as plain ones, and what is not finite as null.

    >>> plain({"a": (1, float("inf"))})
    {'a': [1, None]}
    """
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
