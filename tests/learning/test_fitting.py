"""The verb fit: weights, order, restarts, keys, compilations, and every road to the same optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import oracles
import veil
from cases import mixture_parameters, quiet_fit
from veil import Data, ExpectedLogLikelihood, Linear, LinearGaussian, Marginal, Mixture, Stream
from veil.parts import heads

KEY = jax.random.key(0)


def two_blobs(count=80, seed=0):
    """Two well separated blobs of unequal size and shape."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(count // 4, 2)) @ np.array([[1.0, 0.4], [0.0, 0.5]])
    second = rng.normal(size=(count - count // 4, 2)) * [0.7, 1.5] + [6.0, 3.0]
    return np.concatenate([first, second])


def same(a, b, **tolerance):
    for x, y in zip(mixture_parameters(a), mixture_parameters(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


MODELS = {
    "mixture": (Mixture(components=2), False),
    "experts": (Mixture(components=2), True),
    "poisson": (Mixture(Linear(heads.Poisson()), 2), False),
}


def make(name, seed=0, count=60):
    rng = np.random.default_rng(seed)
    evidence = rng.normal(size=(count, 1)) if MODELS[name][1] else None
    query = rng.poisson(3.0, (count, 2)).astype(float) if name == "poisson" else two_blobs(count, seed)
    return query, evidence


def leaves(model):
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(model)]


def rows_of(evidence, rows):
    return None if evidence is None else evidence[rows]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("x64")
def test_rows_weights_and_order(name):
    """Integer weights are duplicated rows, rows of weight zero are not there, the order of rows does not matter."""
    rng = np.random.default_rng(3)
    query, evidence = make(name)
    weight = rng.integers(0, 4, len(query))
    weight[:2] = 0
    order = rng.permutation(len(query))
    repeated, kept = np.repeat(np.arange(len(query)), weight), np.flatnonzero(weight)
    variants = {
        "weighted": Data(query, evidence=evidence, weight=weight),
        "duplicated": Data(query[repeated], evidence=rows_of(evidence, repeated)),
        "kept": Data(query[kept], evidence=rows_of(evidence, kept), weight=weight[kept]),
        "shuffled": Data(query[order], evidence=rows_of(evidence, order), weight=weight[order]),
    }
    fits = {
        label: quiet_fit(MODELS[name][0], data, key=KEY, steps=4, tolerance=1e-300) for label, data in variants.items()
    }
    for label in ("duplicated", "kept", "shuffled"):
        np.testing.assert_allclose(
            fits[label].history.value, fits["weighted"].history.value, rtol=1e-10, err_msg=f"{name}: {label}"
        )
        for a, b in zip(leaves(fits["weighted"].model), leaves(fits[label].model), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8, err_msg=f"{name}: {label}")


@pytest.mark.usefixtures("x64")
def test_a_row_with_nothing_observed_changes_nothing_but_the_count():
    y = two_blobs()
    empty = np.concatenate([y, np.full((7, 2), np.nan)])
    plain = quiet_fit(Mixture(components=2), Data(y), key=KEY, tolerance=1e-11)
    gaps = quiet_fit(Mixture(components=2), Data(empty), key=KEY, tolerance=1e-11, steps=3000)
    same(plain.model, gaps.model, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(veil.log_prob(gaps.model, Data(empty))[-7:], 0, atol=1e-12)


def test_the_same_key_gives_the_same_bytes_and_another_one_another_fit():
    data = Data(two_blobs())
    model = Mixture(components=4)
    first, again, other = (quiet_fit(model, data, key=jax.random.key(seed), steps=6, restarts=2) for seed in (1, 1, 2))
    for a, b in zip(jax.tree.leaves(first.model), jax.tree.leaves(again.model), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert first.history.value.tobytes() == again.history.value.tobytes()
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(first.model), jax.tree.leaves(other.model), strict=True)
    )


def test_the_best_restart_is_the_one_returned():
    data = Data(two_blobs(90, 4))
    result = quiet_fit(
        Mixture(components=4, start=veil.RandomRows()), data, key=KEY, restarts=6, steps=200, tolerance=1e-7
    )
    finals = result.history.restarts
    assert finals.shape == (6,)
    assert np.ptp(finals) > 1e-3  # the starts do differ
    np.testing.assert_allclose(result.history.value[-1], finals.max(), rtol=1e-6)
    value = veil.evaluate(result.model, data).log_likelihood_per_datum
    np.testing.assert_allclose(value, finals.max() - result.history.penalty[-1], atol=1e-4)


def test_second_fits_compile_nothing_and_restarts_do_not_multiply(compilations):
    first, second = Data(two_blobs(64, 0)), Data(two_blobs(64, 1))
    quiet_fit(Mixture(components=2), first, key=KEY)
    once = len([name for name in compilations if "stretch" in name])
    compilations.clear()
    quiet_fit(Mixture(components=2), second, key=jax.random.key(1))
    assert [name for name in compilations if "stretch" in name or "initialise" in name or "start" in name] == []
    compilations.clear()
    quiet_fit(Mixture(components=2), first, key=KEY, restarts=5)
    assert len([name for name in compilations if "stretch" in name]) <= once


@pytest.mark.usefixtures("x64")
def test_every_road_leads_to_the_em_optimum():
    """In memory, streamed, stepwise, streamed by blocks, Monte Carlo and by gradients."""
    y = two_blobs(400)
    data = Data(y)
    stream = Stream(lambda: (data[i : i + 90] for i in range(0, 400, 90)), rows=64)
    model = Mixture(components=2)
    exact = veil.fit(model, data, key=KEY, tolerance=1e-11)
    best = veil.evaluate(exact.model, data).log_likelihood_per_datum
    streamed = veil.fit(model, stream, key=KEY, tolerance=1e-11)
    same(exact.model, streamed.model, rtol=1e-6, atol=1e-8)  # the same sums in another order
    np.testing.assert_allclose(streamed.history.value, exact.history.value, rtol=1e-9)
    roads = {
        "stepwise": dict(batch_size=80, steps=300),
        "Monte Carlo": dict(objective=ExpectedLogLikelihood(samples=5), steps=60),
        "gradient": dict(objective=Marginal(), steps=800, batch_size=400),
        "gradient of EM": dict(objective=ExpectedLogLikelihood(), optimiser=optax.adam(2e-2), steps=500),
    }
    for name, options in roads.items():
        found = veil.fit(model, data, key=KEY, **options)
        value = veil.evaluate(found.model, data).log_likelihood_per_datum
        assert best - 5e-3 < value < best + 1e-6, f"{name}: {value} against {best}"
    found = veil.fit(model, stream, key=KEY, batch_size=80, steps=300)
    assert best - 5e-3 < veil.evaluate(found.model, data).log_likelihood_per_datum < best + 1e-6


@pytest.mark.usefixtures("x64")
def test_a_fit_starts_from_a_model_with_parameters():
    data = Data(two_blobs())
    done = veil.fit(Mixture(components=2), data, key=KEY, tolerance=1e-10)
    more = veil.fit(done.model, data, key=jax.random.key(9), tolerance=1e-10)
    assert more.status.steps <= 4
    np.testing.assert_allclose(more.history.value[0], done.history.value[-1], atol=1e-8)
    same(done.model, more.model, rtol=1e-5, atol=1e-7)


def test_one_step_of_fit_is_one_step_of_naive_em():
    """From given parameters, in the user's units; the units of the prior's floor are the only difference."""
    y = two_blobs()
    data = Data(y)
    start = veil.fit(Mixture(components=2), data, key=KEY, steps=2).model
    moved = quiet_fit(start, data, key=KEY, steps=1).model
    parameters = mixture_parameters(start)
    weights, means, covariances, _ = oracles.mixture_em(y, *parameters, 1, "full", 0.0)
    np.testing.assert_allclose(mixture_parameters(moved)[0], weights, rtol=1e-4)
    np.testing.assert_allclose(mixture_parameters(moved)[1], means, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(mixture_parameters(moved)[2], covariances, rtol=1e-3, atol=1e-4)


def test_held_out_data_stop_a_gradient_fit_at_its_best():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (60, 1))
    y = np.sin(3 * x) + 0.3 * rng.normal(size=x.shape)
    model = Mixture(Linear(heads.DiagonalGaussian()), 3, trunk=veil.MLP((64,)))
    fresh = Data(np.sin(3 * x[::-1]) + 0.3 * rng.normal(size=x.shape), evidence=x[::-1])
    result = quiet_fit(model, Data(y, evidence=x), key=KEY, held_out=fresh, patience=3, steps=3000)
    checks = result.history.held_out
    assert len(checks) > 1
    best = checks[:, 1].max()
    value = veil.evaluate(result.model, fresh).log_likelihood_per_datum
    np.testing.assert_allclose(value, best, atol=1e-4)


def test_record_hears_every_step():
    heard = []
    result = quiet_fit(Mixture(components=2), Data(two_blobs()), key=KEY, record=heard.append, steps=5)
    assert [entry["step"] for entry in heard] == list(range(result.status.steps))
    np.testing.assert_allclose([entry["value"] for entry in heard], result.history.value, rtol=1e-6)


def test_diverging_gradients_are_skipped_counted_and_end_the_fit():
    explode = optax.stateless(lambda updates, parameters: jax.tree.map(lambda u: jnp.full_like(u, jnp.inf), updates))
    data = Data(two_blobs())
    result = quiet_fit(Mixture(components=2), data, key=KEY, optimiser=explode, steps=60)
    assert result.status.skipped > 0
    assert any("were skipped because" in note for note in result.status.notes)
    assert not result.status.converged
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves(result.model))


def test_fit_accepts_arrays_and_shows_itself():
    result = quiet_fit(veil.density(LinearGaussian()), two_blobs(), key=KEY)
    assert "converged" in repr(result)
    assert jnp.result_type(result.model.experts.weight) == jnp.float32


def test_every_verb_takes_a_fit_and_learning_goes_on():
    data = two_blobs()
    found = veil.fit(Mixture(components=2), data, key=KEY, steps=2)
    longer = veil.fit(found, data, key=KEY)
    assert longer.history.value[0] >= found.history.value[-1] - 1e-6
    assert longer.status.converged
    assert veil.log_prob(longer, data).sum() >= veil.log_prob(found, data).sum()
    assert veil.sample(found, 2, key=KEY).query.shape == (2, 2)
    assert veil.condition(found, query=[0], evidence=[1]).sizes.inputs == 1
