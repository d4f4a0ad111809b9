"""Data larger than memory: streaming EM over a file five times larger than a stated memory limit, and its peak memory.

The file (float32, 16 columns) is read in blocks by ``veil.data.stream``; the process, with interpreter, libraries and
compilation, must stay under LIMIT. The peer is scikit-learn on an array in memory: the first fifth of the same file, so
its peak is about a fifth of what it would need. Figures are peak resident MB, and ``quality_difference`` the mean
log-likelihood (nats a datum) after the same iterations from the same start: streamed minus scikit-learn, on that fifth
(first 100,000 rows with ``--quick``). ``details`` has streamed against in-memory for ours.

``csv-read`` and ``parquet-read`` are a pass over a table of 1M x 20 numbers in float64, in blocks of 65,536 rows, in
thousand rows a second of the processor's time, so that a busy machine matters less; the peers are pandas in chunks and
pyarrow's batches, each with its numbers as one array.
"""

import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np

LIMIT = 600.0  # MB, for the whole process
TIMES = 5  # the file's size over the limit
COLUMNS, COMPONENTS = 16, 4
BLOCK = 250_000  # rows, while the file is written
STEPS = 2

OURS = """
import json, sys, time
import common
import numpy as np
import jax
import streaming
import veil
path, steps, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
loaded = common.peak_memory()
begin = time.perf_counter()
data = veil.data.stream(path) if mode == "stream" else veil.data.read(path)
model = streaming.start()
fitted = veil.fit(model, data, key=jax.random.key(0), steps=steps, tolerance=1e-30, progress=False)
taken = time.perf_counter() - begin
peak = common.peak_memory()
values = (fitted.history.value - fitted.history.penalty).tolist()
print(json.dumps({"loaded": loaded, "peak": peak, "seconds": taken, "values": values, "steps": len(values)}))
"""

SKLEARN = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import common
import numpy as np
import streaming
points = np.load(sys.argv[1])
begin = time.perf_counter()
model = streaming.sklearn_start(int(sys.argv[2])).fit(points)
values = [float(value) for value in model.lower_bounds_]
print(json.dumps({"peak": common.peak_memory(), "seconds": time.perf_counter() - begin, "values": values}))
"""


PASS = """
import json, sys, time
import common
import numpy as np
path, reader = sys.argv[1:]
if reader == "veil":
    import veil.data
    blocks = (block.query for block in veil.data.stream(path))
elif reader == "pandas":
    import pandas
    blocks = (chunk.to_numpy() for chunk in pandas.read_csv(path, chunksize=65536))
else:
    import pyarrow.parquet
    batches = pyarrow.parquet.ParquetFile(path).iter_batches(65536)
    blocks = (np.stack([column.to_numpy() for column in batch.columns], axis=1) for batch in batches)
first = len(next(blocks))
loaded, begin, wall = common.peak_memory(), time.process_time(), time.perf_counter()
rows, total = first, 0.0
for block in blocks:
    rows += len(block)
    total += float(block[-1, -1])
taken, wall = time.process_time() - begin, time.perf_counter() - wall
print(json.dumps({"rows": rows, "rate": (rows - first) / taken / 1e3, "peak": common.peak_memory(), "loaded": loaded,
                  "wall": wall, "total": total}))
"""


def means() -> np.ndarray:
    """Where the components are; all start half-way to there."""
    return 3.0 * np.random.default_rng(0).normal(size=(COMPONENTS, COLUMNS))


def block(number: int, rows: int) -> np.ndarray:
    """One block of the data."""
    rng = np.random.default_rng([1, number])
    centres = means().astype(np.float32)[rng.integers(COMPONENTS, size=rows)]
    return centres + rng.standard_normal((rows, COLUMNS), np.float32)


def start() -> Any:
    """Our model at the common start: shrunken means, variances of four, equal weights."""
    import jax.numpy as jnp

    import veil

    factors = jnp.asarray(np.tile(2.0 * np.eye(COLUMNS), (COMPONENTS, 1, 1)), jnp.float32)
    experts = veil.LinearGaussian(veil.Full(factor=factors), weight=jnp.asarray(0.5 * means()[:, :, None], jnp.float32))
    return veil.Mixture(experts, COMPONENTS, veil.Softmax(weight=jnp.zeros((COMPONENTS, 1))))


def sklearn_start(iterations: int) -> Any:
    """scikit-learn's model at the common start."""
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(
        COMPONENTS,
        weights_init=np.full(COMPONENTS, 1 / COMPONENTS, np.float32),
        means_init=0.5 * means().astype(np.float32),
        precisions_init=np.tile(0.25 * np.eye(COLUMNS), (COMPONENTS, 1, 1)).astype(np.float32),
        max_iter=iterations,
        tol=0.0,
        init_params="random_from_data",
    )


