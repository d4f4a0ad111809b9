"""Actors: how an action is chosen from any model, what they remember, and a filter that is the batch posterior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import linear_gaussian
import veil
from compiled import called
from veil import (
    Data,
    Datum,
    FilteringActor,
    Likeliest,
    LowNoise,
    Mean,
    Policy,
    RandomActor,
    Sample,
    ScriptedActor,
    distributions,
)
from veil.model import Enumerable, Model

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
SHARES, PLACES, NOISE = np.array([0.3, 0.7]), np.array([-1.0, 1.0]), 0.1


class Fork(Enumerable):
    """Left or right of what is seen: a | z, o ~ N(±1 + o, 0.1²), 7 of 10 to the right. Its latent can be listed."""

    places: Array = eqx.field(converter=jnp.asarray, default_factory=lambda: PLACES)

    def prior(self, evidence):
        return distributions.categorical(jnp.log(jnp.array(SHARES)))

    def likelihood(self, latent, evidence):
        return distributions.normal(self.places[latent] + evidence, jnp.full(1, NOISE))


class Curve(Model):
    """The same shape with a latent that cannot: z ~ N(0.3, 1), a | z, o ~ N(tanh(9 z) + o, 0.1²)."""

    def prior(self, evidence):
        return distributions.normal(jnp.full(1, 0.3), jnp.ones(1))

    def likelihood(self, latent, evidence):
        return distributions.normal(jnp.tanh(9.0 * latent) + evidence, jnp.full(1, NOISE))


MODELS = {"tractable": Fork(), "intractable": Curve()}
HERE = jnp.array([5.0])


@eqx.filter_jit
def _many(policy, observation, keys):
    return jax.vmap(lambda key: policy.act((), observation, key)[0])(keys)


def actions(model, choose, count=2000, **limits):
    return np.asarray(_many(Policy(model, choose, **limits), HERE, jax.random.split(KEY, count)))[:, 0]


def exact_mean(name):
    if name == "tractable":
        return 5.0 + SHARES @ PLACES
    z = np.linspace(-8, 8, 200_001)
    return 5.0 + np.trapezoid(np.tanh(9 * z) * np.exp(-0.5 * (z - 0.3) ** 2) / np.sqrt(2 * np.pi), z)


def right(name):
    """P(a > o)."""
    from scipy.stats import norm

    return SHARES[1] if name == "tractable" else norm.cdf(0.3)


@pytest.mark.parametrize("name", MODELS)
def test_a_draw_visits_both_modes_in_proportion(name):
    found = actions(MODELS[name], Sample()) - 5.0
    assert abs(np.mean(found > 0) - right(name)) < 4 * np.sqrt(0.25 / 2000)
    assert abs(found.mean() + 5.0 - exact_mean(name)) < 4 * found.std() / np.sqrt(2000)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_low_noise_keeps_the_modes_and_loses_the_noise(name, scale):
    found = actions(MODELS[name], LowNoise(scale)) - 5.0
    assert abs(np.mean(found > 0) - right(name)) < 4 * np.sqrt(0.25 / 2000)
    mode = found[found > 0]
    if name == "tractable":
        np.testing.assert_allclose(mode.mean(), 1.0, atol=0.02 if scale < 1 else 0.1)
        np.testing.assert_allclose(mode.std(), scale * NOISE, rtol=0.25, atol=1e-12)
    if scale == 0.0:
        np.testing.assert_allclose(np.abs(found).max(), 1.0, rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_the_likeliest_of_the_candidates_by_hand(name):
    """Tractable: by p(a | o) itself; else by its estimate from the candidates' latents."""
    model, count = MODELS[name], 16
    for seed in range(5):
        key = jax.random.key(seed)
        latents, drawn = jax.vmap(lambda key: model.sample(key, HERE))(jax.random.split(key, count))
        drawn = np.asarray(drawn)[:, 0]
        if name == "tractable":
            centres, weights = PLACES + 5.0, SHARES
        else:
            centres, weights = np.tanh(9 * np.asarray(latents)[:, 0]) + 5.0, np.ones(count)
        scores = np.log(np.exp(-0.5 * ((drawn[:, None] - centres) / NOISE) ** 2) @ weights)
        found = called(lambda key: Likeliest(count)(model, HERE, key), key)
        np.testing.assert_allclose(found[0], drawn[np.argmax(scores)], rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_likeliest_is_on_the_higher_mode(name):
    found = actions(MODELS[name], Likeliest(64), 50) - 5.0
    np.testing.assert_allclose(found, 1.0, atol=0.15)


@pytest.mark.parametrize("name", MODELS)
def test_the_mean_is_between(name):
    found = actions(MODELS[name], Mean(400), 50)
    if name == "tractable":
        np.testing.assert_allclose(found, exact_mean(name), rtol=1e-12)  # no draw in it
    else:
        assert abs(found.mean() - exact_mean(name)) < 4 * found.std() / np.sqrt(50)
        assert found.std() < 2.0 / np.sqrt(400)


def test_of_a_linear_gaussian_policy_all_is_closed_form():
    """p(a | o) = N(b + o, W Wᵀ + s² I): the mean of draws, the mode, and what low noise leaves, W Wᵀ + (scale s)² I."""
    model = linear_gaussian.random_model(2, 3)
    seen = jnp.array([1.0, -2.0, 0.5])
    centre = np.asarray(model.b + seen)
    spread = np.asarray(model.W @ model.W.T)
    keys = jax.random.split(KEY, 4000)
    for choose, covariance in (
        (Sample(), spread + float(model.s) ** 2 * np.eye(3)),
        (LowNoise(0.1), spread + (0.1 * float(model.s)) ** 2 * np.eye(3)),
        (Mean(1000), spread / 1000),
    ):
        found = np.asarray(_many(Policy(model, choose), seen, keys[: 400 if isinstance(choose, Mean) else 4000]))
        error = np.sqrt(np.diag(covariance) / len(found))
        assert np.all(np.abs(found.mean(0) - centre) < 4.5 * error)
        np.testing.assert_allclose(np.cov(found.T), covariance, atol=0.25 * np.max(covariance))
    near = np.asarray(_many(Policy(model, Likeliest(256)), seen, keys[:50]))
    far = np.asarray(_many(Policy(model, Sample()), seen, keys[:50]))
    whole = np.linalg.inv(spread + float(model.s) ** 2 * np.eye(3))
    distance = lambda each: np.mean(np.einsum("ni,ij,nj->n", each - centre, whole, each - centre))  # noqa: E731
    assert distance(near) < 0.25 * distance(far)


@pytest.fixture(scope="module")
def forks():
    """Demonstrations that go left or right of what is seen, in units of their own; a mixture and a VAE of them."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(300, 1))
    side = np.where(np.arange(300) % 3 == 0, -1.0, 1.0)[:, None]
    data = Data(100.0 + 20.0 * (side + 0.1 * rng.normal(size=seen.shape)), evidence=7.0 * seen)
    mixture = veil.Mixture(veil.Linear(veil.heads.DiagonalGaussian()), 2, trunk=veil.MLP((4,)))
    return {
        "tractable": veil.fit(mixture, data, key=KEY, steps=300),
        "intractable": veil.fit(veil.VAE(1, decoder=veil.MLP((16,))), data, key=KEY, steps=1500),
    }


@pytest.mark.parametrize("name", MODELS)
def test_fitted_policies_act_in_the_user_s_units(forks, name):
    """Modes at 80 and 120, twice as often at 120; a Fit is its model."""
    fit = forks[name]
    keys, seen = jax.random.split(KEY, 300), jnp.array([3.0])
    found = {
        choose: np.asarray(_many(Policy(fit, choose), seen, keys))[:, 0]
        for choose in (Sample(), LowNoise(), Likeliest(), Mean(256))
    }
    drawn = found[Sample()]
    assert abs(np.mean(drawn > 100) - 2 / 3) < 0.12
    assert np.mean(np.abs(np.abs(drawn - 100) - 20) < 8) > 0.7
    quiet = found[LowNoise()]
    assert np.mean(np.abs(np.abs(quiet - 100) - 20) < 8) > 0.7
    if name == "tractable":
        assert quiet[quiet > 100].std() < 0.2 * drawn[drawn > 100].std()
    # of an intractable model, the likeliest of a few draws: now and then none is of the likelier mode
    assert np.mean(np.abs(found[Likeliest()] - 120) < 5) > (1 - 1e-9 if name == "tractable" else 0.95)
    np.testing.assert_allclose(found[Mean(256)].mean(), 100 + 20 / 3, atol=3)
    np.testing.assert_array_equal(_many(Policy(fit.model), seen, keys), _many(Policy(fit), seen, keys))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("choose", [Sample(), LowNoise(), Likeliest(8), Mean(8)], ids=str)
def test_environments_are_mapped_over(name, choose):
    policy = Policy(MODELS[name], choose, low=3.0, high=6.5)
    keys = jax.random.split(KEY, 4)
    seen = jnp.linspace(4.0, 6.0, 4)[:, None]
    memory = jax.vmap(policy.init)(keys)
    together, after = jax.jit(jax.vmap(policy.act))(memory, seen, keys)
    alone = jnp.stack([called(policy, o, key) for o, key in zip(seen, keys, strict=True)])
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    assert after == memory == ()
    assert np.all((together >= 3.0) & (together <= 6.5))


def test_observations_and_actions_may_be_trees():
    class Both(Model):
        """a = {"turn": N(left + z, 1), "go": N(-speed, 1)}."""

        def prior(self, evidence):
            return distributions.normal(jnp.zeros(1), jnp.ones(1))

        def likelihood(self, latent, evidence):
            one = jnp.full(1, 0.01)
            return distributions.Joint(
                {
                    "turn": distributions.normal(evidence["camera"]["left"] + latent, one),
                    "go": distributions.normal(-evidence["speed"], one),
                }
            )

    seen = {"camera": {"left": jnp.array([4.0])}, "speed": jnp.array([2.0])}
    for choose in (Sample(), LowNoise(), Likeliest(8), Mean(64)):
        found = called(Policy(Both(), choose), seen, KEY)
        assert set(found) == {"turn", "go"}
        np.testing.assert_allclose(found["go"], [-2.0], atol=0.1)
        np.testing.assert_allclose(found["turn"], [4.0], atol=4.0)


def test_random_and_scripted_actors():
    low, high = jnp.array([-1.0, 0.0]), jnp.array([1.0, 5.0])
    actor = RandomActor(low, high)
    keys = jax.random.split(KEY, 4000)
    found, _ = jax.vmap(lambda key: actor.act(actor.init(key), jnp.zeros(3), key))(keys)
    assert np.all((np.asarray(found) >= np.asarray(low)) & (np.asarray(found) <= np.asarray(high)))
    np.testing.assert_allclose(found.mean(0), [0.0, 2.5], atol=0.15)
    np.testing.assert_allclose(found.std(0), (high - low) / np.sqrt(12), rtol=0.05)
    script = ScriptedActor(lambda seen, key: -0.5 * seen + jax.random.normal(key, seen.shape))
    action, memory = jax.jit(script.act)(script.init(KEY), HERE, KEY)
    np.testing.assert_allclose(action, -0.5 * HERE + jax.random.normal(KEY, (1,)))
    assert memory == ()


# -- filtering while acting --------------------------------------------------------------------------------------------


def pushed(steps=12, count=4, seed=0):
    """Sequences whose evidence drives them, in units of their own."""
    rng = np.random.default_rng(seed)
    push = 3.0 * rng.normal(size=(count, steps, 1))
    push[:, 0] = 0.0
    place, rows = rng.normal(size=(count, 1)), []
    for t in range(steps):
        place = 0.8 * place + 0.2 * push[:, t] + 0.1 * rng.normal(size=place.shape)
        rows.append(50.0 + 10.0 * place + rng.normal(size=place.shape))
    return Data(np.stack(rows, 1), evidence=push)


CHAINS = {
    "lds": veil.LDS(1),
    "hmm": veil.HMM(states=2),
    "hmm in standardised units": veil.HMM(experts=veil.Linear(veil.heads.StudentT()), states=2),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_an_actor_knows_is_what_the_batch_posterior_says(name):
    """Three environments side by side: beliefs after every step, and the likelihood of all."""
    data = pushed()
    fit = veil.fit(CHAINS[name], data, key=KEY, steps=4)
    policy = lambda state, key: jax.random.normal(key, (1,))  # noqa: E731
    actor = FilteringActor.of(fit, policy, jnp.zeros(1))
    seen = jnp.array(pushed(steps=6, count=3, seed=1).query)

    @jax.jit
    def played(seen, key):
        key_begin, key_steps = jax.random.split(key)

        def step(memory, now):
            observation, key = now
            action, memory = actor.act(memory, observation, key)
            return memory, (action, actor.filter.marginal(memory.belief), memory.belief.log_likelihood)

        return jax.lax.scan(step, actor.init(key_begin), (seen, jax.random.split(key_steps, 6)))[1]

    acted, beliefs, values = jax.vmap(played)(seen, jax.random.split(KEY, 3))
    for row in range(3):
        led = jnp.concatenate([jnp.zeros((1, 1)), acted[row, :-1]])
        for steps in range(1, 7):
            datum = Datum(seen[row, :steps], led[:steps])
            expected = jax.tree.map(lambda leaf: leaf[-1], called(fit.model.marginals, datum))
            for field in ("log_probabilities", "mean", "variance"):
                known, found = getattr(expected, field), getattr(beliefs, field)
                if known is not None:
                    np.testing.assert_allclose(found[row, steps - 1], known, rtol=1e-7, atol=1e-9)
        total = called(fit.model.log_marginal, Datum(seen[row], led))
        np.testing.assert_allclose(values[row].sum(), total, rtol=1e-9)


def test_the_policy_acts_on_a_state_drawn_from_the_belief():
    """An LDS: the mean of what is acted on is the belief's; the first action is led to by nothing."""
    data = pushed()
    fit = veil.fit(veil.LDS(1), data, key=KEY, steps=4)
    actor = FilteringActor.of(fit, lambda state, key: fit.model.latent_of(state).mean, jnp.zeros(1))
    keys = jax.random.split(KEY, 3000)
    seen = jnp.array([55.0])
    act = jax.jit(jax.vmap(lambda key: actor.act(actor.init(key), seen, key)))
    found, memory = act(keys)
    known = jax.tree.map(lambda leaf: leaf[0], jax.vmap(actor.filter.marginal)(memory.belief))
    spread = np.sqrt(known.variance.ravel()[0])
    assert abs(found.mean() - known.mean[0]) < 4.5 * max(spread, 1e-9) / np.sqrt(3000) + 1e-9
    np.testing.assert_array_equal(memory.action, found)


def test_a_posterior_that_needs_the_future_cannot_act():
    model = veil.dmm(1, decoder=veil.MLP((3,)))
    fit = veil.fit(model, pushed(), key=KEY, steps=2)
    with pytest.raises(ValueError, match=r"needs the steps that are to come"):
        FilteringActor.of(fit, lambda state, key: jnp.zeros(1), jnp.zeros(1))
    past = veil.fit(model, pushed(), key=KEY, steps=2, posterior=veil.Sequential(sees=veil.posterior.Past()))
    actor = FilteringActor.of(past, lambda state, key: jnp.zeros(1), jnp.zeros(1))
    action, memory = eqx.filter_jit(actor.act)(actor.init(KEY), jnp.array([50.0]), KEY)
    assert action.shape == (1,)
    assert not bool(memory.belief.fresh)


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"^choose: expected Sample\(\)"):
        Policy(Fork(), "best")
    with pytest.raises(ValueError, match=r"^scale: expected a share"):
        LowNoise(1.5)
    with pytest.raises(ValueError, match=r"^candidates: "):
        Likeliest(0)
    with pytest.raises(ValueError, match=r"^draws: "):
        Mean(0)


