"""The command line."""

import atexit
import gc
import os
import signal
import sys
from types import FrameType

from veil.host.compiled import keep_compiled


def main() -> None:
    """The program ``veil``."""
    if sys.argv[1:] == ["--version"]:  # a tenth of the time that all commands take to be known
        print(versions())
        return
    keep_compiled()
    gc.set_threshold(100_000, 20, 20)  # imports and traces are many objects that live as long as the command,
    atexit.register(gc.freeze)  # and a quarter of a second would be spent on taking them apart
    signal.signal(signal.SIGTERM, _terminate)
    listening = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # in the background it is ignored
    if listening:  # nothing has begun: there is nothing to clean up, and no traceback to show
        signal.signal(signal.SIGINT, _leave)
    from veil.cli.app import app

    if listening:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app(prog_name="veil")


def versions() -> str:
    """veil's and JAX's."""
    from importlib.metadata import version

    return f"veil {version('veil')} (jax {version('jax')})"


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"veil: interrupted\n")
    os._exit(128 + number)


def _terminate(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, cleaning up, with the exit code of a terminated program."""
    sys.exit(128 + number)
