"""Makes the files beside it, each with the package that owns the format, in an environment that has this package.

    python make.py lerobot     # lerobot 0.3.3 writes the layout v2.1, lerobot 0.4.4 the layout v3.0
    python make.py zarr        # zarr 2.18.3, by the calls of Diffusion Policy's ReplayBuffer

Of episode e at step t the state is (e, t, 0.5), the action (100 + e, t), the reward t and every pixel of the image
20 + 10 t + e: whatever stands at another step than its own is seen.
"""

import shutil
import sys
import tempfile
from pathlib import Path

LENGTHS, FPS = (6, 4, 9), 10
HERE = Path(__file__).parent


def lerobot() -> None:
    import importlib.metadata

    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    version = importlib.metadata.version("lerobot")
    vector = lambda size: {"dtype": "float32", "shape": (size,), "names": [f"m{i}" for i in range(size)]}  # noqa: E731
    image = lambda kind, *size: {"dtype": kind, "shape": size, "names": ["height", "width", "channels"]}  # noqa: E731
    features = {
        "observation.state": vector(3),
        "observation.images.top": image("video", 32, 48, 3),
        "observation.images.still": image("image", 8, 10, 3),
        "action": vector(2),
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    }
    folder = Path(tempfile.mkdtemp()) / "set"
    made = LeRobotDataset.create("veil/test", fps=FPS, features=features, root=folder, use_videos=True)
    for e, length in enumerate(LENGTHS):
        for t in range(length):
            level = 20 + 10 * t + e
            frame = {
                "observation.state": np.array([e, t, 0.5], np.float32),
                "observation.images.top": np.full((32, 48, 3), level, np.uint8),
                "observation.images.still": np.full((8, 10, 3), level, np.uint8),
                "action": np.array([100 + e, t], np.float32),
                "next.reward": np.array([t], np.float32),
                "next.done": np.array([t == length - 1]),
            }
            task = f"task {e % 2}"
            if version < "0.4":
                made.add_frame(frame, task=task)
            else:
                made.add_frame({**frame, "task": task})
        made.save_episode()
    if version >= "0.4":
        made.finalize()
    shutil.rmtree(folder / "images", ignore_errors=True)  # what the writer leaves behind
    shutil.make_archive(str(HERE / f"lerobot-{version}"), "zip", folder)


def zarr() -> None:
    import numcodecs
    import numpy as np
    import zarr

    store = zarr.ZipStore(str(HERE / f"replay-zarr-{zarr.__version__}.zarr.zip"), mode="w")
    root = zarr.group(store=store)
    data, meta = root.require_group("data"), root.require_group("meta")
    e = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    t = np.concatenate([np.arange(length) for length in LENGTHS])
    meta.array("episode_ends", np.cumsum(LENGTHS).astype(np.int64), chunks=(3,), compressor=None)
    blosc = numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
    lz4 = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE)
    pixels = np.broadcast_to((20 + 10 * t + e)[:, None, None, None], (len(t), 12, 16, 3))
    data.array("action", np.stack([100 + e, t], 1).astype(np.float32), chunks=(5, 2), compressor=lz4)
    data.array("state", np.stack([e, t, 0 * t + 0.5], 1).astype(np.float32), chunks=(5, 3), compressor=blosc)
    keypoint = np.arange(len(t) * 18, dtype=np.float32).reshape(-1, 9, 2)
    data.array("keypoint", keypoint, chunks=(7, 9, 2), compressor=numcodecs.Zlib(1))
    data.array("img", pixels.astype(np.float32), chunks=(4, 12, 16, 3), compressor=blosc)
    data.array("n_contacts", (t % 2)[:, None].astype(np.float32), chunks=(5, 1), compressor=lz4)
    store.close()


if __name__ == "__main__":
    {"lerobot": lerobot, "zarr": zarr}[sys.argv[1]]()
