"""Sequences on the command line: fit, evaluate, log-prob, infer, sample, forecast and collect."""

import csv
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import veil as library
from veil.cli import catalogue


@pytest.fixture(scope="session", autouse=True)
def entries():
    """Two sequence models by name, whatever else the catalogue has."""

    def lds(latent: int = 1) -> library.LDS:
        return library.LDS(latent=latent)

    def hmm(components: int = 2) -> library.HMM:
        return library.HMM(states=components)

    def images() -> library.HMM:
        return library.HMM(states=2, experts=library.Linear(library.heads.DiagonalGaussian()))

    added = {
        "test-images": catalogue.Entry("test-images", "a model of these tests", False, True, images),
        "test-lds": catalogue.Entry("test-lds", "a model of these tests", False, True, lds),
        "test-hmm": catalogue.Entry("test-hmm", "a model of these tests", False, True, hmm),
    }
    catalogue.MODELS.update(added)
    yield
    for name in added:
        del catalogue.MODELS[name]


LENGTHS = (9, 6, 7)


def simulated() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    states, actions = [], []
    for length in LENGTHS:
        action = rng.normal(size=length)
        state = np.zeros(length)
        state[0] = rng.normal()
        for t in range(1, length):
            state[t] = 0.8 * state[t - 1] + action[t] + 0.2 * rng.normal()
        states.append(state + 0.1 * rng.normal(size=length))
        actions.append(action)
    return states, actions


@pytest.fixture(scope="session")
def rows(tmp_path_factory) -> Path:
    states, actions = simulated()
    path = tmp_path_factory.mktemp("sequences") / "trials.csv"
    names = np.repeat(["b", "a", "c"], LENGTHS)
    time = np.concatenate([np.arange(length) for length in LENGTHS])
    columns = zip(names, time, np.concatenate(states), np.concatenate(actions), strict=True)
    path.write_text("\n".join(["trial,t,y,u", *(",".join(map(str, row)) for row in columns)]) + "\n")
    return path


@pytest.fixture(scope="session")
def trials(veil, rows, entries) -> Path:
    """A run of sequences with evidence."""
    out = rows.parent / "trials"
    words = ["--query", "y", "--evidence", "u", "--episode", "trial", "--time", "t", "--steps", 30, "--out", out]
    fitted = veil("fit", "test-lds", rows, *words)
    assert (fitted.code, fitted.err) == (0, ""), fitted
    return out


def data() -> library.Data:
    return library.data.episodes(*simulated(), query_names=("y",), evidence_names=("u",))


