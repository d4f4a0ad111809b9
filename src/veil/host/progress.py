"""One progress bar for everything that takes longer than two seconds."""

import itertools
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType
from typing import Any

PATIENCE = 2.0  # seconds before a bar appears


def watched() -> bool:
    """Whether somebody can see a bar: a terminal is there, or a notebook with the widgets that draw one."""
    return sys.stderr.isatty() or ("ipykernel" in sys.modules and find_spec("ipywidgets") is not None)


class Progress:
    """A bar that appears after two seconds, on a terminal or in a notebook only, or never (``show=False``)."""

    def __init__(self, show: bool | None, what: str) -> None:
        self._wanted = watched() if show is None else show
        self._what = what
        self._begin = time.perf_counter()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        return self

    def update(self, done: int, total: int, words: str) -> None:
        """How far it is (``total`` 0: not known), and a few words on how it goes."""
        if not self._wanted:
            return
        if self._bar is None:
            if time.perf_counter() - self._begin < PATIENCE:
                return
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Bar(*columns, TextColumn("{task.fields[words]}"), console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=total or None, words=words)
        self._bar.update(self._task, completed=done, total=total or None, words=words)

    def ticks(self, total: int, words: str) -> Callable[[], None]:
        """A function to call after each of ``total`` parts."""
        done = itertools.count(1)
        return lambda: self.update(next(done), total, words)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
