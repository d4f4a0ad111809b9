"""Kill an agent's run (SIGKILL) again and again, up to a second after a new episode; compare it with one left alone.

Compared are all arrays of the episodes, of the last checkpoint (parameters, the optimiser's own, the behaviour's), and
of what acts, byte by byte.

    python benchmarks/killed_agents.py --kills 10
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--kills", type=int, default=10)
parser.add_argument("--episodes", type=int, default=24)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--json", action="store_true", help="print one JSON object")
parser.add_argument("--quick", action="store_true", help="two kills")
parser.add_argument("--case", choices=["plain", "context"], default="plain", help="context: a replay that remembers")
arguments = parser.parse_args()
kills_wanted = 2 if arguments.quick else arguments.kills
SMALL = "--random 2 --first 20 --updates 0.5 --latent 2 --memory 8 --width 8 --batch-size 2 --window 10 --repeat 4"
COMMAND = [sys.executable, "-m", "veil", "train-agent", "Pendulum-v1", "--episodes", str(arguments.episodes)]
COMMAND += [*SMALL.split(), "--judged", "2", "--quiet"]
if arguments.case == "context":
    COMMAND += ["--context", "--on-disk"]


def digest(run: Path) -> str:
    """Of every array that a run holds in the end."""
    import orbax.checkpoint as ocp

    found = hashlib.sha256()
    for file in sorted((run / "episodes").glob("*.npz")):
        with np.load(file) as arrays:
            for name in sorted(arrays.files):
                found.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    last = max(
        (each for each in (run / "checkpoints").iterdir() if each.name.isdigit()), key=lambda each: int(each.name)
    )
    kept = ocp.StandardCheckpointer().restore((last / "state").absolute())
    for name in sorted(kept):
        found.update(name.encode() + np.ascontiguousarray(kept[name]).tobytes())
    for file in sorted((run / "skill").iterdir()):
        found.update(file.read_bytes())
    return found.hexdigest()


def played(run: Path) -> int:
    """How many episodes a run holds."""
    return len(list((run / "episodes").glob("*.npz")))


draw = random.Random(arguments.seed)
with tempfile.TemporaryDirectory() as folder:
    whole, part = Path(folder) / "whole", Path(folder) / "part"
    begun = time.perf_counter()
    subprocess.run([*COMMAND, "--out", str(whole)], check=True)
    seconds = time.perf_counter() - begun
    kills: list[int] = []
    while len(kills) < kills_wanted:
        before, process = played(part), subprocess.Popen([*COMMAND, "--out", str(part)])
        while process.poll() is None and played(part) == before:
            time.sleep(0.02)
        time.sleep(draw.uniform(0.0, 1.0))  # amid an episode, learning, or the writing of a checkpoint
        if process.poll() is not None:
            break  # it was done before
        process.kill()
        process.wait()
        kills.append(played(part))
    subprocess.run([*COMMAND, "--out", str(part)], check=True)
    same = digest(whole) == digest(part)
told = {"kills": len(kills), "episodes_at_kills": kills, "same_bytes": same, "seconds_alone": seconds}
print(json.dumps(told) if arguments.json else "\n".join(f"{name}: {value}" for name, value in told.items()))
sys.exit(not same)
