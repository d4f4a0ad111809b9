"""The actor-critic in imagination beside exact answers: evaluated, soft-optimal and linear-quadratic policies."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from dreaming import Table, table, taught
from veil import distributions
from veil.control import (
    FixedTemperature,
    Imagined,
    ImaginedActorCritic,
    LearnedTemperature,
    OneOf,
    Pathwise,
    Predicted,
    Reinforce,
    Rewarded,
    Within,
)
from veil.control.actors import FilteringActor
from veil.control.imagination.scales import Spread
from veil.parts import heads

KEY = jax.random.key(0)
SMALL = veil.MLP((16,), "tanh")
SEEN = Predicted("reward", "terminated")


def anywhere(states):
    """One-hot states, all alike."""
    return lambda key, count: jax.nn.one_hot(jax.random.randint(key, (count,), 0, states), states)


def probabilities(agent, state, count):
    policy = agent.policy(state)
    return np.stack([np.exp(policy.decision(each).logs) for each in jnp.eye(count)])


# -- values ------------------------------------------------------------------------------------------------------------

CRITICS = {"two-hot": heads.TwoHot(-6.0, 6.0, 31), "squares": heads.HomoscedasticGaussian()}


@pytest.mark.parametrize(("critic", "ending"), [("two-hot", ()), ("two-hot", (1,)), ("squares", (1,))])
def test_values_are_those_of_the_policy(critic, ending):
    """It hardly moves and does anything alike. Ends count: without them values would be others."""
    world = table(ending=ending)
    world = replace(world, reward=world.reward + 1.0)  # so that it is worth something to go on
    problem = Imagined(world, SEEN, discount=0.8)
    agent = ImaginedActorCritic(
        OneOf(2), SMALL, 4, mixing=0.7, critic=CRITICS[critic], rate=1e-12, critic_rate=1e-2, follow=0.1
    )
    states = (
        anywhere(4) if not ending else lambda key, n: jnp.eye(4)[jax.random.choice(key, jnp.array([0, 2, 3]), (n,))]
    )
    state, _ = taught(agent, problem, states, KEY, 300, 128)
    state, _ = taught(replace(agent, critic_rate=1e-3), problem, states, jax.random.key(1), 300, 128, state)
    found = np.array([agent.value(state)(each) for each in jnp.eye(4)])
    alive = [s for s in range(4) if s not in ending]
    exact = world.evaluated(np.full((4, 2), 0.5), 0.8)
    np.testing.assert_allclose(found[alive], exact[alive], atol=0.1)
    on_and_on = Table(world.move, world.reward, jnp.zeros(4, bool)).evaluated(np.full((4, 2), 0.5), 0.8)
    if ending:
        assert np.abs(on_and_on - exact)[alive].max() > 0.5


def test_values_of_thousands_are_learned_as_soon():
    """Of no head that was told how large they would be, and whose largest bin is a thousand times larger."""
    world = table()
    world = replace(world, reward=1000.0 * (world.reward + 1.0))
    agent = ImaginedActorCritic(OneOf(2), SMALL, 4, rate=1e-12, critic_rate=1e-2, follow=0.1)
    state, _ = taught(agent, Imagined(world, SEEN, discount=0.8), anywhere(4), KEY, 400, 64)
    found = np.array([agent.value(state)(each) for each in jnp.eye(4)])
    np.testing.assert_allclose(found, world.evaluated(np.full((4, 2), 0.5), 0.8), rtol=0.06)


def test_with_steady_the_critic_learns_from_its_slow_copy_too():
    """Their minimum is half way: of a start that counts for nothing else."""
    problem = Imagined(table(), SEEN, discount=0.0)
    agent = ImaginedActorCritic(
        OneOf(2), SMALL, 1, critic=heads.HomoscedasticGaussian(), rate=1e-12, critic_rate=1e-2, follow=1e-9, steady=1.0
    )
    begun = agent.start(jnp.eye(4)[0], KEY)
    state, _ = taught(agent, problem, anywhere(4), KEY, 400, 128, begun)
    found = np.array([agent.value(state)(each) for each in jnp.eye(4)])
    np.testing.assert_allclose(found, 0.5 * np.asarray(problem.model.reward).mean(1), atol=0.1)


# -- policies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", [Reinforce(), Pathwise()])
def test_a_finite_world_s_best_policy(gradient):
    """By scores; or, where latents are codes, straight through their draws."""
    world = table(states=5, actions=3, seed=6)
    best = world.softly(0.8, 0.0)
    assert np.all(np.diff(np.sort(best, 1)[:, -2:]) > 0.05)  # no ties
    model = world if isinstance(gradient, Reinforce) else Coded(world)
    agent = ImaginedActorCritic(
        OneOf(3), SMALL, 5, gradient=gradient, critic=CRITICS["two-hot"], rate=1e-2, critic_rate=1e-2, follow=0.1
    )
    state, info = taught(agent, Imagined(model, SEEN, discount=0.8), anywhere(5), KEY, 500, 64)
    found = probabilities(agent, state, 5)
    np.testing.assert_array_equal(found.argmax(1), best.argmax(1))
    lost = best.max(1) - world.evaluated(np.eye(3)[found.argmax(1)], 0.8)
    np.testing.assert_allclose(lost, 0, atol=1e-4)
    assert info["entropy"][-1] < 0.35 < info["entropy"][0]


class Coded(veil.Stepwise):
    """The same world, whose latents are codes: one-hot rows [1, S], linear in which everything is."""

    world: Table

    def carry(self, evidence):
        return self.world.carry(evidence)

    def advance(self, carry, latent, query, evidence, observed):
        return latent[0]

    def step_prior(self, carry, evidence):
        return distributions.Codes(jnp.log(jnp.einsum("s,a,sat->t", carry, evidence, self.world.move) + 1e-30)[None])

    def step_likelihood(self, carry, latent, evidence):
        return self.world.step_likelihood(carry, jnp.argmax(latent[0]), evidence)

    @property
    def remembers(self):
        return False


def test_soft_policies_are_the_soft_optimum():
    """With ``soft`` π ∝ exp(Q / τ): it goes where it will be free to choose. Else all that it sees is alike."""
    move = np.zeros((3, 2, 3), np.float32)
    move[0, 0, 1] = move[0, 1, 2] = move[1, :, 1] = move[2, :, 2] = 1.0
    reward = jnp.array([[0.0, 0.0], [0.0, 0.1], [0.0, -1.0]])
    world, temperature = Table(jnp.asarray(move), reward, jnp.zeros(3, bool)), 0.2
    scores = world.softly(0.7, temperature) / temperature
    wanted = np.exp(scores - scores.max(1, keepdims=True))
    wanted /= wanted.sum(1, keepdims=True)

    def found(soft):
        agent = ImaginedActorCritic(
            OneOf(2, even=0.0), SMALL, 4, temperature=FixedTemperature(temperature), soft=soft, follow=0.1, rate=1e-2,
            critic=heads.HomoscedasticGaussian(), critic_rate=1e-2, decay=0.9,
        )  # fmt: skip
        problem = Imagined(world, SEEN, discount=0.7)
        state, _ = taught(agent, problem, anywhere(3), KEY, 300, 64)
        state, info = taught(replace(agent, rate=1e-3), problem, anywhere(3), KEY, 100, 128, state)
        assert np.all(info["size"][50:] == 1.0)  # or the temperature would be another
        return probabilities(agent, state, 3)

    np.testing.assert_allclose(found(True), wanted, atol=0.04)
    plain = found(False)
    np.testing.assert_allclose(plain[1:], wanted[1:], atol=0.04)  # from which nothing else can be reached
    assert wanted[0, 0] > 0.8 > 0.7 > plain[0, 0]


def test_an_end_that_is_not_seen_makes_another_policy():
    """A step into state 1 earns most now, and ends. Who does not know that goes there."""
    move = np.zeros((3, 2, 3), np.float32)
    move[:, 0, 1] = move[:, 1, 2] = 1.0
    reward = np.tile(np.array([1.0, 0.5], np.float32), (3, 1))
    world = Table(jnp.asarray(move), jnp.asarray(reward), jnp.array([False, True, False]))
    agent = ImaginedActorCritic(OneOf(2), SMALL, 4, critic=CRITICS["two-hot"], rate=2e-2, critic_rate=1e-2, follow=0.1)
    for outcomes, best in ((SEEN, 1), (Predicted("reward", None), 0)):
        state, info = taught(agent, Imagined(world, outcomes, discount=0.9), anywhere(3), KEY, 200, 64)
        assert np.all(probabilities(agent, state, 3)[[0, 2]].argmax(1) == best)
        assert (info["going"][-1] < 0.999) == (best == 1)


def test_starts_of_no_weight_teach_nothing():
    problem, agent = Imagined(table(), SEEN, discount=0.8), ImaginedActorCritic(OneOf(2), SMALL, 3)
    state, states = agent.start(jnp.eye(4)[0], KEY), jnp.eye(4)
    step = eqx.filter_jit(agent.step)
    some, other = jnp.array([1.0, 0.0, 0.0, 1.0]), states.at[1:3].set(states[0])
    one, _ = step(state, problem, states, KEY, some)
    two, _ = step(state, problem, other, KEY, some)
    far, _ = step(state, problem, other, KEY, jnp.ones(4))
    same = lambda a, b: all(map(np.array_equal, *map(jax.tree.leaves, (a.learnt, b.learnt))))  # noqa: E731
    assert not same(two, far)
    # the sizes of returns are of all, so that these are left out here
    for first, second in zip(jax.tree.leaves(one.learnt.critic), jax.tree.leaves(two.learnt.critic), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-7)


# -- vectors: a linear-quadratic problem -------------------------------------------------------------------------------

MOVED, PUSHED = np.array([[1.0, 0.3], [0.0, 0.9]]), np.array([[0.0], [0.3]])
COST, PRICE, NOISE, DISCOUNT = np.diag([1.0, 0.1]), 0.3, 0.05, 0.9


class Cart(veil.Stepwise):
    """s' = A s + B u + noise, seen as it is."""

    def carry(self, evidence):
        return jnp.zeros(2)

    def advance(self, carry, latent, query, evidence, observed):
        return latent

    def step_prior(self, carry, evidence):
        return distributions.normal(MOVED @ carry + PUSHED @ evidence, jnp.full(2, NOISE))

    def step_likelihood(self, carry, latent, evidence):
        return distributions.normal(latent, jnp.full(2, 0.05))

    @property
    def remembers(self):
        return False

    def latent_of(self, carry):
        return veil.model.stepwise.Marginal(None, carry, jnp.zeros(2))


