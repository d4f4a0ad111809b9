"""Deep state-space models against exact chains, against themselves padded, joined and step by step."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from veil import distributions, dynamics, fitting, heads, images
from veil.chains import Categoricals, Normals
from veil.evaluation.bounds import bounds
from veil.images import Pyramid
from veil.maths import markov
from veil.model import Datum
from veil.nets import Identity, Linear
from veil.objective import ELBO, Balanced, FreeNats, ImportanceWeighted, Overshooting, ScoreFunction, StickingTheLanding
from veil.posterior import Both, Future, MessagePassing, Now, Past, Sequential

MODELS = {
    "dmm": lambda: veil.dmm(2, width=5, decoder=veil.MLP((5,))),
    "rssm": lambda: veil.rssm(2, memory=4, decoder=veil.MLP((5,))),
    "codes": lambda: veil.rssm(veil.priors.Codes(2, 3), memory=4, decoder=veil.MLP((5,))),
    "vrnn": lambda: veil.vrnn(2, memory=4, decoder=veil.MLP((5,))),
    "linear": lambda: veil.StateSpace(dynamics.LinearGaussian(2), decoder=veil.MLP((5,))),
    "local": lambda: veil.StateSpace(dynamics.LocallyLinear(2, veil.MLP((5,))), decoder=veil.MLP((5,))),
}
POSTERIORS = {
    "usual": None,
    "past": Sequential(veil.MLP((5,)), Past(3), combiner=veil.MLP((5,))),
    "both": Sequential(veil.MLP((5,)), Both(3), structured=False, combiner=veil.MLP((5,))),
}
CASES = [(name, "usual") for name in MODELS] + [("dmm", "past"), ("dmm", "both")]


def arrays(length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(length, 2)), rng.normal(size=(length, 1))


def made(name: str, kind: str = "usual"):
    """A model and a posterior with random parameters, far from where they start."""
    model = MODELS[name]()
    posterior = POSTERIORS[kind] or model.usual_posterior
    query, evidence = (np.stack([array, array[::-1]]) for array in arrays(6))
    data = Datum(jnp.asarray(query), jnp.asarray(evidence))
    model = model.initialise(data, None, jax.random.key(0))
    example = jax.tree.map(lambda leaf: leaf[0], data)
    posterior = posterior.initialise(model, example, 2, jax.random.key(1))
    leaves, structure = jax.tree.flatten((model, posterior))
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


def whole(query: np.ndarray, evidence: np.ndarray, **fields) -> Datum:
    return Datum(jnp.asarray(query), jnp.asarray(evidence), **fields)


def steady(q, key=None):
    """The path whose every step is the mean (of codes, whose steps are not, the most probable)."""
    if not hasattr(q, "one"):  # of messages: the chain's mean
        zero = replace(q.gaussian, factor=jnp.zeros_like(q.gaussian.factor))
        return q.prior.follow(zero.sample(jax.random.key(0)))
    return q.drawn(jax.random.key(0), lambda step, key: distributions.central(step))


def bound(parts, datum: Datum):
    """A bound's terms along the steady path."""
    model, posterior = parts
    q, p = posterior(model, datum), model.prior_for(datum)
    path = steady(q)
    return model.log_likelihood(path, datum) - jnp.sum(q.kl_along(p, path))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_padded_equals_unpadded_and_reset_equals_apart(name: str, kind: str, x64: None) -> None:
    parts = made(name, kind)
    (a, u), (b, v) = arrays(5, 1), arrays(3, 2)
    long, short = whole(a, u), whole(b, v)
    padded = whole(np.pad(b, ((0, 2), (0, 0))), np.pad(v, ((0, 2), (0, 0))), mask=jnp.arange(5) < 3)
    joined = whole(np.concatenate([a, b]), np.concatenate([u, v]), reset=jnp.arange(8) == 5)
    of = eqx.filter_jit(eqx.filter_value_and_grad(bound))
    (one, one_slope), (other, other_slope), (both, both_slope) = of(parts, long), of(parts, short), of(parts, joined)
    blank, blank_slope = of(parts, padded)
    np.testing.assert_allclose(blank, other, rtol=1e-9)
    np.testing.assert_allclose(both, one + other, rtol=1e-9)
    apart = jax.tree.map(jnp.add, one_slope, other_slope)
    pairs = [(blank_slope, other_slope), (both_slope, apart)]
    for found, expected in pairs:
        for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-8)
    # the objective itself, the same draws: free nats are none of the padding's
    model, posterior = parts
    objective = ELBO(fitting.usual_gradient(model), kl=FreeNats(2.0))
    values = [objective(model, posterior, each, jax.random.key(3)).value for each in (short, padded)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-9)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_missing_entries_say_nothing(name: str, kind: str, x64: None) -> None:
    parts = made(name, kind)
    query, evidence = arrays(4)
    observed = np.ones((4, 2), bool)
    observed[1], observed[2, 0] = False, False
    values = []
    for stand_in in (0.0, 7.0):
        filled = np.where(observed, query, stand_in)
        values.append(bound(parts, whole(filled, evidence, observed=jnp.asarray(observed))))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


