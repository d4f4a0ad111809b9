"""Bounds and their gradient estimators against exact gradients: a linear-Gaussian model and a discrete one, float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toys
from veil import objective
from veil.model import Datum
from veil.objective import ELBO, ImportanceWeighted, WakeSleep

pytestmark = pytest.mark.usefixtures("x64")
DRAWS = 4_000


@pytest.fixture
def coded():
    model = toys.Coded(jnp.array([[0.1, -0.3, 0.4]]), jnp.array([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]]))
    return model, toys.Fixed(jnp.array([[0.5, -0.2, 0.1]])), Datum(jnp.array([0.7, 0.2]))


@pytest.fixture
def normal():
    model, exact, datum = toys.linear()
    return model, toys.Free(0.8 * exact.gain, exact.shift + 0.2, 1.2 * exact.factor + 0.1 * jnp.eye(2)), datum


def gradients(made, model, posterior, datum, draws=DRAWS, at=None):
    """Mean and standard error of the flat gradient over draws, and of the value."""
    arrays, rest = eqx.partition((model, posterior), eqx.is_array)

    def value(arrays, key):
        return made(*eqx.combine(arrays, rest), datum, key).value

    def one(key):
        found, gradient = jax.value_and_grad(value)(arrays, key)
        return found, jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])

    values, rows = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(11), draws))
    error = lambda a: np.std(a, axis=0) / np.sqrt(draws)  # noqa: E731
    return np.mean(values), error(values), np.mean(rows, 0), error(rows)


def agrees(found, error, expected):
    np.testing.assert_array_less(np.abs(found - expected), 5 * error + 1e-9)


@pytest.mark.parametrize(
    "made",
    [
        ELBO(),
        ELBO(objective.StickingTheLanding()),
        ELBO(objective.DoublyReparameterised(), samples=2),
        ELBO(objective.ScoreFunction(objective.NoBaseline())),
        ELBO(objective.ScoreFunction(), samples=3),
        ELBO(objective.ScoreFunction(objective.RunningMean(mean=-3.0, steps=5.0))),
    ],
    ids=repr,
)
def test_elbo_gradients_are_unbiased_on_a_continuous_latent(normal, made):
    value, value_error, mean, error = gradients(made, *normal)
    agrees(value, value_error, toys.linear_elbo(*normal))
    agrees(mean, error, toys.gradient(toys.linear_elbo, *normal))


@pytest.mark.parametrize(
    "made",
    [
        ELBO(objective.Enumerated()),
        ELBO(objective.ScoreFunction(objective.NoBaseline())),
        ELBO(objective.ScoreFunction(), samples=2),
        ELBO(objective.ScoreFunction(objective.RunningMean(mean=-3.0, steps=5.0))),
    ],
    ids=repr,
)
def test_elbo_gradients_are_unbiased_on_codes(coded, made):
    draws = 1 if isinstance(made.gradient, objective.Enumerated) else DRAWS
    value, value_error, mean, error = gradients(made, *coded, draws)
    agrees(value, value_error, toys.coded_elbo(*coded))
    agrees(mean, error, toys.gradient(toys.coded_elbo, *coded))


@pytest.mark.parametrize("made", [objective.GumbelSoftmax(0.1), objective.StraightThrough(0.1)], ids=repr)
def test_relaxed_gradients_point_the_right_way(coded, made):
    _, _, mean, _ = gradients(ELBO(made), *coded)
    exact = toys.gradient(toys.coded_elbo, *coded)
    assert mean @ exact / np.linalg.norm(mean) / np.linalg.norm(exact) > 0.9


@pytest.mark.parametrize("baseline", [objective.NoBaseline(), objective.LeaveOneOut()], ids=repr)
def test_the_importance_weighted_score_function_is_unbiased(coded, baseline):
    made = ImportanceWeighted(2, objective.ScoreFunction(baseline))
    value, value_error, mean, error = gradients(made, *coded)
    agrees(value, value_error, toys.coded_bound(*coded))
    agrees(mean, error, toys.gradient(toys.coded_bound, *coded))


def test_the_doubly_reparameterised_gradient_is_the_pathwise_one_with_less_noise(normal):
    """Same mean; for q's parameters less variance (Tucker et al. 2019), and ever less as samples grow (oracle 7)."""
    _, _, plain, plain_error = gradients(ImportanceWeighted(16, objective.Pathwise()), *normal)
    _, _, doubly, doubly_error = gradients(ImportanceWeighted(16), *normal)
    agrees(doubly, np.hypot(doubly_error, plain_error), plain)
    of_q = slice(normal[0].W.size + normal[0].b.size, None)
    assert np.sum(doubly_error[of_q] ** 2) < 0.3 * np.sum(plain_error[of_q] ** 2)


