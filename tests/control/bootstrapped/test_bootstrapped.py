"""Bootstrapped Q-networks beside exact values, and where it takes priors or counts to get anywhere."""

from dataclasses import replace

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.control import MDP, SparseTransitions, solve
from veil.control.bootstrapped import (
    BootstrappedActor,
    BootstrappedQ,
    bootstrapped,
    numbered,
    optimistic,
    pictured,
    valued,
)
from veil.control.exploration import Chosen, Counted, Hashed, PredictionError, Tally, arrived, left, search
from veil.control.worlds.deep_sea import DeepSea
from veil.control.worlds.walked import deep_sea
from veil.control.worlds.walks import Land

SMALL = veil.MLP((16,), "relu")
SMOOTH = veil.MLP((32,), "tanh")  # none of whose units can die
KEY = jax.random.key(0)


def chain():
    """Four places and an end: one action goes on, the other back to the first; .3 a step on, 1 at the end."""
    following = [[1, 0], [2, 0], [3, 0], [4, 0], [4, 4]]
    reward = [[-0.1, 0.05], [-0.1, 0.0], [-0.1, 0.2], [1.0, 0.0], [0.0, 0.0]]
    return MDP(SparseTransitions(following), reward, ends=[False] * 4 + [True], discount=0.8)


def all_steps(problem, learner, eyes, state, key=KEY):
    """The state after everything was done everywhere, once."""
    place, action = (jnp.ravel(each) for each in jnp.meshgrid(jnp.arange(4), jnp.arange(2), indexing="ij"))
    following = problem.transitions.next[place, action, 0]
    going = jnp.where(problem.ends[following], 0.0, learner.discount)
    steps = place, action, problem.rewards()[place, action], following, going
    return learner.met(state, eyes, steps, jnp.ones(8, bool), key)


@eqx.filter_jit
def settled(learner, state, eyes):
    """After learning for long, and then for long with small steps."""
    state, _ = learner.taught(state, eyes, 2000, KEY)
    return replace(learner, rate=3e-4).taught(state, eyes, 2000, KEY)


def said(learner, state, eyes, places=4):
    """Q of every member [K, S, A]."""
    values = jax.vmap(lambda net: jax.vmap(lambda place: valued(net, eyes(place)))(jnp.arange(places)))
    return values(state.networks) + learner.prior * values(state.priors)


@pytest.mark.parametrize("told", [1.0, 0.8])
def test_what_was_told_becomes_the_exact_q_of_every_member(told):
    problem, eyes = chain(), numbered(5)
    learner = BootstrappedQ(trunk=SMOOTH, members=3, prior=1.0, told=told, discount=0.8, batch=32, rate=1e-2, every=8)
    state = learner.prepared(jnp.zeros((), jnp.int32), eyes, 2, KEY, capacity=80)
    for key in jax.random.split(KEY, 10):
        state = all_steps(problem, learner, eyes, state, key)
    state, wrong = settled(learner, state, eyes)
    exact = solve(problem, temperature=0.0).action_values[:4]
    np.testing.assert_allclose(said(learner, state, eyes), np.broadcast_to(exact, (3, 4, 2)), atol=0.02)
    assert float(wrong) < 1e-3


def test_a_bonus_is_the_exact_q_of_rewards_and_bonuses():
    """Q + weight b is Q of r + weight b, of counts as they are now."""
    problem, eyes, weight = chain(), numbered(5), 0.3
    counts = Counted(Tally((5, 2)), about=left, offset=1.0)
    learner = BootstrappedQ(
        trunk=SMOOTH, members=2, prior=1.0, told=1.0, bonus=counts, weight=weight, discount=0.8, batch=32, rate=1e-2
    )
    state = learner.prepared(jnp.zeros((), jnp.int32), eyes, 2, KEY, capacity=8)
    state = all_steps(problem, learner, eyes, state)
    met = jnp.array([[0.0, 3.0], [1.0, 0.0], [0.0, 8.0], [1.0, 1.0], [0.0, 0.0]])
    state, _ = settled(learner, replace(state, bonus=met), eyes)
    news = weight * (met + 1.0) ** -0.5
    exact = solve(problem.rewarded(problem.rewards() + news), temperature=0.0).action_values[:4]
    found = said(learner, state, eyes) + news[None, :4]
    np.testing.assert_allclose(found, np.broadcast_to(exact, (2, 4, 2)), atol=0.02)
    best = [int(learner.followed(state, eyes, 0, jnp.array(place))) for place in range(4)]
    assert best == np.argmax(exact, 1).tolist()