@pytest.mark.parametrize("name", list(MODELS))
def test_chain_and_steps_agree(name: str, x64: None) -> None:
    """The joint density along a path is the product of its steps', one at a time, and paths can be followed."""
    model, posterior = made(name)
    query, evidence = arrays(5)
    datum = whole(query, evidence, reset=jnp.arange(5) == 3)
    starts, _ = markov.steps(5, None, datum.reset)
    q = posterior(model, datum)
    path = q.sample(jax.random.key(0))
    carry = start = model.carry(datum.evidence)
    total = 0.0
    for t in range(5):
        carry = start if starts[t] else carry
        x, z, y = datum.evidence[t], path.latent[t], datum.query[t]
        total += model.step_prior(carry, x).log_prob(z) + model.step_likelihood(carry, z, x).log_prob(y)
        carry = model.advance(carry, z, y, x, None)
    np.testing.assert_allclose(model.log_joint(path, datum), total, rtol=1e-9)
    again = model.prior_for(datum).follow(path.latent)
    np.testing.assert_allclose(again.memory, path.memory, atol=1e-12)


@pytest.mark.parametrize("name", ["dmm", "rssm", "codes", "linear"])
def test_kl_along_paths_is_the_kl_on_average(name: str, x64: None) -> None:
    model, posterior = made(name)
    datum = whole(*arrays(4))
    q, p = posterior(model, datum), model.prior_for(datum)

    def both(key):
        path = q.sample(key)
        return jnp.sum(q.kl_along(p, path)), q.log_prob(path) - p.log_prob(path)

    closed, drawn = jax.jit(jax.vmap(both))(jax.random.split(jax.random.key(5), 20_000))
    error = np.sqrt((np.var(closed) + np.var(drawn)) / len(drawn))
    assert abs(np.mean(closed) - np.mean(drawn)) < 4 * error
    np.testing.assert_allclose(jnp.sum(q.kl_parts(p, q.sample(jax.random.key(0))), 1).shape, (4,))


def linear_pair() -> tuple[veil.LDS, veil.StateSpace, MessagePassing]:
    """An LDS with as many observations as latents, the same as a deep one, and messages that are its likelihood's."""
    size, scale = 2, np.array([0.5, 0.8])
    transition, drift = np.array([[0.8, 0.3], [-0.2, 0.9]]), np.array([[0.1, 0.4], [-0.3, 0.2]])
    process, mean, first = np.array([0.3, 0.6]), np.array([0.5, -1.0]), np.array([1.2, 0.7])
    noise = replace(veil.Diagonal(), **{})
    lds = veil.LDS(size, noise=noise)
    data = veil.Data(np.stack([arrays(6, seed)[0] for seed in range(3)]), np.stack([arrays(6, 9)[1]] * 3))
    lds = veil.fit(lds, data, key=jax.random.key(0), steps=1).model
    names = ("mean", "factor", "transition", "drift", "process", "emission", "offset")
    values = (mean, np.diag(first), transition, drift, np.diag(process), np.eye(size), np.zeros(size))
    lds = replace(lds, **{name: jnp.asarray(value) for name, value in zip(names, values, strict=True)})
    scale = np.sqrt(1.0 / np.broadcast_to(lds.noise.precision(), (1, size))[0])
    inside = lambda value: jnp.log(jnp.asarray(value) - veil.priors.FLOOR)  # noqa: E731
    moves = dynamics.LinearGaussian(
        size,
        jnp.asarray(transition),
        Linear(jnp.asarray(drift[:, 1:]), jnp.asarray(drift[:, 0])),
        inside(process),
        jnp.asarray(mean),
        inside(first),
    )
    head = heads.DiagonalGaussian(floor=0.0)
    weight = np.zeros((1, 2 * size, 1 + size))
    weight[0, :size, 1:] = np.eye(size)
    weight[0, size:, 0] = np.log(scale)
    output = replace(veil.Linear(head).blank(1, 1 + size, (size,)), weight=jnp.asarray(weight))
    deep = veil.StateSpace(moves, head, Identity(), output, 1)
    # evidence is read, too, and must not matter here
    reads = np.zeros((2 * size, size + 1))
    reads[:size, :size] = np.eye(size)
    bias = np.concatenate([np.zeros(size), np.log(np.expm1(1.0 / scale))])
    return lds, deep, MessagePassing(Identity(), output=Linear(jnp.asarray(reads), jnp.asarray(bias)))


