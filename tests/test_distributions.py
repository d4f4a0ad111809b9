"""Distributions: scipy's values, who can what, missing entries, other units, and some as a user would write them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats as st
from jax import Array

import veil
from compiled import called
from veil import distributions as d
from veil.model import Datum, Model
from veil.model.chains import DiscreteChain, GaussianChain
from veil.posterior import Posterior

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
M, S = RNG.normal(size=3), np.exp(0.5 * RNG.normal(size=3))
FACTOR = np.linalg.cholesky(np.eye(3) + 0.4)
LOGITS = RNG.normal(size=(3, 4))
ODDS = 1 / (1 + np.exp(-M))
SHIFT, SCALE = np.array([5.0, -300.0, 0.0]), np.array([2.0, -40.0, 0.01])


class Flow(eqx.Module):
    """T(e) = 2 e + 1."""

    def forward(self, e):
        return 2 * e + 1, jnp.log(2.0) * e.size

    def inverse(self, z):
        return (z - 1) / 2, -jnp.log(2.0) * z.size


class Own(eqx.Module):
    """Independent Laplace noise around a place, written by somebody who read nothing: two methods."""

    place: Array

    def sample(self, key):
        return self.place + jax.random.laplace(key, self.place.shape)

    def log_prob(self, value):
        return jnp.sum(-jnp.abs(value - self.place) - jnp.log(2.0))


class Able(d.Distribution, d.Entries, d.Moments, d.Reparameterised):
    """The same by somebody who read ``protocol.py``."""

    place: Array

    def sample(self, key):
        return self.place + jax.random.laplace(key, self.place.shape)

    def log_prob(self, value):
        return jnp.sum(self.entry_log_prob(value))

    def entry_log_prob(self, value):
        return -jnp.abs(value - self.place) - jnp.log(2.0)

    @property
    def mean(self):
        return self.place

    @property
    def variance(self):
        return jnp.full_like(self.place, 2.0)


def laplace(y):
    return st.laplace(M).logpdf(y)


def gaussian(y):
    return st.norm(M, S).logpdf(y)


def mixture(y):
    parts = [st.norm(m, S).logpdf(y).sum() for m in (M, M + 3)]
    return np.logaddexp(*(np.array(parts) + np.log([0.25, 0.75])))


def level(y):
    edge = lambda v: st.logistic(M, S).cdf(v)  # noqa: E731
    return np.log(np.where(y == 6, 1.0, edge(y + 0.5)) - np.where(y == 0, 0.0, edge(y - 0.5)))


def built():
    """Name: how it is made of JAX arrays, what it can, a value, and its log-density there by entries or in total."""
    normal = lambda: d.normal(jnp.array(M), jnp.array(S))  # noqa: E731
    real, coin, count = M + 0.3, np.array([1.0, 0.0, 1.0]), np.array([2.0, 0.0, 5.0])
    moments, drop = {d.Moments}, {d.Moments, d.Marginals}
    gauss = {d.Gaussian, d.Divergence, d.Reparameterised}
    yield "normal", normal, moments | gauss | {d.Entries}, real, gaussian(real)
    yield (
        "multivariate",
        lambda: d.multivariate_normal(jnp.array(M), jnp.array(FACTOR)),
        drop | gauss,
        real,
        st.multivariate_normal(M, FACTOR @ FACTOR.T).logpdf(real),
    )
    student = lambda: d.student_t(jnp.full(3, 5.0), jnp.array(M), jnp.array(S))  # noqa: E731
    yield "student", student, moments | {d.Entries, d.Reparameterised}, real, st.t(5, M, S).logpdf(real)
    beta, inside = lambda: d.beta(jnp.array(S), jnp.array(2 * S)), np.array([0.2, 0.5, 0.9])
    yield "beta", beta, moments | {d.Entries, d.Reparameterised}, inside, st.beta(S, 2 * S).logpdf(inside)
    bernoulli = lambda: d.bernoulli(jnp.array(M))  # noqa: E731
    yield "bernoulli", bernoulli, moments | {d.Entries}, coin, st.bernoulli(ODDS).logpmf(coin)
    yield "coins", lambda: d.Coins(jnp.array(M)), moments | {d.Entries}, coin, st.bernoulli(ODDS).logpmf(coin)
    poisson = lambda: d.poisson(jnp.array(M))  # noqa: E731
    yield "poisson", poisson, moments | {d.Entries}, count, st.poisson(np.exp(M)).logpmf(count)
    chosen, category = np.array([0.0, 3.0, 1.0]), scipy.special.log_softmax(LOGITS, 1)
    able = moments | {d.Entries, d.Categories, d.Central}
    categoricals = lambda: d.categoricals(jnp.array(LOGITS))  # noqa: E731
    yield "categoricals", categoricals, able, chosen, category[np.arange(3), chosen.astype(int)]
    able = {d.Finite, d.Categories, d.Central, d.Divergence}
    yield "categorical", lambda: d.categorical(jnp.array(LOGITS[0])), able, np.array(2), category[0, 2]
    code, codes = np.eye(4)[[0, 3, 1]], lambda: d.Codes(jnp.array(LOGITS))
    yield "codes", codes, moments | able - {d.Categories}, code, np.sum(code * category)
    yield "empty", d.Empty, able - {d.Categories}, np.zeros(0), 0.0
    mixed = lambda: d.MixtureOfNormals(*map(jnp.asarray, (np.log([0.25, 0.75]), [M, M + 3], [S, S])))  # noqa: E731
    yield "mixture", mixed, {d.Moments, d.Central}, real, mixture(real)
    grid = lambda: d.DiscretisedLogistic(jnp.array(M), jnp.array(S), 0.0, 6.0, 7)  # noqa: E731
    yield "logistic", grid, moments | {d.Entries}, np.array([0.0, 2.0, 6.0]), level(np.array([0.0, 2.0, 6.0]))
    pair = np.array([*real, 1.0])
    joint = lambda: d.Joint({"place": normal(), "flag": d.bernoulli(jnp.zeros(1))})  # noqa: E731
    both = {"place": real, "flag": np.ones(1)}
    yield "joint", joint, drop, both, {"place": gaussian(real), "flag": np.full(1, -np.log(2))}
    nested = lambda: d.Joint({"here": joint(), "count": poisson()})  # noqa: E731
    scores = {"here": {"place": gaussian(real), "flag": np.full(1, -np.log(2))}}
    scores["count"] = st.poisson(np.exp(M)).logpmf(count)
    yield "joint of joints", nested, drop, {"here": both, "count": count}, scores
    mixed = lambda: d.Joint({"place": Own(jnp.array(M))})  # noqa: E731
    yield "joint of a stranger", mixed, {d.Marginals}, {"place": real}, laplace(real).sum()
    two = lambda: d.Chained(normal(), lambda z: d.normal(z[:1], jnp.ones(1)), 3)  # noqa: E731
    yield "chained", two, {d.Central, d.Reparameterised}, pair, gaussian(real).sum() + st.norm(real[0]).logpdf(1.0)
    two = lambda: d.Chained(normal(), lambda z: d.bernoulli(z[:1]), 3)  # noqa: E731
    total = gaussian(real).sum() - np.log1p(np.exp(-real[0]))
    yield "chained to coins", two, {d.Central}, pair, total
    pushed, after = lambda: d.Pushed(normal(), Flow()), gaussian((real - 1) / 2).sum() - 3 * np.log(2)
    yield "pushed", pushed, {d.Central, d.Reparameterised}, real, after
    size, slopes = np.sign(real) * np.log1p(abs(real)), np.log1p(abs(real))
    yield "symlog", lambda: d.Symlog(normal()), drop | {d.Central, d.Reparameterised}, real, gaussian(size) - slopes
    bins = np.expm1(1.0) * np.array([0.2, 0.0, 1.0])
    shares = np.array([[0, 0.8, 0.2, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    two = lambda: d.TwoHot(jnp.array(LOGITS), -1.0, 2.0)  # noqa: E731
    yield "two-hot", two, moments | {d.Entries}, bins, np.sum(shares * category, 1)
    yield "stranger", lambda: Own(jnp.array(M)), set(), real, laplace(real).sum()
    yield "own", lambda: Able(jnp.array(M)), moments | {d.Entries, d.Reparameterised}, real, laplace(real)
    moved, logs, always = SHIFT + SCALE * real, np.log(np.abs(SCALE)), {d.Marginals, d.Central, d.Divergence}
    place = lambda base: d.Affine(base, jnp.array(SHIFT), jnp.array(SCALE))  # noqa: E731
    able = always | {d.Moments, d.Reparameterised}
    yield "affine normal", lambda: place(normal()), able, moved, gaussian(real) - logs
    yield "affine own", lambda: place(Able(jnp.array(M))), able, moved, laplace(real) - logs
    yield (
        "affine coins",
        lambda: place(d.bernoulli(jnp.array(M))),
        always | moments,
        SHIFT + SCALE * coin,
        (st.bernoulli(ODDS).logpmf(coin) - logs),
    )
    yield "affine stranger", lambda: place(Own(jnp.array(M))), always, moved, np.sum(laplace(real) - logs)


TABLE = {name: rest for name, *rest in built()}
ABILITIES = (d.Moments, d.Entries, d.Marginals, d.Finite, d.Categories, d.Central, d.Gaussian, d.Divergence)
BY_ENTRY = [name for name, (*_, scores) in TABLE.items() if all(np.ndim(leaf) == 1 for leaf in jax.tree.leaves(scores))]


def total(tree):
    """The sum over an array, or a tree of them."""
    return sum(np.sum(leaf) for leaf in jax.tree.leaves(tree))


def on_device(tree):
    return jax.device_put(tree)


@pytest.mark.parametrize("name", TABLE)
def test_log_density_is_scipys(name):
    make, _, value, scores = TABLE[name]
    found = called(d.log_prob, make(), on_device(value))
    assert found.shape == ()
    np.testing.assert_allclose(found, total(scores), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_who_can_what(name):
    make, able, value, _ = TABLE[name]
    distribution = make()
    # finite lists and closed-form moments are what a distribution and all that it is made of have
    found = {ability for ability in (*ABILITIES, d.Reparameterised) if d.has(distribution, ability)}
    unchecked = (
        {d.Marginals, d.Central, d.Divergence}
        if name.startswith(("affine", "joint", "chained", "push", "symlog"))
        else set()
    )
    assert found - unchecked == able - unchecked
    assert isinstance(distribution, d.Distribution)
    assert d.event_shape(distribution) == jax.tree.map(np.shape, value)
    assert d.reparameterised(distribution) == (d.Reparameterised in able)
    assert d.enumerable(distribution) == (d.Finite in able)


@pytest.mark.parametrize("name", TABLE)
def test_draws_have_the_moments_and_arrays_pass_through_vmap(name):
    make, able, value, _ = TABLE[name]
    distribution, point = make(), on_device(value)
    leaves = jax.tree.leaves(distribution)
    arrays = bool(leaves) and all(map(eqx.is_array, leaves))

    @eqx.filter_jit
    def several(distribution):
        found = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 4000))
        if not arrays:
            return found, None
        batch = jax.vmap(lambda _: distribution)(jnp.arange(2))
        scores = jax.vmap(lambda one: one.log_prob(point))(batch)
        return found, (scores, distribution.log_prob(point))

    found, scores = several(distribution)
    assert jax.tree.map(np.shape, found) == jax.tree.map(lambda leaf: (4000, *leaf.shape), value)
    if d.Moments in able:

        def check(draws, mean, variance):
            draws = np.asarray(draws, np.float64)
            np.testing.assert_array_less(np.abs(draws.mean(0) - mean), 5 * draws.std(0) / np.sqrt(4000) + 1e-9)
            spread = (draws - mean) ** 2
            np.testing.assert_array_less(np.abs(spread.mean(0) - variance), 6 * spread.std(0) / np.sqrt(4000) + 1e-9)

        jax.tree.map(check, found, *jax.tree.map(np.asarray, called(d.moments, distribution)))
    else:
        with pytest.raises(TypeError, match=r"distribution: its mean and variance .*veil.distributions.Moments"):
            d.moments(make())
    if arrays:
        np.testing.assert_allclose(*scores, rtol=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_missing_entries_drop_out_or_are_refused(name):
    make, _, value, scores = TABLE[name]
    score = eqx.filter_jit(eqx.filter_value_and_grad(d.log_prob))
    for seen in ([True, False, True], [False, True, False], [False] * 3):
        observed = jax.tree.map(lambda leaf, seen=seen: np.resize(seen, leaf.shape), value)
        if name in BY_ENTRY:
            wanted = total(jax.tree.map(lambda there, score: np.where(there, score, 0), observed, scores))
        elif name == "multivariate":
            covariance, keep = FACTOR @ FACTOR.T, np.flatnonzero(seen)
            wanted = (
                st.multivariate_normal(M[keep], covariance[np.ix_(keep, keep)]).logpdf(value[keep]) if any(seen) else 0
            )
        else:
            culprit = "Own" if "stranger" in name else type(make()).__name__
            with pytest.raises(TypeError, match=rf"observed: .*{culprit}.*veil.distributions.Entries"):
                d.log_prob(make(), on_device(value), on_device(observed))
            continue
        # a missing entry is a zero in the data, wherever the support is; the gradient stays finite
        filled = jax.tree.map(lambda there, leaf: jnp.array(np.where(there, leaf, 0.0)), observed, value)
        found, gradient = score(make(), filled, on_device(observed))
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", [name for name, (_, able, *_) in TABLE.items() if d.Finite in able])
def test_probabilities_of_the_support_sum_to_one(name):
    distribution = TABLE[name][0]()
    values = d.support(distribution)
    assert len(values) == distribution.values
    scores = called(jax.vmap(distribution.log_prob), values)
    np.testing.assert_allclose(np.sum(np.exp(scores)), 1.0)
    likeliest = np.asarray(values)[np.argmax(scores)]
    np.testing.assert_array_equal(d.central(distribution), likeliest)


def test_what_has_no_list_of_values_says_so():
    with pytest.raises(TypeError, match=r"Codes has 4294967296 values, too many"):
        d.support(d.Codes(jnp.zeros((16, 4))))
    with pytest.raises(TypeError, match=r"Own has no finite list of values .*veil.distributions.Finite"):
        d.support(Own(jnp.zeros(2)))


def test_draws_of_parts_go_by_name(key):
    """JAX sorts the names of what passes through it: the same draws in any order, in a jit and outside."""
    place, flag = TABLE["normal"][0](), TABLE["bernoulli"][0]()
    one, other = d.Joint({"place": place, "flag": flag}), d.Joint({"flag": flag, "place": place})
    compiled = eqx.filter_jit(lambda joint: joint.sample(key))(one)
    for found in (one.sample(key), other.sample(key)):
        jax.tree.map(np.testing.assert_array_equal, found, compiled)


def test_central_values():
    np.testing.assert_allclose(d.central(TABLE["normal"][0]()), M)
    np.testing.assert_array_equal(d.central(TABLE["categoricals"][0]()), np.argmax(LOGITS, 1))
    np.testing.assert_allclose(d.central(TABLE["mixture"][0]()), M + 3)
    np.testing.assert_allclose(d.central(TABLE["chained"][0]()), [*M, M[0]])
    np.testing.assert_allclose(d.central(TABLE["pushed"][0]()), 2 * M + 1)
    np.testing.assert_allclose(d.central(TABLE["affine normal"][0]()), SHIFT + SCALE * M)
    with pytest.raises(TypeError, match="those of a Own are not known"):
        d.central(TABLE["affine stranger"][0]())


def test_closed_form_divergences():
    normal, dense = TABLE["normal"][0](), TABLE["multivariate"][0]()
    pairs = {"normal": normal, "dense": dense, "other": d.normal(jnp.zeros(3), jnp.ones(3))}
    moments = lambda each: [np.asarray(part) for part in each.gaussian()]  # noqa: E731
    for q in pairs.values():
        for p in pairs.values():
            (m, a), (n, b) = moments(q), moments(p)
            white, away = np.linalg.solve(b, a), np.linalg.solve(b, m - n)
            wanted = 0.5 * (np.sum(white**2) + away @ away - 3) - np.linalg.slogdet(white)[1]
            np.testing.assert_allclose(np.sum(d.kl_entries(q, p)), wanted, rtol=1e-9, atol=1e-12)
    assert d.kl_entries(normal, pairs["other"]).shape == (3,)
    codes, other = d.Codes(jnp.array(LOGITS)), d.Codes(jnp.zeros((3, 4)))
    by_hand = [jnp.sum(jnp.exp(row) * (row + np.log(4))) for row in jax.nn.log_softmax(LOGITS)]
    np.testing.assert_allclose(d.kl_entries(codes, other), by_hand)
    np.testing.assert_allclose(d.kl_entries(d.categorical(codes.logits[0]), d.categorical(jnp.zeros(4))), by_hand[:1])
    for q, p in ((normal, codes), (dense, Own(jnp.zeros(3))), (Own(jnp.zeros(3)), normal), (codes, d.Empty())):
        assert d.kl_entries(q, p) is None


def test_divergence_does_not_depend_on_units_when_they_are_the_same():
    shift, scale = jnp.array(SHIFT), jnp.array(SCALE)
    q, p = TABLE["normal"][0](), d.normal(jnp.zeros(3), jnp.ones(3))
    wanted = d.kl_entries(q, p)

    @jax.jit
    def inside(shift, scale):
        return d.kl_entries(d.Affine(q, shift, scale), d.Affine(p, shift, scale))

    np.testing.assert_allclose(inside(shift, scale), wanted)
    np.testing.assert_allclose(d.kl_entries(d.Affine(q, SHIFT, SCALE), d.Affine(p, shift, scale)), wanted)
    assert d.kl_entries(d.Affine(q, shift, scale), d.Affine(p, shift + 1, scale)) is None
    assert d.kl_entries(d.Affine(q, shift, scale), p) is None
    assert d.kl_entries(d.Affine(Own(shift), shift, scale), d.Affine(p, shift, scale)) is None


@pytest.mark.parametrize("name", ["normal", "multivariate", "student", "mixture", "own", "stranger"])
def test_affine_is_the_change_of_variables(name):
    """log p(y) = log p_base(T⁻¹ y) + log |det dT⁻¹/dy|, the determinant by automatic differentiation."""
    base, value = TABLE[name][0](), jnp.array(TABLE[name][2])
    moved = d.Affine(base, jnp.array(SHIFT), jnp.array(SCALE))
    y = SHIFT + SCALE * value
    jacobian = jax.jacobian(lambda y: (y - SHIFT) / SCALE)(y)
    np.testing.assert_allclose(moved.log_prob(y), base.log_prob(value) + jnp.linalg.slogdet(jacobian)[1], rtol=1e-10)
    np.testing.assert_allclose(moved.sample(jax.random.key(1)), SHIFT + SCALE * base.sample(jax.random.key(1)))
    if name != "stranger":
        np.testing.assert_allclose(moved.mean, SHIFT + SCALE * base.mean)
        np.testing.assert_allclose(moved.variance, SCALE**2 * base.variance)


class Pair(d.Distribution, d.Moments, d.Marginals):
    """A tree: two arrays of independent standard normals."""

    def sample(self, key):
        return {"a": jax.random.normal(key, (2,)), "b": jax.random.normal(key, (1, 3))}

    def log_prob(self, value):
        return self.observed_log_prob(value, jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), value))

    def observed_log_prob(self, value, observed):
        each = jax.tree.map(
            lambda y, seen: jnp.sum(jnp.where(seen, jax.scipy.stats.norm.logpdf(y), 0)), value, observed
        )
        return sum(jax.tree.leaves(each))

    @property
    def mean(self):
        return {"a": jnp.zeros(2), "b": jnp.zeros((1, 3))}

    @property
    def variance(self):
        return jax.tree.map(jnp.ones_like, self.mean)


def test_affine_of_a_tree():
    shift = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0, 4.0, 5.0]])}
    scale = {"a": jnp.array([2.0, 0.5]), "b": jnp.array([[10.0, 1.0, 0.1]])}
    moved = d.Affine(Pair(), shift, scale)
    y = jax.tree.map(lambda m, s: m + 0.7 * s, shift, scale)
    seen = {"a": jnp.array([True, False]), "b": jnp.array([[False, True, True]])}
    density = lambda leaf: st.norm(np.asarray(shift[leaf]), np.asarray(scale[leaf])).logpdf(np.asarray(y[leaf]))  # noqa: E731
    np.testing.assert_allclose(d.log_prob(moved, y), sum(density(leaf).sum() for leaf in "ab"))
    wanted = sum(np.sum(density(leaf) * np.asarray(seen[leaf])) for leaf in "ab")
    np.testing.assert_allclose(d.log_prob(moved, y, seen), wanted)
    assert moved.event_shape == {"a": (2,), "b": (1, 3)}
    jax.tree.map(np.testing.assert_allclose, d.moments(moved), (shift, jax.tree.map(jnp.square, scale)))


def test_paths_are_reparameterised_where_every_step_is():
    discrete = DiscreteChain(jnp.log(jnp.full((3, 2, 2), 0.5)), jnp.ones(3, bool))
    smooth = GaussianChain(jnp.zeros((3, 1, 1)), jnp.zeros((3, 1)), jnp.ones((3, 1, 1)), jnp.ones(3, bool))
    for chain, known, shape in ((discrete, False, (3,)), (smooth, True, (3, 1))):
        assert isinstance(chain, d.PathDistribution)
        assert d.reparameterised(chain) == known
        assert d.event_shape(chain) == shape
        path = d.drawn(chain, jax.random.key(0), lambda one, key: one.sample(key))
        np.testing.assert_allclose(d.kl_along(chain, chain, path), np.zeros(3), atol=1e-12)
        np.testing.assert_array_equal(d.log_ratio(chain, chain, path), np.zeros(3))


# -- as a user would write them ----------------------------------------------------------------------------------------


class Laplacian(Model):
    """z ~ N(0, 1), y ~ Laplace(z): the likelihood is somebody's own, of a given class."""

    kind: type = eqx.field(static=True)

    def prior(self, evidence):
        return d.normal(jnp.zeros(1), jnp.ones(1))

    def likelihood(self, latent, evidence):
        return self.kind(jnp.broadcast_to(latent, (3,)))


