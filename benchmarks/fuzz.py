"""The whole way of small mutated inputs: file -> data -> fit -> score -> save -> load.

Every case is one way to hand data over. An input is a table with what goes wrong in tables
(``tests/whole_way/mutations.py``) in one of the forms of that case, and an oracle that knows by construction what is
in it (``tests/whole_way/way.py``) follows it to the end. The figure is the number of inputs with a fault: an error
without words, a number that is not finite called exact, a silent change of rows, columns, sequences or values, another
score after loading or in another order, a warning of others, a hang, half-written files. There is no peer.

    benchmarks/fuzz.py --inputs 2000                   # of each case, 10,000 in all
    benchmarks/fuzz.py --case text --seed 0 --only 17  # one input again, and what became of it

``--repeats R`` goes through R seeds, from ``--seed`` on; ``--first`` begins at another number: a run can be divided.
"""

import argparse
import collections
import sys
import tempfile
from pathlib import Path
from typing import Any

import common

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SHOWN = 5  # faults of a kind, by seed and number
CLEAR = 1000  # inputs after which compiled functions are dropped, of which some shapes come once


def more(parser: argparse.ArgumentParser) -> None:
    """What this benchmark asks beside what all do."""
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default 0)")
    parser.add_argument("--inputs", type=int, default=2000, help="of each case (default 2000; with --quick 20)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input (default 0)")
    parser.add_argument("--only", type=int, help="only the input of this number, and what became of it")


def followed(name: str, options: common.Options) -> common.Case:
    """All inputs of one case."""
    import jax

    from whole_way.way import travel

    asked = options.asked
    first, count = (asked.first, 20 if options.quick else asked.inputs) if asked.only is None else (asked.only, 1)
    counts: collections.Counter[str] = collections.Counter()
    faults: dict[str, list[str]] = collections.defaultdict(list)
    for seed in range(asked.seed, asked.seed + (options.repeats or 1)):
        for number in range(first, first + count):
            with tempfile.TemporaryDirectory() as folder:
                found = travel(name, seed, number, Path(folder))
            counts["refused, with words" if found.refused else "faulty" if found.fault else "accepted"] += 1
            counts["warned"] += bool(found.warned)
            if found.fault:
                faults[found.kind].append(f"--case {name} --seed {seed} --only {number}")
            if found.fault or asked.only is not None:
                print(f"  seed {seed}, {number}: {found}", file=sys.stderr, flush=True)
            if number % 100 == 99:
                print(f"  seed {seed}, to {number}: {dict(counts)}", file=sys.stderr, flush=True)
            if number % CLEAR == CLEAR - 1:
                jax.clear_caches()
    details: dict[str, Any] = {"inputs": count * (options.repeats or 1), **counts}
    details |= {f"fault, {kind}": f"{len(some)}: {', '.join(some[:SHOWN])}" for kind, some in faults.items()}
    return common.Case(name, "inputs with a fault", "inputs", sum(map(len, faults.values())), details=details)


NAMES = ("text", "arrow", "numpy", "memory", "sequences")  # of whole_way.way.CASES, which would start JAX
CASES: dict[str, common.Function] = {name: lambda options, name=name: followed(name, options) for name in NAMES}

if __name__ == "__main__":
    common.main("fuzz", __doc__, CASES, NAMES, more=more)