def cost(step):
    return -(step.before @ COST @ step.before) - PRICE * step.evidence[0] ** 2


def riccati():
    """The discounted regulator's gain, by iteration."""
    value = COST
    for _ in range(1000):
        inner = PRICE + DISCOUNT * PUSHED.T @ value @ PUSHED
        gain = DISCOUNT * np.linalg.solve(inner, PUSHED.T @ value @ MOVED)
        value = COST + DISCOUNT * MOVED.T @ value @ (MOVED - PUSHED @ gain)
    return gain


def returns(act, count=200, steps=60):
    """What is earned from some starts, in plain numpy, the same noise for all."""
    rng = np.random.default_rng(0)
    state, total = rng.uniform(-1.5, 1.5, (count, 2)), 0.0
    for step in range(steps):
        action = np.asarray(act(state))
        earned = np.einsum("ni,ij,nj->n", state, COST, state) + PRICE * action[:, 0] ** 2
        total -= DISCOUNT**step * earned.mean()
        state = state @ MOVED.T + action @ PUSHED.T + NOISE * rng.normal(size=state.shape)
    return total


def carts(key, count):
    return jax.random.uniform(key, (count, 2), minval=-1.5, maxval=1.5)


PROBLEM = Imagined(Cart(), Rewarded(cost), discount=DISCOUNT)
QUICK = {"trunk": veil.MLP((32, 32), "silu"), "horizon": 10, "rate": 2e-3, "critic_rate": 2e-3}


