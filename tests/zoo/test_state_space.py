"""Deep state-space models against exact chains, against themselves padded, joined and step by step."""

import functools
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from compiled import called
from veil import distributions
from veil.evaluation.bounds import bounds
from veil.learning.choices import usual_gradient
from veil.model import Datum
from veil.model.chains import Categoricals, NeuralChain, Normals
from veil.objective import ELBO, Balanced, FreeNats, ImportanceWeighted, Overshooting, ScoreFunction, StickingTheLanding
from veil.parts import dynamics, heads
from veil.parts.images import Pyramid
from veil.parts.joint import Branches, Joint, Readers
from veil.parts.nets import Dense, Identity
from veil.posterior import Both, Future, MessagePassing, Now, Past, Sequential

MODELS = {
    "dmm": lambda: veil.dmm(2, width=5, decoder=veil.MLP((5,))),
    "rssm": lambda: veil.rssm(2, memory=4, decoder=veil.MLP((5,))),
    "codes": lambda: veil.rssm(veil.priors.Codes(2, 3), memory=4, decoder=veil.MLP((5,))),
    "vrnn": lambda: veil.vrnn(2, memory=4, decoder=veil.MLP((5,))),
    "linear": lambda: veil.StateSpace(dynamics.LinearDynamics(2), decoder=veil.MLP((5,))),
    "local": lambda: veil.StateSpace(dynamics.LocallyLinear(2, veil.MLP((5,))), decoder=veil.MLP((5,))),
}
POSTERIORS = {
    "usual": None,
    "both": Sequential(veil.MLP((5,)), Both(3), structured=False, combiner=veil.MLP((5,))),
}
CASES = [(name, "usual") for name in MODELS] + [("dmm", "both")]


def arrays(length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(length, 2)), rng.normal(size=(length, 1))


def made(name: str, kind: str = "usual"):
    """A model and a posterior with random parameters, far from where they start; in the precision of the test."""
    return made_in(name, kind, jax.config.jax_enable_x64)


@functools.cache
def made_in(name: str, kind: str, double: bool):
    model = MODELS[name]()
    query, evidence = (np.stack([array, array[::-1]]) for array in arrays(6))
    return recentred(model, POSTERIORS[kind] or model.usual_posterior, Datum(jnp.array(query), jnp.array(evidence)))


@eqx.filter_jit
def recentred(model, posterior, data: Datum):
    model = model.initialise(data, None, jax.random.key(0))
    example = jax.tree.map(lambda leaf: leaf[0], data)
    posterior = posterior.initialise(model, example, 2, jax.random.key(1))
    leaves, structure = jax.tree.flatten((model, posterior))
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


def whole(query: np.ndarray, evidence: np.ndarray, **fields) -> Datum:
    return Datum(jnp.array(query), jnp.array(evidence), **fields)


def steady(q, key=None):
    """The path whose every step is the mean (of codes, whose steps are not, the most probable)."""
    if not isinstance(q, NeuralChain):  # of messages: the chain's mean
        zero = replace(q.gaussian, factor=jnp.zeros_like(q.gaussian.factor))
        return q.prior.follow(zero.sample(jax.random.key(0)))
    return q.drawn(jax.random.key(0), lambda step, key: distributions.central(step))


def bound(parts, datum: Datum):
    """A bound's terms along the steady path."""
    model, posterior = parts
    q, p = posterior(model, datum), model.prior_for(datum)
    path = steady(q)
    return model.log_likelihood(path, datum) - jnp.sum(q.kl_along(p, path))


