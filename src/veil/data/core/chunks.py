"""Sources with random access: they know their chunks, any of which can be read on its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from veil.data.core.arrays import Data
from veil.data.core.records import Ledger

CHUNK = 1 << 18  # numbers in a chunk, where the source can choose
FEW = 64  # chunks that data too small for many such are divided into, to be shuffled and shared


def chunk_rows(count: int, width: int) -> int:
    """How many of `count` rows of `width` numbers go into a chunk."""
    return max(1, min(CHUNK // max(1, width), -(-count // FEW)))


def ranges(count: int, rows: int) -> list[tuple[int, int]]:
    """Consecutive ranges of `rows` rows each, but the last."""
    return [(start, min(start + rows, count)) for start in range(0, count, rows)]


class Chunked(ABC):
    """Data in numbered chunks, 0, 1, ...; several threads may load chunks at the same time."""

    ledger: Ledger  # of the records that were skipped
    name: str

    @abstractmethod
    def __call__(self) -> Iterator[Data]:
        """A pass over all data in order, in blocks of any sizes."""

    @abstractmethod
    def sizes(self) -> Sequence[int]:
        """The rows in each chunk, bad ones included."""

    @abstractmethod
    def load(self, chunk: int) -> Data | None:
        """A chunk, or None if all its rows are bad and skipped."""

    def each(self) -> Iterator[Data]:
        """All chunks in order; at the end it is said what was skipped."""
        found = (self.load(chunk) for chunk in range(len(self.sizes())))
        yield from (data for data in found if data is not None)
        self.ledger.warn(self.name)


class Part(Chunked):
    """A function of every `processes`-th chunk, from number `process` on: shares are disjoint and together all."""

    def __init__(
        self,
        source: Chunked,
        function: Callable[[Data], Data] = lambda found: found,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.source, self.function, self.process, self.processes = source, function, process, processes
        self.ledger, self.name = source.ledger, source.name

    def __call__(self) -> Iterator[Data]:
        return self.each() if self.processes > 1 else (self.function(found) for found in self.source())

    def sizes(self) -> Sequence[int]:
        return self.source.sizes()[self.process :: self.processes]

    def load(self, chunk: int) -> Data | None:
        found = self.source.load(self.process + chunk * self.processes)
        return None if found is None else self.function(found)
