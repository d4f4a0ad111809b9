"""Latents that are drawn once an episode, against sums and EM steps in numpy, and on drives round a tree."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

import veil
from compiled import called
from veil import distributions
from veil.control import worlds
from veil.learning.choices import usual_objective
from veil.learning.preprocessing import preprocess
from veil.model import Datum, Enumerable, Model, PerEpisode
from veil.model.filter import beliefs
from veil.model.per_episode import EpisodeFilter
from veil.model.scales import Scale
from veil.parts.gates import Softmax
from veil.parts.statistics import contract
from veil.posterior import EpisodeEncoder
from veil.posterior.choice import usual
from veil.units import standardised
from veil.zoo.episodic import EpisodicMixture

KEY = jax.random.key(0)


@veil.register(name="tests.Side")
class Side(Enumerable):
    """A user's finite latent: z = 0, 1 with p(z = 1 | x) = σ(x_0), y ~ N(±1 + 0.3 x, 0.5²)."""

    spread: Array

    def prior(self, evidence):
        return distributions.categorical(jnp.stack([jnp.zeros(()), evidence[0]]))

    def likelihood(self, latent, evidence):
        sign = 2.0 * latent - 1.0
        return distributions.normal(sign + 0.3 * evidence, self.spread * jnp.ones(2))


@veil.register(name="tests.Style")
class Style(Model):
    """A user's continuous latent: z ~ N(0, 1) in two dimensions, y ~ N(z, s²)."""

    spread: Array

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(2), jnp.ones(2))

    def likelihood(self, latent, evidence):
        return distributions.normal(latent, self.spread * jnp.ones(2))


def some(lengths=(4, 2, 3), evidence=True, missing=False, weight=None, seed=0) -> veil.Data:
    rng = np.random.default_rng(seed)
    query = [rng.normal(size=(n, 2)) + rng.choice([-1, 1]) for n in lengths]
    if missing:
        query[0][1, 0] = query[1][0, 1] = np.nan
    return veil.data.episodes(query, [rng.normal(size=(n, 2)) for n in lengths] if evidence else None, weight=weight)


def datum_of(data: veil.Data, row: int, length: int | None = None) -> Datum:
    """One episode, without its padding if ``length`` says how long it is."""
    fields = {name: value for name, value in data.fields().items() if name != "weight"}
    one = {name: jax.tree.map(lambda leaf: jnp.asarray(leaf[row][:length]), value) for name, value in fields.items()}
    query = one["query"]
    if one.get("observed") is not None:
        one["query"] = jnp.where(one["observed"], query, 0.0)
    return Datum(one["query"], one.get("evidence"), observed=one.get("observed"), mask=one.get("mask"))


def naive_joints(data: veil.Data, row: int, length: int, prior, density) -> np.ndarray:
    """log p(z | x_1) + Σ_t log p(y_t | x_t, z) for z = 0, 1, entry by entry; ``density(y, x, z)`` [D]."""
    x = None if data.evidence is None else np.asarray(data.evidence[row], np.float64)
    joints = np.log(prior(None if x is None else x[0]))
    for z in range(2):
        for t in range(length):
            each = density(np.asarray(data.query[row, t], np.float64), None if x is None else x[t], z)
            seen = np.ones(2, bool) if data.observed is None else data.observed[row, t]
            joints[z] += each[seen].sum()
    return joints


def side_prior(x):
    right = 1 / (1 + np.exp(-x[0]))
    return np.array([1 - right, right])


def side_density(y, x, z):
    return norm.logpdf(y, 2.0 * z - 1.0 + 0.3 * x, 0.5)


