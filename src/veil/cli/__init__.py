"""The command line."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """The program ``veil``."""
    if sys.argv[1:] == ["--version"]:  # a tenth of the time that all commands take to be known
        print(versions())
        return
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
