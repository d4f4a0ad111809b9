"""Files that may be damaged or hostile are read with limits; files are written whole or not at all."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

LARGEST_INTEGER = 2**63 - 1  # the largest seed


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file of at most ``largest`` bytes.

    Raises FileNotFoundError if there is none (a directory, a pipe or a device is none), ValueError for a larger one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent}: {path.name} is missing, or is not a file")
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"{path}: {size} bytes, larger than any that this library writes ({largest}); not read")
    return path.read_bytes()


def read_json(path: Path, largest: int) -> Any:
    """The value in a JSON file, as ``parse_json`` reads it; see ``read_bytes`` for what else is raised."""
    try:
        return parse_json(read_bytes(path, largest))
    except ValueError as error:
        raise ValueError(f"{path}: damaged: {error}") from error


def parse_json(text: bytes) -> Any:
    """A value from UTF-8 JSON. Stricter than the standard library.

    Raises ValueError for anything but JSON, a name that occurs twice in an object, nesting beyond Python's depth, NaN
    and infinities, and integers beyond 2^63 - 1.

    >>> parse_json(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_int=_integer,
            parse_constant=_finite,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def check_format(record: Any, file: Path, name: str, version: int, what: str) -> None:
    """Raise ValueError unless a file's record is an object of this format and version."""
    if not isinstance(record, dict) or record.get("format") != name:
        raise ValueError(f"{file}: not {what}")
    if record.get("version") != version:
        came = f"{record.get('version')!r:.40}"
        raise ValueError(f"{file}: written in version {came} of the format; this library reads version {version}")


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers of numpy and JAX as plain ones, infinities as words, and NaN (no value) as null.

    >>> plain({"a": (1, float("-inf"), float("nan"))})
    {'a': [1, '-inf', None]}
    """
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    number = value.item() if hasattr(value, "item") else value
    if not isinstance(number, float) or math.isfinite(number):
        return number
    return None if math.isnan(number) else str(number)


_encode = json.JSONEncoder(allow_nan=False).encode  # made once: ``json.dumps`` makes one a call


def json_line(values: dict[str, Any]) -> str:
    """One line of JSON, of what ``plain`` makes of the values.

    >>> json_line({"value": float("nan")})
    '{"value": null}\\n'
    """
    try:  # plain already, as most lines of a fit's metrics are: the walk through them costs more than the writing
        return _encode(values) + "\n"
    except (TypeError, ValueError):
        return _encode(plain(values)) + "\n"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r:.80} occurs twice in one object")
        found[name] = value
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is not a finite number")
    return number


def _integer(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) > LARGEST_INTEGER:
        raise ValueError(f"{text[:40]} is larger than any number that this library writes")
    return number


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never half."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
