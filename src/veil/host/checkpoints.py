"""Checkpoints of a running fit: its whole state, written now and then, from which the same call goes on.

    FOLDER/123/state     every array of the learner's state, the history, the best model so far   (orbax)
    FOLDER/123/meta      step, position in the data, what the fit was asked for                    (JSON)

A checkpoint appears whole or not at all. Reading one executes no code from it.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil.host.keys import is_key

FORMAT, VERSION = "veil checkpoint", 1
T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """A fit that was asked to end (Ctrl-C, SIGTERM) has written a checkpoint and ended; ``number`` of the signal."""

    def __init__(self, words: str, number: int) -> None:
        super().__init__(words)
        self.number = number


class CheckpointError(RuntimeError):
    """A checkpoint could not be written (a full disk, no permission); those written before are whole."""


@dataclass(frozen=True)
class Checkpoints:
    """Where a fit writes its whole state: every ``every`` seconds, the last ``keep`` kept, and on Ctrl-C or SIGTERM.

    The same call of ``veil.fit`` with the same folder goes on from the last one and ends with the same bytes as if it
    had never stopped. A folder with checkpoints of another fit (other data, model, key or options) is refused with
    ``ValueError``. A fit that had ended repeats what came after its last one. Needs ``pip install 'veil[scale]'``.

    >>> Checkpoints("runs/night", every=60).keep
    2
    """

    folder: str | os.PathLike[str]
    every: int | float = 30.0
    keep: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.every, int | float) or not self.every >= 0:
            raise ValueError(f"every: expected seconds between checkpoints, zero or more; got {self.every!r}")
        if not isinstance(self.keep, int) or self.keep < 1:
            raise ValueError(f"keep: expected how many checkpoints to keep, one or more; got {self.keep!r}")


def as_checkpoints(given: "Checkpoints | str | os.PathLike[str]") -> Checkpoints:
    """``Checkpoints`` as they are; a folder becomes some with the usual options."""
    return given if isinstance(given, Checkpoints) else Checkpoints(given)


def available() -> bool:
    """Whether the library that writes checkpoints is installed."""
    return find_spec("orbax") is not None and find_spec("orbax.checkpoint") is not None


class Keeper:
    """The checkpoints of one fit: ``asked()`` says what it is, each entry as text that must be the same to go on.

    It is asked when there is something to compare or to write: digests of large data take a while.
    """

    def __init__(self, options: Checkpoints, asked: Callable[[], Mapping[str, str]]) -> None:
        if not available():
            raise ModuleNotFoundError(
                "checkpoints need orbax-checkpoint: pip install 'veil[scale]', or leave checkpoints out"
            )
        self.folder = Path(options.folder).absolute()
        self._ask, self._options = asked, options
        self._check_folder()
        self._last = time.monotonic()
        self._written: int | None = None

    @cached_property
    def _asked(self) -> dict[str, str]:
        return dict(self._ask())

    @cached_property
    def _manager(self) -> Any:
        """Made when it is first needed: a short fit that had nothing to go on from never waits for orbax."""
        import orbax.checkpoint as ocp

        settings = ocp.CheckpointManagerOptions(
            max_to_keep=self._options.keep, create=True, enable_async_checkpointing=True, cleanup_tmp_directories=True
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
            return ocp.CheckpointManager(self.folder, options=settings, item_handlers=handlers)
        except OSError as error:
            raise CheckpointError(f"checkpoints: cannot write to {self.folder}: {error}") from error

    def _check_folder(self) -> None:
        """Refuse a folder with anything in it that orbax would not have written."""
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise ValueError(f"checkpoints: {self.folder} is not a folder")
        if not self.folder.exists():
            return
        others = [
            path.name for path in self.folder.iterdir() if not re.match(r"^\d+(\.orbax-checkpoint-tmp.*)?$", path.name)
        ]
        if others:
            raise ValueError(
                f"checkpoints: {self.folder} holds other things than checkpoints ({', '.join(sorted(others)[:3])}); "
                "choose a folder of their own"
            )

    # -- reading -------------------------------------------------------------------------------------------------------

    def latest(self) -> "Saved | None":
        """The last whole checkpoint, None if there is none.

        Raises ValueError if it is of another fit, damaged, or altered.
        """
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return None
        import orbax.checkpoint as ocp

        step = self._manager.latest_step()
        if step is None:
            return None

        place = self.folder / str(step)
        wanted = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta = self._read(place, lambda: self._manager.restore(step, args=wanted).meta)
        if not isinstance(meta, dict) or meta.get("format") != FORMAT or meta.get("version") != VERSION:
            raise ValueError(f"{place}: not a checkpoint that this version of veil reads; {self.remedy()}")
        asked = meta.get("asked")
        if not isinstance(asked, dict):
            raise ValueError(f"{place}: damaged: it does not say what was asked for; {self.remedy()}")
        if asked != self._asked:
            different = sorted(
                name for name in asked.keys() | self._asked.keys() if asked.get(name) != self._asked.get(name)
            )
            raise ValueError(
                f"checkpoints: {self.folder} holds checkpoints of another fit: it differs in {', '.join(different)}. "
                "Repeat the call that made them, or choose another folder"
            )
        return Saved(self, step, meta)

    def arrays(self, step: int, expected: dict[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint, which must be those ``expected``, in name, shape and type."""
        import orbax.checkpoint as ocp

        def found_arrays() -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
            kept = self._manager.item_metadata(step)["state"]
            kept = dict(getattr(kept, "tree", kept))
            return {name: (tuple(part.shape), np.dtype(part.dtype)) for name, part in kept.items()}

        place = self.folder / str(step)
        found = self._read(place, found_arrays)
        wanted = {name: (tuple(part.shape), np.dtype(part.dtype)) for name, part in expected.items()}
        if found != wanted:
            wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            first = wrong[0]
            raise ValueError(
                f"{place}: does not fit this fit: array {first} is {_named(found.get(first))}, expected "
                f"{_named(wanted.get(first))} ({len(wrong)} differ); {self.remedy()}"
            )
        template = {name: np.empty(part.shape, part.dtype) for name, part in expected.items()}
        items = ocp.args.Composite(state=ocp.args.StandardRestore(template))
        read = self._read(place, lambda: self._manager.restore(step, args=items).state)
        return {name: np.asarray(read[name]) for name in expected}

    def _read(self, place: Path, read: Callable[[], T]) -> T:
        """What ``read`` gives; ValueError where it fails, in whatever way."""
        try:
            return read()
        except Exception as error:  # orbax's and tensorstore's errors are of many kinds
            raise ValueError(f"{place}: damaged, not read ({_briefly(error)}); {self.remedy()}") from error

    def remedy(self) -> str:
        """What to do about a checkpoint that cannot be read."""
        steps = sorted(self._manager.all_steps())
        return f"delete it to go on from the one before ({steps[-2]})" if len(steps) > 1 else "delete it to start anew"

    # -- writing -------------------------------------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether the time for the next one has come."""
        return time.monotonic() - self._last >= self._options.every

    def save(self, step: int, arrays: dict[str, Any], meta: dict[str, Any], wait: bool = False) -> None:
        """Write a checkpoint, in the background once the numbers are copied; ``wait`` until it is on the disk."""
        import orbax.checkpoint as ocp

        content = {"format": FORMAT, "version": VERSION, "asked": self._asked} | meta
        try:
            if step != self._written:
                items = ocp.args.Composite(state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(content))
                self._manager.save(step, args=items, force=True)
                self._written = step
            if wait:
                self._manager.wait_until_finished()
        except Exception as error:  # orbax raises what its writers raised: OSError, ValueError, its own
            raise CheckpointError(self._failure(step, error)) from error
        self._last = time.monotonic()

    def _failure(self, step: int, error: Exception) -> str:
        kept = [number for number in self._manager.all_steps() if number != step]
        free = shutil.disk_usage(self.folder).free
        before = (
            f"the checkpoint of step {max(kept)} is whole: repeat the call to go on from it"
            if kept
            else "there is none before it"
        )
        return (
            f"checkpoints: step {step} could not be written to {self.folder} ({free / 1e6:.0f} MB free there; "
            f"{_briefly(error)}); {before}, once there is room"
        )

    def close(self) -> None:
        """Wait for what is being written."""
        if "_manager" not in vars(self):
            return
        try:
            self._manager.close()
        except Exception as error:
            raise CheckpointError(self._failure(-1, error)) from error


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was found: its numbers in ``meta``, its arrays on demand."""

    keeper: Keeper
    step: int
    meta: dict[str, Any]

    def number(self, name: str) -> int:
        """A number of ``meta``. Raises ValueError if it is not there."""
        value = self.meta.get(name)
        if type(value) is not int or not 0 <= value < 2**53:
            raise self.damaged(f"{name} is {value!r}")
        return value

    def pairs(self, name: str) -> list[tuple[int, float]]:
        """A list of pairs of numbers of ``meta``. Raises ValueError if it is not there."""
        value = self.meta.get(name)
        try:
            return [(int(step), float(number)) for step, number in value]  # type: ignore[union-attr]
        except (TypeError, ValueError) as error:
            raise self.damaged(f"{name} is not a list of pairs") from error

    def damaged(self, why: str) -> ValueError:
        """The error that says so."""
        return ValueError(f"{self.keeper.folder / str(self.step)}: damaged: {why}; {self.keeper.remedy()}")

    def arrays(self, expected: dict[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
        """Its arrays, which must be those ``expected``."""
        return self.keeper.arrays(self.step, expected)


def _briefly(error: Exception) -> str:
    """Kind and first line: orbax's errors have pages of configuration behind them."""
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0][:200] if words else ''}"


