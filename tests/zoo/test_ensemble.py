"""Ensembles of networks that say how a state goes on: least squares, draws of the steps, futures, filters, trees."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from veil import DynamicsEnsemble, distributions
from veil.control.imagined import Imagined, Predicted, Rewarded
from veil.model import Datum, NewMember, SameMember
from veil.model.stepwise import rollout
from veil.objective import Bagging
from veil.objective.bagging import tosses
from veil.parts.heads import Bernoulli, BoundedGaussian, DiagonalGaussian, HomoscedasticGaussian
from veil.parts.joint import Joint
from veil.parts.nets import Identity
from veil.posterior import Undecided

KEY = jax.random.key(0)
A, B = np.array([[0.9, 0.2], [-0.1, 0.95]]), np.array([[0.0], [0.5]])


def episodes(count, steps, rng, noise=0.05):
    """s_t = A s_t-1 + B u_t + noise."""
    actions, states = rng.normal(size=(count, steps, 1)), np.zeros((count, steps, 2))
    states[:, 0] = rng.normal(size=(count, 2))
    for t in range(1, steps):
        states[:, t] = states[:, t - 1] @ A.T + actions[:, t] @ B.T + noise * rng.normal(size=(count, 2))
    return states.astype(np.float32), actions.astype(np.float32)


def trained(model, data, steps, rate=1e-2, objective=None, key=KEY):
    """By hand: all data at every step, in the units that they come in."""
    trainer = veil.Trainer(model, objective=objective, optimiser=optax.adam(optax.cosine_decay_schedule(rate, steps)))
    batch = trainer.batch(data)

    @eqx.filter_jit
    def run(state):
        return jax.lax.scan(lambda state, _: trainer.step(state, batch), state, length=steps)

    start = trainer.start(data, key)
    state, info = run(start)
    return trainer.result(state)[0], info, trainer, start


def test_linear_members_are_least_squares_of_the_steps_that_they_have_seen():
    states, actions = episodes(6, 12, np.random.default_rng(0))
    linear = DynamicsEnsemble(3, Identity(), HomoscedasticGaussian())
    model = trained(linear, veil.Data(states, actions), 1500, 3e-2)[0]
    many = jax.vmap(jax.vmap(lambda y, u: tosses(Datum(y, u), 3)))(jnp.asarray(states), jnp.asarray(actions))
    every = np.asarray(many, np.float64)
    counts = every[:, 1:]
    inputs = np.concatenate([np.ones((6, 11, 1)), states[:, :-1], actions[:, 1:]], -1).astype(np.float64)
    asked = np.array([0.3, -0.7, 0.4])
    found = model.predictions(jnp.array(asked[:2], jnp.float32), jnp.array(asked[2:], jnp.float32))[0]
    squares = []
    for k in range(3):
        wanted = np.linalg.solve(
            np.einsum("nt,nti,ntj->ij", counts[..., k], inputs, inputs),
            np.einsum("nt,nti,ntj->ij", counts[..., k], inputs, states[:, 1:]),
        )
        np.testing.assert_allclose(found[k], np.array([1.0, *asked]) @ wanted, atol=1e-3)
        squares.append(np.sum(counts[..., k, None] * (states[:, 1:] - inputs @ wanted) ** 2, (0, 1)))
    assert np.std(found, 0).min() > 1e-3  # and they are not all the same
    # the head has one deviation for all members, and for first states, too, each in their own units
    first, share = states[:, 0] / states[:, 0].std(0), every[:, 0].sum(-1, keepdims=True)
    early = np.sum(share * (first - np.sum(share * first, 0) / share.sum()) ** 2, 0)
    wide = (states[:, 1:] - states[:, :-1]).std((0, 1))
    deviation = np.sqrt((np.sum(squares, 0) + wide**2 * early) / every.sum())
    variance = model.predictions(jnp.zeros(2), jnp.zeros(1))[1]
    np.testing.assert_allclose(np.sqrt(variance), np.broadcast_to(deviation, (3, 2)), rtol=1e-2)


def test_without_draws_members_are_the_plain_least_squares():
    states, actions = episodes(6, 12, np.random.default_rng(0))
    linear = DynamicsEnsemble(2, Identity(), HomoscedasticGaussian())
    model, info, *_ = trained(linear, veil.Data(states, actions), 1500, 3e-2, Bagging(drawn=False))
    inputs = np.concatenate([np.ones((6, 11, 1)), states[:, :-1], actions[:, 1:]], -1).reshape(66, 4)
    wanted = np.linalg.lstsq(inputs, states[:, 1:].reshape(66, 2))[0]
    found = model.predictions(jnp.array([0.3, -0.7]), jnp.array([0.4]))[0]
    np.testing.assert_allclose(found, np.tile(np.array([1.0, 0.3, -0.7, 0.4]) @ wanted, (2, 1)), atol=1e-3)
    # and what is maximised is the mean of the members' log p(y | u), from the first step on
    data = jax.vmap(lambda y, u: model.each_log_likelihood(Datum(y, u)))(jnp.asarray(states), jnp.asarray(actions))
    np.testing.assert_allclose(info.value[-1], jnp.mean(jnp.sum(data, 2)), rtol=1e-4)


def test_log_likelihoods_by_hand():
    """Of each member and step: a normal of the change, in the user's units; and of a path of members their sum."""
    states, actions = episodes(3, 5, np.random.default_rng(1))
    model = started(states, actions, members=2)
    one = Datum(jnp.asarray(states[0]), jnp.asarray(actions[0]))
    score = eqx.filter_jit(model.each_log_likelihood)
    each = np.asarray(score(one))
    changes = states[:, 1:] - states[:, :-1]
    mean, wide = changes.mean((0, 1)), changes.std((0, 1))
    middle, spread = states.mean((0, 1)), states.std((0, 1))
    pushed, push = actions[:, 1:].mean(), actions[:, 1:].std()
    for k in range(2):
        weight, bias = np.asarray(model.outputs.weight[k]), np.asarray(model.outputs.bias[k])
        for t in range(1, 5):
            seen = np.concatenate([(states[0, t - 1] - middle) / spread, (actions[0, t] - pushed) / push])
            (layer,) = model.trunk.layers
            hidden = np.tanh(np.asarray(layer.weight[k]) @ seen + np.asarray(layer.bias[k]))
            numbers = weight @ hidden + bias
            low, high = np.log(0.01), 0.0
            scale = np.exp(low + np.log1p(np.exp(high - np.log1p(np.exp(high - numbers[2:])) - low))) * wide
            away = states[0, t] - states[0, t - 1] - mean - numbers[:2] * wide
            wanted = np.sum(-0.5 * (away / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi))
            np.testing.assert_allclose(each[k, t], wanted, rtol=2e-4)
    assert np.all(each[:, 0] == each[0, 0])  # the first state is said by none of them
    path = jnp.array([1, 0, 0, 1, 1])
    np.testing.assert_allclose(model.log_likelihood(path, one), each[np.asarray(path), np.arange(5)].sum(), rtol=1e-5)
    # padding, and an episode that starts in the middle
    cut = replace(one, mask=jnp.arange(5) < 3)
    np.testing.assert_allclose(score(cut), each * (np.arange(5) < 3), rtol=1e-5)
    anew = score(replace(one, reset=jnp.arange(5) % 2 == 0))
    np.testing.assert_allclose(anew[:, 1::2], each[:, 1::2], rtol=1e-5)
    assert np.all(anew[0] != each[0], where=np.array([False, False, True, False, True]))
    # and step by step
    carry = model.carry(None)
    for t, k in enumerate(np.asarray(path)):
        step = model.step_likelihood(carry, jnp.array(k), one.evidence[t])
        np.testing.assert_allclose(distributions.log_prob(step, one.query[t]), each[k, t], rtol=1e-4)
        carry = model.advance(carry, jnp.array(k), one.query[t], one.evidence[t], None)


