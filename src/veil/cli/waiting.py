"""A bar for what takes longer than two seconds and does not say how far it is."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from veil.host.progress import PATIENCE


@contextmanager
def waiting(what: str, quiet: bool) -> Iterator[None]:
    """A moving bar on stderr after two seconds; never when quiet or when stderr is not a terminal."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    shown: list[Any] = []
    ended = threading.Event()
    lock = threading.Lock()

    def show() -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with lock:
            if ended.is_set():
                return
            columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            bar.add_task(what, total=None)
            bar.start()
            shown.append(bar)

    timer = threading.Timer(PATIENCE, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            ended.set()
            for bar in shown:
                bar.stop()
