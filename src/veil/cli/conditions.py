"""The evidence of a run alone, on the command line: rows, or sequences, to draw for."""

from pathlib import Path
from typing import Any

from veil.cli.program import Refusal
from veil.cli.reading import Sequences, all_columns, chunks_of, is_file, is_table, of_a_step, open_data, some
from veil.data import Data, Stream
from veil.data.core import trees
from veil.data.recorded.opening import is_recording


def evidence_values(run: Any, source: str, evidence: list[str] | None) -> Any:
    """The evidence columns of a run, alone: rows to sample for."""
    columns = run.columns
    if evidence is not None and len(evidence) != len(columns.evidence):
        raise Refusal(f"--evidence: the run has {len(columns.evidence)} such columns; got {len(evidence)}")
    try:
        parts = columns.parts if is_file(source) and is_recording(Path(source)) else None
        if parts and columns.chunks:
            acted = open_data(source, parts["query"], evidence or parts["evidence"], chunks=chunks_of(run))
            return acted.evidence  # type: ignore[union-attr]
        data = open_data(source, evidence or (parts["evidence"] if parts else list(columns.evidence)), None)
    except ValueError as error:
        if "there is no column" not in str(error):
            raise
        found = str(error).removeprefix("query: ")
        said = f"{found}. The run's evidence is {some(columns.evidence)}; name others with --evidence"
        raise Refusal(said) from error
    assert isinstance(data, Data)
    if data.observed is not None:
        raise ValueError(f"{source}: evidence must be complete; some entries are missing")
    return data.query


def evidence_sequences(run: Any, source: str) -> tuple[Any, Any]:
    """The evidence of sequences, alone, [N, T, P], and which of its steps are there (None: all)."""
    columns, fitted = run.columns, run.columns.sequences
    data: Data | Stream
    if is_file(source) and is_recording(Path(source)):
        acted = fitted["query"] if columns.chunks else None
        data = _only_evidence(open_data(source, acted, fitted["evidence"], steps=False, chunks=chunks_of(run)))
    elif is_table(source):
        known = all_columns(source)
        here = lambda column: column if column in known else None  # noqa: E731
        how = Sequences(here(fitted["episode"]), here(fitted["time"]))
        data = open_data(source, list(columns.evidence), None, sequences=how)
    else:
        whole = open_data(source, None, None)
        data = whole if whole.evidence_shape is None else _only_evidence(whole)
    assert isinstance(data, Data)
    if data.observed is not None:
        raise ValueError(f"{source}: evidence must be complete; some entries are missing")
    shape, like = of_a_step(data.query_shape), of_a_step(columns.evidence_shape)
    if shape != like:
        raise ValueError(
            f"{source}: evidence of each step has the shape {trees.map(list, shape)}; the run was fitted to "
            f"{trees.map(list, like)}"
        )
    return data.query, data.mask


def _only_evidence(data: Any) -> Data:
    return Data(data.evidence, mask=data.mask)