def started(states, actions, members=3, **options):
    trainer = veil.Trainer(DynamicsEnsemble(members, veil.MLP((4,)), **options))
    return trainer.result(trainer.start(veil.Data(states, actions), KEY))[0]


def pushing(keep, drifts):
    """An ensemble made by hand: member k adds drifts[k], with almost no noise."""
    states, actions = np.zeros((2, 3, 1), np.float32), np.zeros((2, 3, 1), np.float32)
    model = started(states, actions, len(drifts), keep=keep)
    bias = jnp.stack([jnp.asarray(drifts, jnp.float32), jnp.full(len(drifts), -9.0)], 1)
    return replace(model, outputs=replace(model.outputs, weight=0.0 * model.outputs.weight, bias=bias))


@pytest.mark.parametrize(("keep", "power"), [(SameMember(), 2), (NewMember(), 1)])
def test_futures_of_one_member_spread_faster_than_those_of_any(keep, power):
    """After H steps the variance is H² Var(drift) if one member stays, H Var(drift) if each step draws one."""
    drifts = np.array([-1.0, 0.0, 3.0])
    model = pushing(keep, drifts)
    state = replace(model.carry(None), fresh=jnp.array(False))
    futures = jax.jit(jax.vmap(lambda key: rollout(model, state, jnp.zeros((6, 1)), 6, key)))
    found = futures(jax.random.split(KEY, 4000))
    ends, members = np.asarray(found.query[:, -1, 0]), np.asarray(found.latent)
    np.testing.assert_allclose(ends.mean(), 6 * drifts.mean(), atol=0.6)
    np.testing.assert_allclose(ends.var(), 6**power * drifts.var(), rtol=0.08)
    np.testing.assert_allclose(np.bincount(members[:, 0]) / 4000, 1 / 3, atol=0.04)
    assert np.all(members == members[:, :1]) == (power == 2)