def test_priors_stay_and_those_that_were_not_told_do_not_learn():
    land = DeepSea(4).land
    learner = BootstrappedQ(trunk=SMALL, members=8, batch=16)
    begun = learner.start(land, KEY)
    state, _ = learner.play(begun, land, 20, KEY)
    same = lambda one, other: jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), one, other))  # noqa: E731
    assert same(state.priors, begun.priors)
    assert not same(state.networks, begun.networks)
    assert not same(begun.priors, begun.networks)
    share = np.asarray(state.replay.rows.told[:80]).mean()
    assert abs(share - 0.5) < 4 * (0.25 / 640) ** 0.5
    assert not np.any(state.replay.rows.told[80:])
    # one member alone was told
    rows = jax.tree.map(lambda leaf: leaf[:16], state.replay.rows)
    rows = replace(rows, told=jnp.zeros((16, 8), bool).at[:, 3].set(True))
    after, _ = jax.jit(lambda rows: learner.step(begun, numbered(17), rows))(rows)
    moved = np.abs(np.asarray(after.networks.output.weight - begun.networks.output.weight)).max((1, 2))
    assert moved[3] > 0
    assert not np.any(np.delete(moved, 3))


def test_targets_stay_until_there_were_as_many_steps():
    problem, eyes = chain(), numbered(5)
    learner = BootstrappedQ(trunk=SMALL, members=2, told=1.0, batch=8, every=10)
    state = learner.prepared(jnp.zeros((), jnp.int32), eyes, 2, KEY, capacity=8)
    state = all_steps(problem, learner, eyes, state)
    taught = eqx.filter_jit(lambda state, steps: learner.taught(state, eyes, steps, KEY)[0])
    moved = lambda state: float(jnp.max(jnp.abs(state.slow.output.weight - state.networks.output.weight)))  # noqa: E731
    first = state.slow.output.weight
    for number in (4, 8):
        state = taught(state, 4)
        np.testing.assert_array_equal(state.slow.output.weight, first)
        assert int(state.since) == number
    state = taught(state, 4)
    assert moved(state) == 0.0
    assert int(state.since) == 0
    state = taught(state, 5)
    assert moved(state) > 0.0


def test_each_member_hears_rewards_of_its_own_and_ends_are_ends():
    sea = DeepSea(3)
    learner = BootstrappedQ(trunk=SMALL, members=50, noise=2.0, batch=4)
    state, walks = learner.play(learner.start(sea.land, KEY), sea.land, 2, KEY)
    rows = state.replay.rows
    heard = np.asarray(rows.reward[:6]) - np.asarray(walks.reward).reshape(6, 1)
    assert abs(heard.std() - 2.0) < 0.3
    np.testing.assert_allclose(rows.going[:6], [0.99, 0.99, 0.0] * 2)
    assert state.replay.count == 6


def test_a_light_is_the_picture_with_that_pixel():
    pictures = DeepSea(3).pictures()
    eyes, network = pictured(pictures), BootstrappedQ(trunk=SMALL, members=1)
    state = network.prepared(jnp.zeros((), jnp.int32), eyes, 2, KEY)
    one = jax.tree.map(lambda leaf: leaf[0], state.networks)
    biased = replace(one, net=replace(one.net, layers=(replace(one.net.layers[0], bias=jnp.ones(16)),)))
    for place in (0, 5, 9):  # the last is the end, a picture without any light
        wanted = biased(jnp.asarray(pictures[place].ravel()))
        np.testing.assert_allclose(valued(biased, eyes(place)), wanted, rtol=1e-5)
    twice = pictures.copy()
    twice[:, 0, 0] = 1.0
    np.testing.assert_array_equal(pictured(twice)(4), twice[4].ravel())
    with pytest.raises(ValueError, match="pictures: expected finite"):
        pictured(np.full((2, 2), np.nan))


@pytest.mark.parametrize("who", ["priors", "counts"])
def test_the_treasure_is_found(who):
    sea = DeepSea(8)
    eyes = pictured(sea.pictures())
    learner = BootstrappedQ(members=8, eyes=eyes) if who == "priors" else optimistic(sea.land, eyes=eyes)
    found = search(sea, learner, KEY, most=500)
    assert found.solved is not None
    assert found.returns.max() > 0.98
    assert found.visits[-1].sum() == 8 * len(found.returns)
    again = search(sea, learner, KEY, most=len(found.returns))
    np.testing.assert_array_equal(again.returns, found.returns)
    np.testing.assert_array_equal(again.visits, found.visits)


def test_one_network_without_a_prior_stays_where_it_is():
    sea = DeepSea(8)
    lost = search(sea, BootstrappedQ(members=1, prior=0.0, told=1.0), KEY, most=300)
    assert lost.solved is None
    assert lost.returns.max() < 0.5


