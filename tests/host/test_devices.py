"""Several devices and several processes give the result of one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from veil.host.devices import Placement, mesh, placement
from veil.learning import loop

FITS = """
import json, sys
import jax, numpy as np
if int(sys.argv[1]) > 1:
    jax.distributed.initialize(f"localhost:{sys.argv[3]}", int(sys.argv[1]), int(sys.argv[2]))
import veil
from veil.learning import loop
y = np.random.default_rng(0).normal(size=(501, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
y = y.astype(np.float32)
blocks = veil.data.Stream(lambda: veil.data.Data(y).blocks(50), rows=64)
with_gaps = np.where(np.random.default_rng(2).random(y.shape) < 0.1, np.nan, y)
fits = {
    "em": (veil.Mixture(components=3), y, {"steps": 12}),
    "em, gaps": (veil.PPCA(2), with_gaps, {"steps": 12}),
    "em, restarts": (veil.Mixture(components=2), y, {"steps": 8, "restarts": 3}),
    "em, streamed": (veil.Mixture(components=3), blocks, {"steps": 6}),
    "stepwise em": (veil.Mixture(components=3), y, {"steps": 20, "batch_size": 40}),
    "vae": (veil.VAE(1, decoder=veil.MLP((8,))), y, {"steps": 40, "batch_size": 40, "held_out": 0.2}),
}
found = {}
for name, (model, data, options) in fits.items():
    everything = int(sys.argv[1]) > 1 or jax.device_count() > 1
    fit = veil.fit(model, data, key=jax.random.key(0), mesh=veil.mesh() if everything else None, **options)
    leaves = jax.tree.leaves((fit.model, fit.posterior))
    found[name] = [fit.history.value.tolist(), fit.history.held_out.tolist(), [np.asarray(a).tolist() for a in leaves]]
print(json.dumps(found), flush=True)
"""


def launch(source, *words, devices=1, **more):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-W", "ignore", "-c", source, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "XLA_FLAGS": flags}, **pipes, **more)


def answer(process):
    out, error = process.communicate(timeout=280)
    assert process.returncode == 0, error[-3000:]
    return json.loads(out.strip().splitlines()[-1])


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def assert_close(one, two):
    assert one.keys() == two.keys()
    for name in one:
        for a, b in zip(jax.tree.leaves(one[name]), jax.tree.leaves(two[name]), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4, err_msg=name)


def test_eight_devices_of_two_processes_give_the_result_of_one():
    port = free_port()
    pair = [launch(FITS, 2, i, port, devices=4) for i in range(2)]
    first, second = map(answer, pair)
    assert first == second
    assert_close(first, answer(launch(FITS, 1, 0, 0)))


LONG = """
import sys
import jax, numpy as np
jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]), heartbeat_timeout_seconds=10)
import veil
from veil.learning import loop
y = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
options = {"steps": int(sys.argv[4]), "batch_size": 20, "checkpoints": veil.Checkpoints(sys.argv[3], every=0.1)}
fit = veil.fit(veil.VAE(1, decoder=veil.MLP((8,))), y, key=jax.random.key(0), mesh=veil.mesh(), **options)
print('{"value": %r}' % float(fit.history.value[-1]), flush=True)
"""


def test_a_process_that_dies_leaves_a_checkpoint_for_two_new_ones(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    steps = 1200
    pair = [launch(LONG, i, port, tmp_path / "kept", steps) for port in [free_port()] for i in range(2)]
    end = time.monotonic() + 200
    while not any(each.name.isdigit() for each in (tmp_path / "kept").glob("*")) and time.monotonic() < end:
        assert pair[0].poll() is None, pair[0].communicate()
        time.sleep(0.05)
    pair[1].send_signal(signal.SIGKILL)
    _, error = pair[0].communicate(timeout=100)
    pair[1].communicate()
    assert pair[0].returncode != 0, "the one that is left cannot finish alone"
    reached = max(int(each.name) for each in (tmp_path / "kept").iterdir() if each.name.isdigit())
    assert 0 < reached < steps, error
    new = [launch(LONG, i, port, tmp_path / "kept", steps) for port in [free_port()] for i in range(2)]
    whole = [launch(LONG, i, port, tmp_path / "other", steps) for port in [free_port()] for i in range(2)]
    assert answer(new[0]) == answer(new[1]) == answer(whole[0]) == answer(whole[1])


def test_batches_are_shared_out_evenly():
    with pytest.raises(ValueError, match="share a batch evenly, and 30 is not a multiple of 8; try 32"):
        loop.shared_out(30, Placement(_wide(8)))
    loop.shared_out(32, Placement(_wide(8)))


def _wide(count):
    """A mesh of one device counted several times: enough for what only counts them."""
    from unittest.mock import create_autospec

    made = create_autospec(jax.sharding.Mesh, instance=True)
    made.size = count
    return made


def test_wrong_meshes():
    with pytest.raises(ValueError, match=r"devices: there is one \(cpu\); got 2; to have several"):
        mesh(2)
    with pytest.raises(TypeError, match=r"mesh: expected veil.mesh\(\), a jax.sharding.Mesh or a number of devices"):
        placement("all")
    assert placement(None).count == placement(1).count == placement(mesh()).count == 1
