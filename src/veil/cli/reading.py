"""DATA on the command line: a file or a known name, and its columns."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from veil.cli.program import Refusal
from veil.data import Data, Stream, available, grouped, load, read, windows
from veil.data import stream as read_stream
from veil.data.bundled.examples import RECORDINGS
from veil.data.core import trees
from veil.data.core.arrays import unchecked
from veil.data.core.checks import sequence_shape
from veil.data.core.columns import resolve, suggestion
from veil.data.formats.paths import TABLES, ending, find, is_pattern
from veil.data.formats.tables import open_table
from veil.data.recorded.opening import is_recording, recording

FILES = (*TABLES, ".hdf5", ".h5")


class Blocks(NamedTuple):
    """How a stream is read: rows in a block, what to do with bad records, the size of images."""

    rows: int = 65536
    bad: str = "refuse"
    image_size: tuple[int, int] | None = None


class Sequences(NamedTuple):
    """How rows are sequences: the columns of their names and of time, and the steps of a window."""

    episode: str | None = None
    time: str | None = None
    window: int | None = None


class Chunks(NamedTuple):
    """What a policy's datum is of a recording: how many observations and actions, of which episodes (None: of all).

    ``repeat``: whether an episode's last action counts again behind its end.
    """

    observations: int = 1
    horizon: int | None = None
    repeat: bool = False
    episodes: list[int] | None = None


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
    """Whether DATA is a file (or a folder or a pattern of files) or a recording, and not another known name.

    Raises Refusal if it can be neither.
    """
    known = [example.name for example in available()]
    if source in known and not Path(source).suffix:
        return source in RECORDINGS
    if is_many(source) or is_recording(Path(source)):
        return True
    if ending(Path(source)) in FILES or Path(source).is_file():
        if not Path(source).is_file():
            raise FileNotFoundError(f"there is no file {source}")
        return True
    files = ", ".join(FILES)
    raise Refusal(f"there is neither a file ({files}) nor an example {source!r}; {suggestion(source, known)}")


def is_many(source: str) -> bool:
    """Whether DATA is a folder of files or a pattern."""
    path = Path(source)
    return (path.is_dir() and not is_recording(path)) or is_pattern(path)


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
    sequences: Sequences | None = None,
    steps: bool = True,
    chunks: Chunks | None = None,
) -> Data | Stream:
    """The data in the roles asked for, or in those they have by default; with ``blocks`` as a stream.

    With ``sequences`` as sequences: rows that no column tells apart are one. Of a recording one datum is a step, or
    without ``steps`` an episode; with ``chunks`` what a policy of them learns from.
    """
    if sequences is not None:
        return _sequences(source, query, evidence, weight, blocks, sequences, chunks)
    if is_file(source):
        if blocks is not None and is_recording(Path(source)):
            raise Refusal(f"--stream reads tables and images; {source} is a recording, which is read whole")
        if blocks is not None:
            return read_stream(source, query, evidence, weight, **blocks._asdict())
        if is_many(source):
            raise Refusal(f"{source} may be many files, which are read in blocks: add --stream")
        if (query or steps) and weight is None and is_recording(Path(source)):
            if source in RECORDINGS and not query and not evidence:
                return load(source)
            how = chunks or Chunks()
            found = recording(Path(source), how.episodes)
            # vectors stand side by side; with an image they are a dictionary
            together = query if not query or set(query) & set(found.images) else [query]
            more: Any = {"observations": how.observations, "horizon": how.horizon, "repeat": how.repeat}
            return found.data(together, evidence, sequences=not steps, **more)
        return read(source, query, evidence, weight)
    if blocks is not None:
        raise Refusal(f"--stream reads files; {source} is an example, which is in memory anyway")
    data = load(source, query, evidence)
    return data if weight is None else _weighted(source, data, weight, query)


def _sequences(
    source: str,
    query: Sequence[str] | None,
    evidence: Sequence[str] | None,
    weight: str | None,
    blocks: Blocks | None,
    how: Sequences,
    chunks: Chunks | None = None,
) -> Data | Stream:
    if blocks is not None:
        for option, value in zip(("--episode", "--time", "--window"), how, strict=True):
            if value is not None:
                raise Refusal(f"{option}: a stream holds sequences as they are (query [N, T, ...]); leave it out")
        return open_data(source, query, evidence, weight, blocks)
    if how.episode is None and how.time is None:
        data = open_data(source, query, evidence, weight, steps=False, chunks=chunks)
    elif is_file(source) and not is_many(source):
        data = read(source, query, evidence, weight, episode=how.episode, time=how.time)
    else:
        option = "--time" if how.episode is None else "--episode"
        raise Refusal(f"{option}: {source} is not a table in one file; leave it out")
    assert isinstance(data, Data)
    if sequence_shape(data.query) is None:
        rows = Data(data.query, data.evidence, None, data.observed, **_named(data))
        data = grouped(rows, np.zeros(len(rows), int))
        if weight is not None:
            raise Refusal("--weight: all rows are one sequence, which is there once; leave it out, or use --episode")
    return data if how.window is None else windows(data, how.window)


def _named(data: Data) -> dict[str, Any]:
    return {"query_names": data.query_names, "evidence_names": data.evidence_names, "name": data.name}


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
        **_named(data),
    )


def like_run(
    run: Any,
    source: str,
    query: list[str] | None,
    evidence: list[str] | None,
    weight: bool,
    blocks: Blocks | None = None,
    sequences: Sequences | None = None,
) -> Data | Stream:
    """The columns that a run was fitted to, by name, or others in their place."""
    columns = run.columns
    if columns.sequences is not None:
        how = sequences or Sequences()
        return _like_sequences(run, source, query, evidence, weight, blocks, how)
    for option, value in zip(("--episode", "--time"), sequences or (), strict=False):
        if value is not None:
            raise Refusal(f"{option}: {run.model_name} is a model of single rows; leave it out")
    for option, given, known in (("--query", query, columns.query), ("--evidence", evidence, columns.evidence)):
        if given is not None and len(given) != len(known) and columns.parts is None:
            raise Refusal(f"{option}: the run has {len(known)} such columns ({some(known)}); got {len(given)}")
    weigh = columns.weight if weight else None
    if columns.parts is not None and is_file(source) and is_recording(Path(source)):
        asked = query or columns.parts["query"], evidence or columns.parts["evidence"]
        data = open_data(source, *asked, chunks=chunks_of(run))
    elif not (_is_row(columns.query_shape) and _is_row(columns.evidence_shape)):
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
    data = _called(data, columns)
    shapes = data.query_shape, data.evidence_shape or ()
    if shapes != (columns.query_shape, columns.evidence_shape):
        raise ValueError(
            f"{source}: query and evidence of each datum have the shapes {_shapes(*shapes)}; "
            f"the run was fitted to {_shapes(columns.query_shape, columns.evidence_shape)}"
        )
    return data


def _like_sequences(
    run: Any,
    source: str,
    query: list[str] | None,
    evidence: list[str] | None,
    weight: bool,
    blocks: Blocks | None,
    how: Sequences,
) -> Data | Stream:
    """Sequences of any length, with steps like those that a run was fitted to."""
    columns, fitted = run.columns, run.columns.sequences
    table = is_table(source)
    how = columns_of_steps(run, source, how)
    if table and fitted["table"]:
        query, evidence = query or list(columns.query), evidence or list(columns.evidence) or None
    elif is_file(source) and is_recording(Path(source)):
        query, evidence = query or fitted["query"], evidence or fitted["evidence"]
    weigh = columns.weight if weight and table else None
    data = open_data(source, query, evidence, weigh, blocks, how, chunks=chunks_of(run))
    data = _called(data, columns)
    shapes = of_a_step(data.query_shape), of_a_step(data.evidence_shape or ())
    like = of_a_step(columns.query_shape), of_a_step(columns.evidence_shape)
    if shapes != like:
        raise ValueError(
            f"{source}: query and evidence of each step have the shapes {_shapes(*shapes)}; the run was fitted to "
            f"{_shapes(*like)}"
        )
    return data


def chunks_of(run: Any) -> Chunks | None:
    """What a datum of a policy's run is, of any episodes."""
    known = run.columns.chunks
    return None if known is None else Chunks(**known | {"episodes": None})