def test_weights_that_data_share_are_drawn_from_what_was_learned(key):
    x = np.linspace(-1, 1, 60)[:, None].astype(np.float32)
    data = veil.Data(3.0 * x + 5.0, evidence=x)
    fit = veil.fit(veil.BayesianNetwork((8,)), data, steps=600, key=key)
    policy, place = veil.Policy(fit), jnp.full(1, 0.5)
    actions = jax.jit(jax.vmap(lambda key: policy.act((), place, key)[0]))(jax.random.split(key, 400))
    expected = veil.predict(fit, place[None], samples=400, key=key)
    spread = float(expected.standard_deviation[0, 0])
    assert abs(float(jnp.mean(actions)) - float(expected.mean[0, 0])) < 0.5 * spread
    assert 0.7 * spread < float(jnp.std(actions)) < 1.4 * spread
    for choice in (veil.Mean(), veil.LowNoise(), veil.Likeliest(16)):
        assert abs(float(veil.Policy(fit, choice)(place, key)[0]) - 6.5) < 1.5
    with pytest.raises(ValueError, match="model: what BayesianNetwork has learned is in its posterior; give the Fit"):
        veil.Policy(fit.model)
    with pytest.raises(ValueError, match="observation: expected 1 numbers"):
        policy(jnp.zeros(2), key)
