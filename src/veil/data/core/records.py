"""Records that cannot be read: refused, or skipped, counted and named."""

import threading
import warnings
from dataclasses import dataclass

SHOWN = 5  # names kept of each chunk, and shown in a report
CHUNKS = 32  # chunks whose names are kept: a report must not grow with the data


class DataWarning(UserWarning):
    """Data are used differently from what one might expect, such as columns left out."""


@dataclass(frozen=True)
class BadRecords:
    """What was skipped.

    Fields:
        count: the rows that were skipped; a file that could not be opened counts as one.
        first: the first few, each with its file, its row or line and the reason.

    >>> BadRecords(1, ("a.csv, line 3: 'x' is not a number",))
    BadRecords(count=1, first=("a.csv, line 3: 'x' is not a number",))
    """

    count: int
    first: tuple[str, ...]


class Ledger:
    """Bad records by chunk, so that a second pass over the same chunk counts nothing twice. Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bad: dict[int, tuple[int, list[str]]] = {}
        self._warned = 0

    def enter(self, chunk: int, count: int, names: list[str]) -> None:
        """The bad records of a chunk; those of files that could not be opened have negative numbers."""
        with self._lock:
            known = chunk in self._bad or len(self._bad) < CHUNKS
            self._bad[chunk] = (count, names[:SHOWN] if known else [])
            if not count:
                del self._bad[chunk]

    def report(self) -> BadRecords:
        """All that was found until now."""
        with self._lock:
            names = [name for _, (_, names) in sorted(self._bad.items()) for name in names]
            return BadRecords(sum(count for count, _ in self._bad.values()), tuple(names[:SHOWN]))

    def warn(self, what: str) -> None:
        """At the end of a pass: how many were skipped, if that is news."""
        found = self.report()
        if found.count != self._warned:
            self._warned = found.count
            warnings.warn(
                f"{what}: {found.count} records could not be read and were skipped: {'; '.join(found.first)}"
                + ("; ..." if found.count > len(found.first) else ""),
                DataWarning,
                stacklevel=2,
            )
