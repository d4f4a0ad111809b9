"""Filters, rollouts and forecasts of every kind of sequence model: they agree with the batch posterior and prior."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from compiled import called
from state_space import SIZE, STATES, lds, sequence
from veil import distributions
from veil.model import Datum, Sized, Stepwise
from veil.model.abilities import Sizes
from veil.model.chains import Path
from veil.model.filter import beliefs
from veil.model.scales import Scale
from veil.model.stepwise import Before, Marginal, rollout
from veil.parts.covariance import Diagonal
from veil.parts.gates import Softmax
from veil.posterior import Bootstrap, Exact, Extended, MeanField, Now, Optimal, Past, Sequential, Unscented, proposals
from veil.units import Units, standardised, standardised_posterior

EVERYTHING = "controls missing padding reset"
KEY = jax.random.key(7)
T = 6


def hmm() -> veil.HMM:
    """Three states, whose moves and emissions are driven by two controls."""
    rng = np.random.default_rng(3)
    normal = lambda *shape: jnp.array(rng.normal(size=shape))  # noqa: E731
    experts = veil.LinearGaussian(Diagonal(scale=jnp.array(0.5 + rng.random((3, SIZE)))), weight=normal(3, SIZE, 3))
    initial = Softmax(evidence=False, weight=normal(3, 1))
    return veil.HMM(experts, 3, Softmax(evidence=True, weight=normal(3, 3, 3)), initial)


def nonlinear() -> veil.NonlinearGaussian:
    m = lds("full", 2)
    move = lambda z, x: jnp.sin(m.transition @ z) + m.drift[:, 1:] @ x  # noqa: E731
    return veil.NonlinearGaussian(move, lambda z, x: m.emission @ z**2, m.process, m.noise, m.mean, m.factor)


def switching() -> veil.SwitchingLDS:
    one = lds("diagonal", 2)
    other = replace(lds("diagonal", 2, 1), mean=one.mean, factor=one.factor)
    rng = np.random.default_rng(9)
    gates = Softmax(False, weight=jnp.array(rng.normal(size=(2, 2, 1))))
    initial = Softmax(False, weight=jnp.array(rng.normal(size=(2, 1))))
    return veil.SwitchingLDS(2, STATES, shared=False, transition=gates, initial=initial, regimes=(one, other))


class Walk(Stepwise):
    """z_t ~ N(z_t-1 + push x_t, scale²), y_t ~ Poisson(exp(z_t)): as a user would write it, in four methods."""

    scale: jax.Array
    push: jax.Array

    def carry(self, evidence):
        return Before(jnp.zeros(SIZE), jnp.array(True))

    def advance(self, carry, latent, query, evidence, observed):
        return Before(latent, jnp.array(False))

    def step_prior(self, carry, evidence):
        return distributions.normal(carry.latent + self.push * evidence[0], jnp.full(SIZE, self.scale))

    def step_likelihood(self, carry, latent, evidence):
        return distributions.poisson(latent)


class Remembering(Stepwise):
    """z_t ~ N(c_t-1, scale²), y_t ~ N(z_t, 1), c_t = (c_t-1 + z_t + y_t) / 3: its carry is its own."""

    scale: jax.Array

    def carry(self, evidence):
        return {"place": jnp.zeros(SIZE), "latent": jnp.zeros(SIZE)}

    def advance(self, carry, latent, query, evidence, observed):
        seen = query if observed is None else jnp.where(observed, query, latent)
        return {"place": (carry["place"] + latent + seen) / 3, "latent": latent}

    def step_prior(self, carry, evidence):
        return distributions.normal(carry["place"] + 0.1 * evidence[0], jnp.full(SIZE, self.scale))

    def step_likelihood(self, carry, latent, evidence):
        return distributions.normal(latent, jnp.ones(SIZE))

    def latent_of(self, carry):
        return Marginal(None, carry["latent"], jnp.zeros(SIZE))


def units(query: bool = True) -> Units:
    rng = np.random.default_rng(5)
    scale = lambda size: Scale(jnp.array(rng.normal(size=size)), jnp.array(0.5 + rng.random(size)))  # noqa: E731
    measured = Units(scale(SIZE), scale(2))
    return measured if query else Units(None, measured.evidence)


NEURAL = {
    "rssm, now": (lambda: veil.rssm(2, memory=4, decoder=veil.MLP((5,))), Now()),
    "rssm, past": (lambda: veil.rssm(2, memory=4, decoder=veil.MLP((5,))), Past(3)),
    "vrnn, now": (lambda: veil.vrnn(2, memory=4, decoder=veil.MLP((5,))), Now()),
    "dmm, past": (lambda: veil.dmm(2, width=5, decoder=veil.MLP((5,))), Past(3)),
}


def neural(name: str) -> tuple[Any, Sequential]:
    """A deep model and a filtering posterior with random parameters; in the precision of the test."""
    return neural_in(name, jax.config.jax_enable_x64)


@functools.cache
def neural_in(name: str, double: bool) -> tuple[Any, Sequential]:
    make, sees = NEURAL[name]
    rng = np.random.default_rng(0)
    data = Datum(jnp.array(rng.normal(size=(2, T, SIZE))), jnp.array(rng.normal(size=(2, T, 2))))
    data = replace(data, observed=jnp.ones((2, T, SIZE), bool))

    def made(model, data):
        model = model.initialise(data, None, jax.random.key(0))
        example = jax.tree.map(lambda leaf: leaf[0], data)
        posterior = Sequential(veil.MLP((5,)), sees, combiner=veil.MLP((5,))).initialise(
            model, example, 2, jax.random.key(1)
        )
        leaves, structure = jax.tree.flatten((model, posterior))
        keys = jax.random.split(jax.random.key(2), len(leaves))
        moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
        return jax.tree.unflatten(structure, moved)

    return called(made, make(), data)


MODELS = {
    "hmm": hmm,
    "lds": lambda: lds("full", 2),
    "nonlinear": nonlinear,
    "switching": switching,
    "rssm": lambda: neural("rssm, now")[0],
    "vrnn": lambda: neural("vrnn, now")[0],
    "dmm": lambda: neural("dmm, past")[0],
    "walk": lambda: Walk(jnp.array(0.3), jnp.array(0.5)),
    "remembering": lambda: Remembering(jnp.array(0.3)),
}
# counts have no units
MODELS |= {
    f"{name}, standardised": lambda make=make, query=name != "walk": standardised(make(), units(query))
    for name, make in MODELS.items()
}


def same(found: Marginal, expected: Marginal, there: Any, atol: float = 1e-10) -> None:
    """Of every step that is there."""
    known = 0
    for left, right in zip(found[:3], expected[:3], strict=True):
        assert (left is None) == (right is None)
        if left is not None:
            known += 1
            close = lambda a, b: np.testing.assert_allclose(a[there], b[there], atol=atol)  # noqa: E731
            close(*((np.exp(left), np.exp(right)) if left is found.log_probabilities else (left, right)))
    assert known


# -- filters against batches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hmm", "lds", "hmm, standardised", "lds, standardised"])
@pytest.mark.parametrize("case", ["controls", EVERYTHING])
def test_exact_filters_are_the_posterior_of_what_was_seen(x64: None, name: str, case: str) -> None:
    model, one = MODELS[name](), sequence(case, T)

    def numbers(model, one):
        filter, each = Exact().filter(model), jnp.arange(T)
        found = beliefs(filter, one, KEY)[1]
        until = lambda t: replace(one, mask=one.there & (each <= t))  # noqa: E731
        known = jax.vmap(lambda t: model.marginals(until(t)))(each)._replace(path=None)
        values = jax.vmap(lambda t: model.log_marginal(until(t)))(each)
        return (
            jax.vmap(filter.marginal)(found), jax.tree.map(lambda leaf: leaf[each, each], known),
            found.log_likelihood, values, found.fresh,
        )  # fmt: skip

    found, known, log_likelihoods, values, fresh = called(numbers, model, one)
    there = np.ones(T, bool) if one.mask is None else np.asarray(one.mask)
    same(found, known, there)
    # each step's sum is the likelihood of what was seen until then; at padding there is none, and the belief stays
    np.testing.assert_allclose(np.cumsum(log_likelihoods), values, atol=1e-10)
    assert not np.any(fresh)
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf[~there], np.repeat(leaf[there][-1:], np.sum(~there), 0))


@pytest.mark.parametrize("rule", [Extended(), Unscented(), Unscented(0.5, 2.0)], ids=["tangent", "sigma", "narrow"])
def test_gaussian_filters_are_the_batch_filters(x64: None, rule: Any) -> None:
    model, one = nonlinear(), sequence(EVERYTHING, T)

    def numbers(model, one):
        filter = rule.filter(model)
        found = beliefs(filter, one, KEY)[1]
        return found, jax.vmap(filter.marginal)(found), rule.filtered(model, one)

    found, marginal, known = called(numbers, model, one)
    variance = np.diagonal(known.covariance, axis1=1, axis2=2)
    same(marginal, Marginal(None, known.mean, variance), np.asarray(one.mask))
    np.testing.assert_allclose(np.sum(found.log_likelihood), known.log_likelihood, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith(("rssm", "vrnn", "dmm"))])
@pytest.mark.parametrize("proposal", [Bootstrap(), Optimal()], ids=["bootstrap", "optimal"])
def test_particles_are_the_batch_filters(x64: None, name: str, proposal: Any) -> None:
    """The same draws, so the same particles."""
    model, one = MODELS[name](), sequence(EVERYTHING, T)
    if name.startswith(("walk", "remembering")) and isinstance(proposal, Optimal):
        with pytest.raises(TypeError, match=r"no step_posterior\(carry, datum\); use veil\.posterior\.Bootstrap"):
            proposal.filter(model)
        return
    if name.startswith("walk"):
        one = replace(one, query=jnp.round(jnp.abs(3 * one.query)))

    def numbers(model, one):
        filter = proposal.filter(model).of(20)
        found = beliefs(filter, one, KEY)[1]
        batch = proposals.filtered(model, proposal, one, KEY, 20, record=model.latent_of)
        return found, jax.vmap(filter.marginal)(found), batch

    found, marginal, batch = called(numbers, model, one)
    there = np.asarray(one.mask)
    np.testing.assert_allclose(found.log_likelihood, batch.log_likelihoods, atol=1e-10)
    np.testing.assert_allclose(np.sum(found.log_likelihood), batch.log_likelihood, atol=1e-10)
    weights = np.exp(batch.log_weights)
    np.testing.assert_allclose(np.exp(found.state.log_weights), weights, atol=1e-10)
    if marginal.log_probabilities is None:
        mean = np.einsum("tk,tkl->tl", weights, batch.latents)
        variance = np.einsum("tk,tkl->tl", weights, (batch.latents - mean[:, None]) ** 2)
        same(marginal, Marginal(None, mean, variance), there)
    else:
        shares = np.einsum("tk,tks->ts", weights, np.eye(3 if "hmm" in name else 2)[batch.latents])
        np.testing.assert_allclose(np.exp(marginal.log_probabilities)[there], shares[there], atol=1e-10)


def test_many_particles_are_the_exact_filter(x64: None) -> None:
    """Also through units, and with the mean-field posterior, which filters by particles."""
    one = sequence(EVERYTHING, T)
    twice = switching()
    twice = replace(twice, regimes=(twice.regimes[0],) * 2)
    single = lds("diagonal", 2)
    for model, known, posterior in (
        (standardised(single, units()), standardised(single, units()), Optimal()),
        (standardised(twice, units()), standardised(single, units()), Optimal()),
        (twice, single, MeanField()),
    ):

        def numbers(model, known, posterior=posterior):
            pair = posterior.filter(model).of(500), known.filter()
            found = [beliefs(filter, one, KEY)[1] for filter in pair]
            return [(jax.vmap(filter.marginal)(each), each) for filter, each in zip(pair, found, strict=True)]

        (found, each), (exact, value) = called(numbers, model, known)
        there, scale = np.asarray(one.mask), np.sqrt(exact.variance)
        assert np.max(np.abs(found.mean - exact.mean)[there] / scale[there]) < 0.2
        np.testing.assert_allclose(found.variance[there], exact.variance[there], rtol=0.25)
        np.testing.assert_allclose(np.sum(each.log_likelihood), np.sum(value.log_likelihood), atol=0.3)


@pytest.mark.parametrize("name", NEURAL)
@pytest.mark.parametrize("standard", [False, True], ids=["plain", "standardised"])
def test_neural_filters_are_the_batch_chain(x64: None, name: str, standard: bool) -> None:
    model, posterior = neural(name)
    if standard:
        model, posterior = standardised(model, units()), standardised_posterior(posterior, units())
    one = sequence(EVERYTHING, T)

    def numbers(model, posterior, one):
        filter = posterior.filter(model)
        _, found = beliefs(filter, one, KEY)
        q = posterior(model, one)
        path = q.follow(found.state.path.latent)  # the same draws
        drawn = jax.vmap(lambda belief: filter.draw(belief, KEY))(found)
        return found, jax.vmap(filter.marginal)(found), path, q.conditionals(path).moments(), drawn

    found, marginal, path, moments, drawn = called(numbers, model, posterior, one)
    there = np.asarray(one.mask)
    same(marginal, Marginal(None, *moments), there)
    np.testing.assert_allclose(drawn.memory, path.memory, atol=1e-10)
    np.testing.assert_allclose(drawn.latent, path.latent, atol=1e-10)
    assert np.isnan(found.log_likelihood[there]).all()  # of a network's filter it is not known


def test_neural_filters_draw_from_the_batch_chain(x64: None) -> None:
    """Beliefs from many keys are draws of q."""
    model, posterior = neural("rssm, past")
    one, keys = sequence(EVERYTHING, T), jax.random.split(KEY, 4000)

    def numbers(model, posterior):
        filter, q = posterior.filter(model), posterior(model, one)
        return jax.vmap(lambda key: (beliefs(filter, one, key)[0].state.path.latent, q.sample(key).latent[-1]))(keys)

    found, batch = called(numbers, model, posterior)
    assert np.all(np.abs(found.mean(0) - batch.mean(0)) < 4.5 * np.sqrt((found.var(0) + batch.var(0)) / len(keys)))
    np.testing.assert_allclose(found.std(0), batch.std(0), rtol=0.1)


# -- rollouts against priors -------------------------------------------------------------------------------------------


def joint(model: Any, found: Any) -> jax.Array:
    """log p(y, z) of a rollout, the product of its steps."""

    def step(before, latent, evidence):
        return distributions.log_prob(model.step_prior(before, evidence), latent)

    moves = jax.vmap(step)(found.before, found.latent, found.evidence)
    return jnp.sum(moves + found.emissions(model, distributions.log_prob, found.query))


@pytest.mark.parametrize("name", MODELS)
def test_rollouts_are_paths_of_the_model(x64: None, name: str) -> None:
    """The density of a rollout from the start, step by step, is that of the batch; one step is the step's own draw."""
    model, evidence = MODELS[name](), sequence("controls", 4).evidence

    def numbers(model, evidence):
        start = model.carry(evidence)
        found = rollout(model, start, evidence, 4, KEY)
        deep = name.startswith(("rssm", "vrnn", "dmm"))
        path = Path(found.latent, found.after.memory) if deep else found.latent
        batch = model.log_joint(path, Datum(found.query, evidence))
        first = rollout(model, start, evidence[:1], 1, KEY)
        key_latent = jax.random.split(jax.random.split(jax.random.split(KEY)[0], 1)[0], 3)[1]
        latent = model.step_prior(start, evidence[0]).sample(key_latent)
        query = jax.tree.map(lambda leaf: leaf[0], first.query)
        after = model.advance(start, latent, query, evidence[0], None)
        pairs = (first.latent[0], latent), (first.before, start), (first.after, after)
        return joint(model, found), batch, pairs

    steps, batch, pairs = called(numbers, model, evidence)
    np.testing.assert_allclose(steps, batch, rtol=1e-9)
    for found, expected in pairs:
        for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(np.squeeze(left), np.squeeze(right))


