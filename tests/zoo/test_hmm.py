"""Hidden Markov models against the sum over every path, and what makes them the library's: data, units, EM, errors."""

import functools
import itertools
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import oracles
import veil
from compiled import called
from veil.model import Datum
from veil.parts.covariance import Diagonal, Full, Spherical, Tied
from veil.parts.experts import Linear, LinearGaussian
from veil.parts.heads import Bernoulli, Categorical, Poisson, StudentT
from veil.parts.statistics import contract
from veil.zoo.hmm import HMM

STATES = 3


def sequences(lengths: tuple[int, ...], seed: int = 0, kind: str = "gaussian") -> list[np.ndarray]:
    """Sequences of a chain of three states that stays with probability 0.8."""
    rng = np.random.default_rng(seed)
    found = []
    for length in lengths:
        state, rows = 0, []
        for _ in range(length):
            if rng.random() > 0.8:
                state = int(rng.integers(3))
            if kind == "gaussian":
                rows.append(np.array([4.0 * state, -3.0 * (state == 1)]) + rng.normal(size=2))
            elif kind == "poisson":
                rows.append(rng.poisson([1.0 + 5.0 * state, 3.0]))
            elif kind == "bernoulli":
                rows.append(rng.random(2) < [0.1 + 0.4 * state, 0.8 - 0.3 * state])
            else:
                rows.append([rng.choice(3, p=np.roll([0.8, 0.1, 0.1], state))])
        found.append(np.array(rows, float))
    return found


def started(experts=None, evidence: bool = False, data: veil.Data | None = None, **options) -> HMM:
    """A model with parameters: those of one step of EM."""
    data = veil.data.episodes(sequences((30, 20))) if data is None else data
    options.setdefault("transition", veil.Softmax(evidence=evidence))
    model = HMM(experts or LinearGaussian(), STATES, **options)
    return veil.fit(model, data, key=jax.random.key(0), steps=2).model


def usual() -> HMM:
    """The model that ``started()`` makes, made once, in the precision of the test."""
    return usual_in(jax.config.jax_enable_x64)


@functools.cache
def usual_in(double: bool) -> HMM:
    return started()


def datum(length: int, seed: int = 3, **fields) -> Datum:
    return Datum(jnp.array(sequences((length,), seed)[0]), **fields)


def enumerated(model: HMM, one: Datum) -> tuple[np.ndarray, np.ndarray]:
    """Every path, and log p(z, y | x) of each, written out with numpy."""
    paths = np.array(list(itertools.product(range(STATES), repeat=len(one.query))))
    seen = naive_scores(model, one)
    first = np.log(oracles.softmax(np.asarray(model.initial.weight[:, 0])))
    weight = np.asarray(model.transition.weight)
    scores = []
    for path in paths:
        score = 0.0
        for t, state in enumerate(path):
            if t == 0 or (one.reset is not None and one.reset[t]):
                score += first[state]
            else:
                score += np.log(oracles.softmax(weight[path[t - 1]] @ features(one, t)[: weight.shape[2]])[state])
            score += seen[t, state]
        scores.append(score)
    return paths, np.array(scores)


def features(one: Datum, t: int) -> np.ndarray:
    return np.concatenate([[1.0], [] if one.evidence is None else np.asarray(one.evidence[t])])


def naive_scores(model: HMM, one: Datum) -> np.ndarray:
    """log p(y_t | z_t = k) of Gaussian states, [T, K]."""
    weight, covariances = np.asarray(model.experts.weight), np.asarray(model.experts.covariance.dense_covariance())
    query = np.asarray(one.query)
    observed = np.ones(query.shape, bool) if one.observed is None else np.asarray(one.observed)
    return np.array(
        [
            [
                oracles.gaussian_log_density(row, weight[k] @ features(one, t)[: weight.shape[2]], covariances[k], seen)
                for k in range(STATES)
            ]
            for t, (row, seen) in enumerate(zip(query, observed, strict=True))
        ]
    )


