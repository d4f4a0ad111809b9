"""When Python looks for garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Python looks for no garbage meanwhile: for imports, tracing and compiled steps, not for work of unknown length.

    Classes and traces are many small objects that live long, and looking through all of them again and again is a
    fifth of the time before the first step of a fit in a new process.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