def test_messages_of_the_likelihood_give_the_exact_posterior(x64: None) -> None:
    """log p(y, z | x) - log q(z) is log p(y | x) of the Kalman filter for every path: with the exact posterior."""
    lds, deep, posterior = linear_pair()
    query, evidence = arrays(9, 4)
    observed = np.ones((9, 2), bool)
    observed[4] = False
    for fields in ({}, {"reset": jnp.arange(9) == 4}, {"mask": jnp.arange(9) < 7}, {"observed": jnp.asarray(observed)}):
        datum = whole(query, evidence, **fields)
        q = posterior(deep, datum)
        exact = lds.log_marginal(datum)
        for seed in range(3):
            path = q.sample(jax.random.key(seed))
            np.testing.assert_allclose(deep.log_joint(path, datum) - q.log_prob(path), exact, atol=1e-8)
        np.testing.assert_allclose(deep.log_joint(path, datum), lds.log_joint(path.latent, datum), atol=1e-8)
    found = bounds(deep, posterior, veil.Data(query[None], evidence[None]), key=jax.random.key(0), samples=3)
    np.testing.assert_allclose(found.elbo, lds.log_marginal(whole(query, evidence)), atol=1e-6)


def test_a_linear_model_is_learned_to_near_its_likelihood() -> None:
    """Trained from nothing, the bound of a linear model comes close to the likelihood of an LDS fitted by EM."""
    rng = np.random.default_rng(0)
    state, rows = np.zeros((40, 2)), []
    turn = 0.95 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    for _ in range(30):
        state = state @ turn.T + 0.3 * rng.normal(size=(40, 2))
        rows.append(state + 0.2 * rng.normal(size=(40, 2)))
    data = veil.Data(np.stack(rows, 1))
    exact = veil.fit(veil.LDS(2), data, key=jax.random.key(0), steps=100).model
    deep = veil.StateSpace(dynamics.LinearGaussian(2), heads.HomoscedasticGaussian(), Identity())
    climb = optax.adam(optax.cosine_decay_schedule(0.03, 400))
    fit = veil.fit(deep, data, key=jax.random.key(1), steps=400, batch_size=40, optimiser=climb)
    best = veil.evaluate(exact, data).log_likelihood_per_datum
    found = veil.evaluate(fit, data, key=jax.random.key(1), samples=50)
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
    posterior = posterior.initialise(model, datum, 1, jax.random.key(3))
    path = steady(posterior(model, datum))
    belief = posterior.init(model)
    for t in range(6):
        step = Datum(datum.query[t], datum.evidence[t], reset=datum.reset[t])
        belief = posterior.update(model, belief, step, jax.random.key(t))
        np.testing.assert_allclose(belief.mean, path.latent[t], atol=1e-10)
        belief = eqx.tree_at(lambda belief: belief.state.latent, belief, belief.mean)  # the steady path
    np.testing.assert_allclose(belief.state.memory, path.memory[-1], atol=1e-10)


def test_balance_changes_the_gradient_and_not_the_value(x64: None) -> None:
    parts = made("rssm")
    datum = whole(*arrays(4))
    key = jax.random.key(0)

    def of(kl):
        value = lambda parts: ELBO(kl=kl)(*parts, datum, key).value  # noqa: E731
        return eqx.filter_value_and_grad(value)(parts)

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


class Steady(veil.objective.Pathwise):
    """Draws that are the mean."""

    def draw(self, q, key):
        return distributions.central(q)


