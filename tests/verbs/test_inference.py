"""What is hidden in sequences: filtered, smoothed and drawn, against shorter sequences and exact moments."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from state_space import lds
from veil.data import Data, episodes
from veil.parts.covariance import Diagonal
from veil.parts.gates import Softmax
from veil.posterior import Bootstrap, MeanField, Optimal

DRAWS = 4000


def hmm() -> veil.HMM:
    """Three states that stay, each seen as a number."""
    moves = jnp.log(jnp.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]]))
    experts = veil.LinearGaussian(
        Diagonal(scale=jnp.full((3, 1), 0.8)), evidence=False, weight=jnp.array([[[-1.0]], [[0.0]], [[1.5]]])
    )
    return veil.HMM(
        experts,
        3,
        Softmax(evidence=False, weight=moves[:, :, None]),
        Softmax(evidence=False, weight=jnp.log(jnp.array([[0.5], [0.3], [0.2]]))),
    )


def ragged(size: int = 1, lengths: tuple[int, ...] = (7, 4)) -> tuple[list[np.ndarray], Data]:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(length, size)) for length in lengths]
    rows[0][2] = np.nan
    return rows, episodes(rows)


def cut(row: np.ndarray) -> Data:
    """The first step of a sequence, the first two, ..., all of it."""
    return episodes([row[: t + 1] for t in range(len(row))])


def functions(m: veil.LDS) -> veil.NonlinearGaussian:
    """A linear model as one of functions."""
    move = lambda z, x: m.transition @ z + m.drift @ jnp.ones(1)  # noqa: E731
    return veil.NonlinearGaussian(move, lambda z, x: m.emission @ z + m.offset, m.process, m.noise, m.mean, m.factor)


def twice(m: veil.LDS) -> veil.SwitchingLDS:
    """Two regimes that are the same."""
    gate = Softmax(evidence=False, weight=jnp.zeros((2, 1)))
    gates = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), gate)
    return veil.SwitchingLDS(2, 2, m.noise, transition=gates, initial=gate, regimes=(m, m))


def test_states_filtered_are_those_of_the_sequence_so_far(x64: None) -> None:
    rows, data = ragged()
    past, whole = veil.infer(hmm(), data, filtered=True), veil.infer(hmm(), data)
    until = veil.infer(hmm(), cut(rows[0]))
    each = np.arange(7)
    np.testing.assert_allclose(past.probabilities[0], until.probabilities[each, each], atol=1e-10)
    np.testing.assert_allclose(past.entropy[0], until.entropy[each, each], atol=1e-10)
    assert np.max(np.abs(past.probabilities - whole.probabilities)[0, :6]) > 0.05
    np.testing.assert_allclose(past.probabilities[1, 3:], whole.probabilities[1, 3:], atol=1e-10)  # and padding
    assert (past.path, past.kind, past.mean) == (None, "exact", None)
    np.testing.assert_array_equal(past.most_likely, past.probabilities.argmax(-1))


def test_paths_of_states_are_draws_of_the_posterior(x64: None, key) -> None:
    _, data = ragged()
    model = hmm()
    found = veil.infer(model, data, paths=DRAWS, key=key)
    assert (found.paths.shape, found.kind) == ((2, DRAWS, 7), "exact")
    drawn = np.eye(3)[found.paths]
    wide = 4.5 * 0.5 / np.sqrt(DRAWS)
    assert np.max(np.abs(drawn.mean(1) - veil.infer(model, data).probabilities)) < wide
    pairs = np.einsum("sti,stj->ij", drawn[0, :, :-1], drawn[0, :, 1:]) / DRAWS  # steps of one path belong together
    one = jax.tree.map(jnp.asarray, veil.Datum(data.query[0], observed=data.observed[0]))
    assert np.max(np.abs(pairs - model.expectations(one)[0][1])) < 6 * wide
    assert np.all(found.paths[1, :, 4:] == found.paths[1, :, 3:4])  # padding
    # a sequence's draws do not depend on the others
    again = veil.infer(model, data[:1], paths=DRAWS, key=key).paths
    np.testing.assert_array_equal(again[0], found.paths[0])


@pytest.mark.parametrize(
    ("make", "posterior", "kind"),
    [
        (lambda m: m, None, "exact"),
        (functions, None, "approximate"),
        (functions, veil.Unscented(), "approximate"),
        (functions, Optimal(), "particles"),
        (twice, MeanField(3), "approximate"),
    ],
    ids=["lds", "extended", "unscented", "particles", "regimes"],
)
def test_a_linear_model_by_every_way(x64: None, key, make, posterior, kind: str) -> None:
    """However it is written down, it is filtered and smoothed as by Kalman; by particles nearly so."""
    rows, data = ragged(3)
    m = lds()
    model = make(m)
    by_particles = kind == "particles"
    drawing = {"key": key, "samples": DRAWS}
    whole = veil.infer(model, data, posterior=posterior, **(drawing if by_particles else {}))
    filtering = by_particles or make is twice
    past = veil.infer(model, data, posterior=posterior, filtered=True, **(drawing if filtering else {}))
    assert whole.kind == kind
    assert past.kind == ("particles" if filtering else kind)
    close = 0.5 if by_particles else 1e-8  # standard deviations; smoothed from 256 paths
    exact = veil.infer(m, data)
    there = data.mask
    assert np.max(np.abs(whole.mean - exact.mean)[there] / exact.standard_deviation[there]) < close
    np.testing.assert_allclose(whole.standard_deviation[there], exact.standard_deviation[there], rtol=close)
    until, each = veil.infer(m, cut(rows[0])), np.arange(7)
    mean, deviation = until.mean[each, each], until.standard_deviation[each, each]
    assert np.max(np.abs(past.mean[0] - mean) / deviation) < min(close, 0.2)
    np.testing.assert_allclose(past.standard_deviation[0], deviation, rtol=min(close, 0.2))


@pytest.mark.parametrize(
    ("make", "posterior"),
    [(lambda m: m, None), (functions, None), (functions, Optimal())],
    ids=["lds", "extended", "particles"],
)
def test_paths_of_a_place_have_the_posteriors_moments(x64: None, key, make, posterior) -> None:
    _, data = ragged(3)
    m = lds()
    count = 1000 if posterior is not None else DRAWS
    found = veil.infer(make(m), data, posterior=posterior, paths=count, key=key, samples=count)
    exact = veil.infer(m, data)
    assert found.paths.shape == (2, count, 7, 2)
    wide = (1 if posterior is None else 3) * 4.5 / np.sqrt(count)
    away = (found.paths - exact.mean[:, None]) / exact.standard_deviation[:, None]
    assert np.max(np.abs(away.mean(1))[data.mask]) < wide
    assert np.max(np.abs(away.var(1) - 1)[data.mask]) < 1.5 * wide
    one = jax.tree.map(jnp.asarray, veil.Datum(data.query[0], observed=data.observed[0]))
    lagged = np.asarray(m.expectations(one)[0][2])[1:]  # Cov[z_t, z_t-1 | y]
    scale = exact.standard_deviation[0, 1:, :, None] * exact.standard_deviation[0, :-1, None, :]
    pairs = np.einsum("sti,stj->tij", away[0, :, 1:], away[0, :, :-1]) / count
    assert np.max(np.abs(pairs - lagged / scale)) < 1.5 * wide


def test_regimes_are_filtered_smoothed_and_drawn(x64: None, key) -> None:
    """Two regimes of other levels, told apart by nearly every step."""
    one = lds()
    m = twice(one)
    far = replace(one, offset=one.offset + 30.0)
    m = veil.SwitchingLDS(2, 2, one.noise, shared=False, transition=m.transition, initial=m.initial, regimes=(one, far))
    states = np.array([0, 0, 1, 1, 0, 1])
    rng = np.random.default_rng(1)
    data = Data((rng.normal(size=(6, 3)) + 30.0 * states[:, None])[None])
    past = veil.infer(m, data, filtered=True, key=key, samples=50)
    whole = veil.infer(m, data)
    drawn = veil.infer(m, data, paths=7, key=key)
    np.testing.assert_allclose(past.probabilities[0], np.eye(2)[states], atol=1e-6)
    np.testing.assert_array_equal(whole.path[0], states)
    np.testing.assert_array_equal(drawn.paths[0], np.tile(states, (7, 1)))
    assert past.mean.shape == whole.mean.shape == (1, 6, 2)
    swarm = veil.infer(m, data, posterior=Optimal(), key=key, samples=50)
    np.testing.assert_allclose(swarm.probabilities[0], np.eye(2)[states], atol=1e-6)
    assert (swarm.path, swarm.kind) == (None, "particles")


def test_networks_that_see_the_past_filter_and_others_refuse(key) -> None:
    data = episodes([np.sin(0.5 * np.arange(8.0))[:, None], np.cos(np.arange(5.0))[:, None]])
    world = veil.StateSpace(veil.dynamics.Recurrent(2, 3, veil.MLP((3,))), decoder=veil.MLP((3,)))
    fit = veil.fit(world, data, key=key, steps=2, progress=False)
    past = veil.infer(fit, data, filtered=True)
    np.testing.assert_array_equal(past.mean, veil.infer(fit, data).mean)
    assert past.kind == "approximate"
    # what comes later changes nothing; of a smoother it does
    changed = episodes([np.r_[np.sin(0.5 * np.arange(5.0)), 9.0, 9.0, 9.0][:, None], data.query[1, :5]])
    np.testing.assert_allclose(veil.infer(fit, changed, filtered=True).mean[0, :5], past.mean[0, :5], atol=1e-6)
    assert veil.infer(fit, data, paths=3, key=key).paths.shape == (2, 3, 8, 2)
    deep = veil.fit(veil.dmm(2, decoder=veil.MLP((3,)), width=3), data, key=key, steps=2, progress=False)
    assert np.max(np.abs(veil.infer(deep, changed).mean - veil.infer(deep, data).mean)[0, :5]) > 1e-5
    with pytest.raises(ValueError, match=r"filtered: this posterior, Sequential, sees the whole sequence. Fit one"):
        veil.infer(deep, data, filtered=True)
    swarm = veil.infer(deep.model, data, posterior=Bootstrap(), filtered=True, key=key, samples=20)
    assert (swarm.mean.shape, swarm.kind) == ((2, 8, 2), "particles")


DATA = ragged()[1]


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda k: veil.infer(hmm(), DATA, paths=3), ValueError, "key: paths are drawn"),
        (lambda k: veil.infer(hmm(), DATA, paths=0, key=k), ValueError, "paths: expected a positive integer"),
        (lambda k: veil.infer(hmm(), DATA, paths=3, key=k, filtered=True), ValueError, "filtered: a path is drawn"),
        (lambda k: veil.infer(hmm(), DATA, paths=3, key=k, samples=0), ValueError, "samples: expected a positive"),
        (lambda k: veil.infer(hmm(), DATA, posterior=veil.ParticleFilter(9)), TypeError, "posterior: expected a veil"),
        (
            lambda k: veil.infer(functions(lds()), ragged(3)[1], posterior=Optimal()),
            ValueError,
            "key: particles are drawn",
        ),
    ],
)
def test_what_is_wrong_is_named(key, make, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        make(key)


def test_single_rows_have_no_path(key) -> None:
    rows = Data(np.random.default_rng(0).normal(size=(30, 1)))
    model = veil.fit(veil.Mixture(components=1), rows, key=key).model
    for options in ({"filtered": True}, {"paths": 2, "key": key}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: Mixture is a model of single rows"):
            veil.infer(model, rows, **options)


def test_a_second_call_compiles_nothing(key, compilations) -> None:
    veil.infer(hmm(), DATA, paths=3, key=key)
    compilations.clear()
    veil.infer(hmm(), DATA, paths=3, key=jax.random.key(1))
    assert compilations.of("_block") == 0


def test_what_is_too_small_for_a_number_is_zero():
    """Whatever numpy was told to do about them."""
    experts = veil.LinearGaussian(veil.Full(factor=jnp.ones((2, 1, 1))), weight=jnp.array([[[0.0]], [[25.0]]]))
    gate = Softmax(weight=jnp.array([[0.0], [-90.0]]))
    model = veil.Mixture(experts, 2, gate)
    line = veil.density(veil.LinearGaussian(veil.Full(factor=jnp.ones((1, 1, 1))), weight=jnp.array([[[0.0, 1.0]]])))
    with np.errstate(all="raise"):
        found = veil.infer(model, np.array([[1e-50], [25.0]]))
        predicted = veil.predict(line, np.array([[1e-50], [25.0]]))
        impossible = veil.evaluate(line, veil.Data([[1e30]], evidence=[[1e-50]]))
    np.testing.assert_allclose(found.probabilities, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(predicted.mean, [[0.0], [25.0]])
    assert impossible.log_likelihood == -np.inf
