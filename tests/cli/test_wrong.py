"""Wrong usage, on purpose: one line on stderr that says what to do, exit code 2 or 1, nothing made."""

import json
import shutil

import numpy as np
import pytest

from mutations import seal
from veil.data import write

FIT = "fit mixture faithful --out {run}"
USAGE = {
    "fit mixtur faithful --out {run}": "did you mean 'mixture'?",
    "fit mixture fathful --out {run}": "did you mean 'faithful'?",
    "fit mixture mcycle --out {run}": "takes no evidence, and mcycle has times as evidence; use mixture-of-experts",
    "fit gaussian mcycle --out {run}": "--query accel",
    "fit mdn faithful --out {run}": "name its columns with --evidence (there are: eruptions, waiting)",
    "fit gaussian faithful --components 3 --out {run}": "gaussian does not take --components; it takes --covariance",
    "fit mixture faithful --hidden 64 --out {run}": "mixture does not take --hidden; it takes --components,",
    FIT + " --components 0": "'--components'",
    FIT + " --components two": "'--components'",
    FIT + " --covariance fulll": "did you mean 'full'?",
    FIT + " --covariance full,tied": "--covariance: there is no 'full,tied'",
    FIT + " --head betta": "did you mean 'beta'?",
    FIT + " --head poisson --covariance full": "only the head gaussian takes it",
    FIT + " --head poisson:3": "poisson takes no numbers",
    FIT + " --head categorical:1": "expected 2 or more",
    FIT + " --head zero-inflated:bernoulli": "expected a head of counts",
    FIT + " --head multinomial:0": "expected a positive whole number",
    FIT + " --head truncated-normal:2:1": "expected low < high",
    FIT + " --head truncated-normal:a:1": "truncated-normal:0:10",
    FIT + " --head categorical:inf": "categorical:3",
    FIT + " --head categorical:2.5": "categorical:3",
    FIT + " --head categorical:2:3": "categorical:3",
    FIT + " --head discretised-logistic:9:5:1": "low < high",
    FIT + " --start kmeans": "did you mean 'k-means'?",
    FIT + " --objective likelihood": "available: em, monte-carlo-em, marginal, elbo",
    FIT + " --objective monte-carlo-em": "--samples",
    FIT + " --samples 3": "monte-carlo-em",
    FIT + " --learning-rate 0": "--learning-rate: expected a positive number",
    FIT + " --learning-rate 0.1 --tolerance 0.1": "--tolerance: it is when EM stops",
    FIT + " --tolerance nan": "--tolerance: expected a positive number",
    FIT + " --held-out 1": "--held-out: expected a fraction",
    FIT + " --precision float16": "--precision: expected one of float32, float64",
    FIT + " --seed -1": "'--seed'",
    FIT + " --steps 0": "'--steps'",
    FIT + " --restarts 0": "'--restarts'",
    FIT + " --stream": "faithful is an example",
    FIT + " --block-rows 10": "only --stream",
    FIT + " --bad skip": "--bad: it is about streams",
    FIT + " --image-size 8": "--image-size: it is about streams",
    FIT + " --stream --bad ignore": "--bad: expected refuse or skip; got 'ignore'",
    FIT + " --criterion bic": "only --select",
    FIT + " --select 1-3 --components 2": "exclude each other",
    FIT + " --select 3-1": "1-8 or 2,4,8",
    FIT + " --select x": "1-8 or 2,4,8",
    FIT + " --select 1-2 --criterion bix": "did you mean 'bic'?",
    FIT + " --select 1-2 --held-out 0.5": "--criterion held-out",
    FIT + " --query ,": "--query: expected column names",
    FIT + " --nonsense": "No such option: --nonsense",
    "fit vae faithful --posterior table --held-out 0.5 --out {run}": "--held-out: a posterior with one row per datum "
    "knows no other data; use --posterior amortized",
    "fit gaussian faithful --select 1-3 --out {run}": "gaussian has none",
    "fit mdn mcycle --hidden 8,x --out {run}": "--hidden: expected positive whole numbers",
    "fit mdn mcycle --hidden 0 --out {run}": "--hidden: expected positive whole numbers",
    "fit mdn mcycle --activation rulu --out {run}": "did you mean 'relu'?",
    "fit mdn mcycle --gate open --out {run}": "available: evidence, constant",
    "fit mixture-of-experts mcycle --gate constant --experts constant --out {run}": "that is the model mixture",
    "fit gaussian iris --query species --weight species --out {run}": "a column has one role",
    "fit gaussian nile --query flow": "--out",
    "fit": "MODEL",
    "fitt": "'fit'",
    "models mdm": "did you mean 'mdn'?",
    "evaluate {geyser}": "DATA",
    "evaluate {geyser} mcycle": "there is no column 'eruptions'; available: times, accel. The run was fitted to these",
    "evaluate {geyser} faithful --query waiting": "the run has 2 such columns (eruptions, waiting); got 1",
    "evaluate {crash} mcycle --evidence times,accel": "the run has 1 such columns (times); got 2",
    "evaluate {geyser} faithful --stream": "faithful is an example",
    "sample {geyser} --count 0 --out {run}.csv": "'--count'",
    "sample {geyser} --count 5 --out {run}.txt": ".csv, .parquet, .npz, .npy",
    "sample {geyser} --count 5 --out {run}/deep/file.csv": "does not exist; create it first",
    "sample {geyser} --count 5 --out {folder}.csv": "is a directory",
    "sample {geyser} --count 5 --out {run}.csv --evidence-values mcycle": "fitted without evidence",
    "sample {crash} --count 5 --out {run}.csv": "give rows of its evidence (times) with --evidence-values",
    "sample {crash} --count 5 --out {run}.csv --evidence times": "it names columns of --evidence-values",
    "sample {crash} --count 5 --out {run}.csv --evidence-values nile": "The run's evidence is times",
    "sample {crash} --count 5 --out {run}.csv --evidence-values mcycle --evidence times,accel": "got 2",
}
DATA = {
    "fit gaussian {run}.csv --out {run}": "there is no file",
    "fit mixture faithful --query waitin --out {run}": "did you mean 'waiting'?",
    "fit mixture faithful --head bernoulli --out {run}": "column eruptions has 3.6 in row 0",
    "fit gaussian iris --query 9 --out {run}": "there are 5 columns, counted from 0",
    "evaluate {run} faithful": "veil fit MODEL DATA --out",
    "evaluate {empty} faithful": "is not a run directory: config.json is missing",
    "report {run}": "there is no run directory",
}