# -- likelihood and posterior ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("missing", [False, True])
def test_a_finite_latent_is_summed_over_whole_episodes(missing: bool) -> None:
    model, lengths = veil.Episodic(Side(jnp.array(0.5))), (4, 2, 3)
    data = some(lengths, missing=missing)
    found, known = veil.log_prob(model, data), veil.infer(model, data)
    assert known.kind == "exact"
    for row, length in enumerate(lengths):
        joints = naive_joints(data, row, length, side_prior, side_density)
        np.testing.assert_allclose(found[row], logsumexp(joints), atol=1e-10)
        np.testing.assert_allclose(known.probabilities[row], np.exp(joints - logsumexp(joints)), atol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("missing", [False, True])
def test_a_finite_latent_is_filtered_step_by_step(missing: bool) -> None:
    """p(z | y_1..t) is that of the episode that ends there, and log p(y_t | y_1..t-1) sums up to log p(y)."""
    model, lengths = veil.Episodic(Side(jnp.array(0.5))), (4, 2, 3)
    data = some(lengths, missing=missing)
    found = veil.infer(model, data, filtered=True)
    assert (found.kind, found.probabilities.shape) == ("exact", (3, 4, 2))
    for row, length in enumerate(lengths):
        before = 0.0
        for t in range(length):
            joints = naive_joints(data, row, t + 1, side_prior, side_density)
            np.testing.assert_allclose(found.probabilities[row, t], np.exp(joints - logsumexp(joints)), atol=1e-10)
            np.testing.assert_allclose(found.log_likelihood[row, t], logsumexp(joints) - before, atol=1e-10)
            before = logsumexp(joints)
        for padding in found.probabilities[row, length:]:
            np.testing.assert_array_equal(padding, found.probabilities[row, length - 1])
        np.testing.assert_array_equal(found.log_likelihood[row, length:], 0.0)
    one = datum_of(data, 0)
    after = beliefs(EpisodeFilter(model, 2), one, KEY)[1]  # what acts has the same numbers
    np.testing.assert_allclose(np.exp(after.state), found.probabilities[0], atol=1e-10)
    np.testing.assert_allclose(after.log_likelihood, found.log_likelihood[0], atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_identity_with_the_exact_posterior() -> None:
    """log p(y, z | x) - log p(z | y, x) is log p(y | x) for every z."""
    model, datum = veil.Episodic(Side(jnp.array(0.5))), datum_of(some(missing=True), 0)

    def both(latent):
        return model.log_joint(latent, datum) - model.posterior(datum).log_prob(latent), model.log_marginal(datum)

    found, value = called(lambda: jax.vmap(both)(jnp.arange(2)))
    np.testing.assert_allclose(found, value, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_padding_changes_nothing() -> None:
    """Neither the likelihood, nor EM's statistics, nor what a network reads, whatever stands there."""
    data = some((4, 2, 3), missing=True)
    mixture = _mixture()
    style = veil.Episodic(Style(jnp.array(0.5)))
    encoder = EpisodeEncoder(veil.MLP((8,))).initialise(style, datum_of(data, 0), 0, KEY)
    long, short = datum_of(data, 1), datum_of(data, 1, 2)
    blank = ~np.asarray(long.there)[:, None]
    long = eqx.tree_at(lambda d: (d.query, d.evidence), long, replace_fn=lambda leaf: jnp.where(blank, 7.0, leaf))
    pair = [called(_all, mixture, style, encoder, datum) for datum in (long, short)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), *pair)


def _all(mixture, style, encoder, datum):
    """What is computed of an episode."""
    sums = _summed(mixture, datum, jnp.array([0.3, 0.7]))
    joints = veil.Episodic(Side(jnp.array(0.5))).log_joints(datum), mixture.log_joints(datum)
    return sums, joints, encoder.vector(style, datum), style.log_joint(jnp.array([0.1, -0.4]), datum)


def _summed(model, datum, weights):
    terms = jax.tree.map(lambda leaf: leaf[None], model.statistics(datum, weights))
    return contract(terms, jnp.ones(1))


def _mixture() -> EpisodicMixture:
    """Two Gaussians with numbers of their own, which see evidence, and a gate that does."""
    rng = np.random.default_rng(3)
    covariance = veil.Full(
        1e-6, jnp.asarray(np.linalg.cholesky([[[1.0, 0.2], [0.2, 0.8]], [[0.5, -0.1], [-0.1, 0.6]]]))
    )
    experts = veil.LinearGaussian(covariance, weight=jnp.asarray(rng.normal(size=(2, 2, 3))))
    return veil.Episodic(veil.Mixture(experts, 2, Softmax(weight=jnp.asarray(rng.normal(size=(2, 3))))))


@pytest.mark.usefixtures("x64")
def test_a_mixture_is_summed_over_whole_episodes() -> None:
    model, lengths = _mixture(), (4, 2, 3)
    gate, W = np.asarray(model.model.gate.weight), np.asarray(model.model.experts.weight)
    S = np.asarray(model.model.experts.covariance.dense_covariance())
    data = some(lengths)
    found = veil.log_prob(model, data)
    for row, length in enumerate(lengths):
        phi = np.column_stack([np.ones(length), np.asarray(data.evidence[row, :length], np.float64)])
        logits = gate @ phi[0]
        joints = logits - logsumexp(logits)
        for z in range(2):
            for t in range(length):
                joints[z] += multivariate_normal.logpdf(data.query[row, t], W[z] @ phi[t], S[z])
        np.testing.assert_allclose(found[row], logsumexp(joints), atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_it_is_a_hidden_markov_model_whose_state_never_changes() -> None:
    covariance = veil.Full(1e-6, jnp.asarray(np.linalg.cholesky([[[1.0, 0.2], [0.2, 0.8]], [[0.5, 0.0], [0.0, 0.6]]])))
    experts = veil.LinearGaussian(covariance, weight=jnp.array([[[1.0], [0.5]], [[-1.0], [0.0]]]))
    initial = Softmax(False, weight=jnp.log(jnp.array([[0.3], [0.7]])))
    stays = Softmax(False, weight=jnp.array([[[0.0], [-1e4]], [[-1e4], [0.0]]]))
    chain = veil.HMM(experts, 2, stays, initial)
    model = veil.Episodic(veil.Mixture(experts, 2, initial))
    data = some((5, 3), evidence=False, missing=True)
    np.testing.assert_allclose(veil.log_prob(model, data), veil.log_prob(chain, data), atol=1e-10)
    last = veil.infer(chain, data).probabilities[:, -1]
    np.testing.assert_allclose(veil.infer(model, data).probabilities, last, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_one_step_of_em_counts_an_episode_once_and_its_steps_each() -> None:
    """p(z) is the mean of the episodes' responsibilities, the means are those of the steps, weighted by them."""
    covariance = veil.Full(1e-6, jnp.asarray(np.linalg.cholesky([[[1.0, 0.2], [0.2, 0.8]], [[0.5, 0.0], [0.0, 0.6]]])))
    experts = veil.LinearGaussian(covariance, weight=jnp.array([[[1.0], [0.5]], [[-1.0], [0.0]]]))
    model = veil.Episodic(veil.Mixture(experts, 2, Softmax(False, weight=jnp.log(jnp.array([[0.3], [0.7]])))))
    lengths, weight = (4, 2, 3, 5), np.array([1.0, 2.0, 0.5, 1.0])
    data = some(lengths, evidence=False, weight=weight)
    r = veil.infer(model, data).probabilities
    sums = []
    for row, w in enumerate(weight):
        sums.append(jax.tree.map(lambda leaf, w=w: w * leaf, called(_step, model, datum_of(data, row))))
    after = model.maximise(jax.tree.map(lambda *leaves: sum(leaves), *sums)).model
    np.testing.assert_allclose(after.weights, weight @ r / weight.sum(), atol=1e-10)
    for z in range(2):
        y = np.concatenate([data.query[row, :n] for row, n in enumerate(lengths)]).astype(np.float64)
        shares = np.concatenate([np.full(n, weight[row] * r[row, z]) for row, n in enumerate(lengths)])
        mean = shares @ y / shares.sum()
        scatter = (shares[:, None] * (y - mean)).T @ (y - mean) + 1e-6 * np.eye(2)
        np.testing.assert_allclose(after.means[z], mean, atol=1e-10)
        np.testing.assert_allclose(after.covariances[z], scatter / shares.sum(), atol=1e-10)


def _step(model, datum):
    return _summed(model, datum, model.expectations(datum)[0])


@pytest.mark.usefixtures("x64")
def test_units_are_those_of_a_step() -> None:
    """The wrapper's density is that of standardised episodes with the Jacobian of the steps that are there."""
    inner, data = veil.Episodic(Side(jnp.array(0.5))), some(missing=True)
    scale = lambda a, b: Scale(jnp.asarray(a), jnp.asarray(b))  # noqa: E731
    units = veil.Units(scale([2.0, -1.0], [3.0, 0.1]), scale([0.0, 1.0], [2.0, 5.0]))
    model = standardised(inner, units)
    assert isinstance(model, PerEpisode)
    for row in range(3):
        datum = datum_of(data, row)
        entries = np.asarray(datum.observed & datum.there[:, None])
        jacobian = -(entries @ np.log([3.0, 0.1])).sum()
        expected = inner.log_marginal(units.standard(datum)) + jacobian
        np.testing.assert_allclose(model.log_marginal(datum), expected, atol=1e-10)

        # the same from what acting uses, one step at a time
        joints = called(_by_steps, model, datum, jnp.asarray(entries))
        np.testing.assert_allclose(logsumexp(joints), expected, atol=1e-10)


def _by_steps(model, datum, entries):
    def joint(z):
        steps = model.likelihood(z, datum.evidence)
        return model.prior_at(datum.evidence[0]).log_prob(z) + distributions.log_prob(steps, datum.query, entries)

    return jax.vmap(joint)(jnp.arange(2))


@pytest.mark.usefixtures("x64")
def test_the_belief_after_every_step_is_the_posterior_of_the_steps_so_far() -> None:
    model, data = veil.Episodic(Side(jnp.array(0.5))), some((4, 2), missing=True)
    for row, length in enumerate((4, 2)):
        datum = datum_of(data, row)
        last, each = called(beliefs, EpisodeFilter(model, 2), datum, KEY)
        for t in range(length):
            so_far = naive_joints(data, row, t + 1, side_prior, side_density)
            np.testing.assert_allclose(each.state[t], so_far - logsumexp(so_far), atol=1e-10)
            np.testing.assert_allclose(np.sum(each.log_likelihood[: t + 1]), logsumexp(so_far), atol=1e-10)
        np.testing.assert_allclose(last.state, each.state[length - 1], atol=1e-10)
    filter = veil.Exact().filter(_mixture())
    assert filter.draw(filter.init(), KEY).shape == ()


# -- a user's own models -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def styles() -> veil.Fit:
    """A user's continuous latent, with the posterior that a fit learns."""
    return veil.fit(veil.Episodic(Style(jnp.array(0.5))), _styles(), key=KEY, steps=400)


def _styles(count: int = 60) -> veil.Data:
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 7, count)
    return veil.data.episodes([rng.normal(size=2) + 0.5 * rng.normal(size=(n, 2)) for n in lengths])


def test_a_users_continuous_latent_is_read_from_the_whole_episode(styles: veil.Fit) -> None:
    """Of normal noise the posterior is known: precision 1 + n / s², mean Σ y / s² over it."""
    assert isinstance(styles.posterior, EpisodeEncoder)
    data = _styles()
    found = veil.infer(styles, data)
    spread = float(styles.model.model.spread)
    precision = 1.0 + data.mask.sum(1) / spread**2
    total = (np.asarray(data.query) * data.mask[..., None]).sum(1)
    np.testing.assert_allclose(spread, 0.5, atol=0.1)
    np.testing.assert_allclose(found.mean, total / spread**2 / precision[:, None], atol=0.25)
    assert np.corrcoef(found.standard_deviation.mean(1), precision**-0.5)[0, 1] > 0.8
    value = veil.evaluate(styles, data, key=KEY, samples=100)
    exact = [
        multivariate_normal.logpdf(data.query[n, :k, d], np.zeros(k), spread**2 * np.eye(k) + np.ones((k, k)))
        for n, k in enumerate(data.mask.sum(1))
        for d in range(2)
    ]
    assert -0.1 < value.log_likelihood_per_datum - np.sum(exact) / 60 < 0.05


def test_verbs(styles: veil.Fit, tmp_path: Path) -> None:
    drawn = veil.sample(styles, 3, key=KEY, steps=5)
    assert drawn.query.shape == (3, 5, 2)
    assert drawn.latent.shape == (3, 2)
    side = veil.Episodic(Side(jnp.array(0.5)))
    data = some()
    drawn = veil.sample(side, 200, key=KEY, evidence=data.evidence[:1])
    assert drawn.query.shape == (1, 200, 4, 2)
    away = drawn.query[0] - 0.3 * np.asarray(data.evidence[0])[None]
    signs = 2.0 * drawn.latent[0] - 1.0
    assert np.abs((away - signs[:, None, None]).mean()) < 0.05  # all steps of a draw are on its side
    so_far, shorter = veil.infer(styles, _styles(), filtered=True), _styles()
    cut = veil.data.episodes([shorter.query[0, :4]])
    assert so_far.mean.shape == (len(shorter), shorter.query.shape[1], 2)
    np.testing.assert_allclose(so_far.mean[0, 3], veil.infer(styles, cut).mean[0], atol=1e-4)
    np.testing.assert_allclose(so_far.mean[:, -1], veil.infer(styles, shorter).mean, atol=1e-4)
    predicted = veil.predict(side, data.evidence[:2])
    right = 1 / (1 + np.exp(-data.evidence[:2, 0, 0]))
    np.testing.assert_allclose(
        predicted.mean, (2 * right - 1)[:, None, None] + 0.3 * data.evidence[:2], rtol=1e-5, atol=1e-5
    )
    draws = veil.draws(styles, _styles(), key=KEY, samples=4)
    assert draws["posterior"]["z"].shape == (1, 4, 60, 2)
    assert draws["dims"]["y"] == ["datum", "step", "y_0"]
    veil.save(tmp_path / "fit", styles)
    again = veil.load(tmp_path / "fit")
    np.testing.assert_array_equal(veil.infer(again, _styles()).mean, veil.infer(styles, _styles()).mean)
    with pytest.raises(ValueError, match=r"paths: .* one latent an episode"):
        veil.infer(side, data, paths=3, key=KEY)
    with pytest.raises(ValueError, match="thorough"):
        veil.evaluate(styles, _styles(), key=KEY, thorough=True)


def test_a_users_finite_latent_learns_by_the_exact_likelihood() -> None:
    model = veil.Episodic(Side(jnp.array(2.0)))
    assert isinstance(usual_objective(model, usual(model), False), veil.Marginal)
    lengths = (4,) * 40
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 2)) for n in lengths]
    y = [rng.choice([-1, 1]) + 0.3 * each + 0.5 * rng.normal(size=each.shape) for each in x]
    fit = veil.fit(model, veil.data.episodes(y, x), key=KEY, steps=300, optimiser=veil.Optimiser(_adam()))
    np.testing.assert_allclose(float(fit.model.model.spread), 0.5, atol=0.06)


