"""Whatever is done to the files of a run or an export, reading them ends soon: in a result or a documented error.

A few hundred random mutations, always the same. By hand, many more: ``python tests/saved/test_fuzz.py COUNT SEED``.
"""

import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import mutations
import veil
from cases import started
from saved.fits import history
from veil.host.files import parse_json
from veil.learning.result import Fit
from veil.saved import runs, unfinished

DOCUMENTED = (ValueError, FileNotFoundError)
COUNT = 200
SECONDS, GROWTH = 20.0, 256 * 2**20
SMALL = {"decoder": veil.MLP((3,)), "head": veil.heads.FullGaussian()}
RNG = np.random.default_rng(0)
QUERY, EVIDENCE = RNG.normal(size=(12, 2)), RNG.normal(size=(12, 1))


def write_run(folder, name, model, data):
    """A run directory as ``veil fit`` makes one."""
    made = started(model, data)
    with unfinished.creating(folder) as place:
        veil.save(place, Fit(made.model, made.posterior, *history()))
        (place / runs.METRICS).write_text(
            '{"step": 1, "value": -1.5}\n{"status": {"reason": "done"}, "evaluation": {}}\n'
        )
        record = {
            "source": "nowhere.csv",
            "name": "data",
            "rows": len(data),
            "query": data.query_names,
            "evidence": data.evidence_names,
            "weight": None,
            "query_shape": data.query_shape,
            "evidence_shape": data.evidence_shape or (),
        }
        more = {"options": {}, "fit": {"seed": 0}, "precision": "float32", "command": ["veil", "fit"]}
        runs.write_config(place, runs.configuration(model=name, data=record, **more))


def write_samples(folder):
    """Runs of several families, with posteriors and without."""
    plain, given = veil.Data(QUERY), veil.Data(QUERY, evidence=EVIDENCE)
    write_run(folder / "mixture", "mixture", veil.Mixture(components=2), plain)
    write_run(folder / "mdn", "mdn", veil.Mixture(veil.Linear(SMALL["head"]), 2, trunk=veil.MLP((3,))), given)
    write_run(folder / "vae", "vae", veil.VAE(2, **SMALL), plain)
    write_run(folder / "network", "bayesian-network", veil.BayesianNetwork((3,)), given)
    write_run(folder / "ppca", "ppca", veil.PPCA(1), plain)
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("samples"))


def read_run(folder):
    """All that is read of a run, by itself and together: the messages of what failed."""
    errors = []

    def attempt(read):
        try:
            found = read()
        except DOCUMENTED as error:
            errors.append(str(error))
            return None
        parts = vars(found) if isinstance(found, Fit) else found
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(eqx.filter(parts, eqx.is_array))) < 2**20
        return found

    run = attempt(lambda: runs.read(folder))
    attempt(lambda: veil.load(folder))
    if run is not None:
        attempt(run.metrics)
        attempt(run.load)
    return errors


