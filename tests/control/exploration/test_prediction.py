"""Prediction errors, the references: units of what is seen, and what falls where."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from veil import MLP
from veil.control.exploration.bonus import Transition
from veil.control.exploration.curiosity import Continuous, Curiosity, Discrete, PredictionError
from veil.control.exploration.distillation import RandomNetworkDistillation
from veil.control.exploration.ensemble import Disagreement
from veil.control.exploration.linear import LinearGain
from veil.control.exploration.network import NetworkGain
from veil.control.exploration.standards import Running
from veil.control.exploration.votes import Votes

KEY = jax.random.key(0)


def test_running_units_are_those_of_all_however_they_came():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 2)).astype(np.float32)
    standard = Running()
    state = standard.init(2)
    for part in np.split(values, [1, 4, 30]):
        state = standard.update(state, jnp.asarray(part))
    wanted = (values[0] - values.mean(0)) / values.std(0)
    np.testing.assert_allclose(standard(state, jnp.asarray(values[0])), wanted, rtol=1e-5)
    constant = standard.update(standard.init(1), jnp.full((5, 1), 7.0))
    np.testing.assert_allclose(standard(constant, jnp.array([8.0])), [1.0])


def test_distillation_falls_where_it_was_and_stays_where_it_was_not():
    rng = np.random.default_rng(0)
    seen = jnp.asarray(rng.normal(size=(128, 4)) * [1.0, 1.0, 0.0, 0.0], jnp.float32)  # two numbers never move
    batch = Transition(seen, jnp.zeros((128, 1)), seen)
    bonus = RandomNetworkDistillation(MLP((32,)), MLP((32,)), outputs=8, optimiser=optax.adam(1e-2), steps=200)
    start = bonus.init(jax.tree.map(lambda leaf: leaf[0], batch), KEY)
    state = jax.jit(bonus.update)(start, batch)
    ask = jax.jit(jax.vmap(lambda state, o: bonus(state, o, None, o)[0], (None, 0)))
    new = seen[:, ::-1]
    assert float(jnp.mean(ask(state, seen))) < 0.1 * float(jnp.mean(ask(start, seen)))
    assert float(jnp.mean(ask(state, new))) > 0.5 * float(jnp.mean(ask(start, new)))
    far = ask(state, jnp.array([[5000.0] * 4, [9000.0] * 4]))
    assert float(far[0]) == float(far[1])  # cut at five deviations


@pytest.mark.parametrize("actions", [Discrete(3), Continuous()])
def test_the_features_of_curiosity_tell_what_was_done(actions):
    rng = np.random.default_rng(0)
    o = jnp.asarray(rng.normal(size=(96, 2)), jnp.float32)
    u = jnp.asarray(rng.integers(0, 3, 96)) if isinstance(actions, Discrete) else jnp.asarray(rng.normal(size=(96, 1)))
    moved = u.astype(jnp.float32).reshape(96, 1) * jnp.array([[1.0, 0.0]])
    batch = Transition(o, u, o + moved)
    bonus = Curiosity(actions, size=8, net=MLP((16,)), optimiser=optax.adam(1e-2), steps=150)
    state = bonus.init(jax.tree.map(lambda leaf: leaf[0], batch), KEY)

    def mean(state):
        losses = lambda one: bonus._losses(state.learned.networks, state.seen, one)  # noqa: E731
        return jnp.mean(jax.vmap(losses)(batch)[0])

    after = jax.jit(bonus.update)(state, batch)
    assert float(mean(after)) < 0.2 * float(mean(state))


LEARNING = (Curiosity(), PredictionError(), RandomNetworkDistillation())
INFORMED = (LinearGain(), NetworkGain(), Disagreement(), Votes(3, lambda _: 0))


@pytest.mark.parametrize("bonus", LEARNING + INFORMED, ids=lambda bonus: type(bonus).__name__)
def test_a_state_stays_of_one_kind_so_that_learning_is_compiled_once(bonus):
    batch = Transition(jnp.ones((4, 2)), jnp.ones((4, 1)), jnp.ones((4, 2)))
    state = bonus.init(jax.tree.map(lambda leaf: leaf[0], batch), KEY)
    kinds = [jax.eval_shape(lambda state: state, state), jax.eval_shape(bonus.update, state, batch)]
    shown = [[(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(kind)] for kind in kinds]
    assert shown[0] == shown[1]
    assert jax.tree.structure(kinds[0]) == jax.tree.structure(kinds[1])