def _named(found: tuple[tuple[int, ...], np.dtype[Any]] | None) -> str:
    return "absent" if found is None else f"{found[1]} {list(found[0])}"


def named_leaves(tree: Any, prefix: str) -> dict[str, Any]:
    """The arrays of a tree by names that come from their place in it, without the empty ones, which orbax refuses.

    Random keys are the numbers that they are made of.
    """
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    plain = lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf  # noqa: E731
    return {f"{prefix}{jax.tree_util.keystr(path)}": plain(leaf) for path, leaf in leaves if leaf.size}


def filled(tree: Any, prefix: str, arrays: dict[str, np.ndarray]) -> Any:
    """The tree with its arrays replaced by those of these names."""
    parts, rest = eqx.partition(tree, eqx.is_array)

    def found(path: Any, leaf: Any) -> Any:
        if not leaf.size:
            return leaf
        array = arrays[f"{prefix}{jax.tree_util.keystr(path)}"]
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf)) if is_key(leaf) else array

    return eqx.combine(jax.tree_util.tree_map_with_path(found, parts), rest)


def fingerprint(tree: Any) -> str:
    """A digest of a tree: its structure, plain values and arrays to the last bit; functions by their names."""
    digest = hashlib.sha256()
    leaves, structure = jax.tree_util.tree_flatten(tree)
    nameless = lambda text: re.sub(r" at 0x[0-9a-f]+", "", text).encode()  # noqa: E731
    digest.update(nameless(str(structure)))
    for leaf in leaves:
        if eqx.is_array_like(leaf):
            array = np.ascontiguousarray(leaf)
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.data if array.size else b"")
        else:
            digest.update(nameless(repr(leaf)))
    return digest.hexdigest()[:16]
