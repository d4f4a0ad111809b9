"""What all benchmarks share: equal threads, timing in turn, memory, facts about the machine, the table and the JSON.

Import this before numpy, JAX or PyTorch: importing it pins the threads of all of them (``--threads``, default 2).
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

THREADS = 2
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def pin_threads(threads: int) -> int:
    """Let this process and its children use that many processors, with as many threads in every pool; returns how many.

    XLA sizes its pool by the processors that the process may run on, OpenMP and BLAS by their variables.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        threads = min(threads, len(allowed))
        os.sched_setaffinity(0, allowed[:threads])
    for pool in POOLS:
        os.environ[pool] = str(threads)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    return threads


def _asked() -> int:
    early = argparse.ArgumentParser(add_help=False)
    early.add_argument("--threads", type=int, default=THREADS)
    return early.parse_known_args()[0].threads


PINNED = pin_threads(_asked())


# -- measuring ---------------------------------------------------------------------------------------------------------


def seconds(function: Callable[[], Any]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def pace(calls: Sequence[float]) -> float:
    """Seconds a step of a fit, from the times of its ``record``: without the first stretch, which compiles.

    Steps are recorded when their stretch has ended: the first four, then at least as many again.
    """
    last = len(calls) - 1
    begin = next((i for i in range(3, last) if calls[i + 1] - calls[i] > 1e-3), None)
    if begin is None:
        raise ValueError(f"calls: no second stretch among {len(calls)} steps, or one within a millisecond")
    return (calls[last] - calls[begin]) / (last - begin)


def in_turn(measures: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Every measure ``repeats`` times, taken in turn (a, b, c, a, b, c, ...): a busy moment hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times better ours is, where less is better: the median over repeats of theirs / ours."""
    return statistics.median(their / our for our, their in zip(ours, theirs, strict=True))


def peak_memory() -> float:
    """The most memory this process has held so far, in MB (not its parent's, which ``ru_maxrss`` can inherit)."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def python(source: str, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[float, dict[str, Any]]:
    """A new interpreter that runs ``source`` and prints one JSON object last: its wall-clock seconds and the object."""
    # an installed package has its bytecode on disk, and so shall one that runs from its sources
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), inherited.get("PYTHONPATH")]))
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments],
        capture_output=True,
        text=True,
        env={**inherited, "PYTHONPATH": path, **(environment or {})},
    )
    taken = time.perf_counter() - begin
    if done.returncode != 0:
        raise RuntimeError(f"a process of the benchmark failed:\n{done.stderr[-4000:]}")
    return taken, json.loads(done.stdout.strip().splitlines()[-1])


def version(package: str) -> str:
    """The installed version of a package."""
    return importlib.metadata.version(package)


# -- results -----------------------------------------------------------------------------------------------------------


@dataclass
class Peer:
    """A peer's figure; ``quality_difference`` is ours minus the peer's, in the quality that must be equal."""

    version: str
    value: float
    ratio: float
    quality_difference: float | None = None


@dataclass
class Case:
    """One comparison. ``details``: further figures by name, for people; in the JSON only if there are any."""

    case: str
    what: str
    unit: str
    ours: float
    compile_s: float | None = None
    peers: dict[str, Peer] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The case in the form of the JSON."""
        peers = {name: vars(peer) for name, peer in self.peers.items()}
        made = {**vars(self), "peers": peers}
        if not self.details:
            del made["details"]
        return _plain(made)


def _plain(value: Any) -> Any:
    """Numbers rounded to six digits, and None for what JSON does not know (NaN, infinity)."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool | str | None):
        return value
    if isinstance(value, int):
        return value
    number = float(value)
    return float(f"{number:.6g}") if abs(number) < float("inf") else None


