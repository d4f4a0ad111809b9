"""Data on the host, as numpy arrays: in memory, in files, in streams, and examples."""

from veil.data.arrays import Data
from veil.data.episodes import episodes, steps
from veil.data.examples import Example, available, bishop_inverse, load
from veil.data.records import BadRecords, DataWarning
from veil.data.shuffling import Batches
from veil.data.streaming import Stream
from veil.data.tables import read, stream
from veil.data.writing import write

__all__ = [
    "BadRecords",
    "Batches",
    "Data",
    "DataWarning",
    "Example",
    "Stream",
    "available",
    "bishop_inverse",
    "episodes",
    "load",
    "read",
    "steps",
    "stream",
    "write",
]