@pytest.mark.parametrize(
    "name", ["hmm", "lds", "nonlinear, standardised", "switching", "dmm", "rssm, standardised", "walk"]
)
def test_rollouts_have_the_moments_of_the_prior(x64: None, name: str) -> None:
    model, evidence, count = MODELS[name](), sequence("controls", 4).evidence, 4000

    def numbers(model, evidence):
        keys = jax.random.split(KEY, 2 * count)
        start = model.carry(evidence)
        found = jax.vmap(lambda key: rollout(model, start, evidence, 4, key))(keys[:count])
        chain = model.prior_for(Datum(jnp.zeros((4, SIZE)), evidence))

        def one(key):
            key_path, key_query = jax.random.split(key)
            path = chain.sample(key_path)
            return path, model.likelihood(path, evidence).sample(key_query)

        path, query = jax.vmap(one)(keys[count:])
        return (found.latent, path.latent if isinstance(path, Path) else path), (found.query, query)

    for found, batch in called(numbers, model, evidence):
        found, batch = np.asarray(found, float), np.asarray(batch, float)
        error = np.sqrt((found.var(0) + batch.var(0)) / count)
        assert np.all(np.abs(found.mean(0) - batch.mean(0)) < 5 * error)
        kurtosis = ((found - found.mean(0)) ** 4).mean(0) / found.var(0) ** 2
        np.testing.assert_array_less(np.abs(found.var(0) / batch.var(0) - 1), 5 * np.sqrt(2 * kurtosis / count))