@eqx.filter_jit
def bound_and_objective(parts, datum: Datum):
    """The bound along the steady path, its slope, and the objective by draws."""
    objective = ELBO(usual_gradient(parts[0]), kl=FreeNats(2.0))
    drawn = objective(*parts, datum, jax.random.key(3)).value
    return *eqx.filter_value_and_grad(bound)(parts, datum), drawn


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_padded_equals_unpadded_reset_equals_apart_and_missing_says_nothing(name: str, kind: str, x64: None) -> None:
    parts = made(name, kind)
    (a, u), (b, v) = arrays(4, 1), arrays(4, 2)
    seen = np.ones((4, 2), bool)
    seen[1], seen[2, 0] = False, False

    def of(query, evidence, observed, **fields):
        return bound_and_objective(parts, whole(query, evidence, observed=jnp.array(observed), **fields))

    one, one_slope, _ = of(a, u, np.ones_like(seen))
    other, other_slope, other_drawn = of(b, v, seen)
    # of missing entries nothing is read
    again, again_slope, again_drawn = of(np.where(seen, b, 7.0), v, seen)
    np.testing.assert_allclose([again, again_drawn], [other, other_drawn], rtol=1e-12)
    # ten steps: the sequence and padding; both sequences and padding, with what is read of missing entries another
    tail = lambda array, count, fill=0.0: np.pad(array, ((0, count), (0, 0)), constant_values=fill)  # noqa: E731
    nowhere = jnp.zeros(10, bool)
    blank, blank_slope, blank_drawn = of(
        tail(b, 6), tail(v, 6, 3.0), tail(seen, 6), mask=jnp.arange(10) < 4, reset=nowhere
    )
    query = np.concatenate([a, np.where(seen, b, -2.0)])
    both, both_slope, _ = of(
        tail(query, 2), tail(np.concatenate([u, v]), 2), tail(np.concatenate([np.ones_like(seen), seen]), 2),
        mask=jnp.arange(10) < 8, reset=nowhere.at[4].set(True),
    )  # fmt: skip
    np.testing.assert_allclose(blank, other, rtol=1e-9)
    np.testing.assert_allclose(both, one + other, rtol=1e-9)
    apart = jax.tree.map(np.add, one_slope, other_slope)
    for found, expected in ((blank_slope, other_slope), (again_slope, other_slope), (both_slope, apart)):
        for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-8)
    # the objective itself, the same draws: free nats are none of the padding's
    np.testing.assert_allclose(blank_drawn, other_drawn, rtol=1e-9)


@eqx.filter_jit
def one_step(model, carry, x, z, y):
    """log p(z_t, y_t | past), and what a step leaves to the next."""
    score = model.step_prior(carry, x).log_prob(z) + model.step_likelihood(carry, z, x).log_prob(y)
    return score, model.advance(carry, z, y, x, None)


@pytest.mark.parametrize("name", list(MODELS))
def test_chain_and_steps_agree(name: str, x64: None) -> None:
    """The joint density along a path is the product of its steps', one at a time, and paths can be followed."""
    parts = made(name)
    model = parts[0]
    datum = whole(*arrays(5), reset=jnp.arange(5) == 3)

    def chain(parts, datum):
        model, posterior = parts
        path = posterior(model, datum).sample(jax.random.key(0))
        return path, model.log_joint(path, datum), model.prior_for(datum).follow(path.latent).memory

    path, joint, memory = called(chain, parts, datum)
    carry = start = model.carry(datum.evidence)
    total = 0.0
    for t in range(5):
        carry = start if t in (0, 3) else carry
        score, carry = one_step(model, carry, datum.evidence[t], path.latent[t], datum.query[t])
        total += score
    np.testing.assert_allclose(joint, total, rtol=1e-9)
    np.testing.assert_allclose(memory, path.memory, atol=1e-12)


@pytest.mark.parametrize("name", ["dmm", "rssm", "codes", "linear"])
def test_kl_along_paths_is_the_kl_on_average(name: str, x64: None) -> None:
    parts = made(name)
    datum = whole(*arrays(4))

    @eqx.filter_jit
    def both(parts, keys):
        model, posterior = parts
        q, p = posterior(model, datum), model.prior_for(datum)

        def one(key):
            path = q.sample(key)
            return jnp.sum(q.kl_along(p, path)), q.log_prob(path) - p.log_prob(path), jnp.sum(q.kl_parts(p, path), 1)

        return jax.vmap(one)(keys)

    closed, drawn, by_step = both(parts, jax.random.split(jax.random.key(5), 20_000))
    error = np.sqrt((np.var(closed) + np.var(drawn)) / len(drawn))
    assert abs(np.mean(closed) - np.mean(drawn)) < 4 * error
    assert by_step.shape == (20_000, 4)
    np.testing.assert_allclose(np.sum(by_step, 1), closed, rtol=1e-9)