def test_a_report_finds_the_sequences_again_and_forecasts_them(veil, trials, tmp_path, monkeypatch) -> None:
    run = shutil.copytree(trials, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    outcome = veil("report", run)
    assert (outcome.code, outcome.err) == (0, "")
    assert {place.stem for place in (run / "plots").iterdir()} == {"history", "forecast"}
    assert "log-likelihood per sequence" in (run / "report.html").read_text("utf-8")


def test_a_table_is_the_same_as_arrays(veil, rows, trials, tmp_path) -> None:
    with jax.enable_x64(True):
        expected = library.evaluate(library.load(trials), data())
    told = veil("evaluate", trials, rows, "--json").json
    assert told["log_likelihood"] == pytest.approx(expected.log_likelihood)
    assert (told["rows"], told["kind"]) == (3, "exact")
    # the same sequences, shorter, as padded arrays
    whole = data()
    np.savez(tmp_path / "a.npz", query=whole.query, evidence=whole.evidence, mask=whole.mask)
    assert veil("evaluate", trials, tmp_path / "a.npz", "--json").json["log_likelihood"] == pytest.approx(
        expected.log_likelihood
    )
    assert veil("log-prob", trials, rows, "--out", tmp_path / "l.csv").code == 0
    table = columns(tmp_path / "l.csv")
    assert list(table) == ["sequence", "log_prob"]
    assert table["sequence"] == ["b", "a", "c"]  # as the data call them
    assert sum(map(float, table["log_prob"])) == pytest.approx(expected.log_likelihood)


def columns(path: Path) -> dict[str, list[str]]:
    """A table's cells by column, as they stand."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_infer_writes_a_row_a_step(veil, rows, trials, tmp_path) -> None:
    assert veil("infer", trials, rows, "--out", tmp_path / "z.csv").code == 0
    table = columns(tmp_path / "z.csv")
    assert list(table) == ["sequence", "step", "time", "mean_0", "sd_0"]
    assert table["sequence"] == [name for name, length in zip("bac", LENGTHS, strict=True) for _ in range(length)]
    assert table["step"] == [str(t) for length in LENGTHS for t in range(length)] == table["time"]
    with jax.enable_x64(True):
        found = library.infer(library.load(trials), data())
        past = library.infer(library.load(trials), data(), filtered=True)
        drawn = library.infer(library.load(trials), data(), paths=3, key=jax.random.key(4))
    first = LENGTHS[0]
    assert float(table["mean_0"][first]) == pytest.approx(found.mean[1, 0, 0])
    assert float(table["sd_0"][first]) == pytest.approx(found.standard_deviation[1, 0, 0])
    assert veil("infer", trials, rows, "--filtered", "--out", tmp_path / "f.csv").code == 0
    assert float(columns(tmp_path / "f.csv")["mean_0"][first]) == pytest.approx(past.mean[1, 0, 0])
    assert past.mean[1, 0, 0] != pytest.approx(found.mean[1, 0, 0])
    assert veil("infer", trials, rows, "--paths", 3, "--seed", 4, "--out", tmp_path / "p.csv").code == 0
    table = columns(tmp_path / "p.csv")
    assert list(table)[3:] == ["path_0_0", "path_1_0", "path_2_0"]
    assert float(table["path_2_0"][first]) == pytest.approx(drawn.paths[1, 2, 0, 0])


def test_names_and_times_are_the_datas(veil, rows, trials, tmp_path) -> None:
    """Rows in any order, sequences with numbers for names and times that are dates."""
    lines = rows.read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    dated = [[str(10 * "abc".index(name)), f"2026-01-{9 - int(t):02d}", y, u] for name, t, y, u in cells]
    (tmp_path / "dated.csv").write_text("\n".join(["trial,t,y,u", *(",".join(row) for row in dated)]) + "\n")
    assert veil("infer", trials, tmp_path / "dated.csv", "--out", tmp_path / "z.csv").code == 0
    table = columns(tmp_path / "z.csv")
    assert list(dict.fromkeys(table["sequence"])) == ["10", "0", "20"]
    assert table["time"] == [f"2026-01-{9 - t:02d}" for length in LENGTHS for t in reversed(range(length))]
    # the first step in time is the last row of its sequence
    backwards = library.data.episodes(
        *([part[::-1] for part in parts] for parts in simulated()), query_names=("y",), evidence_names=("u",)
    )
    with jax.enable_x64(True):
        found = library.infer(library.load(trials), backwards)
    assert float(table["mean_0"][LENGTHS[0]]) == pytest.approx(found.mean[1, 0, 0])
    # other columns, and arrays that say which rows belong together
    words = ("--episode", "name", "--out", tmp_path / "n.parquet")
    text = (tmp_path / "dated.csv").read_text().replace("trial,t,", "name,when,")
    (tmp_path / "renamed.csv").write_text(text)
    assert veil("infer", trials, tmp_path / "renamed.csv", *words).code == 0
    assert library.data.read(tmp_path / "n.parquet").query_names[:3] == ("sequence", "step", "mean_0")
    numbers = np.array([[float(row[2]), float(row[3])] for row in cells])
    place = tmp_path / "a.npz"
    np.savez(place, query=numbers[:, :1], evidence=numbers[:, 1:], episode=np.repeat([7, 5, 6], LENGTHS))
    assert veil("log-prob", trials, place, "--out", tmp_path / "l.csv").code == 0
    assert columns(tmp_path / "l.csv")["sequence"] == ["7", "5", "6"]
    np.savez(place, query=numbers[:, :1], evidence=numbers[:, 1:], lengths=LENGTHS)  # which have no names
    assert veil("log-prob", trials, place, "--out", tmp_path / "l.csv").code == 0
    assert columns(tmp_path / "l.csv")["sequence"] == ["0", "1", "2"]


def test_states_are_selected_filtered_and_drawn(veil, refused, tmp_path) -> None:
    """Old Faithful's waiting times remember: two states or three, which by the mixture of one row would be two."""
    out = tmp_path / "run"
    words = ("--query", "waiting", "--select", "1-3", "--steps", 30, "--out", out)
    made = veil("fit", "hmm", "faithful", *words)
    assert made.code == 0, made
    assert "states" in made.out
    record = json.loads((out / "selection.json").read_text())
    with jax.enable_x64(True):
        data = library.data.load("faithful").select(["waiting"])
        sequence = library.data.grouped(data, np.zeros(272, int))
        fit = library.load(out)
        best = library.evaluate(fit, sequence)
        past, total = library.infer(fit, sequence, filtered=True), library.log_prob(fit, sequence)[0]
    assert str(fit.model.states) == record["best"]
    scores = {each["name"]: each["score"] for each in record["candidates"]}
    assert list(scores) == ["1", "2", "3"]
    assert min(scores.values()) == scores[record["best"]] == pytest.approx(best.bic)
    assert veil("infer", out, "faithful", "--filtered", "--out", tmp_path / "f.csv").code == 0
    table = columns(tmp_path / "f.csv")
    states = [f"state_{k}" for k in range(fit.model.states)]
    assert list(table) == ["sequence", "step", *states, "most_likely", "log_prob"]
    np.testing.assert_allclose(np.array(table["log_prob"], float).sum(), total, rtol=1e-6)
    np.testing.assert_allclose(np.array(table["state_0"], float), past.probabilities[0, :, 0], rtol=1e-9)
    assert veil("infer", out, "faithful", "--paths", 2, "--out", tmp_path / "p.csv").code == 0
    assert list(columns(tmp_path / "p.csv")) == ["sequence", "step", "path_0", "path_1"]
    both = ("--paths", 2, "--filtered", "--out", tmp_path / "p.csv")
    assert "--filtered: a path is drawn given all" in refused("infer", out, "faithful", *both)


def test_dimensions_are_selected(veil, refused, rows, tmp_path) -> None:
    out = tmp_path / "run"
    words = ("--query", "y", "--evidence", "u", "--episode", "trial", "--select", "1,2", "--steps", 10)
    made = veil("fit", "lds", rows, *words, "--criterion", "aic", "--out", out)
    assert made.code == 0, made
    assert "dimensions" in made.out
    assert library.load(out).model.latent == int(json.loads((out / "selection.json").read_text())["best"])
    told = refused("fit", "switching-lds", rows, *words, "--out", tmp_path / "n")
    assert "of switching-lds there are only bounds" in told


def test_regimes_are_filtered_by_particles(veil, rows, tmp_path) -> None:
    out = tmp_path / "run"
    words = ("--query", "y", "--episode", "trial", "--latent", 1, "--steps", 2, "--quiet", "--out", out)
    made = veil("fit", "switching-lds", rows, *words)
    assert made.code == 0, made
    assert veil("infer", out, rows, "--filtered", "--samples", 20, "--seed", 3, "--out", tmp_path / "f.csv").code == 0
    table = columns(tmp_path / "f.csv")
    assert list(table) == ["sequence", "step", "state_0", "state_1", "most_likely", "mean_0", "sd_0", "log_prob"]
    with jax.enable_x64(json.loads((out / "config.json").read_text())["precision"] == "float64"):
        fit, given = library.load(out), library.data.episodes(simulated()[0])
        found = library.infer(fit, given, filtered=True, key=jax.random.key(3), samples=20)
    np.testing.assert_allclose(np.array(table["mean_0"], float)[:9], found.mean[0, :, 0], rtol=1e-5)


def test_all_rows_without_a_column_are_one_sequence(veil, tmp_path) -> None:
    out = tmp_path / "geyser"
    assert veil("fit", "test-hmm", "faithful", "--query", "waiting", "--out", out).code == 0
    assert veil("evaluate", out, "faithful", "--json").json["rows"] == 1
    assert veil("infer", out, "faithful", "--out", tmp_path / "s.parquet").code == 0
    table = library.data.read(tmp_path / "s.parquet")
    assert table.query_names == ("sequence", "step", "state_0", "state_1", "most_likely", "path")
    np.testing.assert_allclose(table.query[:, 2:4].sum(1), 1.0)
    assert len(table) == 272
    assert veil("sample", out, "--steps", 7, "--count", 3, "--out", tmp_path / "d.csv").code == 0
    drawn = library.data.read(tmp_path / "d.csv")
    assert (len(drawn), drawn.query_names) == (21, ("sequence", "step", "waiting"))


def test_windows_and_held_out_sequences(veil, rows, tmp_path) -> None:
    words = ["--query", "y", "--episode", "trial", "--window", 4, "--held-out", 0.3, "--steps", 5]
    fitted = veil("fit", "test-lds", rows, *words, "--out", tmp_path / "w")
    assert fitted.code == 0, fitted
    assert veil("evaluate", tmp_path / "w", rows, "--json").json["rows"] == 3  # whole sequences, of another length


def test_sample_for_evidence(veil, rows, trials, tmp_path) -> None:
    words = ["--count", 2, "--evidence-values", rows, "--out"]
    assert veil("sample", trials, *words, tmp_path / "s.csv").code == 0
    drawn = library.data.read(tmp_path / "s.csv")
    np.testing.assert_array_equal(np.bincount(drawn.query[:, 0].astype(int)), np.repeat(LENGTHS, 2))
    assert veil("sample", trials, *words, tmp_path / "s.npz").code == 0
    assert library.data.read(tmp_path / "s.npz").query.shape == (6, max(LENGTHS), 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "mixture", "{rows}", "--query", "y", "--episode", "trial", "--out", "{new}"], "model of single rows"),
        (["fit", "test-lds", "{rows}", "--query", "y", "--time", "t", "--out", "{new}"], "has the same time"),
        (["fit", "test-lds", "faithful", "--episode", "t", "--out", "{new}"], "not a table in one file"),
        (["fit", "test-lds", "{rows}", "--stream", "--episode", "t", "--out", "{new}"], "--episode: a stream holds"),
        (["sample", "{run}", "--count", "1", "--out", "{new}.csv"], "give sequences of its evidence (u)"),
        (
            ["sample", "{run}", "--steps", "3", "--count", "1", "--evidence-values", "{rows}", "--out", "{new}.csv"],
            "as long as their evidence",
        ),
    ],
)
def test_what_does_not_go_together(refused, rows, trials, tmp_path, words, message) -> None:
    names = {"rows": rows, "run": trials, "new": tmp_path / "new"}
    assert message in refused(*(word.format(**names) for word in words))


