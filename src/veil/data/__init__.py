"""Data on the host, as numpy arrays: in memory, in files, in streams, and examples."""

from veil.data.arrays import Data
from veil.data.collecting import collect
from veil.data.episodes import episodes, grouped, steps
from veil.data.examples import Example, available, bishop_inverse, load
from veil.data.minari import write_minari
from veil.data.recordings import Episode, Recording, recording
from veil.data.records import BadRecords, DataWarning
from veil.data.shuffling import Batches
from veil.data.streaming import Stream
from veil.data.swings import pendulum
from veil.data.tables import read, stream
from veil.data.windows import windows
from veil.data.writing import write

__all__ = [
    "BadRecords",
    "Batches",
    "Data",
    "DataWarning",
    "Episode",
    "Example",
    "Recording",
    "Stream",
    "available",
    "bishop_inverse",
    "collect",
    "episodes",
    "grouped",
    "load",
    "pendulum",
    "read",
    "recording",
    "steps",
    "stream",
    "windows",
    "write",
    "write_minari",
]