def test_members_disagree_away_from_the_data():
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (300, 2, 1)).astype(np.float32)
    actions = np.zeros_like(states)
    states[:, 1] = states[:, 0] + np.sin(2 * states[:, 0]) + 0.1 * rng.normal(size=(300, 1))
    model = trained(DynamicsEnsemble(5, veil.MLP((16,), "silu")), veil.Data(states, actions), 1500)[0]
    means, variances = jax.vmap(lambda s: model.predictions(s, jnp.zeros(1)))(jnp.array([[-0.5], [0.2], [0.8], [4.0]]))
    apart = np.std(means[..., 0], 1)
    print(apart, np.sqrt(variances[..., 0]))
    assert np.all(apart[:3] < 0.06)
    assert apart[3] > 5 * apart[:3].max()
    np.testing.assert_allclose(np.sqrt(variances[:3]).mean(1), 0.1, rtol=0.3)
    assert np.all(np.sqrt(variances) <= 1.02 * (states[:, 1] - states[:, 0]).std())  # the bound, far away too


def test_draws_of_the_steps():
    rng = np.random.default_rng(0)
    query, evidence = rng.normal(size=(5000, 3)).astype(np.float32), rng.normal(size=(5000, 1)).astype(np.float32)
    counts = np.asarray(jax.vmap(lambda y, u: tosses(Datum(y, u), 4))(jnp.asarray(query), jnp.asarray(evidence)))
    for j, share in enumerate(np.exp(-1.0) / np.array([1, 1, 2, 6])):
        np.testing.assert_allclose((counts == j).mean(0), share, atol=0.025)
    np.testing.assert_allclose(np.cov(counts.T), np.eye(4), atol=0.08)
    again = jax.vmap(lambda y, u: tosses(Datum(y, u), 4))(jnp.asarray(query[::-1]), jnp.asarray(evidence[::-1]))
    np.testing.assert_array_equal(again[::-1], counts)  # they are the step's own