def _called(data: Data | Stream, columns: Any) -> Data | Stream:
    """Columns that stand in the place of those of the run, by its names, by which the verbs tell them apart."""
    names = columns.query, columns.evidence
    counts = [(len(one), len(other)) for one, other in zip((data.query_names, data.evidence_names), names, strict=True)]
    if (data.query_names, data.evidence_names) == names or any(one != other for one, other in counts):
        return data
    if isinstance(data, Stream):
        return data.map(lambda part: unchecked(part.fields(), (*names, part.name)))
    return unchecked(data.fields(), (*names, data.name))


def _is_row(shape: Any) -> bool:
    """Whether a datum is a row of columns, or nothing."""
    return not trees.is_tree(shape) and len(shape) < 2


def of_a_step(shape: Any) -> Any:
    """The shape of one step of sequences."""
    return trees.map(lambda each: tuple(each[1:]), shape)


def _shapes(*shapes: Any) -> str:
    return str([trees.map(list, shape) for shape in shapes])


def columns_of_steps(run: Any, source: str, how: Sequences) -> Sequences:
    """The columns of sequences and of time in DATA: those asked for, or those of the run if they are there."""
    fitted = run.columns.sequences
    if not (is_table(source) and fitted["table"]):
        return Sequences(how.episode, how.time)
    known = all_columns(source)
    here = lambda column: column if column in known else None  # noqa: E731
    return Sequences(how.episode or here(fitted["episode"]), how.time or here(fitted["time"]))


