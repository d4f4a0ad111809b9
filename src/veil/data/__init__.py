"""Data on the host, as numpy arrays: in memory, in files, in streams, and examples."""

from veil.data.bundled.examples import Example, available, bishop_inverse, load
from veil.data.bundled.pendulum import pendulum
from veil.data.core.arrays import Data
from veil.data.core.choices import choices
from veil.data.core.episodes import episodes, grouped, steps
from veil.data.core.records import BadRecords, DataWarning
from veil.data.core.windows import windows
from veil.data.formats.shuffling import Batches
from veil.data.formats.streaming import Stream
from veil.data.formats.tables import read, stream
from veil.data.formats.writing import write
from veil.data.recorded.action_chunks import chunks
from veil.data.recorded.minari import write_minari
from veil.data.recorded.opening import recording
from veil.data.recorded.recordings import Episode, Recording
from veil.data.recorded.trajectories import trajectories

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
    "choices",
    "chunks",
    "episodes",
    "grouped",
    "load",
    "pendulum",
    "read",
    "recording",
    "steps",
    "stream",
    "trajectories",
    "windows",
    "write",
    "write_minari",
]
