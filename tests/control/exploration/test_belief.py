"""What an observation told of the state: naive Kalman and forward recursions, and the batch posterior's KL by steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.control.exploration.belief import BeliefGain
from veil.control.exploration.bonus import Transition
from veil.model import Datum
from veil.model.chains import Path

KEY = jax.random.key(0)


def along(bonus, query, evidence):
    """Values [T - 1] of the steps of an episode, and the beliefs of all of them."""
    state = bonus.begin(bonus.init(Transition(query[0], evidence[0], query[0]), KEY), query[0])
    first = state.belief

    def step(state, now):
        value, state = bonus(state, None, now[1], now[0])
        return state, (value, state.belief)

    return first, *jax.jit(lambda state: jax.lax.scan(step, state, (query[1:], evidence[1:]))[1])(state)


def kalman(model, query, evidence):
    """KL(filtered || predicted) of every step but the first, textbook."""
    mean, factor, transition, drift, process, emission, offset = map(np.asarray, model._parts())
    noise, spread, found = np.diag(np.asarray(model._variance())), factor @ factor.T, []
    for t in range(len(query)):
        if t:
            mean = transition @ after + drift @ np.concatenate([[1.0], evidence[t]])
            spread = transition @ covariance @ transition.T + process @ process.T
        gain = spread @ emission.T @ np.linalg.inv(emission @ spread @ emission.T + noise)
        after = mean + gain @ (query[t] - emission @ mean - offset)
        covariance = spread - gain @ emission @ spread
        apart, ratio = after - mean, np.linalg.solve(spread, covariance)
        kl = np.trace(ratio) + apart @ np.linalg.solve(spread, apart) - len(mean) - np.linalg.slogdet(ratio)[1]
        found.append(0.5 * kl)
    return np.array(found[1:])


def test_of_a_linear_gaussian_chain_it_is_kalmans():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        query, evidence = rng.normal(size=(3, 8, 2)).cumsum(1), rng.normal(size=(3, 8, 1))
        fit = veil.fit(veil.LDS(latent=2), veil.Data(query, evidence), key=KEY, steps=3)
        bonus = BeliefGain.of(fit, nothing=jnp.zeros(1))
        values = along(bonus, jnp.asarray(query[0]), jnp.asarray(evidence[0]))[1]
        np.testing.assert_allclose(values, kalman(fit.model, query[0], evidence[0]), atol=1e-6)


@pytest.mark.parametrize("latent", [2, veil.priors.Codes(2, 3)], ids=["normals", "codes"])
def test_of_a_recurrent_model_it_is_the_batch_posteriors_term(latent):
    rng = np.random.default_rng(0)
    query, evidence = rng.normal(size=(2, 6, 3)).astype(np.float32), rng.normal(size=(2, 6, 1)).astype(np.float32)
    model = veil.rssm(latent, memory=4, decoder=veil.MLP((5,)))
    trainer = veil.Trainer(model)
    fitted, posterior = trainer.result(trainer.start(veil.Data(query, evidence), KEY))
    bonus = BeliefGain.of(fitted, nothing=jnp.zeros(1), posterior=posterior)
    first, values, beliefs = along(bonus, jnp.asarray(query[0]), jnp.asarray(evidence[0]))
    whole = lambda one, rest: jnp.concatenate([one[None], rest])  # noqa: E731
    path = Path(*(whole(a, b) for a, b in ((first.state.path.latent, beliefs.state.path.latent),
                                           (first.state.path.memory, beliefs.state.path.memory))))  # fmt: skip
    datum = Datum(jnp.asarray(query[0]), jnp.asarray(evidence[0]))
    wanted = posterior(fitted, datum).kl_along(fitted.prior_for(datum), path)[1:]
    np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-5)
    assert np.all(np.asarray(values) > 0)


def test_of_a_hidden_markov_model_its_mean_is_the_mutual_information():
    data = veil.data.episodes([[[0.0], [3.0], [0.1], [2.9]], [[3.0], [0.0], [3.1]]])
    fit = veil.fit(veil.HMM(states=2), data, key=KEY, steps=5)
    bonus = BeliefGain.of(fit)
    state = bonus.begin(bonus.init(Transition(jnp.zeros(1), None, jnp.zeros(1)), KEY), jnp.zeros(1))
    ask = jax.jit(lambda y: bonus(state, None, None, y))
    grid = np.linspace(-4, 8, 400)
    both = jax.vmap(ask)(jnp.asarray(grid, jnp.float32)[:, None])
    density = np.exp(np.asarray(both[1].belief.log_likelihood))
    entropy = lambda logs: -np.sum(np.exp(logs) * logs, -1)  # noqa: E731
    after = np.asarray(both[1].belief.state)
    ahead = np.log(np.trapezoid(density[:, None] * np.exp(after), grid, axis=0))  # E p(z | y) is p(z)
    information = entropy(ahead) - np.trapezoid(density * entropy(after), grid)
    assert np.trapezoid(density * np.asarray(both[0]), grid) == pytest.approx(information, abs=1e-3)
    again = bonus.begin(both[1] if False else state, jnp.zeros(1))  # what was seen before is forgotten
    np.testing.assert_allclose(again.belief.state, state.belief.state, rtol=1e-6)


def test_particles_are_refused():
    data = veil.data.episodes([[[0.0], [3.0], [0.1], [2.9]]])
    fit = veil.fit(veil.dmm(latent=1), data, key=KEY, steps=1)
    bonus = BeliefGain.of(fit.model, posterior=veil.posterior.Bootstrap())
    with pytest.raises(TypeError, match="density"):
        bonus(bonus.init(Transition(jnp.zeros(1), None, jnp.zeros(1)), KEY), None, None, jnp.zeros(1))
