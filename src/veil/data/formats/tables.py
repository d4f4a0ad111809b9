"""Files of numbers as data: whole (`read`) or in blocks (`stream`), with columns chosen for their roles."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from veil.data.core.arrays import Data, labels
from veil.data.core.columns import Columns, resolve
from veil.data.core.episodes import grouped, ragged
from veil.data.core.records import Ledger
from veil.data.core.trees import Tree
from veil.data.formats.arrays import ArrayTable
from veil.data.formats.arrow import ArrowTable
from veil.data.formats.delimited import DelimitedTable
from veil.data.formats.files import TableFiles, opened, reading
from veil.data.formats.image_files import ImageTable
from veil.data.formats.paths import TEXTS, Paths, called, check_table, ending, find
from veil.data.formats.roles import Table, roles_of
from veil.data.formats.streaming import Stream
from veil.data.recorded.minari import ENDINGS
from veil.data.recorded.opening import is_recording, recording


def read(
    path: str | os.PathLike[str],
    query: Columns = None,
    evidence: Columns = None,
    weight: str | int | None = None,
    name: str | None = None,
    *,
    episode: str | int | None = None,
    time: str | int | None = None,
) -> Data:
    """Read a .csv or .tsv (perhaps in a .gz), .parquet, .feather, .npy or .npz file, or a recording, into memory.

    Columns are named by their name or position (from 0); `query={"place": ["x", "y"], "reward": "r"}` puts them into
    the arrays of a dictionary. Without `query` it is every column that is not evidence or weight, except, with a
    `DataWarning`, a row index that pandas or R wrote and, if no `evidence` is named either, what is not numeric.
    Missing cells and nulls are missing entries of the query. Columns without names are column0, column1, ...

    A .npy holds one array [N, columns], or [N, ...] all of which is the query. An .npz holds one array as in a .npy;
    or columns, one array each; or the arrays query and, if needed, evidence, weight, observed, index, mask, reset,
    those in a dictionary as query/frame and query/reward. Files with Python objects are never loaded.

    **Sequences.** With `episode` the rows that have the same value in that column are the steps of one sequence, in the
    order of the file or of the column `time` (`grouped`); with `time` alone all rows are one sequence. An .npz may hold
    them padded (query [N, T, ...] and a mask), or one after the other: query [M, ...] with lengths [N] (weight [N]),
    or with episode [M] and perhaps time [M]. A recording (`recording`) has parts in place of columns: observations,
    "action", "reward" or "terminated"; the query is the observation by default.

    Args:
        path: the file; of a recording also its folder.
        query, evidence, weight: columns.
        name: of the data; the file's name without its ending by default.
        episode: the column that says which sequence a row belongs to, of numbers or text.
        time: the column that orders the steps of a sequence, of numbers or dates.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: a table but numpy's own without pyarrow; the message has the command that installs it.
        ValueError: an unknown ending or column, a used column that is not numeric, or anything `Data` would refuse.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "cars.csv")
    ...     _ = path.write_text("speed,distance\\n4,2\\n7,\\n")
    ...     read(path, evidence="speed")
    Data('cars': N=2, query (distance), evidence (speed), 1 of 2 entries missing)
    """
    apart = {"episode": episode, "time": time}
    if is_recording(Path(path)) or Path(path).suffix.lower() in ENDINGS:
        _without(f"{path} is a recording, which has no columns; leave it out", weight=weight, **apart)
        return recording(path).data(query, evidence, name=name)
    table = open_table(Path(path))
    name = called(table.path) if name is None else name
    if not table.names:
        _without(
            f"{table.path} holds arrays, which have no columns; leave it out. In an .npz of steps [M, ...] the array "
            "named episode [M] says which sequence they belong to, and time [M] their order",
            **apart,
        )
        _check_whole(table, query, evidence, weight)
        with reading(table.path):
            fields = table.whole(None)
        if table.ragged:
            return _ragged(fields, name, query, evidence)
        data = Data(**fields, name=name)
        return data if query is None and evidence is None else data.select(query, evidence)
    places = {word: resolve(table.names, column, word)[0] for word, column in apart.items() if column is not None}
    roles = roles_of(table, query, evidence, weight, tuple(places.values()))
    query_names, evidence_names, _ = roles.labels(table, name)
    with reading(table.path):
        arrays = roles.arrays(table.whole(roles.wanted))
        marks = {word: table.cells(place) for word, place in places.items()}
    data = Data(**arrays, query_names=query_names, evidence_names=evidence_names, name=name)
    return grouped(data, **marks) if marks else data


def _ragged(fields: dict[str, Tree], name: str, query: Columns, evidence: Columns) -> Data:
    """Sequences that lie one after the other in an .npz."""
    if "lengths" in fields and "time" in fields:
        raise ValueError("time: sequences with lengths are in order; leave it out, or give episode [M] in their place")
    weight = fields.get("weight")
    each = None if "lengths" in fields else weight
    rows = Data(fields["query"], fields.get("evidence"), each, fields.get("observed"), name=name)
    if query is not None or evidence is not None:
        rows = rows.select(query, evidence)
    if "episode" in fields:
        return grouped(rows, fields["episode"], fields.get("time"))
    return ragged(fields["lengths"], rows.query, rows.evidence, rows.observed, weight, names=labels(rows))


def stream(
    path: Paths,
    query: Columns = None,
    evidence: Columns = None,
    weight: str | int | None = None,
    rows: int = 65536,
    name: str | None = None,
    *,
    bad: str = "refuse",
    image_size: int | tuple[int, int] | None = None,
) -> Stream:
    """Read one file or many, with the rules and errors of `read`, in blocks of `rows` data or shuffled
    (`Stream.batches`), in memory bounded by the block.

    `path` is a file, a folder, a pattern such as "shards/*.parquet", or a list of files, all of one kind and with the
    same columns, which are read one after the other. Parquet, .npy and .npz are the fastest; a CSV is parsed anew in
    every pass, and looked through before the first shuffled batch. An error in a later block is raised when it is read.

    A folder without tables is a folder of images (.png, .jpg, .jpeg), its sub-folders included: each is a query
    [H, W, C] with values in [0, 1], C 1 or 3 as in the first image. `evidence="folder"` makes the sub-folder the
    evidence, a class as zeros and a one; without it sub-folders mean nothing.

    Args:
        path: the files.
        query, evidence, weight, name: as for `read`.
        rows: the number of data in a block.
        bad: "refuse" ends the pass at the first record that cannot be read: a file that is cut off, a row of another
            length, text in place of a number, an infinite value, other columns than in the first file. "skip" leaves
            such records out, counts them in `Stream.bad`, and says how many there were in a `DataWarning` at the end of
            a pass. A file that vanishes or changes while it is in use is never skipped.
        image_size: height and width (or one number for both) that images are resized to. Without it all must have the
            size of the first one.

    Raises:
        FileNotFoundError: there are no such files; or one that was there is gone.
        ModuleNotFoundError: such a table without pyarrow, images without Pillow; the message has the command.
        ValueError: as for `read`; files of several kinds or with different columns; a bad record.

    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for shard in range(2):
    ...         np.save(pathlib.Path(folder, f"numbers{shard}.npy"), np.zeros((5, 2)))
    ...     stream(f"{folder}/numbers*.npy", rows=2, name="numbers")
    Stream('numbers': N=10, query [2], blocks of 2)
    """
    if bad not in ("refuse", "skip"):
        raise ValueError(f"bad must be 'refuse' (stop at the first bad record) or 'skip' (and count them); got {bad!r}")
    found = find(path)
    name = found.name if name is None else name
    ledger = Ledger()
    tables: Sequence[Table]
    if found.images:
        _without("images have no columns; the whole image is the query. Leave it out", query=query, weight=weight)
        if evidence not in (None, "folder", ["folder"]):
            raise ValueError(f"evidence: images have only 'folder', the class by sub-folder; got {evidence!r}")
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"image_size must be height and width in pixels, such as (32, 32); got {image_size!r}")
        tables, evidence = [ImageTable(found.files, found.root, size, evidence is not None)], None
    else:
        _without(f"only images have a size; {found.files[0].name} is a table", image_size=image_size)
        tables = opened(found.files, open_table, bad, ledger)
    first = tables[0]
    if first.ragged:
        raise ValueError(
            f"path: {first.path} holds sequences one after the other (lengths or episode), which are read whole: "
            "use veil.data.read. To stream sequences write them padded: query [N, T, ...] and mask [N, T]"
        )
    if not first.names:
        _check_whole(first, query, evidence, weight)
    roles = roles_of(first, query, evidence, weight) if first.names else None
    source = TableFiles(tables, roles, bad, ledger, name)
    made = Stream(source, rows, count=source.count, name=name)
    as_it_is = roles is not None or (query is None and evidence is None)
    return made if as_it_is else made.map(lambda part: part.select(query, evidence))


def open_table(path: Path) -> Table:
    """A table by the ending of its file; raises as `read` does."""
    check_table(path)
    kind = ending(path)
    table = DelimitedTable if kind in TEXTS else ArrayTable if kind in (".npy", ".npz") else ArrowTable
    with reading(path):
        return table(path)


def _check_whole(table: Table, query: Columns, evidence: Columns, weight: str | int | None) -> None:
    """Refuse to choose columns where there are none."""
    if isinstance(table, ArrayTable) and table.roles:
        _without(f"{table.path} holds arrays by role; save the weights as the array named weight in it", weight=weight)
        return
    _without(
        f"{table.path} holds one array with more than two axes, which has no columns to choose; leave it out, or save "
        "an .npz with arrays named query and evidence",
        query=query,
        evidence=evidence,
        weight=weight,
    )


def _without(why: str, **given: Any) -> None:
    """Refuse arguments that have no meaning here."""
    for argument, value in given.items():
        if value is not None:
            raise ValueError(f"{argument}: {why}")