def _adam():
    import optax

    return optax.adam(3e-2)


def test_trees() -> None:
    """A query of parts, each with entries of its own that are missing."""
    rng = np.random.default_rng(0)
    query = {"a": [rng.normal(size=(n, 2)) for n in (3, 2)], "b": [rng.normal(size=(n, 1)) for n in (3, 2)]}
    query["b"][0][1] = np.nan
    data = veil.data.episodes(query)
    head = veil.joint.Joint({"a": veil.heads.DiagonalGaussian(), "b": veil.heads.DiagonalGaussian()})
    model = veil.Episodic(veil.Mixture(veil.Linear(head), 2))
    fit = veil.fit(model, data, key=KEY, steps=3)
    assert np.isfinite(veil.log_prob(fit, data)).all()
    assert fit.model.sizes.values == 2


def test_a_conditional_vae_learns_by_an_importance_weighted_bound() -> None:
    model = veil.Episodic(veil.ConditionalVAE(2, decoder=veil.MLP((8,))))
    fit = veil.fit(model, some((4, 3, 2, 4)), key=KEY, steps=5)
    inner, posterior = fit.model.model, fit.posterior.posterior
    assert isinstance(usual_objective(inner, posterior, False), veil.ImportanceWeighted)
    assert isinstance(posterior, EpisodeEncoder)
    assert posterior.net.widths == (8,)
    assert veil.infer(fit, some((4, 3, 2, 4))).mean.shape == (4, 2)
    plain = veil.Episodic(veil.VAE(1, decoder=veil.MLP((8,))))
    assert isinstance(usual_objective(plain, usual(plain), False), veil.ELBO)


