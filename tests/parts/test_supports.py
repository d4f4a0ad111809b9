"""Outside a head's support the density is zero, in every verb; inside it is scipy's, in float32 and far out, too."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from cases import EVERY_HEAD, head_log_prob, on_device, started
from veil import distributions
from veil.model import Datum
from veil.parts import heads
from veil.parts.joint import Joint

INF, NAN = np.inf, np.nan
TINY, BELOW_ONE = 1e-37, 1 - 2.0**-24  # the last numbers of float32 inside (0, 1)
COUNTED = ([-1, 0.5, 2.5, -1e-6, 1e6 + 0.5, -INF, INF, NAN], [0, 1, 1e3, 1e6, 16777216, 1e9], np.arange(300))
LOCATED = ([], [0, 1e3, -1e5, 1e15], np.linspace(-60, 60, 12001))
# numbers outside; at the edges and far inside; a grid that holds all probability, whose spacing is its unit
TABLE = {
    "diagonal": LOCATED,
    "homoscedastic": LOCATED,
    "student": ([], [0, 1e3, -1e10, 1e30, -3e38], np.linspace(-300, 300, 12001)),
    "logistic": ([-1, 7, 2.5, 0.01, 1e9, -INF, NAN], [0, 6, 3.0000002], np.arange(7)),
    "beta": ([0, 1, -0.1, 1.0000001, 1e30, -INF, NAN], [TINY, 1e-10, 0.5, BELOW_ONE], (np.arange(2000) + 0.5) / 2000),
    "bernoulli": ([-3, 0.5, 2, 1.0000001, -1e-7, INF, NAN], [0, 1], np.arange(2)),
    "soft": ([-3, 2, 1.0000001, -1e-7, INF, NAN], [0, 0.3, 1], None),
    "categorical": ([3, 5, -1, 1.7, 1e10, -INF, NAN], [0, 2], np.arange(3)),
    "poisson": COUNTED,
    "negative": COUNTED,
    "zeros": COUNTED,
    "more-zeros": COUNTED,
    "log-normal": ([0, -1, -1e-30, -INF, INF, NAN], [TINY, 1e-10, 1e10, 3e38], np.exp(np.linspace(-9, 9, 4001))),
    "truncated": ([-1.0000002, 2.001, 1e30, -INF, NAN], [-1, 0, 2], np.linspace(-1, 2, 2001)),
    "positive": ([-1e-30, -5, -INF, INF, NAN], [0, 1e-20, 1e3, 1e10], np.linspace(0, 30, 8001)),
    "squashed": (
        [-1, 2, -1.5, 2.0000002, 1e30, -INF, NAN],
        [-0.9999999, 0, 1.9999998],
        (np.arange(4000) + 0.5) * 3 / 4000 - 1,
    ),
    "beta-between": ([-1, 2, -1.5, 1e30, -INF, NAN], [-0.999999, 0, 1.999], (np.arange(4000) + 0.5) * 3 / 4000 - 1),
    "von-mises": ([3.15, -4, 360, INF, NAN], [-np.pi, 0, np.pi], np.linspace(-np.pi, np.pi, 501)),
}
NUMBERS = {"student": [1.0, 0.3, 0.2], "more-zeros": [-0.4, 0.7, -0.6], "beta": [0.4, 1.2], "beta-between": [0.4, 1.2]}
HEAD = {**EVERY_HEAD, "soft": heads.Bernoulli(soft=True)}


def numbers(name: str) -> jax.Array:
    return jnp.array(NUMBERS.get(name, [0.3, -0.4, 0.2][: HEAD[name].size((1,))]), jnp.float32)


@pytest.mark.parametrize("name", TABLE)
def test_density_is_zero_outside_and_scipys_inside_in_float32(name: str) -> None:
    head, vector = HEAD[name].blank((1,)), numbers(name)
    outside, inside, grid = (np.asarray([] if part is None else part, np.float32) for part in TABLE[name])
    rows = jnp.array(np.concatenate([outside, inside, grid])[:, None])
    one = lambda vector, y: distributions.log_prob(head(vector, (1,)), y)  # noqa: E731
    score = jax.jit(jax.vmap(jax.value_and_grad(one), (None, 0)))
    found, gradient = map(np.asarray, score(vector, rows))
    there = np.split(found, [len(outside), len(outside) + len(inside)])
    np.testing.assert_array_equal(there[0], -INF)
    assert np.all(np.isfinite(gradient[: len(outside)]))
    if name != "soft":
        wanted = np.array([head_log_prob(head, vector, row) for row in np.asarray(rows[len(outside) :], np.float64)])
        held = wanted > -1e38  # what float32 holds
        np.testing.assert_allclose(found[len(outside) :][held], wanted[held], rtol=3e-5, atol=3e-5)
        assert np.all(found[len(outside) :][~held] < -1e37)
        assert np.all(np.isfinite(gradient[len(outside) :][held]))
        mass = np.exp(there[2].astype(np.float64))
        whole = np.sum(mass) if grid[1] - grid[0] == 1 else np.trapezoid(mass, grid)
        if name == "beta":
            whole = np.mean(mass)
        np.testing.assert_allclose(whole, 1.0, atol=5e-3)
    # a missing entry may have anything in its place
    assert distributions.log_prob(head(vector, (1,)), rows[0], jnp.zeros(1, bool)) == 0


def test_multinomial_density_is_zero_where_counts_do_not_add_up() -> None:
    head, vector = heads.Multinomial(5), jnp.array([0.3, -1.0, -INF])
    score = jax.jit(jax.vmap(jax.value_and_grad(lambda v, y: head(v, (3,)).log_prob(y)), (None, 0)))
    rows = np.array([[i, 5.0 - i, 0] for i in range(6)] + [[2, 2, 0], [6, -1, 0], [2.5, 2.5, 0], [1, 3, 1], [9, 9, 9]])
    found, gradient = score(vector, jnp.array(rows, jnp.float32))
    np.testing.assert_array_equal(found[6:], -INF)
    np.testing.assert_allclose(np.sum(np.exp(found[:6])), 1.0, rtol=1e-5)
    assert np.all(np.isfinite(gradient[:, :2]))
    with pytest.raises(ValueError, match=r"counts that add up to 5; row 1 adds up to 4; set total="):
        head.check(np.array([[5.0, 0, 0], [2, 2, 0]]), ())
    with pytest.raises(ValueError, match=r"learns from rows without missing entries"):
        head.features(jnp.ones(3), jnp.array([True, False, True]))


@pytest.mark.parametrize("name", ["beta", "log-normal", "bernoulli", "poisson", "categorical"])
def test_what_is_refused_is_what_has_no_density_after_the_cast(name: str) -> None:
    """Of float64 that rounds to the edge of an open support the nearest number inside is taken."""
    head = HEAD[name]
    outside, inside, _ = TABLE[name]
    for value in outside:
        if np.isfinite(value):
            with pytest.raises(ValueError, match=r"query: .* expects .*; column y has .* in row 1"):
                head.check(np.array([[inside[-1]], [value]]), ("y",))
    for value in [*inside, *({"beta": [1e-60, 1 - 1e-9, 1 - 1e-16], "log-normal": [1e-300, 1e-40]}.get(name, []))]:
        head.check(np.array([[value]]), ("y",))
        held = head.held(np.array([[value]]), np.dtype(np.float32))
        density = distributions.log_prob(head(numbers(name), (1,)), jnp.array(held[0]))
        assert np.isfinite(density), value


def impossible(model: veil.Model, data: object, *verbs: Any) -> None:
    """Zero for what is asked of the density, words for what is asked of the latent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.asarray(veil.log_prob(model, data))[0] == -INF
        assert veil.evaluate(model, data).log_likelihood == -INF
    for verb in verbs:
        with pytest.raises(ValueError, match=r"query: .* expects whole numbers from 0 to 2; column .* in row \d"):
            verb(model, data)