def test_overshooting_against_loops(x64: None) -> None:
    """Every pair of steps on its own: a linear prior whose predictions are its means."""
    model, posterior = made("linear")
    still = model.dynamics
    query, evidence = arrays(6)
    datum = whole(query, evidence, reset=jnp.arange(6) == 4)
    key = jax.random.key(0)
    q = posterior(model, datum)
    path = q.sample(key)
    mean, factor = q.gaussian.conditionals(path.latent).mean, q.gaussian.factor
    f, scale, *_ = still.parts()
    total = 0.0
    for start in range(6):
        state = path.latent[start]
        for ahead in range(1, 4):
            t = start + ahead
            if t > 5 or (start < 4 <= t):
                break
            state = f @ state + still.pushed(datum.evidence[t])
            if ahead > 1:
                one = distributions.multivariate_normal(mean[t], factor[t])
                other = distributions.multivariate_normal(state, jnp.diag(scale))
                total += jnp.sum(distributions.kl_entries(one, other))
    found = Overshooting(3, 0.5, ELBO(Steady()))(model, posterior, datum, key)
    np.testing.assert_allclose(found.metrics["overshooting"], total / 3, rtol=1e-9)
    np.testing.assert_allclose(found.value, found.metrics["elbo"] - 0.5 * found.metrics["overshooting"], rtol=1e-9)
    for name in ("dmm", "rssm", "codes"):
        parts = made(name)
        objective = Overshooting(3, elbo=ELBO(fitting.usual_gradient(parts[0])))
        plain = whole(*arrays(5))
        value, slope = eqx.filter_value_and_grad(lambda parts: objective(*parts, plain, key).value)(parts)  # noqa: B023
        assert all(np.isfinite(leaf).all() for leaf in [value, *jax.tree.leaves(slope)])
    with pytest.raises(TypeError, match="see observations"):
        Overshooting()(*made("vrnn"), datum, key)


def test_kl_of_exact_chains_along_paths(x64: None) -> None:
    """Normals and categoricals of successive steps: the closed form against numpyro's and the sum."""
    rng = np.random.default_rng(0)
    factors = 0.3 * np.tril(rng.normal(size=(2, 3, 2, 2))) + 2 * np.eye(2)
    means = rng.normal(size=(2, 3, 2))
    one, two = (Normals(jnp.asarray(m), jnp.asarray(f)) for m, f in zip(means, factors, strict=True))
    pairs = [[distributions.multivariate_normal(each.mean[t], each.factor[t]) for t in range(3)] for each in (one, two)]
    known = [jnp.sum(distributions.kl_entries(a, b)) for a, b in zip(*pairs, strict=True)]
    np.testing.assert_allclose(one.kl(two)[:, 0], known, rtol=1e-10)
    logits = np.log(rng.dirichlet(np.ones(4), size=(2, 3)))
    a, b = Categoricals(jnp.asarray(logits[0])), Categoricals(jnp.asarray(logits[1]))
    np.testing.assert_allclose(a.kl(b)[:, 0], np.sum(np.exp(logits[0]) * (logits[0] - logits[1]), 1), rtol=1e-12)


def test_other_objectives(x64: None) -> None:
    parts = made("dmm")
    datum = whole(*arrays(4))
    keys = jax.random.split(jax.random.key(0), 400)
    values = {
        name: np.asarray(jax.vmap(lambda key, objective=objective: objective(*parts, datum, key).value)(keys))
        for name, objective in {
            "elbo": ELBO(),
            "landing": ELBO(StickingTheLanding()),
            "iwae": ImportanceWeighted(20, veil.objective.Pathwise()),
        }.items()
    }
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
    veil.save(tmp_path / "run", fit)
    model, posterior = veil.load(tmp_path / "run"), veil.load_posterior(tmp_path / "run")
    again = veil.infer(fitting.Fit(model, posterior, fit.history, fit.status), data)
    np.testing.assert_array_equal(again.mean, veil.infer(fit, data).mean)
    assert again.mean.shape == (4, 7, 3)
    drawn = veil.sample(fit.model, 2, key=jax.random.key(0), evidence=np.stack([actions[0]]))
    assert drawn.query.shape == (1, 2, 7, 8, 8, 1)