def test_windows_learn_what_episodes_learn():
    """The value of all windows of two steps is that of the episodes, but for the first steps, where nobody learns."""
    states, actions = episodes(4, 6, np.random.default_rng(0))
    model = started(states, actions)
    data = veil.Data(states, actions)

    def learned(datum):
        return model.each_log_likelihood(datum) * jax.vmap(lambda step: tosses(step, 3), 0, 1)(datum.each_step())

    found = []
    for cut in (data, veil.data.windows(data, 2, 1)):
        rows = veil.Trainer(model).batch(cut)
        value = jax.jit(jax.vmap(learned))
        found.append(float(jnp.sum(value(rows)[..., 1:])))
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_the_filter_is_the_last_state_and_futures_draw_their_members():
    states, actions = episodes(3, 5, np.random.default_rng(1))
    model = started(states, actions)
    observer = Undecided().filter(model)
    belief, update = observer.init(), eqx.filter_jit(observer.update)
    score = eqx.filter_jit(model.each_log_likelihood)
    each = np.asarray(score(Datum(jnp.asarray(states[0]), jnp.asarray(actions[0]))))
    for t in range(5):
        belief = update(belief, Datum(jnp.asarray(states[0, t]), jnp.asarray(actions[0, t])), KEY)
        wanted = np.log(np.mean(np.exp(each[:, t] - each[:, t].max()))) + each[:, t].max()
        np.testing.assert_allclose(belief.log_likelihood, wanted, rtol=1e-4)
    state = observer.draw(belief, KEY)
    np.testing.assert_array_equal(state.state, states[0, -1])
    draw = jax.jit(jax.vmap(lambda key: rollout(model, state, jnp.zeros((2, 1)), 2, key).latent))
    futures = draw(jax.random.split(KEY, 64))
    assert set(np.asarray(futures[:, 0]).tolist()) == {0, 1, 2}
    np.testing.assert_allclose(observer.marginal(belief).log_probabilities, -np.log(3.0), rtol=1e-6)
    started_again = observer.update(belief, Datum(jnp.ones(2), jnp.ones(1), reset=jnp.array(True)), KEY)
    first = score(Datum(jnp.ones((1, 2)), jnp.ones((1, 1))))
    np.testing.assert_allclose(started_again.log_likelihood, first[0, 0], rtol=1e-5)


def test_rewards_and_ends_are_said_by_the_same_networks():
    """A query that is a tree; what a planner gets of it is what the model predicts."""
    states, actions = episodes(20, 8, np.random.default_rng(0))
    reward = 3.0 + 10.0 * states[..., :1] * (np.arange(8) > 0)[None, :, None]
    ended = (states[..., 1:] > 1).astype(np.float32)
    query = {"seen": states, "reward": reward.astype(np.float32), "terminated": ended}
    head = Joint({"seen": BoundedGaussian(), "reward": DiagonalGaussian(), "terminated": Bernoulli()})
    model = DynamicsEnsemble(2, veil.MLP((16,), "silu"), head, state="seen")
    fit = veil.fit(model, veil.Data(query, actions), key=KEY, steps=600, progress=False)
    inner = fit.model
    state = inner.carry(None)
    state = inner.advance(
        state, jnp.array(0), jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 3]), query), jnp.zeros(1), None
    )
    problem = Imagined(inner, Predicted("reward", "terminated"), draws=20)
    steps, outcome = problem.future(state, jnp.zeros((1, 1)), 1, KEY)
    wanted = A @ states[0, 3]
    np.testing.assert_allclose(steps.query["seen"][0], wanted, atol=0.3)
    np.testing.assert_allclose(outcome.reward[0], 3 + 10 * wanted[0], atol=1.5)
    assert 0 <= outcome.going[0] <= 1
    known = Imagined(inner, Rewarded(lambda step: jnp.sum(step.after.state)), draws=50)
    value = known.returns(state, jnp.zeros((1, 1)), KEY)
    np.testing.assert_allclose(value, wanted.sum(), atol=0.2)


def test_forecasts_and_what_a_wrong_shift_costs():
    """The verbs know it: the mean of a forecast is A s + B u. Actions that are moved by one step say nothing."""
    states, actions = episodes(30, 12, np.random.default_rng(0))
    data = veil.Data(states, actions)
    fit = veil.fit(DynamicsEnsemble(2, veil.MLP((8,), "silu")), data, key=KEY, steps=600, progress=False)
    pushes = np.full((30, 2, 1), 0.5, np.float32)
    found = veil.forecast(fit, data, 2, 200, key=KEY, evidence_future=pushes)
    wanted = states[:, -1] @ A.T + 0.5 * B[:, 0]
    wanted = np.stack([wanted, wanted @ A.T + 0.5 * B[:, 0]], 1)
    np.testing.assert_allclose(found.mean, wanted, atol=0.15)
    good, moved = (
        veil.log_prob(fit, veil.Data(states, pushed), key=KEY).mean() for pushed in (actions, np.roll(actions, 1, 1))
    )
    assert good > moved + 100