def test_every_verb_agrees() -> None:
    symbols = np.array([[0.0], [1], [2], [1], [0], [2]])
    known = started(veil.Mixture(veil.Linear(heads.Categorical(3)), 2), veil.Data(symbols)).model
    for symbol in (3.0, 7.0, -1.0, 0.5):
        impossible(known, veil.Data([[symbol]]), veil.infer)
    assert np.all(np.isfinite(veil.log_prob(known, symbols)))
    pair = veil.Data({"colour": symbols, "size": 0.1 * symbols + 1})
    joint = Joint({"colour": heads.Categorical(3), "size": heads.DiagonalGaussian()})
    both = started(veil.Mixture(veil.Linear(joint), 2), pair).model
    impossible(both, veil.Data({"colour": [[4.0]], "size": [[1.0]]}), veil.infer)
    edge = started(veil.Mixture(veil.Linear(heads.Beta()), 2), veil.Data([[0.2], [0.5], [0.9]])).model
    found = veil.log_prob(edge, [[1 - 1e-9], [1.0], [0.0], [1e-60]])
    np.testing.assert_array_equal(np.isfinite(found), [True, False, False, True])
    np.testing.assert_array_equal(found[1:3], -INF)


def test_a_chain_and_its_filter_agree() -> None:
    runs = veil.data.episodes([np.array([[0.0], [1], [2], [1]]), np.array([[2.0], [2], [0], [1]])])
    hmm, shares = veil.HMM(veil.Linear(heads.Categorical(3)), 2), np.random.default_rng(0).dirichlet(np.ones(2), 8)
    model = hmm.initialise(on_device(runs), jnp.array(shares, jnp.float32), jax.random.key(0))
    odd = veil.data.episodes([[[0.0], [5.0], [1.0], [2.0]]])
    impossible(model, odd, veil.infer, lambda *args: veil.forecast(*args, 2, 3, key=jax.random.key(0)))
    belief, total, filter = model.filter().init(), 0.0, model.filter()
    step = eqx.filter_jit(lambda *args: filter.update(*args))
    for y in (0.0, 5.0, 1.0):
        belief = step(belief, Datum(jnp.array([y])), jax.random.key(0))
        total += float(belief.log_likelihood)
        assert np.all(np.isfinite(belief.state))
    assert total == -INF


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "poisson"])
def test_hard_zeros_are_zeros_and_no_nan(name: str) -> None:
    """Logits and rates of minus infinity, as a user writes them, or EM without pseudo-data."""
    head = HEAD[name]
    vectors = np.full((2, head.size((1,))), 0.3, np.float32)
    vectors[0, 0] = -INF
    model = veil.Mixture(veil.Linear(head), 2)
    data = veil.Data([[0.0], [1.0], [0.0]])
    model = eqx.tree_at(lambda m: m.experts.weight, started(model, data).model, jnp.array(vectors)[..., None])
    log_prob = lambda model, y: model.log_marginal(Datum(y))  # noqa: E731
    one = eqx.filter_value_and_grad(log_prob)
    score = eqx.filter_jit(lambda model, ys: jax.vmap(lambda y: one(model, y))(ys))
    value, gradient = score(model, jnp.array([[0.0], [1.0], [7.0]], jnp.float32))
    gate = np.log(np.asarray(jax.nn.softmax(model.gate.weight[:, 0])))
    with np.errstate(divide="ignore"):
        each = np.array([[head_log_prob(head, v, np.array([y])) for v in vectors] for y in (0.0, 1.0)])
    np.testing.assert_allclose(value[:2], np.logaddexp(*(each + gate).T), rtol=1e-5)
    assert np.isfinite(value[2]) == (name == "poisson")
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_a_bound_of_what_cannot_be_is_zero() -> None:
    data = veil.Data([[0.0, 1], [1, 1], [0, 0]])
    fit = started(veil.VAE(1, heads.Bernoulli(), veil.MLP((2,))), data)
    options = {"posterior": fit.posterior, "key": jax.random.key(0), "samples": 30}
    found = veil.log_prob(fit.model, [[0.0, 1], [2, 0], [0, -3], [0.5, 1]], **options)
    np.testing.assert_array_equal(np.isfinite(found), [True, False, False, False])
    np.testing.assert_array_equal(found[1:], -INF)
    with pytest.raises(ValueError, match=r"query: the Bernoulli head expects values 0 or 1; .* has 2 in row 1"):
        veil.infer(fit.model, [[0.0, 1], [2, 0]], posterior=fit.posterior)