@pytest.mark.parametrize("name", ["lds", "nonlinear, standardised", "rssm, standardised", "vrnn", "remembering"])
def test_actions_that_are_known_and_a_function_that_gives_them(x64: None, name: str) -> None:
    model, evidence = MODELS[name](), sequence("controls", 4).evidence

    def numbers(model, evidence):
        start = model.carry(evidence)
        place = lambda state: jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state)])[:2]  # noqa: E731
        act = lambda state, key: 0.3 * jnp.tanh(place(state)) + jax.random.normal(key, (2,))  # noqa: E731
        closed = rollout(model, start, act, 4, KEY)
        again = rollout(model, start, closed.evidence, 4, KEY)
        held = rollout(model, start, lambda state, key: evidence[0], 4, KEY)
        return closed, again, held, rollout(model, start, jnp.broadcast_to(evidence[:1], (4, 2)), 4, KEY)

    closed, again, held, fixed = called(numbers, model, evidence)
    for found, expected in ((closed, again), (held, fixed)):
        for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-12)
    assert np.std(closed.evidence) > 0.1


# -- forecasts from a filter -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "posterior"),
    [
        ("hmm", Exact()),
        ("lds", Exact()),
        ("lds, standardised", Exact()),
        ("nonlinear", Extended()),
        ("switching", Optimal()),
        ("walk", Bootstrap()),
        ("rssm, standardised", None),
        ("dmm", None),
    ],
)
def test_going_on_from_a_filters_draw_is_the_forecast(key, name: str, posterior: Any) -> None:
    count, horizon = 3000, 3
    model = MODELS[name]()
    if posterior is None:
        posterior = neural("rssm, now" if "rssm" in name else "dmm, past")[1]
        posterior = standardised_posterior(posterior, units()) if "standardised" in name else posterior
    one, future = sequence("controls missing reset", T), sequence("controls", horizon, seed=8).evidence
    one = replace(one, query=jnp.round(jnp.abs(one.query))) if name == "walk" else one

    def numbers(model, posterior, one):
        filter = posterior.filter(model)

        def ahead(key):
            key_filter, key_draw, key_future = jax.random.split(key, 3)
            last = beliefs(filter, one, key_filter)[0] if sampling else known
            return rollout(model, filter.draw(last, key_draw), future, horizon, key_future).query

        sampling = isinstance(posterior, Sequential) or name == "rssm, standardised"
        known = None if sampling else beliefs(filter, one, jax.random.key(5))[0]
        return jax.vmap(ahead)(jax.random.split(key, count))

    found = np.asarray(called(numbers, model, posterior, one))
    data = jax.tree.map(lambda leaf: np.asarray(leaf)[None], one)
    data = veil.Data(np.where(data.observed, data.query, np.nan), data.evidence, reset=data.reset)
    forecast = veil.forecast(model, data, horizon, count, key=key, posterior=posterior, evidence_future=future)
    batch = forecast.paths[0]
    wide = 2 if name in ("walk", "switching") else 1  # two swarms of 1000 particles
    error = np.sqrt((found.var(0) + batch.var(0)) / count)
    assert np.all(np.abs(found.mean(0) - batch.mean(0)) < 4.5 * wide * error)
    np.testing.assert_allclose(found.std(0), batch.std(0), rtol=0.15 * wide)