def linear_pair() -> tuple[veil.LDS, veil.StateSpace, MessagePassing]:
    """An LDS with as many observations as latents, the same as a deep one, and messages that are its likelihood's."""
    size, scale = 2, np.array([0.5, 0.8])
    transition, drift = np.array([[0.8, 0.3], [-0.2, 0.9]]), np.array([[0.1, 0.4], [-0.3, 0.2]])
    process, mean, first = np.array([0.3, 0.6]), np.array([0.5, -1.0]), np.array([1.2, 0.7])
    names = ("mean", "factor", "transition", "drift", "process", "emission", "offset")
    values = (mean, np.diag(first), transition, drift, np.diag(process), np.eye(size), np.zeros(size))
    parts = {name: jnp.array(value) for name, value in zip(names, values, strict=True)}
    lds = veil.LDS(size, veil.Diagonal(scale=jnp.array(scale[None])), **parts)
    inside = lambda value: jnp.log(jnp.array(value) - veil.priors.FLOOR)  # noqa: E731
    moves = dynamics.LinearDynamics(
        size,
        jnp.array(transition),
        Dense(jnp.array(drift[:, 1:]), jnp.array(drift[:, 0])),
        inside(process),
        jnp.array(mean),
        inside(first),
    )
    head = heads.DiagonalGaussian(floor=0.0)
    weight = np.zeros((1, 2 * size, 1 + size))
    weight[0, :size, 1:] = np.eye(size)
    weight[0, size:, 0] = np.log(scale)
    output = replace(veil.Linear(head).blank(1, 1 + size, (size,)), weight=jnp.array(weight))
    deep = veil.StateSpace(moves, head, Identity(), output, 1)
    # evidence is read, too, and must not matter here
    reads = np.zeros((2 * size, size + 1))
    reads[:size, :size] = np.eye(size)
    bias = np.concatenate([np.zeros(size), np.log(np.expm1(1.0 / scale))])
    return lds, deep, MessagePassing(Identity(), output=Dense(jnp.array(reads), jnp.array(bias)))


def test_messages_of_the_likelihood_give_the_exact_posterior(x64: None) -> None:
    """log p(y, z | x) - log q(z) is log p(y | x) of the Kalman filter for every path: with the exact posterior."""
    pair = linear_pair()
    query, evidence = arrays(9, 4)
    observed = np.ones((9, 2), bool)
    observed[4] = False
    usual = {"reset": np.zeros(9, bool), "mask": np.ones(9, bool), "observed": np.ones((9, 2), bool)}
    reset, padding, gaps = {"reset": np.arange(9) == 4}, {"mask": np.arange(9) < 7}, {"observed": observed}

    @eqx.filter_jit
    def numbers(pair, datum, keys):
        lds, deep, posterior = pair
        q = posterior(deep, datum)

        def one(key):
            path = q.sample(key)
            return deep.log_joint(path, datum) - q.log_prob(path), deep.log_joint(path, datum)

        paths = jax.vmap(q.sample)(keys)
        joint = jax.vmap(lambda path: lds.log_joint(path.latent, datum))(paths)
        return *jax.vmap(one)(keys), joint, lds.log_marginal(datum)

    keys = jax.random.split(jax.random.key(0), 3)
    for fields in ({}, reset, padding, gaps, reset | padding | gaps):
        datum = whole(query, evidence, **{name: jnp.array(array) for name, array in (usual | fields).items()})
        differences, joint, known, exact = numbers(pair, datum, keys)
        np.testing.assert_allclose(differences, np.full(3, exact), atol=1e-8)
        np.testing.assert_allclose(joint, known, atol=1e-8)
    lds, deep, posterior = pair
    found = bounds(deep, posterior, veil.Data(query[None], evidence[None]), key=jax.random.key(0), samples=3)
    np.testing.assert_allclose(found.elbo, called(lds.log_marginal, whole(query, evidence)), atol=1e-6)