@pytest.fixture(scope="module")
def cart():
    agent = ImaginedActorCritic(Within([-3.0], [3.0]), **QUICK)
    state, info = taught(agent, PROBLEM, carts, KEY, 500, 64)
    return agent, state, info


def acting(policy):
    act = jax.jit(jax.vmap(lambda state: policy(state, KEY)))
    return lambda states: act(jnp.asarray(states, jnp.float32))


def test_the_regulator_s_return(cart):
    """All rewards of a start through the dynamics: to a hundredth of the best there is."""
    agent, state, _ = cart
    best = returns(lambda states: -states @ riccati().T)
    found = returns(acting(replace(agent.policy(state), settled=True)))
    nothing = returns(lambda states: np.zeros((len(states), 1)))
    assert nothing < 2 * best < best < 0
    assert best * 1.02 < found < best * 0.999  # noise of the simulation is the same for all
    noisy = returns(acting(agent.policy(state)))
    assert best * 1.1 < noisy < found


def test_an_actor_that_filters_acts_by_it(cart):
    """From noisy sights, one step at a time; the action before the first sight is nothing."""
    agent, state, _ = cart
    policy = replace(agent.policy(state), settled=True)
    actor = FilteringActor.of(Cart(), policy, jnp.zeros(1), veil.posterior.Bootstrap())
    memory, act = actor.init(KEY), jax.jit(actor.act)
    place = np.array([0.1, 0.0])
    for step in range(3):
        action, memory = act(memory, jnp.asarray(place, jnp.float32), jax.random.key(step))
        assert -3 < action[0] < 3
        np.testing.assert_allclose(action, policy(jnp.asarray(place, jnp.float32), KEY), atol=0.3)
        place = MOVED @ place + PUSHED @ np.asarray(action)


def test_it_is_saved_and_loaded(cart, tmp_path):
    agent, state, _ = cart
    policy, value = agent.policy(state), agent.value(state)
    for name, part in (("policy", replace(policy, settled=True)), ("value", value)):
        again = veil.load(veil.save(tmp_path / name, part))
        seen = jnp.array([0.3, -1.0])
        given = (seen, KEY) if name == "policy" else (seen,)
        np.testing.assert_array_equal(again(*given), part(*given))


