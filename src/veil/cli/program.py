"""How every command ends: quietly, or with one line on stderr and an exit code; never with a traceback."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import typer
from typer.core import TyperGroup

# The command line parser's own errors, wherever the installed version of typer keeps their class.
PARSING: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
TRACEBACK = "VEIL_TRACEBACK"
MOST_NOTES = 10
INTERRUPTED = 130
COMMAND: ContextVar[tuple[str, ...]] = ContextVar("COMMAND", default=())  # the words of the command that runs


class Refusal(Exception):
    """A request that cannot be fulfilled as it stands; exit code 2."""


class Stopped(Exception):
    """A request that a signal ended before it was fulfilled; it says what became of it. The usual exit ``code``."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


class Program(TyperGroup):
    """A group of commands that ends the process with a line and a code."""

    def main(self, args: Any = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Parse, run, exit."""
        words = sys.argv[1:] if args is None else list(args)
        COMMAND.set(("veil", *words))
        extra = {**extra, "standalone_mode": False}
        sys.exit(_run(lambda: TyperGroup.main(self, args=words or ["--help"], prog_name=prog_name or "veil", **extra)))


def _run(command: Any) -> int:
    try:
        outcome = command()
        sys.stdout.flush()
        code = outcome if isinstance(outcome, int) else 0
        return _say("interrupted", code) if code == INTERRUPTED else code
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads on; what is still buffered must not raise once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        return _say(*_explain(error))


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, PARSING):
        context = getattr(error, "ctx", None)
        return f"{error.format_message()} ({context.command_path if context else 'veil'} --help)", error.exit_code
    if isinstance(error, Refusal):
        return str(error), 2
    if isinstance(error, Stopped):
        return str(error), error.code
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "matplotlib":
        return "pictures need matplotlib, which is not installed: pip install 'veil[plots]'", 1
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", 1
    if isinstance(error, ValueError | TypeError | OSError | ModuleNotFoundError | IndexError):
        return str(error), 1
    if type(error).__name__ == "CheckpointError":
        return str(error), 1
    if isinstance(error, MemoryError):
        return "out of memory", 1
    return f"internal error: {type(error).__name__}: {error}; {TRACEBACK}=1 shows where", 1


def _say(message: str, code: int) -> int:
    with suppress(OSError):
        print(f"veil: {' '.join(message.split())}", file=sys.stderr)
    return code


@contextmanager
def notes(quiet: bool) -> Iterator[None]:
    """Show the warnings of a command as notes on stderr, one line each and not too many, or not at all."""
    count = 0

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        if count <= MOST_NOTES:
            say(f"note: {message}")

    def say(words: str) -> None:
        if not quiet:
            print(" ".join(words.split()), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = show
        yield
    if count > MOST_NOTES:
        say(f"note: {count - MOST_NOTES} more like these")