def test_a_linear_model_is_learned_to_near_its_likelihood() -> None:
    """Trained from nothing, the bound of a linear model comes close to the likelihood of an LDS fitted by EM."""
    rng = np.random.default_rng(0)
    state, rows = np.zeros((20, 2)), []
    turn = 0.95 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    for _ in range(30):
        state = state @ turn.T + 0.3 * rng.normal(size=(20, 2))
        rows.append(state + 0.2 * rng.normal(size=(20, 2)))
    data = veil.Data(np.stack(rows, 1))
    exact = veil.fit(veil.LDS(2), data, key=jax.random.key(0), steps=60).model
    deep = veil.StateSpace(dynamics.LinearDynamics(2), heads.HomoscedasticGaussian(), Identity())
    climb = optax.adam(optax.cosine_decay_schedule(0.03, 400))
    fit = veil.fit(deep, data, key=jax.random.key(1), steps=400, batch_size=20, optimiser=climb)
    best = veil.evaluate(exact, data).log_likelihood_per_datum
    found = veil.evaluate(fit, data, key=jax.random.key(1), samples=20)
    assert found.kind.startswith("lower bound")
    assert best - 1.5 < found.log_likelihood_per_datum < best + 0.5  # of thirty steps
    assert found.approximation.collapse is None
    assert found.approximation.latents.active_units == 1  # dimensions are coupled: one number


@pytest.mark.parametrize("sees", [Now(), Past(3)])
def test_one_step_at_a_time_gives_the_batch_filters_numbers(sees, x64: None) -> None:
    model = made("rssm")[0]
    query, evidence = arrays(6)
    datum = whole(query, evidence, reset=jnp.arange(6) == 4)
    posterior = Sequential(veil.MLP((5,)), sees, combiner=veil.MLP((5,)))
    posterior = called(posterior.initialise, model, datum, 1, jax.random.key(3))
    path = called(lambda model, posterior: steady(posterior(model, datum)), model, posterior)
    filter = posterior.filter(model)
    belief = called(filter.init)
    for t in range(6):
        step = Datum(datum.query[t], datum.evidence[t], reset=datum.reset[t])
        belief = called(filter.update, belief, step, jax.random.key(t))
        np.testing.assert_allclose(filter.marginal(belief).mean, path.latent[t], atol=1e-10)
        belief = eqx.tree_at(lambda belief: belief.state.path.latent, belief, belief.state.mean)  # the steady path
    np.testing.assert_allclose(filter.draw(belief, jax.random.key(0)).memory, path.memory[-1], atol=1e-10)


def test_balance_changes_the_gradient_and_not_the_value(x64: None) -> None:
    parts = made("rssm")
    datum = whole(*arrays(4))
    key = jax.random.key(0)

    def of(kl):
        return sloped(ELBO(kl=kl), parts, datum, key)

    (plain, slope), (same, other) = of(()), of(Balanced(0.5))
    np.testing.assert_allclose(plain, same, rtol=1e-12)
    (_, model_only), (_, posterior_only) = of(Balanced(1.0)), of(Balanced(0.0))
    # half and half is half the gradient of the KL's part: with weights a and 1 - a gradients are linear in a
    for left, one, two in zip(*map(jax.tree.leaves, (other, model_only, posterior_only)), strict=True):
        np.testing.assert_allclose(left, 0.5 * (one + two), atol=1e-10)
    # alpha of one: what only the prior's output layer knows gets the whole gradient; of zero, none
    prior = lambda parts: parts[0].dynamics.output.weight  # noqa: E731
    np.testing.assert_allclose(prior(model_only), prior(slope), atol=1e-10)
    np.testing.assert_allclose(prior(posterior_only), 0.0, atol=1e-12)