def test_bounds_are_ordered_and_below_the_likelihood(normal):
    model, _, datum = normal
    values = [gradients(made, *normal)[0] for made in (ELBO(), ImportanceWeighted(2), ImportanceWeighted(20))]
    assert values[0] < values[1] < values[2] < toys.log_likelihood(model, datum)


@pytest.mark.parametrize("made", [ELBO(objective.StickingTheLanding()), ImportanceWeighted(3), WakeSleep(3)], ids=repr)
def test_with_the_exact_posterior_every_draw_is_the_likelihood(made):
    model, exact, datum = toys.linear()
    expected = toys.log_likelihood(model, datum)
    for seed in range(3):
        np.testing.assert_allclose(made(model, exact, datum, jax.random.key(seed)).value, expected, rtol=1e-10)


def test_wake_sleep_follows_the_posterior(coded):
    """The wake phase lowers KL(p || q): at q = p(z | y) its expected gradient for q is zero, elsewhere it is not."""
    model, wrong, datum = coded
    support = jnp.eye(3)[:, None, :]
    joints = jax.vmap(lambda z: model.log_joint(z, datum))(support)
    exact = toys.Fixed(joints[None])
    q_only = slice(9, None)
    for posterior, zero in ((exact, True), (wrong, False)):
        _, _, mean, error = gradients(WakeSleep(20), model, posterior, datum)
        assert bool(np.all(np.abs(mean[q_only]) < 5 * error[q_only] + 2e-3)) is zero


def test_the_sleep_phase_sees_dreams(coded):
    model, posterior, datum = coded
    _, _, mean, error = gradients(WakeSleep(2, sleep=1.0), model, posterior, datum)
    # q ignores the datum here, so the dreams' pull is towards the prior: ∇_l E_p[log q] = p - q
    expected = jax.nn.softmax(model.logits) - jax.nn.softmax(posterior.logits)
    agrees(mean[9:], error[9:], np.ravel(expected))


def test_terms_compose_in_order(normal, key):
    plain = ELBO()(*normal, key)
    kl, reconstruction = plain.metrics["kl"], plain.metrics["reconstruction"]
    beta = ELBO(kl=objective.Beta(3.0))(*normal, key)
    np.testing.assert_allclose(beta.value, reconstruction - 3.0 * kl, rtol=1e-9)
    np.testing.assert_allclose(beta.metrics["elbo"], plain.value, rtol=1e-9)
    both = ELBO(kl=(objective.FreeNats(100.0), objective.Beta(0.5)))(*normal, key)
    np.testing.assert_allclose(both.value, reconstruction - 50.0, rtol=1e-9)
    other = ELBO(kl=(objective.Beta(0.5), objective.FreeNats(100.0)))(*normal, key)
    np.testing.assert_allclose(other.value, reconstruction - 100.0, rtol=1e-9)


def test_annealing_advances_to_one():
    made = ELBO(kl=objective.Annealed(4, start=0.2))
    weights = []
    for _ in range(6):
        weights.append(float(made.kl[0].weight))
        made = made.advanced({"_signal": jnp.zeros(())})
    np.testing.assert_allclose(weights, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_a_running_mean_is_unbiased_from_the_start():
    made = objective.RunningMean(decay=0.9)
    for _ in range(3):
        made = made.advanced(jnp.array(-5.0))
    np.testing.assert_allclose(made(jnp.zeros(2)), -5.0, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ELBO(samples=0), "samples: expected a positive whole number; got 0"),
        (lambda: ELBO(kl=(3,)), "kl: expected terms"),
        (lambda: ImportanceWeighted(5, objective.StickingTheLanding()), "biased for the importance-weighted bound"),
        (lambda: objective.Annealed(0), "steps: expected a positive whole number"),
        (lambda: objective.GumbelSoftmax(0.0), "temperature: expected a positive number"),
        (lambda: WakeSleep(3, sleep=2.0), "sleep: expected a proportion"),
    ],
)
def test_bad_choices_are_named(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (ELBO(), "needs a latent that can be reparameterised"),
        (ImportanceWeighted(3), "needs a latent that can be reparameterised"),
        (ImportanceWeighted(3, objective.GumbelSoftmax()), "GumbelSoftmax is for the ELBO"),
    ],
)
def test_an_estimator_that_does_not_fit_the_latent_says_so(coded, key, made, message):
    with pytest.raises(TypeError, match=message):
        made(*coded, key)
