"""Where the numbers of a running fit go: lines of JSON, TensorBoard. Give one to ``veil.fit(..., record=...)``.

A record is any function of a dictionary of numbers. One with a method ``resumed(step)`` is told when a fit goes on from
a checkpoint: what it has of later steps will come again.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from veil.host.files import json_line, parse_json


class JsonLines:
    """One line of JSON a step in the file ``path``; what is not finite as null.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lines = JsonLines(folder + "/metrics.jsonl")
    ...     lines({"step": 0, "value": -1.5})
    ...     lines.close()
    ...     pathlib.Path(folder, "metrics.jsonl").read_text()
    '{"step": 0, "value": -1.5}\\n'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file: TextIO | None = None
        self.path = Path(path)

    def __call__(self, values: dict[str, Any]) -> None:
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", buffering=1)
        self._file.write(json_line(values))

    def resumed(self, step: int) -> None:
        """Keep the lines of the first ``step`` steps of an earlier session, and write behind them."""
        kept = []
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                values = _object(line)
                number = values.get("step")
                if isinstance(number, int) and (number < step or (number == step and "value" not in values)):
                    kept.append(line.decode() + "\n")
        self.close()
        self._file = self.path.open("w", encoding="utf-8", buffering=1)
        self._file.writelines(kept)

    def close(self) -> None:
        """Close the file, as happens by itself at the end; another call opens it anew, from its beginning."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        self.close()


class TensorBoard:
    """Scalars for TensorBoard in the folder ``path``. Needs ``pip install 'veil[scale]'``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("TensorBoard: needs tensorboardX: pip install 'veil[scale]'") from error
        self._make: Callable[..., Any] = SummaryWriter
        self.path = Path(path)
        self._writer: Any = None

    def __call__(self, values: dict[str, Any]) -> None:
        if self._writer is None:
            self._writer = self._make(str(self.path))
        for name, value in values.items():
            if name != "step":
                self._writer.add_scalar(name, value, values["step"])

    def resumed(self, step: int) -> None:
        """Hide what an earlier session wrote of this step and later ones."""
        self.close()
        self._writer = self._make(str(self.path), purge_step=step)

    def close(self) -> None:
        """Write what is still waiting."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Several:
    """Every one of several records."""

    def __init__(self, records: Iterable[Callable[[dict[str, Any]], None]]) -> None:
        self.records = tuple(records)

    def __call__(self, values: dict[str, Any]) -> None:
        for record in self.records:
            record(values)

    def resumed(self, step: int) -> None:
        """Tell those who want to know."""
        for record in self.records:
            tell_resumed(record, step)


class Behind:
    """A record of a fit that goes on behind ``taken`` steps of another."""

    def __init__(self, record: Any, taken: int) -> None:
        self._record, self._taken = record, taken

    def __call__(self, values: dict[str, Any]) -> None:
        self._record(values | {"step": values["step"] + self._taken})

    def resumed(self, step: int) -> None:
        """Tell the record in its own count."""
        tell_resumed(self._record, step + self._taken)


def tell_resumed(record: Any, step: int) -> None:
    """Tell a record, if it wants to know, that the fit goes on at this step."""
    if hasattr(record, "resumed"):
        record.resumed(step)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = parse_json(line)
    except ValueError:  # the last line of a process that was killed
        return {}
    return found if isinstance(found, dict) else {}