# -- a model that a user writes ----------------------------------------------------------------------------------------


def test_a_users_model_of_four_methods_goes_through_the_verbs() -> None:
    truth = Walk(jnp.array(0.3), jnp.array(0.5))
    rng = np.random.default_rng(0)
    pushed = rng.normal(size=(60, 12, 2))
    drawn = veil.sample(truth, 1, key=jax.random.key(0), evidence=pushed)
    assert drawn.query.shape == (60, 1, 12, SIZE)
    assert drawn.latent.shape == (60, 1, 12, SIZE)
    data = veil.Data(drawn.query[:, 0], pushed)
    # the joint is the product of its factors
    path, one = jnp.array(drawn.latent[0, 0]), Datum(jnp.array(drawn.query[0, 0]), jnp.array(pushed[0]))
    before = np.concatenate([np.zeros((1, SIZE)), path[:-1]])
    away = (path - before - 0.5 * pushed[0, :, :1]) / 0.3
    counts = np.asarray(one.query)
    factorials = np.vectorize(lambda count: float(np.sum(np.log(np.arange(1, count + 1)))))(counts)
    known = np.sum(-0.5 * away**2 - np.log(0.3 * np.sqrt(2 * np.pi)) + counts * path - np.exp(path) - factorials)
    np.testing.assert_allclose(called(truth.log_joint, path, one), known, rtol=1e-4)
    # learned by particles
    start = Walk(jnp.array(0.6), jnp.array(0.0))
    fit = veil.fit(start, data, key=jax.random.key(1), steps=150, optimiser=optax.adam(0.02), batch_size=30)
    assert isinstance(fit.posterior, Bootstrap)
    assert abs(float(fit.model.push) - 0.5) < 0.1
    values = [veil.evaluate(m, data, key=jax.random.key(2), samples=100) for m in (start, fit.model, truth)]
    assert values[1].kind == "lower bound, particle filter with 100 particles"
    assert values[1].log_likelihood_per_datum > values[0].log_likelihood_per_datum + 3
    assert values[1].log_likelihood_per_datum > values[2].log_likelihood_per_datum - 1
    past = veil.infer(fit, data, filtered=True, key=jax.random.key(3), samples=200)
    assert (past.kind, past.mean.shape) == ("particles", (60, 12, SIZE))
    whole = veil.infer(fit, data, key=jax.random.key(3), samples=200)
    latent = drawn.latent[:, 0]
    errors = [np.sqrt(np.mean((found - latent) ** 2)) for found in (np.zeros_like(latent), past.mean, whole.mean)]
    assert errors[2] < errors[1] < 0.7 * errors[0]
    future = rng.normal(size=(4, 2))
    ahead = veil.forecast(fit, data, 4, 50, key=jax.random.key(4), evidence_future=future)
    assert ahead.paths.shape == (60, 50, 4, SIZE)
    np.testing.assert_array_equal(ahead.paths, np.round(ahead.paths))