class Own(PerEpisode):
    """A user's model of whole episodes."""

    def prior_at(self, evidence):
        return distributions.normal(jnp.zeros(2), jnp.ones(2))

    def likelihood_at(self, latent, evidence):
        return distributions.normal(latent, jnp.ones(2))


def test_a_users_model_of_episodes() -> None:
    data = some((4, 2), evidence=False, missing=True)
    assert isinstance(usual(Own()), EpisodeEncoder)
    datum, latent = datum_of(data, 0), jnp.array([0.3, -1.0])
    there = np.asarray(datum.observed & datum.there[:, None])
    expected = norm.logpdf(np.asarray(datum.query), np.asarray(latent)[None], 1.0)[there].sum()
    np.testing.assert_allclose(Own().log_likelihood(latent, datum), expected, rtol=1e-5)
    step = Style(jnp.array(1.0))
    np.testing.assert_allclose(veil.Episodic(step).log_joint(latent, datum), Own().log_joint(latent, datum), rtol=1e-5)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    for inner, why in ((veil.HMM(), "of sequences already"), (veil.BayesianNetwork(), "all data share")):
        with pytest.raises(TypeError, match=why):
            veil.Episodic(inner)
    with pytest.raises(TypeError, match="a model of one step"):
        veil.Episodic(3)
    wrapped = standardised(Style(jnp.array(0.5)), veil.Units(Scale(jnp.zeros(2), 2.0 * jnp.ones(2))))
    with pytest.raises(TypeError, match="before it is fitted"):
        veil.Episodic(wrapped)
    model = veil.Episodic(Side(jnp.array(0.5)))
    with pytest.raises(ValueError, match="takes sequences"):
        veil.log_prob(model, np.zeros((3, 2)))
    data = some((4, 4))
    reset = np.zeros((2, 4), bool)
    reset[:, 0] = True
    split = veil.Data(data.query, data.evidence, reset=reset)
    assert np.isfinite(veil.log_prob(model, split)).all()
    reset[1, 2] = True
    with pytest.raises(ValueError, match="sequence 1 starts another episode at step 2"):
        veil.log_prob(model, veil.Data(data.query, data.evidence, reset=reset))
    with pytest.raises(TypeError, match="is of whole episodes"):
        veil.fit(veil.Episodic(Style(jnp.array(0.5))), data, posterior=veil.Amortized(), key=KEY, steps=1)
    rows = Datum(jnp.zeros(2))
    with pytest.raises(TypeError, match="EpisodeEncoder"):
        EpisodeEncoder().initialise(Style(jnp.array(0.5)), rows, 0, KEY)