def test_what_is_not_there(refused, rows, trials, tmp_path) -> None:
    words = ("fit", "test-lds", rows, "--query", "y", "--episode", "trail", "--out", tmp_path / "n")
    assert "did you mean 'trial'" in refused(*words)
    (tmp_path / "o.csv").write_text("y,v\n1,2\n3,4\n")
    assert "there is no column 'u'" in refused("evaluate", trials, tmp_path / "o.csv", code=1)


# -- forecast ----------------------------------------------------------------------------------------------------------


def test_forecast_writes_what_the_verb_gives(veil, rows, trials, tmp_path) -> None:
    words = ["--horizon", 2, "--samples", 50, "--after", 4, "--seed", 5]
    made = veil("forecast", trials, rows, *words, "--out", tmp_path / "f.csv", "--picture", tmp_path / "f.png")
    assert made.code == 0, made
    with jax.enable_x64(True):
        expected = library.forecast(library.load(trials), data(), 2, 50, key=jax.random.key(5), after=4)
    table = columns(tmp_path / "f.csv")
    assert list(table)[:7] == ["sequence", "step", "y_mean", "y_low", "y_high", "y_truth", "y_0"]
    assert len(table) == 6 + 50
    assert table["sequence"] == ["b", "b", "a", "a", "c", "c"]
    assert table["step"] == ["4", "5"] * 3
    numbers = {name: np.array(cells, float) for name, cells in table.items() if name != "sequence"}
    np.testing.assert_allclose(numbers["y_mean"], expected.mean.ravel())
    np.testing.assert_allclose(numbers["y_truth"], expected.truth.ravel())
    np.testing.assert_allclose(numbers["y_0"], expected.paths[:, 0].ravel())
    drawn = np.stack([numbers[f"y_{s}"] for s in range(50)], 1)
    np.testing.assert_allclose(numbers["y_low"], np.quantile(drawn, 0.05, axis=1))
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert veil("forecast", trials, rows, *words, "--hold", "0", "--out", tmp_path / "f.npz").code == 0
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["paths"].shape == (3, 50, 2, 1)
        assert not np.allclose(arrays["mean"], expected.mean)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--horizon", "3"], "say what to write"),
        (["--horizon", "3", "--out", "{new}.txt"], "--out: expected a file that ends in"),
        (["--horizon", "3", "--film", "{new}.gif"], "--film: the run's query is no image"),
        (["--horizon", "3", "--after", "9", "--out", "{new}.csv"], "--after: the longest sequence has 9 steps"),
        (["--horizon", "3", "--hold", "1,2", "--out", "{new}.csv"], "--hold: the evidence of a step is [1] (u); got 2"),
        (["--horizon", "3", "--hold", "x", "--out", "{new}.csv"], "--hold: expected numbers"),
    ],
)
def test_what_cannot_be_forecast(refused, rows, trials, tmp_path, words, message) -> None:
    assert message in refused("forecast", trials, rows, *(word.format(new=tmp_path / "new") for word in words))