def naive_kl(mean: np.ndarray, factor: np.ndarray, other: np.ndarray, wide: np.ndarray) -> float:
    """KL(N(mean, factor factorᵀ) || N(other, wide wideᵀ)), nats."""
    precision, covariance, away = np.linalg.inv(wide @ wide.T), factor @ factor.T, mean - other
    trace, logs = np.trace(precision @ covariance), np.linalg.slogdet(precision @ covariance)[1]
    return 0.5 * (trace + away @ precision @ away - len(mean) - logs)


class Steady(veil.objective.Pathwise):
    """Draws that are the mean."""

    def draw(self, q, key):
        return distributions.central(q)


@eqx.filter_jit
def sloped(objective, parts, datum: Datum, key):
    return eqx.filter_value_and_grad(lambda parts: objective(*parts, datum, key).value)(parts)


def test_overshooting_against_loops(x64: None) -> None:
    """Every pair of steps on its own: a linear prior whose predictions are its means."""
    model, posterior = made("linear")
    query, evidence = arrays(6)
    datum = whole(query, evidence, reset=jnp.arange(6) == 4)
    key = jax.random.key(0)

    def parts(model, posterior):
        q = posterior(model, datum)
        latent = q.sample(key).latent
        f, scale, *_ = model.dynamics.parts()
        pushed = jax.vmap(model.dynamics.pushed)(datum.evidence)
        return latent, q.gaussian.conditionals(latent).mean, q.gaussian.factor, f, scale, pushed

    latent, mean, factor, f, scale, pushed = map(np.asarray, called(parts, model, posterior))
    total = 0.0
    for start in range(6):
        state = latent[start]
        for ahead in range(1, 4):
            t = start + ahead
            if t > 5 or (start < 4 <= t):
                break
            state = f @ state + pushed[t]
            if ahead > 1:
                total += naive_kl(mean[t], factor[t], state, np.diag(scale))
    found = called(Overshooting(3, 0.5, ELBO(Steady())), model, posterior, datum, key)
    np.testing.assert_allclose(found.metrics["overshooting"], total / 3, rtol=1e-9)
    np.testing.assert_allclose(found.value, found.metrics["elbo"] - 0.5 * found.metrics["overshooting"], rtol=1e-9)
    for name in ("dmm", "rssm", "codes"):
        parts = made(name)
        objective = Overshooting(2, elbo=ELBO(usual_gradient(parts[0])))
        plain = whole(*arrays(5))
        value, slope = sloped(objective, parts, plain, key)
        assert all(np.isfinite(leaf).all() for leaf in [value, *jax.tree.leaves(slope)])
    with pytest.raises(TypeError, match="see observations"):
        Overshooting()(*made("vrnn"), datum, key)


def test_kl_of_exact_chains_along_paths(x64: None) -> None:
    """Normals and categoricals of successive steps: the closed form against the formula and the sum."""
    rng = np.random.default_rng(0)
    factors = 0.3 * np.tril(rng.normal(size=(2, 3, 2, 2))) + 2 * np.eye(2)
    means = rng.normal(size=(2, 3, 2))
    one, two = (Normals(jnp.array(m), jnp.array(f)) for m, f in zip(means, factors, strict=True))
    known = [naive_kl(means[0, t], factors[0, t], means[1, t], factors[1, t]) for t in range(3)]
    np.testing.assert_allclose(one.kl(two)[:, 0], known, rtol=1e-10)
    logits = np.log(rng.dirichlet(np.ones(4), size=(2, 3)))
    a, b = Categoricals(jnp.array(logits[0])), Categoricals(jnp.array(logits[1]))
    np.testing.assert_allclose(a.kl(b)[:, 0], np.sum(np.exp(logits[0]) * (logits[0] - logits[1]), 1), rtol=1e-12)


