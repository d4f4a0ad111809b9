"""RUN on the command line: a run directory, its model, and data in its columns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from veil.cli.program import notes
from veil.cli.waiting import waiting


@contextmanager
def opened(path: Path, quiet: bool) -> Iterator[tuple[Any, Any]]:
    """A run and its model, in the run's precision."""
    import jax

    from veil import run as runs

    run = runs.read(path)
    with notes(quiet), waiting("working", quiet), jax.enable_x64(run.precision == "float64"):
        yield run, run.load()


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
