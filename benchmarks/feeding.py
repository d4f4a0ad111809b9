"""Does the step wait for its data? A fit from disk beside the same fit from memory.

* ``images``: a VAE with ``veil.images``' pyramid on 8,192 PNG files of [32, 32, 3], batches of 64.
* ``sequences``: a recurrent state-space model on 512 films of 32 frames [32, 32, 3] with actions, in four .npz files,
  batches of 16.

Both in processes of their own: milliseconds a step between calls of ``record``, without the first stretch; the ratio
is the time from memory over the time from disk: 1 is a step that never waits. ``details``: the same batches read,
decoded and shuffled with nobody to learn from them.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

BATCHES = {"images": 64, "sequences": 16}
WIDTHS, FEATURES, LATENT = (32, 64, 128), 256, 32

FIT = """
import sys
import feeding
feeding.learn(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
"""


def pictures(rng: np.random.Generator, count: int) -> np.ndarray:
    """Coloured discs [N, 32, 32, 3], bytes."""
    place = np.linspace(0, 1, 32)
    centre, colour = rng.uniform(0.2, 0.8, (count, 2)), rng.uniform(0, 255, (count, 1, 1, 3))
    away = (place[None, :, None] - centre[:, :1, None]) ** 2 + (place[None, None, :] - centre[:, 1:, None]) ** 2
    return (np.exp(-away / 0.02)[..., None] * colour).astype(np.uint8)


def write(name: str, folder: Path, count: int) -> None:
    """The files of a case."""
    rng = np.random.default_rng(0)
    if name == "images":
        from PIL import Image

        for number, pixels in enumerate(pictures(rng, count)):
            Image.fromarray(pixels).save(folder / f"{number:05d}.png")
        return
    for shard in range(4):
        films = pictures(rng, count // 4 * 32).reshape(count // 4, 32, 32, 32, 3).astype(np.float32) / 255
        actions = rng.normal(size=(count // 4, 32, 1)).astype(np.float32)
        np.savez(folder / f"films{shard}.npz", query=films, evidence=actions, mask=np.ones((count // 4, 32), bool))


def model(name: str) -> Any:
    """What learns."""
    import veil

    decoder = veil.images.PyramidDecoder((32, 32, 3), WIDTHS, FEATURES)
    if name == "images":
        return veil.VAE(LATENT, veil.heads.HomoscedasticGaussian(), decoder)
    return veil.rssm(LATENT, veil.heads.HomoscedasticGaussian(), decoder, 200)


def learn(name: str, folder: str, where: str, steps: int) -> None:
    """In this process: prints milliseconds a step from memory or disk, or of reading alone."""
    import jax

    import veil

    files = folder if name == "images" else f"{folder}/*.npz"
    source: Any = veil.data.stream(files, rows=1024 if name == "images" else 64)
    if where == "memory":
        source = next(iter(source.blocks(source.count)))
    if where == "reading":
        batches = source.batches(BATCHES[name], seed=0)
        for _ in range(4):
            next(batches)
        begin = time.perf_counter()
        for _ in range(steps - 4):
            next(batches)
        seconds = (time.perf_counter() - begin) / (steps - 4)
    else:
        calls: list[float] = []
        record = lambda _: calls.append(time.perf_counter())  # noqa: E731
        options = {"steps": steps, "batch_size": BATCHES[name], "progress": False, "record": record}
        veil.fit(model(name), source, key=jax.random.key(0), **options)
        seconds = common.pace(calls)
    print(json.dumps({"ms": 1e3 * seconds, "peak": common.peak_memory()}))


def feeding(name: str, options: common.Options) -> common.Case:
    """One kind of data."""
    quick = options.quick
    count, steps = {"images": (1024, 40) if quick else (8192, 400), "sequences": (64, 16) if quick else (512, 60)}[name]
    with tempfile.TemporaryDirectory() as folder:
        write(name, Path(folder), count)
        peaks: dict[str, float] = {}

        def run(where: str) -> float:
            found = common.python(FIT, name, folder, where, str(steps))[1]
            peaks[where] = found["peak"]
            return float(found["ms"])

        places = ("disk", "memory", "reading")
        times = common.in_turn(
            {where: lambda where=where: run(where) for where in places}, options.repeats or (1 if quick else 3)
        )
    memory = common.Peer(
        "the same fit", statistics.median(times["memory"]), common.ratio(times["disk"], times["memory"])
    )
    details = {
        "reading, decoding and shuffling alone, ms a batch": round(statistics.median(times["reading"]), 2),
        "peak MB from disk and from memory": [round(peaks["disk"]), round(peaks["memory"])],
    }
    return common.Case(
        name, "a step from disk", "ms", statistics.median(times["disk"]), None, {"memory": memory}, details
    )


if __name__ == "__main__":
    common.main(
        "feeding", __doc__, {name: lambda options, name=name: feeding(name, options) for name in BATCHES}, ("images",)
    )