def test_a_carry_of_the_users_own_says_what_its_latent_is(key) -> None:
    class Quiet(Remembering):
        """It does not say."""

        latent_of = Stepwise.latent_of

    data = veil.Data(np.random.default_rng(0).normal(size=(2, 5, SIZE)), np.zeros((2, 5, 2)))
    with pytest.raises(TypeError, match=r"Quiet needs latent_of\(carry\), what a carry says of its latent"):
        veil.infer(Quiet(jnp.array(0.3)), data, posterior=Bootstrap(), filtered=True, key=key)
    found = veil.infer(Remembering(jnp.array(0.3)), data, posterior=Bootstrap(), filtered=True, key=key)
    assert found.mean.shape == (2, 5, SIZE)
    # what comes later changes nothing
    later = replace_steps(data, 3)
    again = veil.infer(Remembering(jnp.array(0.3)), later, posterior=Bootstrap(), filtered=True, key=key)
    np.testing.assert_allclose(again.mean[:, :3], found.mean[:, :3], atol=1e-6)


def replace_steps(data: veil.Data, after: int) -> veil.Data:
    """Other numbers behind the first so many steps."""
    return veil.Data(np.where(np.arange(data.query.shape[1])[None, :, None] < after, data.query, 5.0), data.evidence)


class Silent(Stepwise):
    """A hidden state of three that stays or moves on, seen as a number: a user's discrete latent."""

    stay: jax.Array

    def carry(self, evidence):
        return Before(jnp.zeros((), int), jnp.array(True))

    def advance(self, carry, latent, query, evidence, observed):
        return Before(latent.astype(int), jnp.array(False))

    def step_prior(self, carry, evidence):
        moved = jnp.where(jnp.arange(3) == carry.latent, self.stay, (1 - self.stay) / 2)
        return distributions.categorical(jnp.log(moved))

    def step_likelihood(self, carry, latent, evidence):
        return distributions.normal(4.0 * latent[None], jnp.ones(1))


