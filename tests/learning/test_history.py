"""What a fit says of itself: every step and metric, held-out scores by the whole bound, notes; and what it compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from cases import quiet_fit
from veil import Data
from veil.evaluation.objective import values
from veil.host.progress import Progress
from veil.learning import notes
from veil.learning.choices import usual_objective, usual_optimiser
from veil.learning.preprocessing import preprocess
from veil.learning.result import unit_of
from veil.learning.watch import Watch
from veil.objective import ELBO, Annealed, Binarised, Estimate, FreeNats, ImportanceWeighted, Objective
from veil.objective.base import whole
from veil.zoo.vae import SWITCH

KEY = jax.random.key(0)
ROWS = veil.data.load("faithful").query[:40]
VAE = veil.VAE(latent=1, decoder=veil.MLP((4,)))


class Mine(Objective):
    base: ELBO

    def __call__(self, model, posterior, datum, key):
        found = self.base(model, posterior, datum, key)
        return Estimate(found.value, {"twice": 2.0 * found.metrics["kl"], "value": found.value, **found.metrics})


@pytest.fixture(scope="module")
def heard():
    lines = []
    objective = Mine(ELBO(kl=Annealed(10**6)))
    fit = quiet_fit(
        VAE, ROWS, key=KEY, objective=objective, steps=20, held_out=Data(1.1 * ROWS[:30]), record=lines.append
    )
    return fit, lines


def test_metrics_reach_history_and_records_in_the_user_s_units(heard):
    fit, lines = heard
    metrics, steps = fit.history.metrics, [line for line in lines if "value" in line]
    assert set(metrics) == {"twice", "value", "elbo", "reconstruction", "kl"}
    assert all(len(each) == fit.status.steps for each in metrics.values())
    np.testing.assert_allclose(metrics["twice"], 2 * metrics["kl"], rtol=1e-6)
    np.testing.assert_allclose(metrics["reconstruction"] - metrics["kl"], metrics["elbo"], rtol=1e-5)
    np.testing.assert_allclose(fit.history.value, metrics["reconstruction"], atol=1e-3)  # while the KL counts nothing
    for name in ("kl", "twice", "reconstruction"):
        np.testing.assert_allclose([line[name] for line in steps], metrics[name], rtol=1e-5)
    np.testing.assert_allclose([line["value"] for line in steps], fit.history.value, rtol=1e-5)  # a name of its own


def test_a_metric_is_one_number():
    class Wide(Objective):
        def __call__(self, model, posterior, datum, key):
            return Estimate(jnp.zeros(()), {"wide": datum.query})

    wide = Wide()
    with pytest.raises((ValueError, TypeError), match=r"metric 'wide'|metrics"):
        quiet_fit(VAE, ROWS, key=KEY, objective=wide, steps=1)


def test_held_out_data_are_scored_by_the_whole_bound(heard):
    fit, _ = heard
    held = Data(1.1 * ROWS[:30])
    last = fit.history.held_out[:, 1].max()
    bound, bare = (
        np.mean(values(each, fit.model, fit.posterior, held, key=jax.random.key(1)))
        for each in (ELBO(samples=50), ELBO(samples=50, kl=veil.objective.Beta(0.0)))
    )
    assert abs(last - bound) < 0.2
    assert bare > bound  # what would have been scored


@pytest.mark.parametrize(
    "objective",
    [ELBO(kl=Annealed(5)), Mine(ELBO(kl=(FreeNats(1.0), Annealed(5)))), Binarised(ELBO(kl=veil.objective.Beta(2.0)))],
)
def test_the_whole_bound_of_what_is_made_of_elbos(objective):
    known = lambda node: isinstance(node, ELBO)  # noqa: E731
    found = [node for node in jax.tree.leaves(whole(objective), is_leaf=known) if known(node)]
    assert [elbo.kl for elbo in found] == [()]
    assert type(whole(objective)) is type(objective)
    assert whole(ImportanceWeighted(3)) == ImportanceWeighted(3)


def test_em_tells_every_step_from_the_start_and_the_saddle():
    """Sums in float32 that had to give way to float64 on the way to the top; a start at which EM stays where it is."""
    data = veil.data.load("faithful")
    model = veil.Mixture(components=2, start=veil.RandomResponsibilities())
    lines = []
    fit = veil.fit(model, data, key=jax.random.key(3), steps=200, tolerance=1e-9, record=lines.append)
    assert len(fit.history) == fit.status.steps == len(lines) > 20
    assert np.all(np.diff(fit.history.value) >= 0)
    np.testing.assert_allclose(272 * fit.history.value[[0, -1]], [-1289.86, -1130.26], atol=0.02)
    stuck = quiet_fit(model, data, key=jax.random.key(3), steps=3)  # still at the saddle
    assert any("component 1 is a duplicate of component 0" in note for note in stuck.status.notes)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, []),
        ({1: 4.0}, ["column b is constant (4)"]),
        ({0: 4.0, 3: 0.0}, ["columns a, d are constant"]),
        ({j: 1.0 for j in range(6)}, ["columns a, b, c, d and 2 more are constant"]),
        ({1: np.nan, 2: np.nan, 4: 7.0}, ["columns b, c are missing in every row", "column e is constant (7)"]),
    ],
)
def test_one_line_for_all_columns_of_a_kind(columns, said):
    y = np.random.default_rng(0).normal(size=(20, 6))
    for j, value in columns.items():
        y[:, j] = value
    found = notes.columns(preprocess(VAE, Data(y, query_names=tuple("abcdef")), np.random.default_rng(0)), False)
    assert len(found) == len(said)
    assert all(line.startswith(words) for line, words in zip(found, said, strict=True))


@pytest.mark.parametrize(
    ("model", "unit"),
    [(VAE, "datum"), (veil.Mixture(components=2), "datum")]
    + [(model, "sequence or window") for model in (veil.LDS(1), veil.HMM(states=2), veil.rssm(1))],
)
def test_the_bar_counts_what_the_fit_and_its_pictures_count(model, unit, monkeypatch):
    bar, said = Progress(False, "fit"), []
    monkeypatch.setattr(bar, "update", lambda done, total, words: said.append(words))
    Watch(bar, None, 0.0, unit_of(model))(None, {"value": np.ones((1, 1)), "metrics": {}})
    assert said == [f"1 nats per {unit}"]


MDN = veil.Mixture(veil.Linear(veil.heads.DiagonalGaussian()), 2, trunk=veil.MLP((3,)))
GIVEN = np.random.default_rng(0).normal(size=(140, 2))


@pytest.mark.parametrize(
    ("model", "make"),
    [
        (veil.Mixture(components=2), lambda y, w: Data(y, weight=w)),
        (MDN, lambda y, w: Data(y[:, :1], evidence=y[:, 1:], weight=w)),
        (VAE, lambda y, w: Data(y, weight=w)),
    ],
    ids=["EM", "gradients", "networks"],
)
def test_other_numbers_of_steps_rows_and_other_weights_compile_nothing(model, make, compilations):
    quiet_fit(model, make(GIVEN[:130], None), key=KEY, steps=8, tolerance=1e-12)
    compilations.clear()
    for rows, weight, steps in ((130, None, 9), (137, None, 8), (129, np.arange(129.0), 11)):
        quiet_fit(model, make(GIVEN[:rows], weight), key=KEY, steps=steps, tolerance=1e-12)
        assert [name for name in compilations if "stretch" in name or "start" in name or "initialise" in name] == []


def test_padding_is_exact_and_of_the_data_s_own_numbers():
    """Zero, which stands nowhere in the data, has no density here: beta's support is open."""
    shares = np.random.default_rng(0).beta(2.0, 3.0, (131, 1))
    model = veil.density(veil.Linear(veil.heads.Beta()))
    fit = quiet_fit(model, shares, key=KEY, steps=5, batch_size=131)
    assert np.all(np.isfinite(fit.history.value))
    values = veil.log_prob(fit, shares)
    assert values.shape == (131,)
    last = veil.fit(fit.model, shares, key=KEY, steps=1, batch_size=131).history.value[0]
    np.testing.assert_allclose(last, values.mean(), rtol=1e-5)


