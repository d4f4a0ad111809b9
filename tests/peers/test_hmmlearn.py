"""Hidden Markov models against hmmlearn: the same parameters, the same answers, on ragged sequences, in float64.

hmmlearn has no filter to call: its p(z_t | y_1..t) is the last row of its smoother of the first t steps.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.model import Datum
from veil.model.filter import beliefs
from veil.parts.covariance import Diagonal, Full
from veil.parts.experts import Linear, LinearGaussian
from veil.parts.heads import Categorical, Poisson
from veil.parts.statistics import contract
from veil.zoo.hmm import HMM

peer = pytest.importorskip("hmmlearn.hmm")
pytestmark = pytest.mark.usefixtures("x64")

KINDS = ("full", "diag", "categorical", "poisson")
STATES, SIZE, SYMBOLS, LENGTHS = 3, 2, 4, (40, 1, 25, 13)


def pair(kind: str, iterations: int = 1) -> tuple[HMM, Any]:
    """Ours and hmmlearn's, with the same parameters and no priors; hmmlearn's learns in so many iterations."""
    rng = np.random.default_rng(1)
    first, move = rng.dirichlet(np.ones(STATES)), 0.6 * np.eye(STATES) + 0.4 * rng.dirichlet(np.ones(STATES), STATES)
    options: dict[str, Any] = {"n_iter": iterations, "tol": -np.inf, "init_params": ""}
    gaussian = {"min_covar": 0.0, "covars_prior": 0.0, "covars_weight": 0.0}
    if kind in ("full", "diag"):
        means = 1.5 * rng.normal(size=(STATES, SIZE))
        factor = 0.5 * np.tril(rng.normal(size=(STATES, SIZE, SIZE))) + np.eye(SIZE)
        scale = 0.5 + rng.random((STATES, SIZE))
        theirs = peer.GaussianHMM(STATES, kind, **options, **gaussian)
        theirs.means_, theirs.n_features = means, SIZE
        theirs.covars_ = factor @ np.swapaxes(factor, 1, 2) if kind == "full" else scale**2
        covariance = Full(0.0, jnp.array(factor)) if kind == "full" else Diagonal(0.0, jnp.array(scale))
        experts = LinearGaussian(covariance, weight=jnp.array(means)[:, :, None])
    elif kind == "categorical":
        chances = rng.dirichlet(np.ones(SYMBOLS), STATES)
        theirs = peer.CategoricalHMM(STATES, n_features=SYMBOLS, **options)
        theirs.emissionprob_ = chances
        experts = Linear(Categorical(SYMBOLS), pseudo=0.0, shape=(1,), weight=jnp.log(chances)[:, :, None])
    else:
        rates = 1.0 + 6.0 * rng.random((STATES, SIZE))
        theirs = peer.PoissonHMM(STATES, **options)
        theirs.lambdas_, theirs.n_features = rates, SIZE
        experts = Linear(Poisson(), pseudo=0.0, shape=(SIZE,), weight=jnp.log(rates)[:, :, None])
    theirs.startprob_, theirs.transmat_ = first, move
    ours = HMM(
        experts,
        STATES,
        veil.Softmax(False, weight=jnp.log(move)[:, :, None]),
        veil.Softmax(False, weight=jnp.log(first)[:, None]),
    )
    return ours, theirs


def sequences(kind: str) -> list[np.ndarray]:
    """As many steps as LENGTHS says, of none of the models."""
    rng = np.random.default_rng(2)
    count = sum(LENGTHS)
    if kind == "categorical":
        rows = rng.integers(SYMBOLS, size=(count, 1))
    elif kind == "poisson":
        rows = rng.poisson(rng.choice([1.0, 5.0], size=(count, SIZE)))
    else:
        rows = np.repeat(rng.normal(size=(count // 4 + 1, SIZE)), 4, 0)[:count] * 2 + rng.normal(size=(count, SIZE))
    return np.split(rows, np.cumsum(LENGTHS)[:-1])


def ragged(kind: str) -> tuple[veil.Data, Datum, np.ndarray]:
    """Our data, padded; the same as arrays; hmmlearn's rows."""
    lists = sequences(kind)
    data = veil.data.episodes([part.astype(float) for part in lists])
    return data, Datum(jnp.array(data.query, float), mask=jnp.array(data.mask)), np.concatenate(lists)


def unpadded(rows: np.ndarray) -> np.ndarray:
    """Without the padding, one sequence after the other."""
    return np.concatenate([np.asarray(row)[:length] for row, length in zip(rows, LENGTHS, strict=True)])