class Coin(Silent, Sized):
    """It says how many states there are."""

    @property
    def sizes(self):
        return Sizes((1,), values=3)


def test_a_users_discrete_latent_is_seen_as_states(key) -> None:
    states = np.array([[0, 0, 1, 1, 2, 2, 0]])
    data = veil.Data(4.0 * states[:, :, None] + 0.3 * np.random.default_rng(0).normal(size=(1, 7, 1)))
    model = Coin(jnp.array(0.8))
    for filtered in (False, True):
        found = veil.infer(model, data, posterior=Bootstrap(), filtered=filtered, key=key, samples=300)
        assert found.probabilities.shape == (1, 7, 3)
        np.testing.assert_array_equal(found.most_likely, states)
        with pytest.raises(TypeError, match="Silent has a discrete latent and does not say how many values it has"):
            veil.infer(Silent(model.stay), data, posterior=Bootstrap(), filtered=filtered, key=key)


def test_a_posterior_that_needs_the_future_refuses() -> None:
    model, posterior = neural("dmm, past")
    seeing = replace(posterior, sees=veil.posterior.Future(3))
    with pytest.raises(ValueError, match=r"Future\(\) needs the steps that are to come"):
        seeing.filter(model)
    with pytest.raises(TypeError, match="Mixture has no exact filter"):
        Exact().filter(veil.Mixture())