def test_other_objectives(x64: None) -> None:
    parts = made("dmm")
    datum = whole(*arrays(4))
    keys = jax.random.split(jax.random.key(0), 400)
    objectives = {
        "elbo": ELBO(),
        "landing": ELBO(StickingTheLanding()),
        "iwae": ImportanceWeighted(20, veil.objective.Pathwise()),
    }
    of = lambda parts, key: {name: each(*parts, datum, key).value for name, each in objectives.items()}  # noqa: E731
    values = jax.tree.map(np.asarray, eqx.filter_jit(eqx.filter_vmap(of, in_axes=(None, 0)))(parts, keys))
    # the same draws: the KL in closed form or as sampled, which is noise of mean zero
    noise = values["elbo"] - values["landing"]
    assert abs(np.mean(noise)) < 4 * np.std(noise) / np.sqrt(len(noise))
    assert np.mean(values["iwae"]) > np.mean(values["elbo"])
    with pytest.raises(TypeError, match="not for sequence models that remember"):
        ELBO(ScoreFunction(), samples=2)(*parts, datum, keys[0])
    with pytest.raises(TypeError, match="not for sequence models that remember"):
        ImportanceWeighted(5)(*parts, datum, keys[0])


def test_images_actions_ragged_ends_and_the_file(tmp_path) -> None:
    rng = np.random.default_rng(0)
    lengths = (7, 5, 6, 4)
    frames = [(rng.random((length, 8, 8, 1)) < 0.3).astype(np.float32) for length in lengths]
    actions = [rng.normal(size=(length, 1)) for length in lengths]
    data = veil.data.episodes(frames, actions)
    encoder = Pyramid((8, 8, 1), (8, 8), 16)
    model = veil.rssm(3, heads.Bernoulli(), encoder.mirrored(), memory=8)
    objective = ELBO(kl=(Balanced(0.8), FreeNats(0.1)))
    fit = veil.fit(model, data, key=jax.random.key(0), steps=30, batch_size=4, objective=objective)
    assert fit.history.value[-1] > fit.history.value[0]
    again = veil.infer(veil.load(veil.save(tmp_path / "run", fit)), data)
    np.testing.assert_array_equal(again.mean, veil.infer(fit, data).mean)
    assert again.mean.shape == (4, 7, 3)
    drawn = veil.sample(fit.model, 2, key=jax.random.key(0), evidence=np.stack([actions[0]]))
    assert drawn.query.shape == (1, 2, 7, 8, 8, 1)


