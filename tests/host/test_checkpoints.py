"""A fit that was stopped anywhere goes on to the same bytes as one that was not."""

import os
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import optax
import pytest

import veil
from veil.host.checkpoints import Checkpoints, Interrupted, fingerprint
from veil.learning import loop

pytest.importorskip("orbax.checkpoint")
KEY = jax.random.key(0)
FAITHFUL = veil.data.load("faithful")
# float32 sums cancel beside such a large number: EM begins anew in float64
FAR = np.concatenate([np.random.default_rng(0).normal(size=(200, 2)) * 1e-3, np.full((1, 2), 1e3)])


class Killed(Exception):
    pass


def killing(step):
    def record(line):
        if line["step"] >= step:
            raise Killed

    return record


def killed(model, folder, steps, at):
    """A fit that leaves checkpoints of all stretches but keeps two, and ends at a step."""
    keep = Checkpoints(folder, every=0, keep=2)
    with pytest.raises(Killed):
        veil.fit(model, FAITHFUL, key=KEY, batch_size=30, steps=steps, checkpoints=keep, record=killing(at))


def assert_same(one, two):
    first, second = (jax.tree.leaves((fit.model, fit.posterior)) for fit in (one, two))
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    for name in ("value", "penalty", "held_out", "restarts"):
        np.testing.assert_array_equal(getattr(one.history, name), getattr(two.history, name))
    assert one.status == two.status


FITS = {
    "em, restarts": (veil.Mixture(components=4), FAITHFUL, {"restarts": 3}),
    "em, float64": (veil.Mixture(components=4), FAR, {}),
    "stepwise em": (veil.Mixture(components=2), FAITHFUL, {"batch_size": 30, "steps": 60}),
    "gradients, early stopping": (
        veil.VAE(1, decoder=veil.MLP((8,))),
        FAITHFUL,
        {"steps": 300, "batch_size": 50, "held_out": 0.3, "patience": 4, "objective": veil.ELBO()},
    ),
    "windows that go on": (
        veil.dmm(2, width=4),
        veil.Data(FAITHFUL.query[:240].reshape(8, 30, 2)),
        {"steps": 60, "window": 10, "batch_size": 3, "posterior": veil.Sequential(sees=veil.posterior.Past(4))},
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FITS)
def test_the_same_bytes_as_if_it_had_not_been_stopped(name, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "STRETCH", 16)
    model, data, options = FITS[name]
    whole = veil.fit(model, data, key=KEY, **options)
    assert len(whole.history) > 20
    rng, kills, at = np.random.default_rng(1), 0, 3
    while True:
        keep = Checkpoints(tmp_path / "kept", every=0)
        try:
            found = veil.fit(model, data, key=KEY, checkpoints=keep, record=killing(at), **options)
        except Killed:
            kills, at = kills + 1, at + int(rng.integers(10, 60))
        else:
            break
    assert kills >= 2
    assert_same(found, whole)


def test_only_the_same_fit_goes_on(tmp_path):
    four = veil.Mixture(components=4)

    def again(model=four, data=FAITHFUL, **options):
        arguments = {"key": KEY, "steps": 40, "batch_size": 30} | options
        return veil.fit(model, data, checkpoints=tmp_path / "kept", **arguments)

    killed(four, tmp_path / "kept", steps=40, at=20)
    with pytest.raises(ValueError, match=r"another fit: it differs in data\. Repeat the call"):
        again(data=FAITHFUL[:-1])
    with pytest.raises(ValueError, match="it differs in key"):
        again(key=jax.random.key(1))
    with pytest.raises(ValueError, match="it differs in model"):
        again(model=veil.Mixture(components=3))
    with pytest.raises(ValueError, match="it differs in optimiser"):
        again(optimiser=optax.sgd(0.1))
    # how many steps is no part of what a fit is: with fewer than were taken it ends there, with more it is longer
    assert 1 < again(steps=1).status.steps <= 20  # a checkpoint that was on its way when it was killed is lost
    longer = again(steps=45)
    assert (longer.status.steps, len(longer.history)) == (45, 45)


def test_digests_tell_trees_apart():
    assert fingerprint(veil.Mixture(components=2)) == fingerprint(veil.Mixture(components=2))
    different = [
        None,
        1,
        2.0,
        "2",
        np.ones(2),
        np.ones((2, 1)),
        np.ones(2, np.float32),
        veil.Mixture(components=2),
        veil.Mixture(components=3),
    ]
    assert len({fingerprint(tree) for tree in different}) == len(different)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_fit_that_can_go_on(number, tmp_path):
    """The fit ends between two steps, with a checkpoint of the last, long before one would have been due."""
    whole = veil.fit(veil.Mixture(components=2), FAITHFUL, key=KEY, steps=3000, batch_size=30)
    seen = []

    def record(line):
        seen.append(line["step"])
        if line["step"] == 40:
            os.kill(os.getpid(), number)

    arguments = {"key": KEY, "steps": 3000, "batch_size": 30, "checkpoints": tmp_path / "kept"}
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=rf"stopped by {number.name} after step \d+; the fit is kept in .*kept"):
        veil.fit(veil.Mixture(components=2), FAITHFUL, record=record, **arguments)
    assert signal.getsignal(number) is before
    steps = [int(folder.name) for folder in (tmp_path / "kept").iterdir()]
    assert steps == [seen[-1] + 1]
    assert_same(veil.fit(veil.Mixture(components=2), FAITHFUL, **arguments), whole)


def test_fits_in_other_threads_take_no_signals(tmp_path):
    found = []
    arguments = {"key": KEY, "steps": 5, "batch_size": 30, "checkpoints": tmp_path / "kept"}
    thread = threading.Thread(target=lambda: found.append(veil.fit(veil.Mixture(components=2), FAITHFUL, **arguments)))
    thread.start()
    thread.join()
    assert found[0].status.steps == 5