def test_angles_are_seen_as_directions():
    states, actions = episodes(3, 5, np.random.default_rng(1))
    model = started(states, actions, angles=(1,))
    at = jnp.array([0.3, 0.7])
    here, turned = (model.predictions(each, jnp.ones(1))[0] for each in (at, at + jnp.array([0.0, 2 * np.pi])))
    np.testing.assert_allclose(turned - here, np.tile([0.0, 2 * np.pi], (3, 1)), atol=1e-5)
    assert model.trunk.layers[0].weight.shape == (3, 4, 4)
    other = model.predictions(at + jnp.array([0.0, 1.0]), jnp.ones(1))[0]
    assert np.abs(np.asarray(other - here) - np.array([0.0, 1.0])).max() > 1e-3


def test_a_trainer_goes_on_from_its_state(tmp_path):
    states, actions = episodes(4, 6, np.random.default_rng(0))
    data = veil.Data(states, actions)
    trainer = veil.Trainer(DynamicsEnsemble(2, veil.MLP((4,))), units=veil.Units.of(data, DynamicsEnsemble()))
    state, batch, step = trainer.start(data, KEY), trainer.batch(data), eqx.filter_jit(trainer.step)
    for _ in range(3):
        state, _ = step(state, batch)
    eqx.tree_serialise_leaves(tmp_path / "learned", state.learned)
    fresh = trainer.start(data, KEY)
    resumed = replace(fresh, learned=eqx.tree_deserialise_leaves(tmp_path / "learned", fresh.learned))
    for _ in range(3):
        state, info = step(state, batch)
        resumed, again = step(resumed, batch)
    assert info.value == again.value
    one, other = trainer.result(state)[0], trainer.result(resumed)[0]
    assert eqx.tree_equal(one, other)


def test_saved_and_loaded(tmp_path):
    states, actions = episodes(4, 6, np.random.default_rng(0))
    fit = veil.fit(DynamicsEnsemble(2, veil.MLP((4,))), veil.Data(states, actions), key=KEY, steps=3, progress=False)
    veil.save(tmp_path / "e", fit)
    back = veil.load(tmp_path / "e")
    carry = fit.model.carry(None)
    means = (each.model.step_likelihood(carry, jnp.array(1), jnp.ones(1)).mean for each in (fit, back))
    np.testing.assert_array_equal(*means)
    assert isinstance(back.posterior, Undecided)


def test_what_it_is_not_of():
    states, actions = episodes(2, 3, np.random.default_rng(0))
    ensemble = DynamicsEnsemble(2, veil.MLP((4,)))
    for data, words in (
        (veil.Data(states), "evidence: an ensemble"),
        (veil.Data({"a": states}, actions), "state: expected the name"),
        (veil.Data(states[..., None], actions), "state that is a vector"),
    ):
        with pytest.raises(ValueError, match=words):
            veil.Trainer(ensemble).start(data, KEY)
    with pytest.raises(ValueError, match="angles: expected entries"):
        started(states, actions, angles=(2,))
    with pytest.raises(ValueError, match="members: expected a positive"):
        DynamicsEnsemble(0)
    with pytest.raises(ValueError, match="no parameters yet"):
        ensemble.carry(None)
    with pytest.raises(ValueError, match="seen whole"):
        started(states, actions).each_log_likelihood(
            Datum(jnp.asarray(states[0]), jnp.asarray(actions[0]), observed=jnp.ones((3, 2), bool))
        )
    with pytest.raises(TypeError, match=r"Bagging\(\) is of ensembles"):
        Bagging()(veil.rssm(), Undecided(), Datum(jnp.asarray(states[0])), KEY)
    with pytest.raises(ValueError, match="low: expected deviations"):
        BoundedGaussian(1.0, 0.5)