@cache
def answers(kind: str) -> dict[str, Any]:
    """All that ours has to say, compiled as one: of the padded sequences, and of the last one's filter."""
    ours, _ = pair(kind)
    _, padded, _ = ragged(kind)

    def of_one(one: Datum) -> dict[str, Any]:
        marginals = ours.marginals(one)
        expectations, value = ours.expectations(one)
        return {
            "log_marginal": value,
            "marginals": jnp.exp(marginals.log_probabilities),
            "path": marginals.path,
            "path's score": ours.log_joint(marginals.path, one),
            "statistics": ours.statistics(one, expectations),
        }

    @eqx.filter_jit
    def of_all() -> dict[str, Any]:
        found = eqx.filter_vmap(of_one)(padded)
        after = ours.maximise(contract(found.pop("statistics"), jnp.ones(len(LENGTHS))))
        last = Datum(padded.query[-1, : LENGTHS[-1]])
        filtered = jax.vmap(ours.filter().marginal)(beliefs(ours.filter(), last, jax.random.key(0))[1])
        return {**found, "after EM": after, "filtered": jnp.exp(filtered.log_probabilities)}

    return of_all()


@pytest.mark.parametrize("kind", KINDS)
def test_likelihood_filter_smoother_and_best_path(kind: str) -> None:
    found, (_, theirs), (_, _, rows) = answers(kind), pair(kind), ragged(kind)
    np.testing.assert_allclose(found["log_marginal"], [theirs.score(part) for part in sequences(kind)], rtol=1e-12)
    np.testing.assert_allclose(unpadded(found["marginals"]), theirs.predict_proba(rows, LENGTHS), atol=1e-12)
    last = sequences(kind)[-1]
    filtered = [theirs.predict_proba(last[: t + 1])[-1] for t in range(len(last))]
    np.testing.assert_allclose(found["filtered"], filtered, atol=1e-12)
    score, best = theirs.decode(rows, LENGTHS, algorithm="viterbi")
    np.testing.assert_array_equal(unpadded(found["path"]), best)
    np.testing.assert_allclose(np.sum(found["path's score"]), score, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_of_em(kind: str) -> None:
    """The new parameters, all of them: initial, transition, emission."""
    after, (_, theirs), (_, _, rows) = answers(kind)["after EM"], pair(kind), ragged(kind)
    before = theirs.score(rows, LENGTHS)
    theirs.fit(rows, LENGTHS)
    assert theirs.score(rows, LENGTHS) > before + 1.0
    np.testing.assert_allclose(jax.nn.softmax(after.initial.weight[:, 0]), theirs.startprob_, atol=1e-12)
    np.testing.assert_allclose(after.transition_matrix, theirs.transmat_, atol=1e-12)
    weight = after.experts.weight[..., 0]
    if kind == "categorical":
        np.testing.assert_allclose(jax.nn.softmax(weight), theirs.emissionprob_, atol=1e-12)
    elif kind == "poisson":
        np.testing.assert_allclose(jnp.exp(weight), theirs.lambdas_, rtol=1e-12)
    else:
        np.testing.assert_allclose(weight, theirs.means_, atol=1e-12)
        np.testing.assert_allclose(after.experts.covariance.dense_covariance(), theirs.covars_, atol=1e-11)


def test_a_fit_is_as_many_iterations_of_theirs() -> None:
    """``veil.fit`` standardises the data, pads them and sums in blocks; the parameters after four steps are theirs."""
    ours, theirs = pair("full", 4)
    data, _, rows = ragged("full")
    found = veil.fit(ours, data, key=jax.random.key(0), steps=4, tolerance=1e-12).model
    theirs.fit(rows, LENGTHS)
    np.testing.assert_allclose(found.transition_matrix, theirs.transmat_, atol=1e-8)
    np.testing.assert_allclose(found.experts.mean, theirs.means_, atol=1e-8)
    np.testing.assert_allclose(found.experts.covariance.dense_covariance(), theirs.covars_, atol=1e-8)
    np.testing.assert_allclose(np.sum(veil.log_prob(found, data)), theirs.score(rows, LENGTHS), rtol=1e-9)


def test_gradient() -> None:
    """Of the log-likelihood in the means, beside central differences of hmmlearn's."""
    ours, theirs = pair("full")
    _, padded, rows = ragged("full")

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(weight: jnp.ndarray) -> jnp.ndarray:
        model = replace(ours, experts=replace(ours.experts, weight=weight))
        return jnp.sum(eqx.filter_vmap(model.log_marginal)(padded))

    expected, means, small = np.zeros((STATES, SIZE)), theirs.means_.copy(), 1e-5
    for at in np.ndindex(*expected.shape):
        values = []
        for sign in (1, -1):
            theirs.means_ = means.copy()
            theirs.means_[at] += sign * small
            values.append(theirs.score(rows, LENGTHS))
        expected[at] = (values[0] - values[1]) / (2 * small)
    np.testing.assert_allclose(gradient(ours.experts.weight)[..., 0], expected, rtol=1e-6, atol=1e-6)