# -- drives round a tree -----------------------------------------------------------------------------------------------

WORLD = worlds.Tree()


@pytest.fixture(scope="module")
def drives() -> worlds.Drives:
    return worlds.demonstrate(WORLD, 120, jax.random.key(1))


def whole(drives: worlds.Drives) -> veil.Data:
    """Whole drives as episodes, as far as the road goes."""
    return drives.recording("drives").data("action", "observation", sequences=True)


def test_a_start_finds_the_routes(drives: worlds.Drives) -> None:
    model = veil.Episodic(veil.Mixture(components=2))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        points, weights = preprocess(model, whole(drives), rng).starting_points()
        assert points.shape == (120, 13)
        assert side_share(model.responsibilities(points, weights, rng)[:, 1], drives) == 1.0


def test_starting_points_go_along_the_steps_that_are_there() -> None:
    data = veil.data.episodes([np.arange(5.0), np.arange(3.0)])
    found = preprocess(veil.Episodic(veil.Mixture()), data, np.random.default_rng(0), veil.Units()).starting_points()[0]
    np.testing.assert_allclose(found, [[0, 1, 2, 3, 4], [0, 0.5, 1, 1.5, 2]], atol=1e-12)


def side_share(right: np.ndarray, drives: worlds.Drives) -> float:
    """The share of the drives whose value of z is that of their side, whichever value that is."""
    share = np.mean((right > 0.5) == (drives.outcome == 1))
    return float(max(share, 1 - share))