@pytest.mark.parametrize("case", ["plain", "diagonal, missing", "evidence, missing and reset"])
def test_likelihood_posterior_and_path_are_the_sum_over_paths(x64: None, case: str) -> None:
    rng = np.random.default_rng(0)
    data, fields = None, {}
    if "evidence" in case:
        lists = sequences((30, 20))
        data = veil.data.episodes(lists, [rng.normal(size=(len(part), 2)) for part in lists])
        fields["evidence"] = jnp.array(rng.normal(size=(4, 2)))
    if "missing" in case:
        fields["observed"] = jnp.array([[True, False], [True, True], [False, False], [True, True]])
    if "reset" in case:
        fields["reset"] = jnp.array([False, False, True, False])
    one = datum(4, **fields)
    experts = LinearGaussian(Diagonal()) if "diagonal" in case else LinearGaussian()
    model = started(experts, evidence="evidence" in case, data=data)
    paths, scores = enumerated(model, one)

    def numbers(model, one, paths, keys):
        q = model.posterior(one)
        joint = jax.vmap(lambda z: model.log_joint(z, one))(paths)
        drawn = jax.vmap(q.sample)(keys)
        marginals = model.marginals(one)
        found = model.log_marginal(one), marginals.log_probabilities, marginals.path
        return joint, *found, jax.vmap(q.log_prob)(paths), drawn

    keys = jax.random.split(jax.random.key(0), 4000)
    joint, value, marginals, best, log_q, drawn = called(numbers, model, one, jnp.array(paths), keys)
    np.testing.assert_allclose(joint, scores, atol=1e-10)
    np.testing.assert_allclose(value, logsumexp(scores), atol=1e-10)
    weights = np.exp(scores - logsumexp(scores))
    expected = np.einsum("p,ptk->tk", weights, np.eye(STATES)[paths])
    np.testing.assert_allclose(np.exp(marginals), expected, atol=1e-10)
    np.testing.assert_array_equal(best, paths[np.argmax(scores)])
    # the identity: with the exact posterior log p(y, z) - log q(z) is log p(y) for every z
    np.testing.assert_allclose(scores - log_q, value, atol=1e-9)
    frequencies = np.mean(np.eye(STATES)[drawn], 0)
    assert np.max(np.abs(frequencies - expected)) < 5 * np.sqrt(0.25 / 4000)


def test_one_step_of_em_is_the_mean_over_paths(x64: None) -> None:
    model = usual()
    one = Datum(jnp.array([[0.0, 0.0], [4.0, -3.0], [8.0, 0.0], [4.0, -2.0], [0.5, 0.5]]))
    paths, scores = enumerated(model, one)
    weights = np.exp(scores - logsumexp(scores))
    hot = np.eye(STATES)[paths]
    marginals = np.einsum("p,ptk->tk", weights, hot)
    pairs = np.einsum("p,pti,ptj->ij", weights, hot[:, :-1], hot[:, 1:])

    def step(model):
        expectations, value = model.expectations(one)
        terms = jax.tree.map(lambda leaf: leaf[None], model.statistics(one, expectations))
        return model.maximise(contract(terms, jnp.ones(1))), value

    after, value = called(step, model)
    np.testing.assert_allclose(value, logsumexp(scores), atol=1e-10)
    # counts, because a state that is hardly left has a row made of the floor under counts, 1e-30
    np.testing.assert_allclose(after.transition_matrix * pairs.sum(1, keepdims=True), pairs, atol=1e-10)
    np.testing.assert_allclose(jax.nn.softmax(after.initial.weight[:, 0]), marginals[0], atol=1e-10)
    counts = marginals.sum(0)
    query = np.asarray(one.query)
    means = marginals.T @ query / counts[:, None]
    alive = counts > 1e-3  # a state without data keeps its expert
    assert alive.sum() >= 2
    np.testing.assert_allclose(after.experts.mean[alive], means[alive], atol=1e-9)
    away = query[None] - means[:, None]
    scatter = np.einsum("tk,ktd,kte->kde", marginals, away, away) + 1e-12 * np.eye(2)
    np.testing.assert_allclose(
        after.experts.covariance.dense_covariance()[alive],
        (scatter / counts[:, None, None])[alive],
        rtol=1e-6,
        atol=1e-10,
    )