def write(path: Path, rows: int) -> None:
    """The first ``rows`` rows, as .npy or .parquet, a block at a time."""
    sizes = [min(BLOCK, rows - first) for first in range(0, rows, BLOCK)]
    if path.suffix == ".npy":
        with path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, COLUMNS)}
            np.lib.format.write_array_header_1_0(file, header)
            for number, size in enumerate(sizes):
                file.write(block(number, size).tobytes())
        return
    import pyarrow
    import pyarrow.parquet

    names = [f"column{i}" for i in range(COLUMNS)]
    schema = pyarrow.schema([(name, pyarrow.float32()) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for number, size in enumerate(sizes):
            columns = [pyarrow.array(column) for column in np.ascontiguousarray(block(number, size).T)]
            writer.write_table(pyarrow.table(columns, schema=schema))


def streaming(name: str, options: common.Options) -> common.Case:
    """One file format."""
    ending = f".{name}"
    times = 0.2 if options.quick else TIMES
    steps = 1 if options.quick else STEPS
    rows = int(times * LIMIT * 2**20 / (4 * COLUMNS))
    part = 100_000 if options.quick else rows // TIMES
    with tempfile.TemporaryDirectory() as folder:
        file, fifth, fifth_npy = Path(folder, f"whole{ending}"), Path(folder, f"part{ending}"), Path(folder, "part.npy")
        write(file, rows)
        write(fifth_npy, part)
        if ending != ".npy":
            write(fifth, part)
        megabytes = file.stat().st_size / 2**20
        _, whole = common.python(OURS, str(file), str(steps), "stream")
        file.unlink()
        _, streamed = common.python(OURS, str(fifth), "3", "stream")
        _, in_memory = common.python(OURS, str(fifth), "3", "memory")
        _, theirs = common.python(SKLEARN, str(fifth_npy), "3")
    peer = common.Peer(
        common.version("scikit-learn"),
        theirs["peak"],
        theirs["peak"] / whole["peak"],
        streamed["values"][-1] - theirs["values"][-1],
    )
    details = {
        "limit, MB": LIMIT,
        "under the limit": whole["peak"] < LIMIT,
        "file, MB": round(megabytes),
        "with the libraries loaded, MB": round(whole["loaded"]),
        "seconds, steps": f"{whole['seconds']:.1f}, {whole['steps']} (and a first pass that looks at the data)",
        "streamed minus in-memory after 3 steps, nats a datum": streamed["values"][-1] - in_memory["values"][-1],
        "the same part: peak MB streamed, in memory, scikit-learn": [
            round(run["peak"]) for run in (streamed, in_memory, theirs)
        ],
        "the same part: seconds streamed, in memory, scikit-learn": [
            round(run["seconds"], 1) for run in (streamed, in_memory, theirs)
        ],
    }
    what = f"peak memory of EM over a file {times:g} times the limit"
    return common.Case(name, what, "MB", whole["peak"], None, {"scikit-learn": peer}, details)


def reading(ending: str, options: common.Options) -> common.Case:
    """A pass over a table, and nothing else."""
    peer = {"csv": "pandas", "parquet": "pyarrow"}[ending]
    rows = 100_000 if options.quick else 1_000_000
    rng = np.random.default_rng(0)
    import veil

    with tempfile.TemporaryDirectory() as folder:
        file, small = Path(folder, f"whole.{ending}"), Path(folder, f"part.{ending}")
        for path, count in ((file, rows), (small, rows // 5)):
            veil.data.write(path, {f"c{i}": rng.normal(size=count) for i in range(20)})
        runs: dict[str, list[dict[str, Any]]] = {"veil": [], peer: []}
        for _ in range(options.repeats or 3):
            for reader, found in runs.items():
                found.append(common.python(PASS, str(file), reader)[1])
        _, part = common.python(PASS, str(small), "veil")
    assert runs["veil"][0]["rows"] == runs[peer][0]["rows"] == rows
    ours, theirs = ([run["rate"] for run in runs[reader]] for reader in ("veil", peer))
    quality = runs["veil"][0]["total"] - runs[peer][0]["total"]
    details = {
        "peak MB of the whole, and of a fifth": [round(runs["veil"][0]["peak"]), round(part["peak"])],
        f"peak MB, {peer}": round(runs[peer][0]["peak"]),
        f"wall-clock seconds, veil and {peer}": [round(min(r["wall"] for r in runs[each]), 2) for each in runs],
    }
    found = common.Peer(common.version(peer), float(np.median(theirs)), common.ratio(theirs, ours), quality)
    what = f"a pass over {rows:,} x 20 numbers"
    return common.Case(
        f"{ending}-read",
        what,
        "thousand rows/s of processor time",
        float(np.median(ours)),
        None,
        {peer: found},
        details,
    )


CASES: dict[str, common.Function] = {
    "csv-read": lambda options: reading("csv", options),
    "parquet-read": lambda options: reading("parquet", options),
    "npy": lambda options: streaming("npy", options),
    "parquet": lambda options: streaming("parquet", options),
}

if __name__ == "__main__":
    common.main("streaming", __doc__, CASES, ("npy",))