def test_kept_to_a_number(tmp_path):
    killed(veil.Mixture(components=2), tmp_path / "kept", steps=500, at=400)
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_wrong_arguments_and_places(tmp_path):
    with pytest.raises(ValueError, match="every: expected seconds"):
        Checkpoints("x", every=-1)
    with pytest.raises(ValueError, match="keep: expected how many"):
        Checkpoints("x", keep=0)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"holds other things than checkpoints \(mine.txt\)"):
        veil.fit(veil.Mixture(components=2), FAITHFUL, key=KEY, checkpoints=tmp_path / "letters")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is not a folder"):
        veil.fit(veil.Mixture(components=2), FAITHFUL, key=KEY, checkpoints=tmp_path / "file")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "letters", "mine.txt"]


def test_data_that_vanish_leave_a_fit_that_can_go_on(tmp_path):
    """A source that fails in its third pass, as when a file is deleted: the error says what was kept."""
    y = np.random.default_rng(0).normal(size=(200, 2))
    passes = []

    def source(broken):
        def blocks():
            passes.append(1)
            if broken and len(passes) > 6:
                raise FileNotFoundError("big.npy is gone")
            return veil.data.Data(y).blocks(50)

        return veil.data.Stream(blocks, rows=50)

    arguments = {"key": KEY, "steps": 30, "tolerance": 1e-12}
    whole = veil.fit(veil.Mixture(components=3), source(False), **arguments)
    passes.clear()
    with pytest.raises(FileNotFoundError, match=r"big\.npy is gone") as caught:
        veil.fit(veil.Mixture(components=3), source(True), checkpoints=tmp_path / "kept", **arguments)
    assert "the fit is kept as it was after step" in caught.value.__notes__[0]
    assert "the same call goes on" in caught.value.__notes__[0]
    assert len(list((tmp_path / "kept").iterdir())) == 1
    again = veil.fit(veil.Mixture(components=3), source(False), checkpoints=tmp_path / "kept", **arguments)
    assert_same(again, whole)


ALTERED = """
import shutil, sys, warnings
from pathlib import Path
import jax, numpy as np, veil
from veil.host.checkpoints import CheckpointError, Checkpoints
class Killed(Exception): pass
def record(line):
    if line["step"] >= 12: raise Killed
place, copy = Path(sys.argv[1]) / "kept", Path(sys.argv[1]) / "copy"
model, data = veil.Mixture(components=2), veil.data.load("faithful")
arguments = {"key": jax.random.key(0), "steps": 40, "batch_size": 30}
whole = veil.fit(model, data, **arguments)
try: veil.fit(model, data, checkpoints=Checkpoints(place, every=0), record=record, **arguments)
except Killed: pass
*others, last = sorted(place.iterdir(), key=lambda each: int(each.name))
for other in others: shutil.rmtree(other)
shutil.copytree(place, copy)
rng, refused = np.random.default_rng(0), 0
files = sorted(path.relative_to(place) for path in place.rglob("*") if path.is_file())
for _ in range(int(sys.argv[2])):
    shutil.rmtree(place)
    shutil.copytree(copy, place)
    victim = place / files[rng.integers(len(files))]
    content = bytearray(victim.read_bytes())
    if rng.random() < 0.3 or not content:
        victim.unlink()
    elif rng.random() < 0.5:
        victim.write_bytes(content[: rng.integers(len(content))])
    else:
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        victim.write_bytes(bytes(content))
    try:
        found = veil.fit(model, data, checkpoints=place, **arguments)
    except (ValueError, CheckpointError) as error:
        assert str(place) in str(error), error
        refused += 1
    else:
        same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(found.model), jax.tree.leaves(whole.model))]
        assert all(same), victim
print("refused", refused)
"""


def test_a_checkpoint_that_was_altered_is_refused(tmp_path):
    """Any damage to any file: the fit goes on to the same end, or an error names the checkpoint. In a process of its
    own, because what reads in the background goes on complaining after the error.
    """
    command = [sys.executable, "-W", "ignore", "-c", ALTERED, str(tmp_path), "40"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 5


FULL_DISK = """
import resource, signal, sys
import jax, numpy as np, veil
from veil.host.checkpoints import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, room = sys.argv[1], int(sys.argv[2])
def record(line):
    if line["step"] == 100 and room:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
y = np.random.default_rng(0).normal(size=(500, 20)).astype(np.float32)
model = veil.VAE(2, decoder=veil.MLP((64, 64)))
options = {"key": jax.random.key(0), "steps": 300, "batch_size": 20, "checkpoints": Checkpoints(folder, every=0.02)}
fit = veil.fit(model, y, record=record, **options)
print("value", repr(float(fit.history.value[-1])))
"""


def test_a_full_disk_ends_the_fit_with_what_it_had(tmp_path):
    """From step 100 on no file of the process may grow beyond 1 kB, as on a disk that is full."""

    def run(folder, room):
        command = [sys.executable, "-W", "ignore", "-c", FULL_DISK, str(tmp_path / folder), str(room)]
        return subprocess.run(command, capture_output=True, text=True, timeout=250)

    broken = run("kept", 1000)
    assert broken.returncode == 1, broken.stdout + broken.stderr
    said = [line for line in broken.stderr.splitlines() if line.startswith("veil.host.checkpoints.CheckpointError: ")]
    assert len(said) == 1, broken.stderr[-3000:]
    assert "is whole: repeat the call to go on from it" in said[0]
    assert run("kept", 0).stdout.splitlines()[-1] == run("other", 0).stdout.splitlines()[-1]