@pytest.mark.parametrize(
    ("kind", "experts", "precision"),
    [
        ("gaussian", LinearGaussian(Full()), 32),
        ("gaussian", LinearGaussian(Full()), 64),
        ("gaussian", LinearGaussian(Spherical()), 64),
        ("gaussian", LinearGaussian(Tied(Diagonal())), 64),
        ("poisson", Linear(Poisson()), 32),
        ("bernoulli", Linear(Bernoulli()), 64),
        ("categorical", Linear(Categorical(3)), 32),
        ("categorical", Linear(Categorical(3)), 64),
    ],
)
def test_em_never_lowers_the_likelihood(kind: str, experts: object, precision: int) -> None:
    data = veil.data.episodes(sequences((60, 25, 1), kind=kind))
    with jax.enable_x64(precision == 64):
        found = veil.fit(HMM(experts, STATES), data, key=jax.random.key(0), steps=40)
        value = veil.evaluate(found.model, data).log_likelihood_per_datum
    gains = np.diff(found.history.value)
    assert np.all(gains > -(1e-4 if precision == 32 else 1e-9))
    assert gains[0] > 0
    np.testing.assert_allclose(found.history.value[-1] - found.history.penalty[-1], value, rtol=1e-4)


def test_it_finds_the_chain_that_made_the_data(x64: None) -> None:
    data = veil.data.episodes(sequences((400, 300)))
    model = veil.fit(HMM(states=STATES), data, key=jax.random.key(0), restarts=2).model
    order = np.argsort(model.experts.mean[:, 0])
    np.testing.assert_allclose(model.experts.mean[order], [[0, 0], [4, -3], [8, 0]], atol=0.3)
    expected = 0.8 * np.eye(3) + 0.2 / 3
    np.testing.assert_allclose(model.transition_matrix[np.ix_(order, order)], expected, atol=0.1)


def test_a_chain_without_memory_is_a_mixture(x64: None) -> None:
    rows = np.concatenate(sequences((40, 30)))
    mixture = veil.fit(veil.Mixture(components=STATES), rows, key=jax.random.key(0), steps=3).model
    weights = jnp.log(mixture.gate.distribution(jnp.ones(1)).probabilities)
    model = replace(
        HMM(mixture.experts, STATES),
        initial=replace(mixture.gate, evidence=False),
        transition=eqx.filter_vmap(lambda _: veil.Softmax(False, weight=weights[:, None]))(jnp.arange(STATES)),
    )
    data = veil.data.episodes([rows])
    np.testing.assert_allclose(veil.log_prob(model, data)[0], np.sum(veil.log_prob(mixture, rows)), atol=1e-9)


def test_old_faithful_remembers(x64: None) -> None:
    faithful = veil.data.load("faithful")
    data = veil.data.episodes([faithful.query])
    model = veil.fit(HMM(states=2), data, key=jax.random.key(0)).model
    # after a short eruption comes a long one: far more likely than the mixture's maximum, -1130.264
    assert veil.log_prob(model, data)[0] > -1130.264 + 30
    short = int(np.argmin(model.experts.mean[:, 0]))
    assert model.transition_matrix[short, short] < 0.1


