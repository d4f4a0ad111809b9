"""The run directory: what was fitted to what, the model, its metrics; later its plots and its report.

    config.json                       what was asked for: model, data and columns, options, seed, precision, versions
    model.json, parameters-...        the Fit                                                            (veil.save)
    metrics.jsonl                     one line a step, and a last one with how the fit ended
    plots/, report.html               made by ``veil report``

Reading one executes no code from it.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from veil.data.core import trees
from veil.data.core.checks import leaf_names
from veil.host.files import check_format, parse_json, plain, read_bytes, read_json
from veil.learning.result import Fit
from veil.model import Datum, Sized
from veil.posterior import Exact
from veil.posterior.base import per_datum
from veil.saved import folders

FORMAT, VERSION = "veil run", 1
CONFIG, METRICS, UNFINISHED = "config.json", "metrics.jsonl", ".unfinished"
LARGEST_CONFIG, LARGEST_METRICS = 64 * 2**20, 2**30  # bytes
DEEPEST = 16  # dictionaries in one another
PRECISIONS = ("float32", "float64")
PARTS: dict[str, type] = {"query": list, "evidence": list}
CHUNKS: dict[str, type] = {"observations": int, "horizon": int, "repeat": bool, "episodes": list}


@dataclass(frozen=True)
class Columns:
    """The columns of the data that the model was fitted to, in the order the model knows them.

    ``sequences``: of sequences, how they were found: the columns of their names and of time, in a table or not, and
    the parts of a recording. Shapes, of a dictionary one for each array, have the axis of the steps first.
    ``parts``: of rows of a recording, the parts that are query and evidence. ``chunks``: of a policy, how many
    observations and actions a datum has, whether the last action counts again, and which episodes were learned from.
    """

    query: tuple[str, ...]
    evidence: tuple[str, ...]
    weight: str | None
    query_shape: Any
    evidence_shape: Any
    sequences: dict[str, Any] | None = None
    parts: dict[str, Any] | None = None
    chunks: dict[str, Any] | None = None

    @property
    def names(self) -> dict[trees.Path, tuple[str, ...]]:
        """The names of each array of the query, by the keys that lead to it: of its columns, or one of an image."""
        query = trees.map(lambda shape: jax.ShapeDtypeStruct((1, *shape), float), self.query_shape)
        return dict(trees.leaves(leaf_names(self.query, query, "query", "y", self.sequences is not None)))

    @property
    def inputs(self) -> int:
        """How many numbers the evidence of what a model calls a row has: of sequences, of a step; 0 without any."""
        steps = 0 if self.sequences is None else 1
        return sum(math.prod(shape[steps:]) for _, shape in trees.leaves(self.evidence_shape)) if self.evidence else 0


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

    @property
    def datum(self) -> str:
        """What a datum of the fit was: a datum, or of sequences a sequence or a window of some."""
        window = (self.config.get("fit") or {}).get("window") if isinstance(self.config.get("fit"), dict) else None
        return "datum" if self.columns.sequences is None else "sequence" if window is None else "window"

    def load(self) -> Fit:
        """The ``Fit``, in the run's ``precision`` if JAX is set to it.

        Raises ValueError if the files are damaged, altered, or not of one run.
        """
        fit = folders.load(self.path)
        if not isinstance(fit, Fit):
            raise ValueError(f"{self.path / folders.STRUCTURE}: expected a Fit; it holds a {type(fit).__name__}")
        try:
            self._check_model(fit.model)
        except Exception as error:  # a model that was altered can fail anywhere
            raise ValueError(f"{self.path}: {CONFIG} and the model do not belong together: {error!s:.400}") from error
        try:
            self._check_posterior(fit.model, fit.posterior)
        except Exception as error:
            words = f"{self.path}: the posterior and the model do not belong together: {error!s:.400}"
            raise ValueError(words) from error
        return fit

    def _shapes(self) -> tuple[Any, Any, tuple[int, ...]]:
        """A query and evidence (None without) as shapes, and what ``sample`` is told of the number of steps."""
        dtype, columns = jnp.result_type(float), self.columns
        leaf = lambda shape: jax.ShapeDtypeStruct(shape, dtype)  # noqa: E731
        query = trees.map(leaf, columns.query_shape)
        evidence = trees.map(leaf, columns.evidence_shape) if columns.evidence else None
        if columns.sequences is None or evidence is not None:
            return query, evidence, ()
        return query, evidence, trees.first(columns.query_shape)[:1]

    def _check_model(self, model: Any) -> None:
        """Raise whatever a model does that is not of the columns of this run, or ValueError."""
        _, evidence, steps = self._shapes()
        expected = self.columns.inputs
        drawn = jax.eval_shape(lambda key, x: model.sample(key, x, *steps)[1], jax.random.key(0), evidence)
        drawn = trees.map(lambda leaf: leaf.shape, drawn)
        inputs = model.sizes.inputs if isinstance(model, Sized) else None
        if drawn != self.columns.query_shape or (inputs is not None and inputs != expected):
            raise ValueError(
                f"{CONFIG} has {trees.map(list, self.columns.query_shape)} query and {expected} evidence columns, the "
                f"model {trees.map(list, drawn)} and {expected if inputs is None else inputs}"
            )

    def _check_posterior(self, model: Any, posterior: Any) -> None:
        """Raise whatever a posterior does that is not of this model, or ValueError."""
        if isinstance(posterior, Exact):
            return
        query, evidence, _ = self._shapes()
        index = jax.ShapeDtypeStruct((), int) if per_datum(posterior) is not None else None

        def draw(y: Any, x: Any, n: Any, key: Any) -> tuple[Any, Any]:
            datum = Datum(y, x, index=n)
            return posterior(model, datum).sample(key), model.prior_for(datum).sample(key)

        one, other = jax.eval_shape(draw, query, evidence, index, jax.random.key(0))
        latents, expected = ([list(leaf.shape) for leaf in jax.tree.leaves(path)] for path in (one, other))
        if latents != expected:  # of a deep chain a path is latents and memory
            raise ValueError(f"a latent of shape {latents}, where the model's is {expected}")

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
    part = folder.absolute().with_name(folder.absolute().name + UNFINISHED)
    if not folder.is_dir() and part.is_dir():
        raise FileNotFoundError(
            f"{folder} is not finished (it is in {part.name}): the command that began it goes on with --resume, and "
            "with --resume --steps 1 ends where it is"
        )
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no run directory {folder}; make one with: veil fit MODEL DATA --out {folder}"
        )
    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a run directory: {CONFIG} is missing")
    config = read_json(file, LARGEST_CONFIG)
    check_format(config, file, FORMAT, VERSION, "the configuration of a run")
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
    sequences, parts, chunks = data.get("sequences"), data.get("parts"), data.get("chunks")
    if sequences is not None:
        _check_roles(sequences, "sequences", {"table": bool, "episode": str, "time": str} | PARTS, file)
    if parts is not None:
        _check_roles(parts, "parts", PARTS, file)
    if chunks is not None:
        _check_chunks(chunks, file)
    columns = Columns(
        _list(data, "query", str, file),
        _list(data, "evidence", str, file),
        weight,
        _shape(data.get("query_shape"), "query_shape", file),
        _shape(data.get("evidence_shape"), "evidence_shape", file),
        sequences,
        parts,
        chunks,
    )
    if not columns.query or not columns.query_shape:
        raise ValueError(f"{file}: data.query and data.query_shape must not be empty")
    return Run(folder, config, columns, config["precision"])


def _check_roles(found: Any, called: str, kinds: dict[str, type], file: Path) -> None:
    """Refuse what no fit to sequences or to a recording wrote."""
    if not isinstance(found, dict) or set(found) != set(kinds):
        raise ValueError(f"{file}: data.{called} must have {', '.join(kinds)}; got {found!r:.80}")
    for name, kind in kinds.items():
        value = found[name]
        good = type(value) is kind or (value is None and kind is not bool)
        if not good or (type(value) is list and any(type(part) is not str for part in value)):
            raise ValueError(f"{file}: data.{called}.{name} must be {kind.__name__}; got {value!r:.80}")


def _check_chunks(found: Any, file: Path) -> None:
    """Refuse what no fit of a policy wrote."""
    good = isinstance(found, dict) and set(found) == set(CHUNKS)
    for name, kind in CHUNKS.items() if good else ():
        value = found[name]
        good = good and (type(value) is kind or (value is None and name in ("horizon", "episodes")))
        listed = value if type(value) is list else [value]
        good = good and all(type(each) is not int or each >= (name != "episodes") for each in listed)
    if not good:
        raise ValueError(f"{file}: data.chunks must have {', '.join(CHUNKS)}; got {found!r:.80}")


def _object(config: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    value = config.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{file}: {name} must be an object; got {value!r:.80}")
    return value


def _list(data: dict[str, Any], name: str, kind: type, file: Path) -> tuple[Any, ...]:
    value = data.get(name)
    if not isinstance(value, list) or any(type(part) is not kind for part in value):
        raise ValueError(f"{file}: data.{name} must be a list of {kind.__name__}; got {value!r:.80}")
    return tuple(value)


def _shape(value: Any, name: str, file: Path, depth: int = 0) -> Any:
    """A tuple of sizes; of a dictionary one for each of its arrays."""
    if isinstance(value, dict) and value and depth < DEEPEST:
        return {key: _shape(each, f"{name}.{key}", file, depth + 1) for key, each in value.items()}
    sizes = _list({name: value}, name, int, file)
    if any(size < 1 for size in sizes):
        raise ValueError(f"{file}: data.{name} must hold positive numbers; got {value!r:.80}")
    return sizes


# -- writing -----------------------------------------------------------------------------------------------------------


def configuration(
    *,
    model: str,
    options: dict[str, Any],
    data: dict[str, Any],
    fit: dict[str, Any],
    precision: str,
    command: Sequence[str],
    asked: dict[str, Any] | None = None,
    act: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What config.json holds: everything that was asked for, and the versions of what did it; ``act``: how to act."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "command": list(command),
        "asked": asked,
        "model": {"name": model, "options": options},
        "data": data,
        "fit": fit,
        "precision": precision,
        "act": act,
        "versions": {name: version(name) for name in ("veil", "jax", "numpy", "equinox", "numpyro", "optax")},
    }


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """config.json, in a directory from ``unfinished.creating``."""
    (folder / CONFIG).write_text(json.dumps(plain(config), indent=1, allow_nan=False) + "\n", "utf-8")