@pytest.fixture(scope="module")
def policy(drives: worlds.Drives) -> veil.Fit:
    network = veil.Mixture(veil.Linear(veil.heads.DiagonalGaussian()), components=2, trunk=veil.MLP((32, 32)))
    return veil.fit(veil.Episodic(network), whole(drives), key=KEY, steps=600, held_out=0.2)


def test_the_latent_of_a_policy_is_the_side(drives: worlds.Drives, policy: veil.Fit) -> None:
    found = veil.infer(policy, whole(drives))
    assert side_share(found.probabilities[:, 1], drives) == 1.0
    assert found.probabilities.max(1).min() > 0.99


def test_who_keeps_the_latent_never_switches_sides(policy: veil.Fit) -> None:
    model = policy.model
    sides = []
    for z in range(2):
        driver = lambda state, key, z=z: model.likelihood_at(jnp.array(z), state).sample(key)  # noqa: E731
        found = worlds.drives(WORLD, driver, 50, KEY)
        ways = set(found.outcome[found.success])
        assert len(ways) == 1
        assert found.rate()[0] > 0.9
        sides += ways
    assert sorted(sides) == [0, 1]


def test_one_step_at_a_time_from_outside(drives: worlds.Drives) -> None:
    """Learning from outside, one step at a time, in frozen units."""
    data = whole(drives)
    model = veil.Episodic(veil.Mixture(veil.Linear(veil.heads.DiagonalGaussian()), 2, trunk=veil.MLP((8,))))
    trainer = veil.Trainer(model, units=veil.Units.of(data, model))
    state = trainer.start(data, KEY)
    before = called(trainer.step, state, trainer.batch(data))[1].value
    fitted, _ = trainer.result(state)
    expected = veil.evaluate(fitted, data).log_likelihood_per_datum
    np.testing.assert_allclose(float(before), expected, rtol=1e-4)