def test_padded_equals_unpadded_and_reset_equals_apart(x64: None) -> None:
    long, short = sequences((7, 7))
    model = usual()

    @eqx.filter_jit
    def of(model, one):
        return *eqx.filter_value_and_grad(lambda model: model.log_marginal(one))(model), model.marginals(one)[0]

    sixteen = lambda rows: jnp.array(np.concatenate([rows, np.zeros((16 - len(rows), 2))]))  # noqa: E731
    padded = Datum(sixteen(short), mask=jnp.arange(16) < 7, reset=jnp.zeros(16, bool))
    joined = Datum(sixteen(np.concatenate([long, short])), mask=jnp.arange(16) < 14, reset=jnp.arange(16) == 7)
    (one, one_slope, one_states), (other, other_slope, states) = (of(model, Datum(jnp.array(y))) for y in (long, short))
    blank, blank_slope, _ = of(model, padded)
    both, both_slope, both_states = of(model, joined)
    np.testing.assert_allclose(blank, other, atol=1e-10)
    np.testing.assert_allclose(both, one + other, atol=1e-10)
    np.testing.assert_allclose(both_states[:14], np.concatenate([one_states, states]), atol=1e-9)
    apart = jax.tree.map(np.add, one_slope, other_slope)
    for found, expected in ((blank_slope, other_slope), (both_slope, apart)):
        for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-9)
    # and a fit of the padded is a fit of the joined
    long, short = sequences((30, 20))  # which visit every state
    fits = [
        veil.fit(model, data, key=jax.random.key(0), steps=5).model
        for data in (
            veil.data.episodes([long, short]),
            veil.Data(np.concatenate([long, short])[None], reset=np.arange(50)[None] == 30),
        )
    ]
    np.testing.assert_allclose(fits[0].experts.mean, fits[1].experts.mean, atol=1e-8)
    np.testing.assert_allclose(fits[0].transition_matrix, fits[1].transition_matrix, atol=1e-8)


def test_one_step_at_a_time_gives_the_batch_filters_numbers(x64: None) -> None:
    rng = np.random.default_rng(0)
    lists = sequences((30, 20))
    data = veil.data.episodes(lists, [rng.normal(size=(len(part), 1)) for part in lists])
    model = started(evidence=True, data=data)
    one = datum(
        6,
        evidence=jnp.array(rng.normal(size=(6, 1))),
        observed=jnp.array(rng.random((6, 2)) < 0.7),
        reset=jnp.arange(6) == 4,
    )
    filter, values = model.filter(), []
    belief = filter.init()
    for t in range(6):
        belief = called(filter.update, belief, jax.tree.map(lambda leaf, t=t: leaf[t], one), jax.random.key(t))
        values.append(belief.log_likelihood)
    np.testing.assert_allclose(np.sum(values), called(model.log_marginal, one), atol=1e-12)
    known = called(model.marginals, one).log_probabilities[-1]
    np.testing.assert_allclose(jnp.exp(filter.marginal(belief).log_probabilities), jnp.exp(known), atol=1e-12)


def test_weights_count_sequences(x64: None) -> None:
    long, short = sequences((25, 14))
    once = veil.data.episodes([long, short, short])
    twice = veil.data.episodes([long, short], weight=[1.0, 2.0])
    model = usual()
    fits = [veil.fit(model, data, key=jax.random.key(0), steps=4).model for data in (once, twice)]
    np.testing.assert_allclose(fits[0].experts.mean, fits[1].experts.mean, atol=1e-9)
    np.testing.assert_allclose(veil.evaluate(fits[0], once).bic, veil.evaluate(fits[0], twice).bic)


def test_transitions_driven_by_evidence(x64: None) -> None:
    rng = np.random.default_rng(0)
    push = rng.normal(size=(600, 1))
    states = (push[:, 0] + 0.3 * rng.logistic(size=600) > 0).astype(float)  # p(1) = sigmoid(x / 0.3)
    query = 6.0 * states[:, None] + rng.normal(size=(600, 1))
    data = veil.data.episodes([query], [push])
    gate = veil.Softmax(evidence=True)
    found = veil.fit(HMM(LinearGaussian(evidence=False), 2, gate), data, key=jax.random.key(0), steps=60)
    assert np.all(np.diff(found.history.value) > -1e-9)
    high = int(np.argmax(found.model.experts.mean[:, 0]))
    slopes = found.model.transition.weight[:, high, 1] - found.model.transition.weight[:, 1 - high, 1]
    np.testing.assert_allclose(slopes, 1 / 0.3, rtol=0.5)
    assert found.model.sizes.inputs == 1
    assert veil.sample(found.model, 2, key=jax.random.key(0), evidence=push[None, :5]).query.shape == (1, 2, 5, 1)


