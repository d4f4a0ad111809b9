"""RUN on the command line: a run directory, its model, and data in its columns."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from veil.cli.program import notes
from veil.cli.waiting import waiting

MOST_DRAWS, WORK = 1000, 2 * 10**9


@contextmanager
def opened(path: Path, quiet: bool) -> Iterator[tuple[Any, Any]]:
    """A run and its ``Fit``, in the run's precision."""
    import jax

    from veil.saved import runs

    run = runs.read(path)
    with notes(quiet), waiting("working", quiet), jax.enable_x64(run.precision == "float64"):
        yield run, run.load()


def draws(asked: int | None, model: Any, data: Any) -> int:
    """How many draws for a bound: as asked for, or 1000, of large data fewer (10 at least), so that it takes minutes.

    Each draw of a latent gives as many numbers as the data have.
    """
    from veil.data import Stream
    from veil.data.core import trees
    from veil.model import Tractable

    if asked is not None or isinstance(model, Tractable):
        return asked or MOST_DRAWS
    rows = (data.count or data.rows) if isinstance(data, Stream) else len(data)
    return max(
        10, min(MOST_DRAWS, WORK // max(1, rows * sum(math.prod(shape) for _, shape in trees.leaves(data.query_shape))))
    )


def data(
    run: Any,
    source: str,
    query: str | None,
    evidence: str | None,
    weight: bool,
    stream: bool,
    episode: str | None = None,
    time: str | None = None,
) -> Any:
    """DATA in the columns of the run, or in others named in their place."""
    from veil.cli import reading

    asked = reading.names(query, "--query"), reading.names(evidence, "--evidence")
    blocks = reading.Blocks() if stream else None
    return reading.like_run(run, source, *asked, weight, blocks, reading.Sequences(episode, time))


def places(run: Any, source: str, stream: bool = False, episode: str | None = None, time: str | None = None) -> Any:
    """What DATA call their sequences and steps (``tables.Places``), or None."""
    from veil.cli import reading, tables

    if run.columns.sequences is None or stream:
        return None
    return tables.places(run, source, reading.Sequences(episode, time))