@pytest.mark.filterwarnings("ignore:collapse")  # too few steps to learn to use it
def test_frames_rewards_and_ends_together(tmp_path) -> None:
    """Parts of a joint query: the sum of their likelihoods, missing entries, and what is drawn, part by part."""
    rng = np.random.default_rng(0)
    head = heads.Joint.of(
        frame=((8, 8, 1), heads.Bernoulli(soft=True)),
        reward=((1,), heads.DiagonalGaussian()),
        ended=((1,), heads.Bernoulli()),
    )
    frames = rng.random((3, 6, 8, 8, 1)).astype(np.float32)
    rewards, ended = rng.normal(size=(3, 6, 1)), rng.random((3, 6, 1)) < 0.2
    query = head.flat(frame=frames, reward=rewards, ended=ended).astype(np.float32)
    np.testing.assert_allclose(head.split(query)["frame"], frames)
    with pytest.raises(ValueError, match="parts: expected frame, reward, ended"):
        head.flat(frame=frames)
    with pytest.raises(ValueError, match="reward: expected shape"):
        head.flat(frame=frames, reward=rewards[..., 0, None, :].repeat(2, -1), ended=ended)
    decoder = images.Beside((Pyramid((8, 8, 1), (4, 4), 8).mirrored(), veil.MLP((6,)), veil.MLP((6,))))
    data = veil.Data(query, rng.normal(size=(3, 6, 2)))
    model = veil.rssm(2, head, decoder, memory=6)
    fit = veil.fit(model, data, key=jax.random.key(0), steps=10, batch_size=3)
    datum = whole(query[0], data.evidence[0])
    path = fit.posterior(fit.model, datum).sample(jax.random.key(0))
    step = fit.model.emission(path.memory[2], path.latent[2])
    by_part = [part.log_prob(value) for part, value in zip(step.parts, step._cut(datum.query[2]), strict=True)]
    np.testing.assert_allclose(step.log_prob(datum.query[2]), sum(by_part), rtol=1e-5)
    observed = jnp.arange(66) != 64  # no reward
    score = distributions.log_prob(step, datum.query[2], observed)
    np.testing.assert_allclose(score, by_part[0] + by_part[2], rtol=1e-5)
    assert step.sample(jax.random.key(0)).shape == step.mean.shape == step.variance.shape == (66,)
    # the constant part starts at the data's averages
    blank = model.initialise(datum_of(data), None, jax.random.key(0))
    start = blank.head(blank.output.weight[0, :, 0], (66,))
    np.testing.assert_allclose(start.mean[64:], query.mean((0, 1))[64:], atol=1e-3)
    veil.save(tmp_path / "run", fit)
    again = veil.load(tmp_path / "run").emission(path.memory[2], path.latent[2])
    np.testing.assert_array_equal(again.mean, step.mean)
    plain = veil.fit(veil.rssm(2, head, memory=6), data, key=jax.random.key(0), steps=3)  # one network for all parts
    assert np.isfinite(plain.history.value).all()
    with pytest.raises(ValueError, match="query: expected 66 entries, flat: frame"):
        veil.fit(model, veil.Data(query[..., :65], data.evidence), key=jax.random.key(0), steps=1)
    with pytest.raises(TypeError, match=r"Beside is for a heads\.Joint"):
        veil.fit(veil.rssm(2, decoder=decoder), data, key=jax.random.key(0), steps=1)


def datum_of(data: veil.Data) -> Datum:
    return Datum(jnp.asarray(data.query), jnp.asarray(data.evidence, jnp.float32))


def test_codes_are_straight_through_by_default() -> None:
    assert isinstance(fitting.usual_gradient(MODELS["codes"]()), veil.objective.StraightThrough)
    assert isinstance(fitting.usual_gradient(veil.VAE(veil.priors.Codes(2, 3))), veil.objective.StraightThrough)
    assert isinstance(fitting.usual_gradient(MODELS["dmm"]()), veil.objective.Pathwise)


def test_errors() -> None:
    with pytest.raises(TypeError, match="dynamics: expected one of"):
        veil.StateSpace("rssm")
    with pytest.raises(TypeError, match="real-valued latents"):
        veil.dmm(veil.priors.Codes(2, 3))
    with pytest.raises(TypeError, match="latent: expected a number"):
        veil.rssm(veil.priors.VampPrior(3))
    data = veil.data.episodes([arrays(4)[0]])
    with pytest.raises(TypeError, match="MessagePassing needs LinearGaussian dynamics"):
        veil.fit(veil.dmm(2), data, key=jax.random.key(0), posterior=MessagePassing())
    with pytest.raises(TypeError, match=r"this one is for veil\.StateSpace models"):
        veil.fit(veil.VAE(2), arrays(4)[0], key=jax.random.key(0), posterior=Sequential())
    model, posterior = made("dmm")
    with pytest.raises(ValueError, match=r"Future\(\) needs the steps that are to come"):
        posterior.update(model, posterior.init(model), Datum(jnp.zeros(2), jnp.zeros(1)), jax.random.key(0))
    with pytest.raises(TypeError, match="see observations"):
        made("vrnn")[0].prior(jnp.zeros((3, 1)))
    with pytest.raises(ValueError, match="steps: how long"):
        made("rssm")[0].prior(None)
    with pytest.raises(TypeError, match="sees: expected"):
        Sequential(sees="future")
    assert isinstance(made("dmm")[1].sees, Future)