def mutated(source, place, rng):
    """A copy of a directory with one to three mutations, half of them by somebody who knows of digests."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place)
    done = [mutations.mutate(place, rng) for _ in range(1 + int(rng.integers(3) == 0) * int(rng.integers(1, 3)))]
    if rng.random() < 0.5:
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            mutations.seal(place)
            done.append("sealed")
    return done


def search(sources, place, read, count, seed):
    """Mutate and read so many times. Returns how often reading failed as documented."""
    refused = 0
    for n in range(count):
        rng = np.random.default_rng([seed, n])
        source = sources[rng.integers(len(sources))]
        done = mutated(source, place, rng)
        try:
            with mutations.limits(SECONDS, GROWTH):
                errors = read(place)
        except BaseException as error:
            raise AssertionError(
                f"{source.name}, seed {seed}, number {n}: {done}: {type(error).__name__}: {error}"
            ) from error
        for words in errors:
            assert place.name in words, (done, words)  # the file, or the directory it is in
            assert len(words) < 3000, (done, words)
        refused += bool(errors)
    return refused


def test_mutated_runs(samples, tmp_path):
    """Most mutations are noticed; those that are not left a model of the same size."""
    refused = search(sorted(samples.iterdir()), tmp_path / "mutated", read_run, COUNT, 0)
    assert COUNT / 2 < refused < COUNT


def test_the_samples_themselves_are_sound(samples):
    for folder in samples.iterdir():
        assert read_run(folder) == []


def test_a_model_of_another_run_is_refused(samples, tmp_path):
    for name, other in (("mixture", "mdn"), ("vae", "network"), ("network", "mixture"), ("mdn", "ppca")):
        place = tmp_path / name
        shutil.copytree(samples / name, place)
        veil.save(place, veil.load(samples / other))
        with pytest.raises(ValueError, match=r"config\.json and the model do not belong together"):
            runs.read(place).load()


def test_what_is_no_fit_of_one_model_is_refused(samples, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(samples / "vae", place)
    fit = veil.load(samples / "vae")
    veil.save(place, replace(fit, posterior=veil.load(samples / "network").posterior))
    with pytest.raises(ValueError, match="the posterior and the model do not belong together"):
        runs.read(place).load()
    veil.save(place, fit.model)
    with pytest.raises(ValueError, match="expected a Fit; it holds a VAE"):
        runs.read(place).load()


@pytest.mark.parametrize("line", ['{"status": 3}', '{"evaluation": [1]}', "[1]", "{", "[" * 100_000, '{"value": NaN}'])
def test_metrics_that_are_none(samples, tmp_path, line):
    shutil.copytree(samples / "ppca", tmp_path / "run")
    (tmp_path / "run" / runs.METRICS).write_text(line)
    with pytest.raises(ValueError, match=r"metrics\.jsonl"):
        runs.read(tmp_path / "run").metrics()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a": 1, "b": 2, "a": 3}', "'a' occurs twice"),
        (b"[1e999]", "1e999 is not a finite number"),
        (b"[-Infinity]", "-Infinity is not a finite number"),
        (b"9" * 5000, "larger than any number"),
        (str(2**63).encode(), "larger than any number"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff", "codec"),
        (b"", "Expecting value"),
    ],
)
def test_json_is_read_strictly(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)
    assert parse_json(str(2**63 - 1).encode()) == 2**63 - 1


def test_sizes_without_arrays_are_refused(tmp_path):
    """A few bytes of structure do not make a model that asks for gigabytes."""
    model = veil.VAE(2, **SMALL)
    for field, value in (("latent", veil.priors.StandardNormal(10**9)), ("decoder", veil.MLP((10**9,)))):
        veil.save(tmp_path, eqx.tree_at(lambda m, field=field: getattr(m, field), model, value))
        with pytest.raises(ValueError, match="is 1000000000, and no array of the model is as large"):
            veil.load(tmp_path)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    pytest.importorskip("flatbuffers")
    folder = tmp_path_factory.mktemp("exports")
    return write_export(folder)


def write_export(folder):
    data = veil.Data(QUERY)
    model = started(veil.Mixture(components=2), data).model
    (folder / "part").mkdir()
    veil.export(model, folder / "part" / "encoder", what="encoder", data=data)
    return folder


def read_export(folder):
    try:
        veil.load_export(folder / "encoder")
    except DOCUMENTED as error:
        return [str(error)]
    return []


def test_mutated_exports(exports, tmp_path):
    assert search([exports / "part"], tmp_path / "mutated", read_export, 100, 0) > 50


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        (root / "samples").mkdir(), (root / "exports").mkdir()
        count, seed = int(sys.argv[1]), int(sys.argv[2])
        found = write_samples(root / "samples")
        print(search(sorted(found.iterdir()), root / "mutated", read_run, count, seed), "of", count, "runs refused")
        write_export(root / "exports")
        print(search([root / "exports" / "part"], root / "mutated", read_export, count, seed), "exports refused")