@pytest.mark.filterwarnings("ignore:collapse")  # too few steps to learn to use it
def test_frames_rewards_and_ends_together(tmp_path) -> None:
    """Parts of a query that is a tree: the sum of their likelihoods, missing entries, and every verb, part by part."""
    rng = np.random.default_rng(0)
    head = Joint({"frame": heads.Bernoulli(soft=True), "reward": heads.DiagonalGaussian(), "ended": heads.Bernoulli()})
    frames = rng.random((3, 6, 8, 8, 1)).astype(np.float32)
    rewards, ended = 50 + 10 * rng.normal(size=(3, 6, 1)), rng.random((3, 6, 1)) < 0.2
    query = {"frame": frames, "reward": rewards, "ended": ended}
    decoder = Branches(
        {"frame": Pyramid((8, 8, 1), (4, 4), 8).mirrored(), "reward": veil.MLP((6,)), "ended": veil.MLP((6,))}
    )
    data = veil.Data(query, rng.normal(size=(3, 6, 2)))
    model = veil.rssm(2, head, decoder, memory=6)
    fit = veil.fit(model, data, key=jax.random.key(0), steps=10, batch_size=3)
    assert isinstance(fit.posterior.posterior.net, Readers)
    assert fit.model.units.query["frame"] is None
    assert fit.model.units.query["ended"] is None
    datum = jax.tree.map(lambda leaf: leaf[0], datum_of(data))
    path = called(lambda m, q, key: q(m, datum).sample(key), fit.model, fit.posterior, jax.random.key(0))
    third = jax.tree.map(lambda leaf: leaf[2], (path, datum.query))
    emission = lambda fit: fit.model.units.distribution(fit.model.model.emission(third[0].memory, third[0].latent))  # noqa: E731
    step = emission(fit)
    by_part = {name: part.log_prob(third[1][name]) for name, part in step.parts.items()}
    np.testing.assert_allclose(step.log_prob(third[1]), sum(by_part.values()), rtol=1e-5)
    there = {"frame": jnp.ones((8, 8, 1), bool), "reward": jnp.zeros(1, bool), "ended": jnp.ones(1, bool)}  # no reward
    score = distributions.log_prob(step, third[1], there)
    np.testing.assert_allclose(score, by_part["frame"] + by_part["ended"], rtol=1e-5)
    for found in (step.sample(jax.random.key(0)), step.mean, step.variance):
        assert {name: part.shape for name, part in found.items()} == {
            "frame": (8, 8, 1), "reward": (1,), "ended": (1,)
        }  # fmt: skip
    # the constant part starts at the data's averages
    blank = called(model.initialise, datum_of(data), None, jax.random.key(0))
    start = blank.head(blank.output.weight[0, :, 0], blank.output.shape)
    for name in ("reward", "ended"):
        np.testing.assert_allclose(start.mean[name], data.query[name].mean((0, 1)), rtol=1e-3)
    loaded = veil.load(veil.save(tmp_path / "run", fit))
    again = emission(loaded)
    jax.tree.map(np.testing.assert_array_equal, again.mean, step.mean)
    plain = veil.fit(veil.rssm(2, head, memory=6), data, key=jax.random.key(0), steps=3)  # one network for all parts
    assert np.isfinite(plain.history.value).all()
    few = veil.Data({name: query[name] for name in ("frame", "reward")}, data.evidence)
    with pytest.raises(ValueError, match="query: expected a dictionary with ended, frame, reward; got one with"):
        veil.fit(model, few, key=jax.random.key(0), steps=1)
    with pytest.raises(TypeError, match=r"Branches are for a heads\.Joint"):
        veil.fit(veil.rssm(2, decoder=decoder), veil.Data(frames), key=jax.random.key(0), steps=1)
    with pytest.raises(ValueError, match="this model is of data with shape"):
        veil.log_prob(fit, veil.Data(rewards, data.evidence), key=jax.random.key(0))


