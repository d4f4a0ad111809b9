"""What an observation told of the state: naive Kalman and forward recursions, and the batch posterior's KL by steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil.control.exploration.belief import BeliefGain, moved
from veil.control.exploration.bonus import Transition
from veil.model import Datum
from veil.model.chains import Path
from veil.model.filter import Belief
from veil.parts.covariance import Diagonal
from veil.posterior.undecided import LastSeen

KEY = jax.random.key(0)


def along(bonus, query, evidence):
    """Values [T - 1] of the steps of an episode, and the beliefs of all of them."""
    state = bonus.begin(bonus.init(Transition(query[0], evidence[0], query[0]), KEY), query[0])
    first = state.memory.belief

    def step(state, now):
        value, state = bonus(state, None, now[1], now[0])
        return state, (value, state.memory.belief)

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


def linear_gaussian(rng):
    """An LDS with parameters: two numbers of state, two seen, one of an action."""
    normal = lambda *shape: jnp.array(rng.normal(size=shape))  # noqa: E731
    lower = lambda: jnp.tril(0.5 * normal(2, 2), -1) + jnp.diag(jnp.array(0.5 + rng.random(2)))  # noqa: E731
    parts = {"mean": normal(2), "factor": lower(), "transition": 0.6 * normal(2, 2), "drift": normal(2, 2)}
    seen = {"process": lower(), "emission": normal(2, 2), "offset": normal(2)}
    return veil.LDS(2, Diagonal(scale=jnp.array(0.5 + rng.random((1, 2)))), **parts, **seen)


def test_of_a_linear_gaussian_chain_it_is_kalmans():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        model, query, evidence = linear_gaussian(rng), rng.normal(size=(8, 2)).cumsum(0), rng.normal(size=(8, 1))
        values = along(BeliefGain.of(model, jnp.zeros(1)), jnp.asarray(query), jnp.asarray(evidence))[1]
        np.testing.assert_allclose(values, kalman(model, query, evidence), atol=1e-6)


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
    density = np.exp(np.asarray(both[1].memory.belief.log_likelihood))
    entropy = lambda logs: -np.sum(np.exp(logs) * logs, -1)  # noqa: E731
    after = np.asarray(both[1].memory.belief.state)
    ahead = np.log(np.trapezoid(density[:, None] * np.exp(after), grid, axis=0))  # E p(z | y) is p(z)
    information = entropy(ahead) - np.trapezoid(density * entropy(after), grid)
    assert np.trapezoid(density * np.asarray(both[0]), grid) == pytest.approx(information, abs=1e-3)
    again = bonus.begin(ask(jnp.array([3.0]))[1], jnp.zeros(1))  # what was seen before is forgotten
    np.testing.assert_allclose(again.memory.belief.state, state.memory.belief.state, rtol=1e-6)


def test_beliefs_without_a_density_are_refused():
    bonus = BeliefGain(LastSeen(None))
    belief = Belief(jnp.zeros(1), jnp.array(False), jnp.zeros(()))
    with pytest.raises(TypeError, match="density"):
        moved(bonus.filter, belief, belief, Datum(jnp.zeros(1)), KEY)