def machine() -> dict[str, Any]:
    """The processor, how many cores, the versions, and how busy the machine was."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": version("jax"),
        "load": load,
    }


def peaks() -> dict[str, float]:
    """What the machine gives now, by NumPy on as many threads: float32 products (GFLOP/s), copies of memory (GB/s)."""
    import numpy as np

    size = 1024
    square, memory = np.ones((size, size), np.float32), np.ones(2**26, np.float32)
    out, copy = np.empty_like(square), np.empty_like(memory)
    product = min(seconds(lambda: np.matmul(square, square, out=out)) for _ in range(8))
    moved = min(seconds(lambda: np.copyto(copy, memory)) for _ in range(4))
    return {"gflops": 2e-9 * size**3 / product, "gbytes": 2e-9 * memory.nbytes / moved}


def report(benchmark: str, cases: Sequence[Case], facts: dict[str, Any] | None = None) -> dict[str, Any]:
    """The object of design section 7."""
    return {
        "benchmark": benchmark,
        "machine": facts or machine(),
        "threads": PINNED,
        "cases": [case.as_dict() for case in cases],
    }


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def show(result: dict[str, Any]) -> None:
    """The same for people."""
    from rich.console import Console
    from rich.table import Table

    facts = result["machine"]
    wide = None if sys.stdout.isatty() else 150
    console = Console(width=wide)
    table = Table(title=f"{result['benchmark']}: {result['threads']} threads, {facts['cpu']}, jax {facts['jax']}")
    right = ("ours", "compile s", "theirs", "ratio", "quality")
    for column in ("case", "what", "unit", "ours", "compile s", "peer", "theirs", "ratio", "quality"):
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for case in result["cases"]:
        head = [case["case"], case["what"], case["unit"], _number(case["ours"]), _number(case["compile_s"], 2)]
        rows = [
            [
                f"{name} {peer['version']}",
                _number(peer["value"]),
                _number(peer["ratio"], 3),
                _number(peer["quality_difference"], 2),
            ]
            for name, peer in case["peers"].items()
        ] or [["", "", "", ""]]
        for i, row in enumerate(rows):
            table.add_row(*(head if i == 0 else [""] * len(head)), *row)
        table.add_section()
    console.print(table)
    if "gflops" in facts:
        own = (
            f"float32 products {facts['gflops']} GFLOP/s, copies {facts['gbytes']} GB/s, the better of before and after"
        )
        console.print(f"the machine itself, by NumPy: {own}", style="dim")
    console.print("ratio: how many times better ours is; quality: ours minus the peer's", style="dim")
    for case in result["cases"]:
        for name, value in case.get("details", {}).items():
            console.print(f"{case['case']}: {name}: {value}", style="dim", highlight=False)


# -- the command line --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    quick: bool
    repeats: int | None
    out: Path | None = None
    asked: Any = None  # what a benchmark asks for beside that


Function = Callable[[Options], Case | Sequence[Case]]


def main(
    benchmark: str,
    description: str,
    cases: Mapping[str, Function],
    quick: Sequence[str],
    argv: Any = None,
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> dict[str, Any]:
    """Run the cases that were chosen (``--quick``: those of ``quick``, made smaller) and print the table or the JSON.

    ``more`` adds a benchmark's own options, which its cases find in ``Options.asked``.
    With ``--json`` standard output is one object; progress and warnings go to standard error.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--quick", action="store_true", help=f"end within a minute; cases: {', '.join(quick)}")
    parser.add_argument("--case", action="append", choices=list(cases), help="only this case (may be repeated)")
    parser.add_argument("--repeats", type=int, help="how often each is measured, taken in turn")
    parser.add_argument("--out", type=Path, help="a folder for pictures, of the cases that draw any")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"for all alike (default {THREADS})")
    more(parser)
    arguments = parser.parse_args(argv)
    chosen = arguments.case or (quick if arguments.quick else list(cases))
    options = Options(arguments.quick, arguments.repeats, arguments.out, arguments)
    facts, before = machine(), peaks()
    found: list[Case] = []
    for name in chosen:
        print(f"{benchmark}: {name}", file=sys.stderr, flush=True)
        made = cases[name](options)
        found += [made] if isinstance(made, Case) else made
    after = peaks()
    facts |= {name: round(max(before[name], after[name]), 1) for name in before}
    result = report(benchmark, found, facts)
    if arguments.json:
        print(json.dumps(result))
    else:
        show(result)
    return result
