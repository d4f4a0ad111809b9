"""The command line with continuous and coded latents: fit, evaluate, infer, log-prob, report."""

import pytest


@pytest.fixture(scope="module")
def geyser_vae(veil, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "vae"
    words = ("--latent", 1, "--hidden", 8, "--steps", 200, "--likelihood", "gaussian", "--out", out)
    fitted = veil("fit", "vae", "faithful", *words)
    assert (fitted.code, fitted.err) == (0, ""), fitted
    assert "lower bound" in fitted.out
    assert "BIC" not in fitted.out
    return out


def test_evaluate(veil, geyser_vae):
    found = veil("evaluate", geyser_vae, "faithful", "--json", "--samples", 50).json
    assert found["kind"] == "lower bound, importance-weighted with 50 samples"
    assert found["elbo"]["value"] < found["log_likelihood_per_datum"]
    assert found["active_units"] == found["units"] == 1
    assert found["collapse"] is None
    table = veil("evaluate", geyser_vae, "faithful", "--samples", 50).out
    for words in ("ELBO", "importance-weighted", "active units", "mutual information", "Pareto k"):
        assert words in table


def test_infer_and_log_prob(veil, geyser_vae, tmp_path):
    assert veil("infer", geyser_vae, "faithful", "--out", tmp_path / "z.csv").code == 0
    assert (tmp_path / "z.csv").read_text().splitlines()[0] == "row,mean_0,sd_0"
    assert veil("log-prob", geyser_vae, "faithful", "--samples", 20, "--out", tmp_path / "l.csv").code == 0
    assert len((tmp_path / "l.csv").read_text().splitlines()) == 273


def test_report(veil, geyser_vae):
    assert veil("report", geyser_vae).code == 0
    assert (geyser_vae / "plots" / "latent.png").exists()
    assert (geyser_vae / "plots" / "draws.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("ppca", "iris", "--latent", 2),
        ("cvae", "mcycle", "--latent", 1, "--hidden", 8, "--steps", 30, "--objective", "importance-weighted"),
        ("vae", "faithful", "--latent", "codes:2:3", "--hidden", 8, "--steps", 30, "--gradient", "score-function",
         "--samples", 3),
        ("vae", "faithful", "--latent", "2", "--hidden", 8, "--steps", 30, "--warm-up", 10, "--free-nats", 0.1,
         "--posterior", "refined", "--refine-steps", 2),
        ("bayesian-network", "mcycle", "--hidden", 8, "--steps", 30),
    ],
    ids=lambda words: "-".join(map(str, words[:5:2])),
)  # fmt: skip
def test_models_and_options(veil, tmp_path, words):
    fitted = veil("fit", *words, "--quiet", "--out", tmp_path / "run")
    assert fitted.code == 0, fitted
    assert veil("evaluate", tmp_path / "run", words[1], "--samples", 5, "--quiet").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("vae", "faithful", "--objective", "em"), "a model without an exact likelihood; use elbo"),
        (("mixture", "faithful", "--objective", "elbo"), "this model's likelihood is exact"),
        (("vae", "faithful", "--gradient", "pathwize"), "did you mean"),
        (("vae", "faithful", "--posterior", "exact"), "has no closed form"),
        (("vae", "faithful", "--refine-steps", 3), "--refine-steps goes with --posterior refined"),
        (("vae", "faithful", "--objective", "wake-sleep", "--beta", 2), "they change the KL term"),
        (("vae", "faithful", "--latent", "codes:3"), "latent: expected dimensions"),
        (("ppca", "iris", "--latent", "codes:3:2"), "latent: expected a number of dimensions"),
        (("ppca", "iris", "--posterior", "amortized"), "no network to read a datum"),
        (("vae", "faithful", "--objective", "importance-weighted", "--gradient", "enumerated"), "is for the ELBO"),
    ],
)
def test_words_that_do_not_go_together(refused, tmp_path, words, message):
    assert message in refused("fit", *words, "--out", tmp_path / "run")