@pytest.fixture
def places(tmp_path, geyser, crash):
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.csv").mkdir()
    return {
        "run": tmp_path / "run",
        "empty": tmp_path / "empty",
        "folder": tmp_path / "folder",
        "geyser": geyser,
        "crash": crash,
    }


@pytest.mark.parametrize("words", USAGE)
def test_usage(refused, places, tmp_path, words):
    assert USAGE[words] in refused(*(word.format(**places) for word in words.split()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "folder.csv"]


@pytest.mark.parametrize("words", DATA)
def test_data(refused, places, tmp_path, words):
    assert DATA[words] in refused(*(word.format(**places) for word in words.split()), code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "folder.csv"]


def test_files_that_are_not_what_they_say(refused, tmp_path):
    for name in ("a.parquet", "a.npy", "a.npz", "a.csv"):
        (tmp_path / name).write_bytes(b"\x00\x93 nothing of the kind\n\xff")
        refused("fit", "gaussian", tmp_path / name, "--out", tmp_path / "run", code=1)
    (tmp_path / "plain").write_text("a,b\n1,2\n")
    assert "must end in" in refused("fit", "gaussian", tmp_path / "plain", "--out", tmp_path / "run", code=1)


def test_python_objects_are_not_loaded(refused, tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "never loaded" in refused("fit", "gaussian", tmp_path / "evil.npy", "--out", tmp_path / "run", code=1)


def test_results_do_not_overwrite_the_data(refused, veil, geyser, tmp_path):
    data = tmp_path / "drawn.csv"
    assert veil("sample", geyser, "--count", 5, "--out", data).code == 0
    before = data.read_bytes()
    assert "is the data itself" in refused("log-prob", geyser, data, "--out", data)
    assert data.read_bytes() == before


def test_a_density_has_nothing_to_infer(veil, refused, tmp_path):
    assert veil("fit", "gaussian", "nile", "--query", "flow", "--out", tmp_path / "run").code == 0
    error = refused("infer", tmp_path / "run", "nile", "--out", tmp_path / "out.csv")
    assert error == "veil: gaussian has no latent variable to infer\n"


def test_a_run_with_weights_needs_them_or_a_word(veil, refused, tmp_path):
    run, data = tmp_path / "run", tmp_path / "data.csv"
    assert veil("fit", "gaussian", "iris", "--query", "0", "--weight", "species", "--out", run).code == 0
    write(data, {"sepal_length": np.ones(3)})
    assert "--unweighted" in refused("evaluate", run, data)
    assert veil("evaluate", run, data, "--unweighted", "--json").json["n"] == 3
    assert veil("log-prob", run, data, "--out", tmp_path / "scores.csv").code == 0


def test_missing_evidence(refused, crash, tmp_path):
    (tmp_path / "gap.csv").write_text("times,accel\n1,2\n,3\n")
    assert "evidence must be complete" in refused("evaluate", crash, tmp_path / "gap.csv", code=1)
    words = ("--count", 1, "--evidence-values", tmp_path / "gap.csv", "--out", tmp_path / "out.csv")
    assert "evidence must be complete" in refused("sample", crash, *words, code=1)


# -- altered runs ------------------------------------------------------------------------------------------------------


def alter(*keys, to):
    def change(config):
        *path, last = keys
        for key in path:
            config = config[key]
        config[last] = to

    return change


ALTERED = {
    "format": (alter("format", to="other"), "not the configuration of a run"),
    "version": (alter("version", to=99), "written in version 99"),
    "model": (alter("model", to="mixture"), "model must be an object"),
    "name": (alter("model", "name", to=3), "must be text"),
    "precision": (alter("precision", to="float16"), "precision must be one of"),
    "query": (alter("data", "query", to="eruptions"), "data.query must be a list of str"),
    "no query": (alter("data", "query", to=[]), "must not be empty"),
    "shape": (alter("data", "query_shape", to=[True]), "data.query_shape must be a list of int"),
    "huge shape": (alter("data", "query_shape", to=[-1]), "positive"),
    "weight": (alter("data", "weight", to=1), "data.weight must be text or null"),
    "fewer columns": (alter("data", "query_shape", to=[1]), "do not belong together"),
    "evidence": (alter("data", "evidence", to=["waiting"]), "do not belong together"),
}


@pytest.fixture
def copy(geyser, tmp_path):
    return shutil.copytree(geyser, tmp_path / "copy")


@pytest.mark.parametrize("case", ALTERED)
def test_altered_configurations(refused, copy, case):
    change, message = ALTERED[case]
    config = json.loads((copy / "config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    assert message in refused("evaluate", copy, "faithful", code=1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
@pytest.mark.parametrize("file", ["config.json", "model.json", "parameters-*.safetensors"])
def test_damaged_files(refused, copy, file, content):
    (found,) = copy.glob(file)
    found.write_bytes(content)
    refused("evaluate", copy, "faithful", code=1)


@pytest.mark.parametrize("file", ["model.json", "parameters-*.safetensors"])
def test_missing_files(refused, copy, file):
    (found,) = copy.glob(file)
    found.unlink()
    assert f"{found.name} is missing" in refused("evaluate", copy, "faithful", code=1)


def test_a_model_of_another_run(refused, copy, crash):
    for file in (crash / "model.json", *crash.glob("parameters-*")):
        shutil.copy(file, copy)
    assert "do not belong together" in refused("sample", copy, "--count", 3, "--out", copy / "out.csv", code=1)


def test_no_code_is_executed(refused, copy):
    model = json.loads((copy / "model.json").read_text())
    model["saved"] = {"class": "os.system", "fields": {"command": "touch owned"}}
    (copy / "model.json").write_text(json.dumps(model))
    seal(copy)
    assert "unknown class 'os.system'" in refused("evaluate", copy, "faithful", code=1)
    assert not (copy / "owned").exists()