class Guess(Posterior):
    """q(z | y) around the mean of y, of a given class."""

    kind: type = eqx.field(static=True)

    def __call__(self, model, datum):
        return self.kind(jnp.mean(datum.query, keepdims=True))


DATUM = Datum(jnp.array([0.3, 1.0, -0.2]))


@pytest.mark.parametrize("kind", [Own, Able])
def test_two_methods_suffice_for_a_likelihood_and_a_prior(kind, key):
    model = Laplacian(kind)
    q = d.normal(jnp.zeros(1), jnp.ones(1))
    z, y = model.sample(key)
    assert z.shape == (1,)
    assert y.shape == (3,)
    expected = st.norm(0, 1).logpdf(0.4) + st.laplace(0.4).logpdf(np.asarray(DATUM.query)).sum()
    np.testing.assert_allclose(model.log_joint(jnp.array([0.4]), DATUM), expected)
    assert d.kl_along(kind(jnp.zeros(1)), q, jnp.zeros(1)) is None
    ratio = d.log_ratio(kind(jnp.zeros(1)), q, jnp.array([0.4]))
    np.testing.assert_allclose(ratio, [st.laplace(0).logpdf(0.4) - st.norm(0, 1).logpdf(0.4)])


def test_a_likelihood_of_ones_own_says_what_missing_entries_need():
    datum = Datum(DATUM.query, observed=jnp.array([True, False, True]))
    expected = st.laplace(0.4).logpdf(np.asarray(DATUM.query))[[0, 2]].sum()
    np.testing.assert_allclose(Laplacian(Able).log_likelihood(jnp.array([0.4]), datum), expected)
    with pytest.raises(TypeError, match=r"observed: .* this one is Own; .*inherit veil.distributions.Entries"):
        Laplacian(Own).log_likelihood(jnp.array([0.4]), datum)


def test_a_posterior_of_ones_own_says_what_its_gradient_needs(key):
    """Score functions need two methods; a pathwise gradient needs to be told that draws are differentiable."""
    model = Laplacian(Able)
    value = veil.ELBO(veil.objective.ScoreFunction(), samples=3)(model, Guess(Own), DATUM, key).value
    assert np.isfinite(value)
    found = veil.ELBO(samples=3)(model, Guess(Able), DATUM, key).value
    np.testing.assert_allclose(found, value)
    with pytest.raises(TypeError, match=r"this posterior is Own; .*inherit veil.distributions.Reparameterised"):
        veil.ELBO()(model, Guess(Own), DATUM, key)
    with pytest.raises(TypeError, match="Own has no finite list"):
        veil.ELBO(veil.objective.Enumerated())(model, Guess(Own), DATUM, key)