def test_images_become_a_film(veil, refused, tmp_path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    light = np.cumsum(rng.random((4, 20)) < 0.2, 1) % 2
    frames = light[:, :, None, None] * np.eye(4) + 0.05 * rng.normal(size=(4, 20, 4, 4))
    np.savez(tmp_path / "lights.npz", query=frames.reshape(80, 4, 4), lengths=[20] * 4)
    run = tmp_path / "run"
    assert veil("fit", "test-images", tmp_path / "lights.npz", "--steps", 20, "--out", run).code == 0
    words = ("forecast", run, tmp_path / "lights.npz", "--horizon", 3, "--samples", 4, "--after", 10)
    made = veil(*words, "--film", tmp_path / "f.gif", "--out", tmp_path / "f.npz")
    assert made.code == 0, made
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["paths"].shape == (4, 4, 3, 4, 4)
        np.testing.assert_allclose(arrays["truth"], frames[:, 10:13])
    with image.open(tmp_path / "f.gif") as film:
        assert film.size == (4 * (128 + 4), 128 + 4)  # truth, mean and two futures
    assert "use .npz, or --film" in refused(*words, "--out", tmp_path / "f.csv")
    assert "make a --film" in refused(*words, "--picture", tmp_path / "f.png")
    assert veil("sample", run, "--steps", 5, "--count", 2, "--out", tmp_path / "s.npz").code == 0
    assert library.data.read(tmp_path / "s.npz").query.shape == (2, 5, 4, 4)


def test_unknown_actions_and_single_rows(refused, rows, trials, geyser, tmp_path) -> None:
    words = ("--horizon", 3, "--out", tmp_path / "f.csv")
    assert "--hold: the model takes evidence (u)" in refused("forecast", trials, rows, *words)
    assert "model of single rows" in refused("forecast", geyser, "faithful", *words)


# -- collect -----------------------------------------------------------------------------------------------------------


def test_collect_fit_and_forecast(veil, refused, tmp_path) -> None:
    pytest.importorskip("gymnasium")
    place, run = tmp_path / "pendulum", tmp_path / "run"
    words = ("collect", "Pendulum-v1", "--out", place, "--max-steps", 12)
    made = veil(*words, "--episodes", 2)
    assert (made.code, made.err) == (0, ""), made
    assert "2 episodes of Pendulum-v1" in made.out
    assert veil(*words, "--episodes", 4).code == 0
    assert len(library.data.recording(place)) == 4
    assert "seed 0 in place of 1" in refused(*words, "--episodes", 4, "--seed", 1)
    assert veil(*words, "--episodes", 1, "--seed", 1, "--force", "--quiet").out == ""
    assert "CartPoll" in refused("collect", "CartPoll-v1", "--episodes", 1, "--out", tmp_path / "x", code=1)
    options = ("--query", "observation,reward", "--evidence", "action", "--steps", 3)
    fitted = veil("fit", "test-lds", place, *options, "--out", run)
    assert fitted.code == 0, fitted
    told = veil("evaluate", run, place, "--json").json
    with jax.enable_x64(True):
        data = library.data.recording(place).data([["observation", "reward"]], "action")
        assert told["log_likelihood"] == pytest.approx(library.evaluate(library.load(run), data).log_likelihood)
    ahead = ("forecast", run, place, "--horizon", 3, "--samples", 4, "--after", 6, "--out", tmp_path / "f.parquet")
    assert veil(*ahead).code == 0
    assert "observation0_mean" in library.data.read(tmp_path / "f.parquet").query_names
    assert "did you mean 'observation'" in refused(
        "fit", "test-lds", place, "--query", "observatoin", "--out", "y", code=1
    )
    assert "is a recording, which is read whole" in refused("fit", "test-lds", place, "--stream", "--out", "y")


# -- runs that were altered --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequences": None}, "do not belong together"),
        ({"sequences": 3}, "data.sequences must have"),
        ({"sequences": {"table": True}}, "data.sequences must have"),
        ({"episode": 3}, "data.sequences.episode must be str"),
        ({"table": None}, "data.sequences.table must be bool"),
        ({"query": [3]}, "data.sequences.query must be list"),
    ],
)
def test_an_altered_run_is_refused(refused, rows, trials, tmp_path, change, message) -> None:
    copy = shutil.copytree(trials, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    place = config["data"] if "sequences" in change else config["data"]["sequences"]
    place.update(change)
    (copy / "config.json").write_text(json.dumps(config))
    assert message in refused("evaluate", copy, rows, code=1)