def test_scores_find_it_too():
    agent = ImaginedActorCritic(Within([-3.0], [3.0]), gradient=Reinforce(), **QUICK)
    state, _ = taught(agent, PROBLEM, carts, KEY, 600, 64)
    best = returns(lambda states: -states @ riccati().T)
    assert returns(acting(replace(agent.policy(state), settled=True))) > 1.15 * best


def test_the_temperature_finds_the_entropy_that_is_asked_for():
    agent = ImaginedActorCritic(
        Within([-3.0], [3.0]), temperature=LearnedTemperature(0.1, entropy=-0.5), **QUICK | {"rate": 1e-2, "horizon": 3}
    )
    _, info = taught(agent, PROBLEM, carts, KEY, 400, 64)
    np.testing.assert_allclose(np.mean(info["entropy"][-50:]), -0.5, atol=0.1)


# -- sizes, programs, and what cannot be -------------------------------------------------------------------------------


def test_the_size_of_returns_is_that_of_running_percentiles():
    rng, spread = np.random.default_rng(0), Spread.empty()
    batches = [rng.normal(size=(20, 5)).astype(np.float32) * size for size in (0.1, 7.0, 5.0, 9.0)]
    low = high = 0.0
    for number, batch in enumerate(batches):
        spread = spread.updated(jnp.asarray(batch), 0.7)
        share = max(0.3, 1 / (number + 1))
        low += share * (np.percentile(batch, 5) - low)
        high += share * (np.percentile(batch, 95) - high)
        np.testing.assert_allclose([spread.low, spread.high], [low, high], rtol=1e-4)
        assert float(spread.size) == pytest.approx(max(1.0, high - low), rel=1e-4)
    assert Spread.empty().updated(jnp.asarray(batches[0]), 0.7).size == 1.0


class Pictured(Cart):
    """It also says what a picture would look like, which is a lot of work."""

    paint: jax.Array = eqx.field(default_factory=lambda: jnp.ones((20_000, 2)))

    def step_likelihood(self, carry, latent, evidence):
        picture = jnp.tanh(self.paint @ latent)
        return distributions.Joint(
            {
                "frame": distributions.normal(picture, jnp.ones(20_000)),
                "reward": distributions.normal(-(latent[:1] ** 2), jnp.ones(1)),
            }
        )


@pytest.mark.parametrize("gradient", [Pathwise(), Reinforce()])
def test_pictures_that_nobody_asks_for_are_not_painted(gradient):
    agent = ImaginedActorCritic(Within([-3.0], [3.0]), SMALL, 3, gradient=gradient)
    problem, states = Imagined(Pictured(), Predicted("reward"), discount=0.9), carts(KEY, 8)
    step = eqx.filter_jit(agent.step).lower(agent.start(states[0], KEY), problem, states, KEY).compile()
    assert step.compiled.cost_analysis()["flops"] < 8 * 3 * 2 * 20_000


def test_a_step_compiles_once(compilations):
    agent = ImaginedActorCritic(Within([-3.0], [3.0]), SMALL, 2)
    step, state, states = eqx.filter_jit(agent.step), agent.start(jnp.zeros(2), KEY), carts(KEY, 4)
    for number in range(3):
        state, _ = step(state, PAINTED, states, jax.random.key(number))
    assert compilations.of("step") == 1


PAINTED = Imagined(Pictured(), Predicted("reward"), discount=0.9)


def test_what_cannot_be_is_said():
    within = Within([0.0], [1.0])
    for options, words in (
        ({"horizon": 0}, "horizon: expected a positive integer"),
        ({"mixing": 1.5}, "mixing: expected a share from 0 to 1; got 1.5"),
        ({"rate": 0.0}, "rate: expected a positive number"),
        ({"follow": 0.0}, "follow: expected a share"),
        ({"steady": -1.0}, "steady: expected a weight"),
    ):
        with pytest.raises(ValueError, match=words):
            ImaginedActorCritic(within, **options)
    with pytest.raises(TypeError, match=r"actions: expected Within\(low, high\) or OneOf\(count\); got 3"):
        ImaginedActorCritic(3)
    with pytest.raises(TypeError, match=r"gradient: expected Pathwise\(\) or Reinforce\(\); got 'score'"):
        ImaginedActorCritic(within, gradient="score")
    agent = ImaginedActorCritic(OneOf(2), SMALL, 2, gradient=Pathwise())
    state = agent.start(jnp.eye(4)[0], KEY)
    with pytest.raises(TypeError, match=r"gradient: Pathwise\(\) differentiates .* Table are of Categorical; use Rein"):
        agent.step(state, Imagined(table(), SEEN, discount=0.9), jnp.eye(4), KEY)
