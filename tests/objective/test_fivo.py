"""Particle bounds of models run step by step, against their exact likelihoods."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from compiled import called
from state_space import lds, sequence, unbiased
from veil.evaluation.particles import particle_bound
from veil.objective import FIVO
from veil.parts.covariance import Full
from veil.parts.experts import LinearGaussian
from veil.parts.gates import Softmax
from veil.posterior import Bootstrap, Exact, Optimal
from veil.zoo.hmm import HMM

CASES = ["plain", "controls missing reset padding"]


def hmm(inputs: int = 0) -> HMM:
    rng = np.random.default_rng(1)
    normal = lambda *shape: jnp.array(rng.normal(size=shape))  # noqa: E731
    experts = LinearGaussian(
        covariance=Full(factor=jnp.eye(3)[None] + jnp.zeros((3, 1, 1))), weight=normal(3, 3, 1 + inputs)
    )
    transition = Softmax(evidence=inputs > 0, weight=normal(3, 3, 1 + inputs))
    return HMM(experts, 3, transition, Softmax(evidence=False, weight=normal(3, 1)))


def _lower(leaf):
    return jnp.tril(leaf) if leaf.shape[-2:] == (2, 2) else leaf


def build(kind: str, case: str):
    inputs = 2 if "controls" in case else 0
    return hmm(inputs) if kind == "hmm" else lds(kind, inputs)


@pytest.mark.parametrize(("kind", "case"), [("hmm", CASES[1]), ("diagonal", CASES[0]), ("full", CASES[1])])
def test_the_identity_holds_for_whole_paths(x64: None, kind: str, case: str) -> None:
    """With the exact posterior and without resampling log Ẑ is the exact likelihood, whatever is drawn."""
    model, one = build(kind, case), sequence(case)
    value = called(FIVO(3, threshold=0.0), model, Exact(), one, jax.random.key(0)).value
    np.testing.assert_allclose(value, called(model.log_marginal, one), atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "proposal", "case"),
    [
        ("hmm", Bootstrap(), CASES[1]),
        ("hmm", Optimal(), CASES[0]),
        ("diagonal", Optimal(), CASES[1]),
        ("full", Bootstrap(), CASES[0]),
        ("full", Optimal(), CASES[1]),
    ],
)
def test_the_estimate_is_unbiased(x64: None, kind: str, proposal: veil.posterior.Posterior, case: str) -> None:
    model, one = build(kind, case), sequence(case)
    keys = jax.random.split(jax.random.key(0), 2000)
    objective = FIVO(256 if isinstance(proposal, Bootstrap) else 32)
    values = eqx.filter_jit(eqx.filter_vmap(lambda key: objective(model, proposal, one, key).value))(keys)
    exact = called(model.log_marginal, one)
    unbiased(values, exact)
    assert float(jnp.mean(values)) < exact + 4 * np.std(values) / np.sqrt(len(values))


def test_the_optimal_proposal_knows_the_likelihood_of_a_single_step(x64: None) -> None:
    """Then every particle has the weight p(y_1)."""
    for model in (lds("full"), hmm()):
        one = sequence("plain", 3)
        one = jax.tree.map(lambda leaf: leaf[:1], one)
        value = called(FIVO(2), model, Optimal(), one, jax.random.key(0)).value
        np.testing.assert_allclose(value, called(model.log_marginal, one), atol=1e-10)


def test_a_hundred_steps_are_within_a_hundredth_of_a_nat_a_step() -> None:
    """In float32, where long sequences could lose digits."""
    model = lds("diagonal")
    one = veil.Datum(called(model.sample, jax.random.key(1), None, 100)[1])
    exact = called(model.log_marginal, one)
    keys = jax.random.split(jax.random.key(2), 100)
    means = []
    for count in (2, 16, 128):
        objective = FIVO(count)
        run = eqx.filter_jit(eqx.filter_vmap(lambda key, of=objective: of(model, Optimal(), one, key).value))
        means.append(float(jnp.mean(run(keys)) - exact) / 100)
    assert means[0] < means[1] < means[2] < 1e-3
    assert means[0] < -0.01 < means[2]


def test_the_gradient_is_the_likelihoods_with_many_particles(x64: None) -> None:
    """Without resampling it is exact in the limit; of a discrete latent, too, where the proposals are held fixed."""
    linear = lds("diagonal")
    for model, exactly in ((linear, 0.05), (hmm(), 0.05)):
        one = sequence("reset", 5)
        gradient = eqx.filter_jit(eqx.filter_grad(lambda m, one=one: m.log_marginal(one)))(model)
        draw = lambda key, of=model, one=one: eqx.filter_grad(  # noqa: E731
            lambda m: FIVO(400, threshold=0.0)(m, Optimal(), one, key).value
        )(of)
        found = eqx.filter_jit(eqx.filter_vmap(draw))(jax.random.split(jax.random.key(0), 20))
        # of covariances' factors the entries above the diagonal are no parameters
        gradient, found = (jax.tree.map(_lower, tree) if model is linear else tree for tree in (gradient, found))
        pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(found), strict=True)
        scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient))
        for exact, estimate in pairs:
            np.testing.assert_allclose(jnp.mean(estimate, 0), exact, atol=exactly * scale)


def test_a_fit_by_particles_comes_near_the_best_likelihood() -> None:
    model = lds("diagonal")
    drawn = np.asarray(veil.sample(model, 30, key=jax.random.key(0), steps=10).query)
    data = veil.Data(drawn)
    start = replace(model, transition=0.3 * model.transition, offset=model.offset + 0.5)
    found = veil.fit(
        start, data, key=jax.random.key(1), posterior=Optimal(), objective=FIVO(8), steps=60, optimiser=optax.adam(0.03)
    )
    best = veil.fit(start, data, key=jax.random.key(1), steps=50).model
    value = lambda m: veil.evaluate(m, data).log_likelihood_per_datum  # noqa: E731
    assert value(found.model) > value(start) + 1
    assert value(found.model) > value(best) - 0.5


def test_evaluate_gives_the_particle_bound_beside_the_exact_value(x64: None) -> None:
    model = lds("diagonal")
    data = veil.Data(np.asarray(veil.sample(model, 6, key=jax.random.key(0), steps=10).query))
    found = veil.evaluate(model, data, particles=200, key=jax.random.key(1))
    bound = found.approximation
    assert found.kind == "exact"
    assert (bound.particles, bound.repeats, bound.combined.shape) == (200, 4, (6,))
    error = bound.combined_average.monte_carlo_error
    assert 0 < error < 0.1
    assert abs(bound.combined_average.value - found.log_likelihood_per_datum) < 5 * error
    assert np.all(bound.filtering <= bound.combined)
    assert found.as_dict()["particles"] == 200
    assert all(len(row) == 3 for row in bound.rows())
    one = particle_bound(model, Bootstrap(), data, key=jax.random.key(1), particles=50)
    assert one.effective.min() < bound.effective.min()


def test_what_cannot_be_run_step_by_step_says_so() -> None:
    one = sequence()
    with pytest.raises(TypeError, match=r"posterior: Table cannot propose step by step; use veil.posterior.Bootstrap"):
        FIVO()(lds(), veil.Table(), one, jax.random.key(0))
    with pytest.raises(TypeError, match="model: Mixture cannot be run step by step"):
        FIVO()(veil.Mixture(), Bootstrap(), one, jax.random.key(0))
    with pytest.raises(ValueError, match="particles"):
        FIVO(0)
    with pytest.raises(ValueError, match="threshold: expected a share"):
        FIVO(4, threshold=2.0)
    with pytest.raises(ValueError, match="key: bounds are estimated by drawing"):
        veil.evaluate(lds(), veil.Data(np.zeros((2, 4, 3))), particles=4)
    with pytest.raises(ValueError, match="repeats: expected"):
        particle_bound(lds(), None, veil.Data(np.zeros((2, 4, 3))), key=jax.random.key(0), repeats=1)