def test_an_environment_from_pictures_and_what_was_learned_is_kept(tmp_path):
    told = []
    agent = BootstrappedQ(members=5, trunk=SMALL, rate=3e-3, batch=64)
    make = lambda: deep_sea(5, pictures=True)  # noqa: E731
    actor = bootstrapped(make, 700, key=KEY, agent=agent, begin=20, progress=False, watch=lambda *now: told.append(now))
    assert max(actor.returns) > 0.98
    assert actor.steps.tolist() == list(range(5, 701, 5))
    assert told[-1][:2] == (700, 700)
    env = make()
    seen, _ = env.reset(seed=0)
    total, over, memory = 0.0, False, actor.init(KEY)
    while not over:
        action, memory = actor.act(memory, seen, KEY)
        seen, reward, over, _, _ = env.step(int(action))
        total += reward
    np.testing.assert_allclose(total, 0.99, rtol=1e-5)
    assert {int(actor.init(jax.random.key(seed))) for seed in range(60)} == set(range(5))
    values = actor.values(seen)
    assert actor.act(0, seen, KEY)[0] == jnp.argmax(jnp.mean(values, 0))
    assert replace(actor, settled=False).act(2, seen, KEY)[0] == jnp.argmax(values[2])
    veil.save(tmp_path / "actor", actor)
    loaded = veil.load(tmp_path / "actor")
    assert isinstance(loaded, BootstrappedActor)
    np.testing.assert_array_equal(loaded.values(seen), values)
    with pytest.raises(ValueError, match="observation: expected finite"):
        actor.act(0, np.full((5, 5), np.nan), KEY)
    again = bootstrapped(make, 60, key=KEY, agent=agent, begin=20, progress=False)
    twice = bootstrapped(make, 60, key=KEY, agent=agent, begin=20, progress=False)
    np.testing.assert_array_equal(again.values(seen), twice.values(seen))


def test_numbers_and_vectors_are_seen_too():
    agent = BootstrappedQ(members=2, trunk=SMALL, batch=16, bonus=Counted(Tally((16, 2)), about=left), weight=0.1)
    actor = bootstrapped(lambda: deep_sea(3), 60, key=KEY, agent=replace(agent), begin=20, progress=False)
    assert actor.eyes.size == 10
    assert int(actor.act(0, 3, KEY)[0]) in (0, 1)
    agent = replace(agent, bonus=Counted(Hashed(bits=8, primes=(257,)), about=Chosen(2)))
    car = bootstrapped("CartPole-v1", 60, key=KEY, agent=agent, begin=40, progress=False)
    assert car.eyes.size == 4
    assert np.all(np.isfinite(car.values(np.zeros(4))))
    assert np.sum(car.returns) == car.steps[-1]


def test_where_time_runs_out_what_would_have_followed_counts():
    """One state, a reward of 1 at every step, episodes cut off after five: Q is 1 / (1 - γ)."""

    class Forever(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.taken = 0
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.taken += 1
            return np.zeros(1, np.float32), 1.0, False, self.taken == 5, {}

    agent = BootstrappedQ(members=2, trunk=SMALL, prior=0.0, discount=0.5, rate=1e-2, batch=16)
    actor = bootstrapped(Forever, 400, key=KEY, agent=agent, begin=20, progress=False)
    np.testing.assert_allclose(np.max(actor.values(np.zeros(1)), 1), 2.0, atol=0.1)
    assert set(actor.returns.tolist()) == {5.0}


def test_wrong_usage():
    for wrong, words in (
        ({"members": 0}, "members: expected"),
        ({"told": 0.0}, "told: expected a share"),
        ({"prior": -1.0}, "prior: expected a number from 0"),
        ({"rate": 0.0}, "rate: expected a positive number"),
        ({"bonus": Counted(Tally((3,)), about=arrived)}, "bonus: expected one of what is done where"),
        ({"bonus": PredictionError()}, "PredictionError is of where a step leads"),
    ):
        with pytest.raises(ValueError, match=words):
            BootstrappedQ(**wrong)
    for wrong, words in (({"bonus": "count"}, "bonus: expected one"), ({"trunk": 3}, "trunk: expected an MLP")):
        with pytest.raises(TypeError, match=words):
            BootstrappedQ(**wrong)
    with pytest.raises(TypeError, match="eyes: expected them"):
        BootstrappedQ(eyes=lambda place: place)
    with pytest.raises(ValueError, match="weight: this problem has no horizon"):
        optimistic(Land(chain()))
    few, sea = BootstrappedQ(trunk=SMALL, members=2, capacity=3), DeepSea(4).land
    with pytest.raises(ValueError, match="capacity: expected place for an episode of 4 steps"):
        few.play(few.start(sea, KEY), sea, 1, KEY)
    with pytest.raises(ValueError, match="env: expected one of some actions"):
        bootstrapped("Pendulum-v1", 500, key=KEY)
    with pytest.raises(ValueError, match="steps: expected more than the 200 random ones"):
        bootstrapped("CartPole-v1", 100, key=KEY)
    with pytest.raises(ValueError, match="eyes: they are of the numbers"):
        bootstrapped("CartPole-v1", 500, key=KEY, agent=BootstrappedQ(eyes=numbered(3)))