def test_other_heads_learn_by_gradients() -> None:
    data = veil.data.episodes(sequences((60,)))
    found = veil.fit(HMM(Linear(StudentT()), 2), data, key=jax.random.key(0), steps=60)
    assert found.history.value[-1] > found.history.value[0] + 1


def test_monte_carlo_em_draws_paths(x64: None) -> None:
    data, model = veil.data.episodes(sequences((80,))), usual()
    exact = veil.fit(model, data, key=jax.random.key(0), steps=1).model
    objective = veil.ExpectedLogLikelihood(samples=3000)
    drawn = veil.fit(model, data, key=jax.random.key(0), steps=1, objective=objective).model
    np.testing.assert_allclose(drawn.transition_matrix, exact.transition_matrix, atol=0.03)
    np.testing.assert_allclose(drawn.experts.mean, exact.experts.mean, atol=0.05)


@pytest.mark.filterwarnings("ignore:.*(constant|collapsed|empty|duplicate)")
@pytest.mark.parametrize(
    ("case", "precision"),
    [
        *(("constant", precision) for precision in (32, 64)),
        *((case, 32) for case in ("one state too many", "single steps", "a step unseen", "far away")),
    ],
)
def test_hard_data_never_give_nan(precision: int, case: str) -> None:
    lists = sequences((20, 9))
    states = STATES
    if case == "constant":
        lists = [np.full((20, 2), 3.0), np.full((4, 2), 3.0)]
    if case == "one state too many":
        states = 6
    if case == "single steps":
        lists = [part[:1] for part in sequences((1,) * 8)]
    if case == "a step unseen":
        lists[0][5] = np.nan
        lists[1][3, 0] = np.nan
    if case == "far away":
        lists[0][3] = 1e30
    data = veil.data.episodes(lists)
    with jax.enable_x64(precision == 64):
        found = veil.fit(HMM(states=states), data, key=jax.random.key(0), steps=30, restarts=2)
        assert np.all(np.isfinite(veil.log_prob(found.model, data)))
        assert np.all(np.isfinite(veil.infer(found.model, data).probabilities))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found.model) if eqx.is_array(leaf))
    assert np.all(np.diff(found.history.value) > -1e-3 * np.abs(found.history.value[1:]))


def test_the_verbs_know_sequences(tmp_path: object) -> None:
    data = veil.data.episodes(sequences((30, 20)))
    model = started(data=data)
    found = veil.infer(model, data)
    assert found.probabilities.shape == (2, 30, STATES)
    assert found.path.shape == (2, 30)
    np.testing.assert_allclose(found.probabilities.sum(-1), 1.0, rtol=1e-4)
    drawn = veil.sample(model, 3, key=jax.random.key(0), steps=7)
    assert drawn.query.shape == (3, 7, 2)
    assert drawn.latent.shape == (3, 7)
    again = veil.load(veil.save(str(tmp_path), model))
    np.testing.assert_array_equal(veil.log_prob(again, data), veil.log_prob(model, data))
    with pytest.raises(ValueError, match="steps: how long"):
        veil.sample(model, 3, key=jax.random.key(0))
    with pytest.raises(ValueError, match="steps: only of a sequence model"):
        veil.sample(
            veil.fit(veil.Mixture(), np.arange(9.0), key=jax.random.key(0)).model, 1, key=jax.random.key(0), steps=3
        )
    with pytest.raises(ValueError, match=r"takes sequences, query \[N, T, D\]; got \[N, 2\]"):
        veil.fit(HMM(), np.zeros((5, 2)), key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"this model is of data with shape \[N, T, 2\]"):
        veil.log_prob(model, np.zeros((5, 4, 3)))
    with pytest.raises(ValueError, match=r"they have a mask.*veil\.HMM"):
        veil.fit(veil.Mixture(), data, key=jax.random.key(0))
    with pytest.raises(ValueError, match="states: expected"):
        HMM(states=0)
    with pytest.raises(ValueError, match="initial: expected"):
        HMM(initial=veil.Softmax())
