"""Every family of models on eight devices and on one: the same fit, and what a step costs.

The devices are virtual, all on this machine's cores, so that nothing is gained; what is shown is that the results are
equal, and what sharing costs. A case is a model of the catalogue (``veil models``) with small networks, fitted for a
few steps, by EM or in minibatches of 64, to 512 rows of four numbers (given two where it is conditional) or to 64
sequences of 50 steps of two numbers, of which some are shorter. ``ours`` is the milliseconds a step of a whole warm fit
on eight devices, the peer that on one; quality: the objective at the end, nats a datum; ``details``: the largest
difference of a parameter, over the largest entry of the same array.
"""

import functools
import statistics
from typing import Any

import common
import numpy as np

DEVICES, STEPS = 8, {"em": 12, "gradient": 40}
SEQUENCES = ("hmm", "lds", "switching-lds", "dmm", "rssm", "vrnn")
SMALL: dict[str, dict[str, Any]] = {
    "neural": {"hidden": (16,)},
    "mdn": {"hidden": (16,)},
    "vae": {"hidden": (16,)},
    "cvae": {"hidden": (16,)},
    "bayesian-network": {"hidden": (16,)},
    "flow": {"hidden": (16,), "layers": 2},
    "flow-matching": {"width": 16, "depth": 2},
    "diffusion": {"width": 16, "depth": 2},
    "dmm": {"latent": "2", "width": 16},
    "rssm": {"latent": "2", "memory": 16},
    "vrnn": {"latent": "2", "memory": 16},
}
NAMES = (
    "gaussian",
    "linear-gaussian",
    "generalised-linear",
    "neural",
    "mixture",
    "mixture-of-experts",
    "mdn",
    "ppca",
    "factor-analysis",
    "vae",
    "cvae",
    "bayesian-network",
    "flow",
    "flow-matching",
    "diffusion",
    *SEQUENCES,
)

FIT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import common, devices
import jax, numpy as np
import veil
name, folder = sys.argv[1:]
model, data, options = devices.task(name)
mesh = veil.mesh() if jax.device_count() > 1 else None
run = lambda: veil.fit(model, data, key=jax.random.key(0), mesh=mesh, progress=False, **options)
fit = run()
np.savez(folder, *[np.asarray(leaf, np.float64) for leaf in jax.tree.leaves((fit.model, fit.posterior))])
pace = common.seconds(run) / fit.status.steps
value = float(np.mean(fit.history.value[-5:]))
print(json.dumps({"value": value, "pace": 1e3 * pace, "devices": jax.device_count()}))
"""


def task(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """A model of the catalogue, data, and how it is fitted."""
    import veil
    from veil.cli.catalogue import entry
    from veil.model import ClosedForm

    found, rng = entry(name), np.random.default_rng(0)
    model = found.build(SMALL.get(name, {}))
    if name in SEQUENCES:
        lengths = np.where(np.arange(64) % 4, 50, 30)
        data = veil.data.episodes([np.cumsum(rng.normal(size=(length, 2)), 0) / 5 for length in lengths])
    else:
        given = rng.normal(size=(512, 2)).astype(np.float32)
        rows = np.tanh(given @ rng.normal(size=(2, 4))) + 0.3 * rng.normal(size=(512, 4))
        data = veil.Data(rows.astype(np.float32), evidence=given if found.conditional else None)
    by_em = isinstance(model, ClosedForm) and name not in ("neural", "mdn")
    return model, data, {"steps": STEPS["em"]} if by_em else {"steps": STEPS["gradient"], "batch_size": 64}


def family(name: str, options: common.Options) -> common.Case:
    """Both fits, each in a process of its own, in turn."""
    import os
    import tempfile

    paces: dict[int, list[float]] = {1: [], DEVICES: []}
    values: dict[int, float] = {}
    arrays: dict[int, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.repeats or 1):
            for count in (1, DEVICES):
                flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
                file = os.path.join(folder, f"{count}.npz")
                _, found = common.python(FIT, name, file, environment={"XLA_FLAGS": flags})
                if found["devices"] != count:
                    raise RuntimeError(f"{name}: expected {count} devices; there were {found['devices']}")
                paces[count].append(found["pace"])
                values[count] = found["value"]
                arrays[count] = list(np.load(file).values())
    apart = max(
        float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(a))), 1e-3))
        for a, b in zip(arrays[1], arrays[DEVICES], strict=True)
        if a.size
    )
    one, many = statistics.median(paces[1]), statistics.median(paces[DEVICES])
    peer = common.Peer("", one, common.ratio(paces[DEVICES], paces[1]), values[DEVICES] - values[1])
    return common.Case(
        name, f"a step on {DEVICES}", "ms", many, None, {"one device": peer}, {"parameters apart": apart}
    )


if __name__ == "__main__":
    cases = {name: functools.partial(family, name) for name in NAMES}
    common.main("devices", __doc__, cases, ("mixture", "vae"))
