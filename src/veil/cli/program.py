"""How every command ends: quietly, or with one line on stderr and an exit code; never with a traceback.

0: done; 1: the work failed (a file, the data, the memory); 2: the request cannot be fulfilled as it stands; 128 and a
signal's number: it was stopped, 130 by Ctrl-C.
"""

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
ROLES = ("query", "evidence", "weight")
# what the library calls otherwise than the command line, and the calls that its advice names
ELSEWHERE = {"path": "--out", "evidence_future": "--hold", "models": "--select"}
CALLS = {
    "Amortized()": "--posterior amortized",
    "Table()": "--posterior table",
    "veil.Exact()": "--posterior exact",
    "ELBO()": "--objective elbo",
    "ImportanceWeighted()": "--objective importance-weighted",
    "veil.data.windows(data, length)": "--window",
}
COMMAND: ContextVar[tuple[str, ...]] = ContextVar("COMMAND", default=())  # the words of the command that runs


class Refusal(Exception):
    """A request that cannot be fulfilled as it stands; exit code 2."""


@contextmanager
def refusing(**words: str) -> Iterator[None]:
    """Errors of the library about these arguments are refusals in the command's words: ``refusing(env="ENV")``."""
    try:
        yield
    except ValueError as error:
        name, _, rest = str(error).partition(": ")
        if name not in words:
            raise
        raise Refusal(f"{words[name]}: {rest}") from error


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
        known = self.commands.get(next((word for word in words if word in self.commands), ""))
        run = lambda: TyperGroup.main(self, args=words or ["--help"], prog_name=prog_name or "veil", **extra)  # noqa: E731
        sys.exit(_run(run, _options(known)))


def _options(command: Any) -> dict[str, str]:
    """What the command line calls the arguments of the library: its options, each by the name of its parameter.

    Query, evidence and weight are roles, and words on them are about the data.
    """
    named = {param.name: param.opts[0] for param in (command.params if command else ()) if param.opts[0][:2] == "--"}
    named |= {argument: option for argument, option in ELSEWHERE.items() if option in named.values()}
    return {name: option for name, option in named.items() if name not in ROLES} | {"MODEL": "MODEL"}


def _run(command: Any, options: dict[str, str]) -> int:
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
        return _say(*_explain(error, options))


def _explain(error: BaseException, options: dict[str, str]) -> tuple[str, int]:
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
        return _asked(" ".join(str(error).split()), options)
    if type(error).__name__ == "CheckpointError":
        return str(error), 1
    if isinstance(error, MemoryError):
        return "out of memory", 1
    return f"internal error: {type(error).__name__}: {error}; {TRACEBACK}=1 shows where", 1


def _asked(words: str, options: dict[str, str]) -> tuple[str, int]:
    """An error of the library in the words of the command line, and whether it is the request's fault (2).

    >>> _asked("held_out, steps: one of them; use ELBO()", {"held_out": "--held-out", "steps": "--steps"})
    ('--held-out, --steps: one of them; use --objective elbo', 2)
    """
    for word, option in CALLS.items():
        words = words.replace(word, option)
    begin, colon, rest = words.partition(": ")
    names = begin.split(", ")
    if not colon or not all(name in options for name in names):
        return words, 1
    return f"{', '.join(options[name] for name in names)}: {rest}", 2


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
