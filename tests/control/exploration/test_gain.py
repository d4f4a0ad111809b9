"""Information about weights: linear dynamics in closed form, VIME's step and all the way, and a user's own bonus."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from veil.control.exploration.bonus import Bonus, Transition
from veil.control.exploration.curves import curve
from veil.control.exploration.linear import LinearGain
from veil.control.exploration.network import NetworkGain
from veil.control.exploration.standards import Given
from veil.control.exploration.steps import SecondOrder, Variational, curvature, divergence
from veil.model import Datum
from veil.model.scales import Scale
from veil.parts.heads import DiagonalGaussian
from veil.posterior import Shared
from veil.zoo.bayesian import BayesianNetwork

KEY = jax.random.key(0)
AS_IT_IS = Given(Scale(jnp.array(0.0), jnp.array(1.0)))


def steps(count, rng, states=2, actions=1):
    sizes = (count, states), (count, actions), (count, states)
    return Transition(*(jnp.asarray(rng.normal(size=size)) for size in sizes))


def value_of(bonus, state, step):
    return bonus(state, step.observation, step.action, step.following)[0]


def row(batch, n):
    return jax.tree.map(lambda leaf: leaf[n], batch)


def test_linear_information_is_that_of_the_joint_normal_and_does_not_depend_on_how_steps_are_batched():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        batch, asked, bonus = steps(30, rng), row(steps(1, rng), 0), LinearGain(noise=0.3, scale=0.7)
        start = bonus.init(asked, KEY)
        state = jax.jit(bonus.update)(start, batch)
        # I(o'; W) = log |K + s² I| - log |s² I| of all outcomes, less that of those before; the same for each number
        features = np.stack([[1, *o, *u] for o, u in zip(batch.observation, batch.action, strict=True)])
        asked_features = np.array([1, *asked.observation, *asked.action])

        def information(phi):
            kernel = 0.7**2 * phi @ phi.T / 0.3**2 + np.eye(len(phi))
            return 0.5 * 2 * np.linalg.slogdet(kernel)[1]

        wanted = information(np.vstack([features, asked_features])) - information(features)
        assert float(value_of(bonus, state, asked)) == pytest.approx(wanted, abs=1e-6)
        one = lambda state, step: (bonus.update(state, jax.tree.map(lambda leaf: leaf[None], step)), None)  # noqa: E731
        in_turn = jax.jit(lambda state: jax.lax.scan(one, state, batch)[0])(start)
        np.testing.assert_allclose(in_turn.factor, state.factor, rtol=1e-9, atol=1e-9)


def test_the_curvature_is_the_hessian_of_the_divergence():
    with jax.enable_x64(True):
        numbers = jnp.asarray(np.random.default_rng(0).normal(size=6))
        q = Shared(DiagonalGaussian(floor=0.1), shape=(3,), parameters=numbers)
        hessian = jax.hessian(lambda moved: divergence(replace(q, parameters=moved), q))(numbers)
        np.testing.assert_allclose(hessian, np.diag(curvature(q)), atol=1e-9)


def test_the_whole_way_is_the_closed_form_where_mean_field_is_exact():
    """At o = u = 0 a linear network's outcome is its bias and noise: q' = N((m/v + y)/(1/v + 1), 1/(1/v + 1))."""
    with jax.enable_x64(True):
        network = BayesianNetwork(widths=())
        bonus = NetworkGain(network, Variational(steps=1500, rate=0.3), standard=AS_IT_IS, width=0.8)
        step = Transition(jnp.zeros(2), jnp.zeros(1), jnp.array([0.7, -1.5]))
        state = bonus.init(step, KEY)
        normals = state.learned.posterior(state.learned.model, Datum(step.following))
        mean, before = np.asarray(normals.mean)[-2:], np.asarray(normals.variance)[-2:]
        after = 1 / (1 / before + 1)
        moved = after * (mean / before + np.asarray(step.following))
        wanted = 0.5 * np.sum((after + (moved - mean) ** 2) / before - 1 - np.log(after / before))
        value = jax.jit(lambda state: value_of(bonus, state, step))(state)
        assert float(value) == pytest.approx(wanted, abs=1e-6)


def test_the_step_of_second_order_ranks_steps_as_the_whole_way_does():
    rng = np.random.default_rng(0)
    o = jnp.asarray(rng.normal(size=(64, 1)), jnp.float32)
    batch = Transition(o, jnp.zeros((64, 1)), jnp.sin(2 * o) + 0.1 * jnp.asarray(rng.normal(size=(64, 1)), jnp.float32))
    quick = NetworkGain(BayesianNetwork((12,)), steps=150)
    state = jax.jit(quick.update)(quick.init(row(batch, 0), KEY), batch)
    asked = jnp.asarray(rng.uniform(-4, 4, size=(60, 1)), jnp.float32)
    probes = Transition(asked, jnp.zeros((60, 1)), jnp.sin(2 * asked))
    whole = replace(quick, step=Variational(steps=60))
    first, second = (jax.jit(jax.vmap(lambda one, b=b: value_of(b, state, one)))(probes) for b in (quick, whole))
    assert spearmanr(first, second).statistic > 0.9
    assert np.all(np.asarray(second) > 0)


class Novelty(Bonus):
    """How far o' is from the mean of all seen: as a user would write it."""

    def init(self, example, key):
        return jnp.zeros(()), jnp.zeros_like(example.following)

    def __call__(self, state, observation, action, following):
        return jnp.linalg.norm(following - state[1]), state

    def update(self, state, batch):
        count = state[0] + len(batch.following)
        return count, state[1] + jnp.sum(batch.following - state[1][None], 0) / count


class Late(Novelty):
    """A fault: it learns from a step before it values it."""

    def __call__(self, state, observation, action, following):
        state = self.update(state, Transition(observation, action, following[None]))
        return jnp.linalg.norm(following - state[1]), state


def valued_before_learning(bonus, batch):
    """Whether the first value is that of a state that has seen nothing, and no value changes what is known."""
    first, state = row(batch, 0), bonus.init(row(batch, 0), KEY)
    value, after = bonus(state, first.observation, first.action, first.following)
    alike = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), state, after)
    again = curve(bonus, jax.tree.map(lambda leaf: leaf[:, None, None], batch), batch, KEY)
    alone = jax.vmap(lambda one: value_of(bonus, state, one))(batch)
    return all(jax.tree.leaves(alike)) and bool(jnp.allclose(again[0], alone)) and float(value) > 0


def test_a_bonus_of_ones_own_is_valued_before_it_learns_and_a_fault_is_seen():
    batch = steps(4, np.random.default_rng(0))
    assert valued_before_learning(Novelty(), batch)
    assert valued_before_learning(LinearGain(), batch)
    assert not valued_before_learning(Late(), batch)


def test_what_is_not_understood_is_refused():
    for make, words in (
        (lambda: LinearGain(noise=0.0), "noise"),
        (lambda: NetworkGain(draws=3), "draws"),
        (lambda: SecondOrder(rate=0.0), "rate"),
        (lambda: Variational(steps=0), "steps"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(TypeError, match="step"):
        NetworkGain(step="second order")
