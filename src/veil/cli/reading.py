"""DATA on the command line: a file or a known name, and its columns."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from veil.cli.program import Refusal
from veil.data import Data, Stream, available, load, read
from veil.data import stream as read_stream
from veil.data.columns import resolve, suggestion
from veil.data.paths import find, is_pattern

FILES = (".csv", ".parquet", ".npy", ".npz")


class Blocks(NamedTuple):
    """How a stream is read: rows in a block, what to do with bad records, the size of images."""

    rows: int = 65536
    bad: str = "refuse"
    image_size: tuple[int, int] | None = None


def names(text: str | None, option: str) -> list[str] | None:
    """A comma-separated list of columns; a name with a comma in it goes in double quotes.

    >>> names('a, "b,c"', "--query")
    ['a', 'b,c']
    """
    if text is None:
        return None
    found = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if not found or not all(found):
        raise Refusal(f"{option}: expected column names with commas between them, such as a,b; got {text!r}")
    return found


def is_file(source: str) -> bool:
    """Whether DATA is a file (or a folder or a pattern of files), and not a known name.

    Raises Refusal if it can be neither.
    """
    known = [example.name for example in available()]
    if source in known and not Path(source).suffix:
        return False
    if is_many(source):
        return True
    if Path(source).suffix.lower() in FILES or Path(source).is_file():
        if not Path(source).is_file():
            raise FileNotFoundError(f"there is no file {source}")
        return True
    raise Refusal(
        f"there is neither a file ({', '.join(FILES)}) nor an example {source!r}; {suggestion(source, known)}"
    )


def is_many(source: str) -> bool:
    """Whether DATA is a folder or a pattern."""
    return Path(source).is_dir() or is_pattern(Path(source))


def image_size(text: str | None) -> tuple[int, int] | None:
    """Height and width of images.

    >>> image_size("32"), image_size("32x48")
    ((32, 32), (32, 48))
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise Refusal(f"--image-size: expected pixels such as 32, or height and width such as 32x48; got {text!r}")
    return int(parts[0]), int(parts[-1])


def open_data(
    source: str,
    query: Sequence[str] | None,
    evidence: Sequence[str] | None,
    weight: str | None = None,
    blocks: Blocks | None = None,
) -> Data | Stream:
    """The data in the roles asked for, or in those they have by default; with ``blocks`` as a stream."""
    if is_file(source):
        if blocks is not None:
            size = blocks.image_size
            return read_stream(source, query, evidence, weight, rows=blocks.rows, bad=blocks.bad, image_size=size)
        if is_many(source):
            raise Refusal(f"{source} may be many files, which are read in blocks: add --stream")
        return read(source, query, evidence, weight)
    if blocks is not None:
        raise Refusal(f"--stream reads files; {source} is an example, which is in memory anyway")
    data = load(source, query, evidence)
    return data if weight is None else _weighted(source, data, weight, query)


def _weighted(source: str, data: Data, weight: str, query: Sequence[str] | None) -> Data:
    """An example whose column ``weight`` is not query or evidence but the weight."""
    column = load(source, query=[weight])
    (name,) = column.query_names
    if name in data.evidence_names or (query is not None and name in data.query_names):
        raise Refusal(f"column {name!r} is both weight and query or evidence; a column has one role")
    rest = [other for other in data.query_names if other != name]
    if not rest:
        raise Refusal(f"--weight {name}: no column is left for the query")
    data = data if len(rest) == len(data.query_names) else data.select(rest, data.evidence_names or None)
    return Data(
        data.query,
        data.evidence,
        column.query[:, 0],
        data.observed,
        query_names=data.query_names,
        evidence_names=data.evidence_names,
        name=data.name,
    )


def like_run(
    run: Any,
    source: str,
    query: list[str] | None,
    evidence: list[str] | None,
    weight: bool,
    blocks: Blocks | None = None,
) -> Data | Stream:
    """The columns that a run was fitted to, by name, or others in their place."""
    columns = run.columns
    for option, given, known in (("--query", query, columns.query), ("--evidence", evidence, columns.evidence)):
        if given is not None and len(given) != len(known):
            raise Refusal(f"{option}: the run has {len(known)} such columns ({_some(known)}); got {len(given)}")
    weigh = columns.weight if weight else None
    if len(columns.query_shape) > 1 or len(columns.evidence_shape) > 1:
        data = _arrays(source, columns, weigh, blocks)
    else:
        wanted, given = query or list(columns.query), evidence or list(columns.evidence) or None
        try:
            data = open_data(source, wanted, given, weigh, blocks)
        except ValueError as error:
            if "there is no column" not in str(error):
                raise
            advice = "name others with --query and --evidence" + (
                ", or leave weights out: --unweighted" if weigh else ""
            )
            raise Refusal(f"{error}. The run was fitted to these columns; {advice}") from error
    shapes = data.query_shape, data.evidence_shape or ()
    if shapes != (columns.query_shape, columns.evidence_shape):
        raise ValueError(
            f"{source}: query and evidence of each datum have the shapes {[list(shape) for shape in shapes]}; "
            f"the run was fitted to {[list(columns.query_shape), list(columns.evidence_shape)]}"
        )
    return data


def _arrays(source: str, columns: Any, weight: str | None, blocks: Blocks | None) -> Data | Stream:
    """Arrays, which have no columns to choose; images in the size that the run was fitted to, with its classes."""
    if blocks is None or not is_many(source) or not find(source).images:
        return open_data(source, None, None, weight, blocks)
    blocks = blocks._replace(image_size=columns.query_shape[:2])
    data = open_data(source, None, ["folder"] if columns.evidence else None, None, blocks)
    if data.evidence_names != columns.evidence:
        found, fitted = _some(data.evidence_names), _some(columns.evidence)
        raise ValueError(f"{source}: the sub-folders are {found}; the run was fitted to {fitted}")
    return data


def evidence_values(run: Any, source: str, evidence: list[str] | None) -> Any:
    """The evidence columns of a run, alone: rows to sample for."""
    columns = run.columns
    if evidence is not None and len(evidence) != len(columns.evidence):
        raise Refusal(f"--evidence: the run has {len(columns.evidence)} such columns; got {len(evidence)}")
    try:
        data = open_data(source, evidence or list(columns.evidence), None)
    except ValueError as error:
        if "there is no column" not in str(error):
            raise
        found = str(error).removeprefix("query: ")
        raise Refusal(
            f"{found}. The run's evidence is {_some(columns.evidence)}; name others with --evidence"
        ) from error
    assert isinstance(data, Data)
    if data.observed is not None:
        raise ValueError(f"{source}: evidence must be complete; some entries are missing")
    return data.query


def column_names(source: str, blocks: Blocks | None = None) -> list[str]:
    """All columns of DATA, as far as it names them."""
    if not is_file(source):
        return [name for example in available() if example.name == source for name in example.columns]
    blocks = blocks or Blocks()
    data = read_stream(source, rows=1, bad=blocks.bad, image_size=blocks.image_size)
    return [*data.evidence_names, *data.query_names]


def check_column(names_: Sequence[str], wanted: str, option: str) -> str:
    """A column by name or position, as its name."""
    return names_[resolve(names_, wanted, option)[0]]


def _some(columns: Sequence[str]) -> str:
    return ", ".join(columns[:8]) + (", ..." if len(columns) > 8 else "")