def test_a_conditional_vae_is_begun_and_learned_as_a_choice():
    data = Data(GIVEN[:40, :1], evidence=GIVEN[:40, 1:])
    fit = quiet_fit(veil.VAE(1, decoder=veil.MLP((8,))), data, key=KEY, steps=1)
    model = fit.model.model
    first = np.abs(np.asarray(model.decoder.layers[0].weight)).max(0)
    assert first[0] > 0.3 * SWITCH * first[1]
    assert fit.history.metrics == {}
    objective = usual_objective(model, fit.posterior, False)
    assert objective == ImportanceWeighted(5)
    sharp, plain = (usual_optimiser(model, 10, each) for each in (objective, ELBO()))
    assert sharp.transform is not plain.transform
    np.testing.assert_allclose(
        [float(sharp.share(jnp.array(t))) for t in (0, 5, 10, 12)], [1.0, 0.5, 0.0, 0.0], atol=1e-6
    )
    assert isinstance(usual_objective(quiet_fit(VAE, ROWS, key=KEY, steps=1).model.model, fit.posterior, False), ELBO)


@pytest.mark.parametrize("rows", [1, 2])
def test_one_datum_is_enough_to_fit_and_to_evaluate(rows):
    fit = quiet_fit(VAE, ROWS[:rows], key=KEY, steps=2)
    found = veil.evaluate(fit, ROWS[:1], key=KEY, samples=3)
    assert np.isfinite(found.log_likelihood)
    assert found.approximation.latents is None
    assert "active_units" not in found.as_dict()
