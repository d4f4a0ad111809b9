"""Asking a run to end: Ctrl-C and SIGTERM are heard between steps, so that nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Ear:
    """``heard``: the signal that asked the run to end, None as long as none did."""

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None


@contextmanager
def listening(active: bool) -> Iterator[Ear]:
    """While inside, the first Ctrl-C or SIGTERM is only noted; a second one acts as ever.

    Only the main thread can listen; elsewhere, or if not ``active``, signals do what they did before.
    """
    ear = Ear()
    if not active or threading.current_thread() is not threading.main_thread():
        yield ear
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(number: int, frame: FrameType | None) -> None:
        ear.heard = signal.Signals(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, hear)
    try:
        yield ear
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
