"""Measures of disagreement against integrals, draws and sums; an ensemble disagrees where it has not been."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from veil import MLP, DynamicsEnsemble
from veil.control.exploration.bonus import Transition
from veil.control.exploration.ensemble import Disagreement
from veil.control.exploration.measures import (
    GainBound,
    InformationAbove,
    InformationBelow,
    JensenRenyi,
    VarianceOfMeans,
    mutual_information,
)
from veil.control.exploration.votes import Votes

KEY = jax.random.key(0)
MEAN, DEVIATION = np.array([0.0, 0.4, 1.5, -2.0]), np.array([0.5, 0.8, 0.3, 1.0])


def one_dimension(measure):
    return float(measure(jnp.asarray(MEAN)[:, None], jnp.asarray(DEVIATION**2)[:, None]))


def test_jensen_renyi_is_its_integral():
    density = lambda y: norm.pdf(y, MEAN, DEVIATION)  # noqa: E731
    mixed = -np.log(quad(lambda y: np.mean(density(y)) ** 2, -12, 12, limit=200)[0])
    own = [-np.log(quad(lambda y, k=k: density(y)[k] ** 2, -12, 12, limit=200)[0]) for k in range(4)]
    with jax.enable_x64(True):
        assert one_dimension(JensenRenyi()) == pytest.approx(mixed - np.mean(own), abs=1e-7)


def test_the_members_information_lies_between_its_bounds():
    def term(y, k):
        logs = norm.logpdf(y, MEAN, DEVIATION)
        return np.exp(logs[k]) * (logs[k] - logsumexp(logs) + np.log(4))

    exact = np.mean([quad(term, -12, 12, (k,), limit=200)[0] for k in range(4)])
    below, above = one_dimension(InformationBelow()), one_dimension(InformationAbove())
    assert 0 < below < exact < above < np.log(4)
    same = jnp.ones((4, 3))
    for measure in (InformationBelow(), InformationAbove(), JensenRenyi(), GainBound(), VarianceOfMeans()):
        assert float(measure(same, same)) == pytest.approx(0.0, abs=1e-5)


def test_the_information_of_categories_is_the_naive_sum():
    chances = np.random.default_rng(0).dirichlet(np.ones(5), size=3)
    chances[0] = [0.0, 0.5, 0.5, 0.0, 0.0]
    entropy = lambda p: -np.sum(p[p > 0] * np.log(p[p > 0]))  # noqa: E731
    wanted = entropy(chances.mean(0)) - np.mean([entropy(p) for p in chances])
    with np.errstate(divide="ignore"):
        assert float(mutual_information(jnp.log(jnp.asarray(chances)))) == pytest.approx(wanted, abs=1e-6)


def test_members_disagree_where_they_have_not_been():
    rng = np.random.default_rng(0)
    o, u = (jnp.asarray(rng.uniform(-1, 1, size=(64, 1)), jnp.float32) for _ in range(2))
    batch = Transition(o, u, 0.9 * o + 0.2 * u)
    bonus = Disagreement(GainBound(), DynamicsEnsemble(3, MLP((16,), "tanh")), optimiser=optax.adam(1e-2), steps=200)
    state = jax.jit(bonus.update)(bonus.init(jax.tree.map(lambda leaf: leaf[0], batch), KEY), batch)
    asked = jax.jit(jax.vmap(lambda o: bonus(state, o, jnp.zeros(1), o)[0]))(jnp.array([[0.0], [0.5], [4.0], [-4.0]]))
    assert max(asked[:2]) < 0.5 * min(asked[2:])
    with pytest.raises(TypeError, match="measure"):
        Disagreement(measure="variance")


def test_votes_agree_on_what_came_and_on_coins():
    """Categories that follow from o, and a fair coin: about both there is nothing left to say; elsewhere there is."""
    rng = np.random.default_rng(0)
    o = jnp.asarray(np.eye(3)[rng.integers(0, 2, 256)], jnp.float32)
    coin = jnp.asarray(rng.integers(0, 2, 256))
    batch = Transition(o, jnp.zeros((256, 1)), jnp.where(o[:, 0] > 0, coin, 2))
    bonus = Votes(3, lambda came: came, net=MLP((16,)), optimiser=optax.adam(3e-2), steps=150)
    start = bonus.init(jax.tree.map(lambda leaf: leaf[0], batch), KEY)
    state = jax.jit(bonus.update)(start, batch)
    ask = jax.jit(jax.vmap(lambda state, o: bonus(state, o, jnp.zeros(1), 0)[0], (None, 0)))
    before, after = ask(start, jnp.eye(3)), ask(state, jnp.eye(3))
    assert np.all(np.asarray(after[:2]) < 0.05 * np.asarray(before[:2]))
    assert float(after[2]) > 5 * max(after[:2])