def is_table(source: str) -> bool:
    """Whether DATA has columns in rows: neither a recording nor arrays by their roles nor sequences."""
    if not is_file(source):
        return len(load(source).query_shape) == 1
    if is_many(source) or is_recording(Path(source)):
        return False
    return Path(source).suffix.lower() != ".npz" or bool(open_table(Path(source)).names)


def _arrays(source: str, columns: Any, weight: str | None, blocks: Blocks | None) -> Data | Stream:
    """Arrays, which have no columns to choose; images in the size that the run was fitted to, with its classes."""
    if blocks is None or not is_many(source) or not find(source).images:
        return open_data(source, None, None, weight, blocks)
    blocks = blocks._replace(image_size=columns.query_shape[:2])
    data = open_data(source, None, ["folder"] if columns.evidence else None, None, blocks)
    if data.evidence_names != columns.evidence:
        found, fitted = some(data.evidence_names), some(columns.evidence)
        raise ValueError(f"{source}: the sub-folders are {found}; the run was fitted to {fitted}")
    return data


def column_names(source: str, blocks: Blocks | None = None) -> list[str]:
    """All columns of DATA, as far as it names them."""
    if not is_file(source):
        return [name for example in available() if example.name == source for name in example.columns]
    if is_recording(Path(source)):
        return list(recording(source).parts)
    blocks = blocks or Blocks()
    data = read_stream(source, rows=1, bad=blocks.bad, image_size=blocks.image_size)
    return [*data.evidence_names, *data.query_names]


def all_columns(source: str) -> list[str]:
    """All columns of a table or an example, those of text too."""
    return list(open_table(Path(source)).names) if is_file(source) else column_names(source)


def check_column(names_: Sequence[str], wanted: str, option: str) -> str:
    """A column by name or position, as its name."""
    return names_[resolve(names_, wanted, option)[0]]


def some(columns: Sequence[str]) -> str:
    """The first names, for a message."""
    return ", ".join(columns[:8]) + (", ..." if len(columns) > 8 else "")