@pytest.mark.filterwarnings("ignore:collapse")
def test_a_dictionary_goes_through_every_verb(tmp_path) -> None:
    """With nested parts, gaps, padding and evidence that is a tree."""
    rng = np.random.default_rng(0)
    lengths = (6, 4, 5)
    queries = [
        {"frame": (rng.random((n, 8, 8, 1)) < 0.3) * 1.0, "touch": {"foot": rng.normal(7, 3, (n, 2))}} for n in lengths
    ]
    queries[1]["touch"]["foot"][2, 0] = np.nan
    data = veil.data.episodes(
        queries, [{"left": rng.normal(size=(n, 1)), "right": rng.normal(size=(n, 2))} for n in lengths]
    )
    head = Joint({"frame": heads.Bernoulli(), "touch": {"foot": heads.DiagonalGaussian()}})
    fit = veil.fit(veil.rssm(2, head, veil.MLP((6,)), memory=4), data, key=jax.random.key(0), steps=5, batch_size=3)
    found = veil.evaluate(fit, data, key=jax.random.key(1), samples=8)
    assert np.isfinite(found.log_likelihood)
    inferred = veil.infer(fit, data, filtered=True)
    assert inferred.mean.shape == (3, 6, 2)
    drawn = veil.sample(fit, 2, key=jax.random.key(0), evidence=jax.tree.map(lambda leaf: leaf[:1], data.evidence))
    assert drawn.query["frame"].shape == (1, 2, 6, 8, 8, 1)
    options = {"key": jax.random.key(2), "after": 3}
    ahead = veil.forecast(fit, data, 1, 5, **options)
    assert ahead.paths["frame"].shape == (3, 5, 1, 8, 8, 1)
    assert ahead.mean["touch"]["foot"].shape == ahead.standard_deviation["touch"]["foot"].shape == (3, 1, 2)
    foot = np.stack([each["touch"]["foot"][3:4] for each in queries])
    np.testing.assert_array_equal(ahead.truth["touch"]["foot"], foot)
    assert np.isfinite(ahead.log_likelihood).all()
    low, high = ahead.interval(0.9)
    assert np.all(low["touch"]["foot"] <= high["touch"]["foot"])
    held = veil.forecast(fit, data, 2, 5, evidence_future={"left": [0.0], "right": [1.0, 2.0]}, **options)
    assert held.paths["touch"]["foot"].shape == (3, 5, 2, 2)
    assert np.isnan(held.truth["touch"]["foot"][1, 1]).all()
    with pytest.raises(ValueError, match=r"evidence_future\['right'\]: expected numbers"):
        veil.forecast(fit, data, 2, 5, evidence_future={"left": [0.0], "right": [1.0]}, **options)
    with pytest.raises(
        ValueError, match=r"evidence_future: expected the same as the evidence of the data, evidence\['left"
    ):
        veil.forecast(fit, data, 2, 5, evidence_future=[0.0], **options)
    with pytest.raises(ValueError, match=r"Give it, left \[3, 1\], right \[3, 2\], or one value"):
        veil.forecast(fit, data, 3, 5, **options)
    loaded = veil.load(veil.save(tmp_path / "run", fit))
    np.testing.assert_array_equal(veil.infer(loaded, data).mean, veil.infer(fit, data).mean)
    again = veil.forecast(loaded, data, 1, 5, **options)
    jax.tree.map(np.testing.assert_array_equal, again.paths, ahead.paths)


def datum_of(data: veil.Data) -> Datum:
    return jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), Datum(data.query, data.evidence))


def test_codes_are_straight_through_by_default() -> None:
    assert isinstance(usual_gradient(MODELS["codes"]()), veil.objective.StraightThrough)
    assert isinstance(usual_gradient(veil.VAE(veil.priors.Codes(2, 3))), veil.objective.StraightThrough)
    assert isinstance(usual_gradient(MODELS["dmm"]()), veil.objective.Pathwise)


def test_errors(x64: None) -> None:
    with pytest.raises(TypeError, match="dynamics: expected one of"):
        veil.StateSpace("rssm")
    with pytest.raises(TypeError, match="real-valued latents"):
        veil.dmm(veil.priors.Codes(2, 3))
    with pytest.raises(TypeError, match="latent: expected a number"):
        veil.rssm(veil.priors.VampPrior(3))
    data = veil.data.episodes([arrays(4)[0]])
    with pytest.raises(TypeError, match="MessagePassing needs LinearDynamics"):
        veil.fit(veil.dmm(2), data, key=jax.random.key(0), posterior=MessagePassing())
    with pytest.raises(TypeError, match="this one is for models with a Dynamics; got VAE"):
        veil.fit(veil.VAE(2), arrays(4)[0], key=jax.random.key(0), posterior=Sequential())
    model, posterior = made("dmm")
    with pytest.raises(ValueError, match=r"Future\(\) needs the steps that are to come"):
        posterior.filter(model)
    with pytest.raises(TypeError, match="see observations"):
        made("vrnn")[0].prior(jnp.zeros((3, 1)))
    with pytest.raises(ValueError, match="steps: how long"):
        made("rssm")[0].prior(None)
    with pytest.raises(TypeError, match="sees: expected"):
        Sequential(sees="future")
    assert isinstance(made("dmm")[1].sees, Future)
