"""Units at one door: what is written for standardised data is, wrapped, a model of the user's, to rounding.

Every kind of part is written here as a user would write it, without a word about units.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

import veil
from cases import HEADS, head_log_prob, quiet_fit
from compiled import called
from veil import Data, Datum, Mixture, Units, distributions
from veil.data.core.episodes import steps
from veil.learning.choices import usual_objective
from veil.model import Enumerable, Model, Plate, Stepwise, Tractable
from veil.model.abilities import Local, started
from veil.model.batching import as_datum
from veil.model.filter import ExactChain
from veil.model.scales import Scale
from veil.model.stepwise import StepPosterior
from veil.objective import Estimate, Objective
from veil.parts import heads
from veil.parts.dynamics import Dynamics
from veil.parts.priors import Prior, StandardNormal
from veil.posterior import Continuing, Expecting, Online, Posterior, Proposal, Vectorial
from veil.posterior.assumed import KnownDynamics
from veil.saved import registry
from veil.units import in_user_units, standardised, standardised_posterior, unwrapped, unwrapped_posterior

KEY = jax.random.key(0)
SHAPE = (2,)
REAL = [name for name, head in HEADS.items() if head.real]
pytestmark = pytest.mark.usefixtures("x64")


class Headed(Model):
    """p(y) of a head; its latent says nothing."""

    head: heads.Head
    vector: Array

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(1), jnp.ones(1))

    def likelihood(self, latent, evidence):
        return self.head(self.vector, SHAPE)


@pytest.mark.parametrize("name", REAL)
def test_the_wrapper_is_the_change_of_variables(name):
    """log p(y) in the user's units is log p(standardised y) - Σ log scale; once more for a second change."""
    head, rng = HEADS[name].blank(SHAPE), np.random.default_rng(5)
    units = Scale(np.array([3.0, -200.0]), np.array([0.01, 50.0]))
    again = Scale(np.array([1.0, 2.0]), np.array([10.0, 0.3]))
    vector = 0.5 * rng.normal(size=head.size(SHAPE))
    standard = rng.normal(size=2)
    base = head_log_prob(head, vector, standard)
    model, z = standardised(Headed(head, jnp.array(vector)), Units(units)), jnp.zeros(1)
    once = units.shift + units.scale * standard
    found = model.likelihood(z, None).log_prob(jnp.array(once))
    np.testing.assert_allclose(found, base - np.sum(np.log(units.scale)), rtol=1e-10)
    np.testing.assert_allclose(model.log_likelihood(z, Datum(jnp.array(once))), found, rtol=1e-12)
    twice = again.shift + again.scale * once
    found = standardised(model, Units(again)).likelihood(z, None).log_prob(jnp.array(twice))
    np.testing.assert_allclose(found, base - np.sum(np.log(units.scale * again.scale)), rtol=1e-10)


@pytest.mark.parametrize("name", REAL)
def test_units_are_not_trained(name):
    head = HEADS[name].blank(SHAPE)
    inner, z, y = Headed(head, jnp.zeros(head.size(SHAPE))), jnp.zeros(1), jnp.ones(2)

    def both(shift, scale):
        model = standardised(inner, Units(Scale(shift, scale)))
        drawn = model.sample(KEY)[1]
        return model.likelihood(z, None).log_prob(y) + model.log_likelihood(z, Datum(y)) + jnp.sum(drawn)

    for gradient in jax.grad(both, (0, 1))(jnp.zeros(2), jnp.ones(2)):
        np.testing.assert_array_equal(gradient, 0)


# -- parts as a user writes them ---------------------------------------------------------------------------------------


class Laplacian(distributions.Distribution, distributions.Entries, distributions.Reparameterised):
    place: Array
    scale: Array

    def sample(self, key):
        return self.place + self.scale * jax.random.laplace(key, self.place.shape)

    def log_prob(self, value):
        return jnp.sum(self.entry_log_prob(value))

    def entry_log_prob(self, value):
        return -jnp.abs(value - self.place) / self.scale - jnp.log(2 * self.scale)


class LaplaceHead(heads.Head):
    real = True

    def size(self, shape):
        return 2 * int(np.prod(shape))

    def __call__(self, vector, shape):
        place, log_scale = vector.reshape(2, *shape)
        return Laplacian(place, jnp.exp(log_scale) + 0.01)

    def from_sums(self, sums):
        return jnp.concatenate([(sums[1] / sums[0]).ravel(), jnp.zeros(sums[0].size)])


class Wide(Prior):
    """N(0, 4), whatever the evidence; or around its first entry."""

    dimensions: int = eqx.field(static=True, default=1)

    def __call__(self, evidence):
        middle = jnp.zeros(self.dimensions) if evidence is None else jnp.tanh(evidence[: self.dimensions])
        return distributions.normal(middle, jnp.full(self.dimensions, 2.0))


class LinearPosterior(Posterior):
    """Four lines, linear in the query."""

    gain: Array = eqx.field(default_factory=lambda: 0.1 * jnp.ones((1, 2)))
    log_scale: Array = eqx.field(default_factory=lambda: jnp.zeros(1))

    def __call__(self, model, datum):
        return distributions.normal(self.gain @ datum.query, jnp.exp(self.log_scale))


class Walk(Dynamics):
    """z_t ~ N(0.9 z_t-1 + tanh x_t, 1)."""

    latent: Prior = StandardNormal(2)

    def initialise(self, inputs, query, key):
        return self

    def start(self):
        return veil.chains.State(jnp.zeros(2), jnp.zeros(2), jnp.zeros(0))

    def recall(self, before, evidence):
        pushed = 0.0 if evidence is None else jnp.tanh(evidence[:1]) * jnp.ones(2)
        return 0.9 * before.latent + pushed

    def prior(self, memory, features):
        return distributions.normal(memory, jnp.ones(2))


class PathPosterior(Posterior):
    """Four lines for sequences: z_t around the query of its step."""

    gain: Array = eqx.field(default_factory=lambda: 0.1 * jnp.ones(()))

    def __call__(self, model, datum):
        def step(memory, features):
            return distributions.normal(self.gain * features, jnp.ones(2))

        return veil.dynamics.neural_chain(dynamics_of(model), step, datum.query, datum)


def dynamics_of(model):
    return next(
        node
        for node in jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, Dynamics))
        if isinstance(node, Dynamics)
    )


class Squared(Objective):
    """The ELBO less a penalty that is large where data are far from zero."""

    def __call__(self, model, posterior, datum, key):
        q = posterior(model, datum)
        z = q.sample(key)
        value = model.log_joint(z, datum) - distributions.log_prob(q, z)
        return Estimate(value - 0.01 * jnp.sum(q.mean**2))


class Noise(Model):
    """A model with parameters, in whatever units it is given: z ~ N(0, 1), y ~ N(a + b z + x, s²)."""

    a: Array
    b: Array
    log_scale: Array

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(1), jnp.ones(1))

    def likelihood(self, latent, evidence):
        beyond = 0.0 if evidence is None else evidence[:1]
        return distributions.normal(self.a + self.b @ latent + beyond, jnp.exp(self.log_scale))


class Blends(Enumerable):
    """A discrete latent of three values."""

    means: Array

    def prior(self, evidence):
        return distributions.categorical(jnp.zeros(3))

    def likelihood(self, latent, evidence):
        return distributions.normal(self.means[latent], jnp.ones(2))


class Steps(Stepwise):
    """z_t ~ N(0.5 z_t-1 + 0.1 y_t-1, 1), y_t ~ N(z_t + x_t, 1): it remembers what it saw."""

    def carry(self, evidence):
        return {"z": jnp.zeros(2), "y": jnp.zeros(2)}

    def advance(self, carry, latent, query, evidence, observed):
        seen = jnp.zeros(2) if query is None else query if observed is None else jnp.where(observed, query, 0.0)
        return {"z": latent, "y": seen}

    def step_prior(self, carry, evidence):
        return distributions.normal(0.5 * carry["z"] + 0.1 * carry["y"], jnp.ones(2))

    def step_likelihood(self, carry, latent, evidence):
        return distributions.normal(latent + (0.0 if evidence is None else evidence[:1] * jnp.ones(2)), jnp.ones(2))


class Together(Plate):
    """One number that all data share."""

    count: float = eqx.field(static=True, default=1.0)

    @property
    def shared_by(self):
        return self.count

    def shared_among(self, total):
        return Together(total)

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(1), jnp.ones(1))

    def likelihood(self, latent, evidence):
        return distributions.normal(jnp.broadcast_to(latent, (2,)), jnp.ones(2))


def rows(missing=False, evidence=False):
    """Rows far from zero, of very different scales."""
    rng = np.random.default_rng(int(missing) + 2 * int(evidence))
    y = rng.normal(size=(40, 2)) * [300.0, 0.01] + [5000.0, -3.0]
    y = np.where(rng.random(y.shape) < 0.2, np.nan, y) if missing else y
    return Data(y, evidence=rng.normal(size=(40, 2)) * [1e3, 1e-2] + 7.0 if evidence else None)


def sequences(missing=False, evidence=False):
    """Sequences of several lengths."""
    rng = np.random.default_rng(10 + int(missing) + 2 * int(evidence))
    lengths = [3, 7, 5, 7]
    y = [rng.normal(size=(length, 2)) * [300.0, 0.01] + [5000.0, -3.0] for length in lengths]
    y = [np.where(rng.random(part.shape) < 0.2, np.nan, part) for part in y] if missing else y
    x = [rng.normal(size=(length, 2)) * [1e3, 1e-2] + 7.0 for length in lengths] if evidence else None
    return veil.data.episodes(y, x)


VAE = veil.VAE(1, decoder=veil.MLP((3,)))
DEEP = veil.StateSpace(Walk(), decoder=veil.MLP((3,)))
FITTED = {
    "posterior": (VAE, LinearPosterior(), None, rows()),
    "posterior, evidence": (VAE, LinearPosterior(), None, rows(evidence=True)),
    "prior": (veil.VAE(Wide(), decoder=veil.MLP((3,))), None, None, rows(missing=True)),
    "prior, evidence": (veil.VAE(Wide(), decoder=veil.MLP((3,))), None, None, rows(True, True)),
    "head": (veil.VAE(1, LaplaceHead(), veil.MLP((3,))), None, None, rows(missing=True)),
    "objective": (VAE, LinearPosterior(), Squared(), rows()),
    "table": (VAE, veil.Table(), None, rows(True, True)),
    "refined": (VAE, veil.Refined(veil.Amortized(veil.MLP((3,))), 2), None, rows(missing=True)),
    "two levels": (veil.VAE(veil.priors.TwoLevels(1, 1, veil.MLP((3,))), decoder=veil.MLP((3,))), None, None, rows()),
    "vamp": (veil.VAE(veil.priors.VampPrior(1, 3, veil.MLP((3,))), decoder=veil.MLP((3,))), None, None, rows()),
    "dynamics": (DEEP, None, None, sequences(True, True)),
    "posterior of sequences": (DEEP, PathPosterior(), None, sequences(evidence=True)),
    "recurrent": (veil.rssm(2, decoder=veil.MLP((3,)), memory=3), None, None, sequences(True, True)),
    "observing": (veil.vrnn(2, decoder=veil.MLP((3,)), memory=3), None, None, sequences(True, True)),
    "messages": (
        veil.StateSpace(veil.dynamics.LinearDynamics(2), decoder=veil.MLP((3,))),
        None,
        None,
        sequences(True, True),
    ),
    "network of weights": (veil.BayesianNetwork((3,)), None, None, rows(True, True)),
    "head of a mixture": (veil.Mixture(veil.Linear(LaplaceHead()), 2), None, None, rows(True, True)),
    "trunk": (
        veil.Mixture(veil.Linear(heads.FullGaussian()), 2, trunk=veil.MLP((3,))),
        None,
        None,
        rows(evidence=True),
    ),
}


@eqx.filter_jit
def _values(objective, model, posterior, block, key):
    keys = jax.random.split(key, len(block))
    return jax.vmap(lambda datum, key: objective(model, posterior, datum, key).value)(block, keys)


def on_device(data):
    return jax.tree.map(jnp.array, as_datum(data))


@pytest.mark.filterwarnings("ignore:collapse")
@pytest.mark.parametrize("name", FITTED)
def test_a_fit_s_value_is_that_of_training_plus_the_jacobian(name):
    """Whatever part is somebody's own: it sees standardised numbers in training and ever after."""
    model, posterior, objective, data = FITTED[name]
    fit = veil.fit(model, data, key=KEY, posterior=posterior, objective=objective, steps=2)
    inner, units = unwrapped(fit.model)
    learned, _ = unwrapped_posterior(fit.posterior)
    assert units is not None
    if objective is None:
        objective = usual_objective(inner, learned, False)
    block = on_device(data.numbered() if name == "table" else data)
    sequential = isinstance(inner, Stepwise)
    found = _values(objective, fit.model, fit.posterior, block, KEY)
    standard = jax.vmap(units.standard)(block)
    seen = np.ones(data.query.shape, bool) if data.observed is None else data.observed
    seen = seen if data.mask is None else seen & data.mask[..., None]
    jacobian = -np.sum(np.where(seen, np.log(np.asarray(units.query.scale)), 0.0), tuple(range(1, seen.ndim)))
    expected = np.asarray(_values(objective, inner, learned, standard, KEY)) + jacobian
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        jax.vmap(lambda datum: units.log_jacobian(datum, sequential))(block), jacobian, rtol=1e-12
    )


def test_a_posterior_of_four_lines_learns_old_faithful():
    """It was trained on standardised data and then shown raw ones: a KL of 1.7 million nats."""
    data = veil.data.load("faithful")
    fit = veil.fit(veil.VAE(latent=1), data, key=KEY, posterior=LinearPosterior(), steps=300)
    found = veil.ELBO(samples=20)
    one = lambda datum, key: found(fit.model, fit.posterior, datum, key).metrics["kl"]  # noqa: E731
    block = on_device(data)
    kl = eqx.filter_jit(jax.vmap(one))(block, jax.random.split(KEY, len(data)))
    assert np.max(kl) < 10
    value = veil.evaluate(fit, data, key=KEY).log_likelihood_per_datum
    assert value > fit.history.value[-50:].mean() - 0.3


# -- models with parameters of their own -------------------------------------------------------------------------------

NOISE = Noise(jnp.array([0.3, -0.2]), jnp.array([[0.5], [1.0]]), jnp.array([-0.3, 0.2]))
OWN = {
    "plain": NOISE,
    "enumerable": Blends(jnp.array([[0.0, 1.0], [1.0, -1.0], [-2.0, 0.0]])),
    "steps": Steps(),
    "plate": Together(40.0),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("missing", [False, True])
def test_a_wrapped_model_says_the_same_of_the_user_s_data(name, missing):
    """Its abilities are its own's; prior, likelihood, log-densities and draws are moved, with the Jacobian."""
    inner = OWN[name]
    sequential = isinstance(inner, Stepwise)
    data = (sequences if sequential else rows)(missing, True)
    units = Units.of(steps(data) if sequential else data)
    model = standardised(inner, units)
    for ability in (Tractable, Stepwise, Plate):
        assert isinstance(model, ability) == isinstance(inner, ability)
    assert unwrapped(model) == (inner, units)
    one = jax.tree.map(lambda leaf: leaf[0], on_device(data))
    standard, jacobian = units.standard(one), units.log_jacobian(one, sequential)
    z = called(lambda model: model.prior_for(one).sample(KEY), model)
    np.testing.assert_allclose(
        called(model.log_joint, z, one), called(inner.log_joint, z, standard) + jacobian, rtol=1e-9
    )
    seen = None if sequential else distributions.log_prob(model.likelihood(z, one.evidence), one.query, one.observed)
    if seen is not None:
        np.testing.assert_allclose(seen, inner.log_likelihood(z, standard) + jacobian, rtol=1e-9)
    if isinstance(model, Tractable):
        np.testing.assert_allclose(
            called(model.log_marginal, one), called(inner.log_marginal, standard) + jacobian, rtol=1e-9
        )
        q = model.posterior(one)
        np.testing.assert_allclose(model.log_joint(z, one) - q.log_prob(z), model.log_marginal(one), rtol=1e-9)
    latent, y = called(lambda model, x: model.sample(KEY, x), model, one.evidence)
    before, drawn = called(lambda model, x: model.sample(KEY, x), inner, units.given(one.evidence))
    jax.tree.map(np.testing.assert_allclose, latent, before)
    np.testing.assert_allclose(
        y, np.asarray(units.query.shift) + np.asarray(units.query.scale) * np.asarray(drawn), rtol=1e-9
    )


@pytest.mark.parametrize("kind", ["head", "network", "linear-Gaussian"])
def test_learning_goes_on_in_the_units_it_began_with(kind):
    """Of a model that a fit gave, and of one of the user's own with parameters; what cannot be rescaled is not."""
    own = {
        "head": veil.Mixture(veil.Linear(heads.DiagonalGaussian()), 2),
        "network": veil.Mixture(veil.LinearGaussian(), 2, trunk=veil.MLP((3,))),
        "linear-Gaussian": veil.Mixture(components=2),
    }[kind]
    data = rows(evidence=True)
    adam = optax.adam(1e-3)
    one = quiet_fit(own, data, key=KEY, steps=20, optimiser=adam)
    two = quiet_fit(one.model, data, key=KEY, steps=2, optimiser=adam)
    np.testing.assert_allclose(two.history.value[0], one.history.value[-1], atol=0.05)
    assert isinstance(one.model, Mixture) == (kind == "linear-Gaussian")
    inner, units = unwrapped(one.model)
    if units is not None:  # of standardised data, as if these were the user's
        standard = Data(units.query.exactly(data.query), evidence=units.evidence.exactly(data.evidence))
        again = quiet_fit(inner, standard, key=KEY, steps=2, optimiser=adam)
        assert type(again.model) is Mixture
        expected = two.history.value + np.sum(np.log(units.query.scale))
        np.testing.assert_allclose(again.history.value, expected, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:collapse")
def test_a_posterior_keeps_its_abilities_and_what_is_made_of_it():
    """A refined one is of the user's data, too; to learn on it goes back to its units."""
    data = rows(missing=True)
    fit = veil.fit(VAE, data, key=KEY, steps=2)
    refined = veil.Refined(fit.posterior, 2)
    learned, units = unwrapped_posterior(refined)
    block = on_device(data)
    standard = jax.vmap(fit.model.units.standard)(block)
    found = _values(veil.ELBO(), fit.model, refined, block, KEY)
    jacobian = jax.vmap(units.log_jacobian)(block)
    np.testing.assert_allclose(
        found, _values(veil.ELBO(), fit.model.model, learned, standard, KEY) + jacobian, rtol=1e-8
    )
    more = veil.fit(fit.model, data, key=KEY, posterior=refined, steps=1, fixed=True)
    assert isinstance(more.posterior.posterior, veil.Refined)
    assert isinstance(more.posterior.posterior.base, veil.Amortized)

    class Half(veil.posterior.Proposal):
        """It proposes, and no more."""

        def __call__(self, model, datum):
            return model.prior_for(datum)

        def step_proposals(self, model, datum):
            return None

        def step(self, model, features, carry, datum):
            return distributions.normal(0.1 * datum.query, jnp.ones(2))

    data = sequences(True, True)
    units = Units.of(steps(data))
    model, half = standardised(Steps(), units), standardised_posterior(Half(), units)
    one = jax.tree.map(lambda leaf: leaf[0], on_device(data))
    found = called(veil.FIVO(4), model, half, one, KEY).value
    expected = called(veil.FIVO(4), Steps(), Half(), units.standard(one), KEY).value + units.log_jacobian(one, True)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_wrapper_has_all_the_abilities_of_what_is_inside():
    """Whatever a user's class combines."""
    units = Units.of(rows(evidence=True))
    prior = lambda self, evidence: distributions.normal(jnp.zeros(1), jnp.ones(1))  # noqa: E731

    def made(*kinds):
        methods = {name: prior for kind in kinds for name in kind.__abstractmethods__}
        return type(eqx.Module)("Own", kinds, methods)()

    for kinds in [
        (Stepwise, Plate),
        (Tractable, Plate),
        (StepPosterior, Plate),
        (Tractable, Stepwise, Local),
        (ExactChain, Plate),
        (KnownDynamics,),
    ]:
        found = standardised(made(*kinds), units)
        kinds_ = (Stepwise, Plate, Local, Tractable, StepPosterior, ExactChain, KnownDynamics)
        assert [isinstance(found, kind) for kind in kinds_] == [issubclass(type(made(*kinds)), kind) for kind in kinds_]
        assert unwrapped(found)[1] is units
        kind, name = registry.entry(found)
        assert registry.found(kind, name) is type(found)
    can = (Online, Proposal, Continuing, Vectorial, Expecting)
    for kinds in [kinds for size in range(4) for kinds in itertools.combinations(can, size)]:
        found = standardised_posterior(made(*(kinds or (Posterior,))), units)
        assert [isinstance(found, kind) for kind in can] == [kind in kinds for kind in can]


def test_what_a_wrapped_expecting_posterior_expects():
    """EM's numbers of standardised data, and the value of the user's."""

    class Halves(Expecting):
        def __call__(self, model, datum):
            return distributions.categorical(jnp.zeros(2))

        def expectations(self, model, datum):
            return jnp.full(2, 0.5), jnp.sum(datum.query)

    units = Units.of(rows(evidence=True))
    datum = jax.tree.map(lambda leaf: leaf[0], on_device(rows(evidence=True)))
    found, value = standardised_posterior(Halves(), units).expectations(standardised(NOISE, units), datum)
    np.testing.assert_array_equal(found, [0.5, 0.5])
    np.testing.assert_allclose(value, jnp.sum(units.standard(datum).query) + units.log_jacobian(datum), rtol=1e-9)


@pytest.mark.parametrize("strategy", [veil.Extended(), veil.Unscented()], ids=["extended", "unscented"])
def test_known_dynamics_are_known_in_units_too(strategy):
    """``Trainer(units=)`` wraps a model whose filter linearises it: moments stay, and the value has the Jacobian."""
    eye = jnp.eye(2)
    move, show = lambda z, x: jnp.sin(z) + x, lambda z, x: 0.3 * z**2 + z + 0.1 * x
    inner = veil.NonlinearGaussian(move, show, 0.3 * eye, veil.Full(factor=0.2 * eye[None]), jnp.ones(2), eye)
    data = sequences(evidence=True)
    units = Units.of(steps(data))
    datum = jax.tree.map(lambda leaf: leaf[1], on_device(data))
    model, standard = standardised(inner, units), units.standard(datum)
    found, expected = called(strategy.filtered, model, datum), called(strategy.filtered, inner, standard)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(
        found.log_likelihood, expected.log_likelihood + units.log_jacobian(datum, True), rtol=1e-6
    )


def test_no_units_no_wrapper():
    assert standardised(NOISE, Units()) is NOISE
    assert in_user_units(NOISE, Units()) is NOISE
    assert unwrapped(NOISE) == (NOISE, None)


@pytest.mark.filterwarnings("ignore:collapse")
def test_units_of_a_tree_by_name(key):
    """A dictionary has units by name: of pixels none, of a reward its own; a frozen pair is used as it is."""
    rng = np.random.default_rng(0)
    query = {"frame": (rng.random((30, 4)) < 0.5).astype(float), "reward": 50.0 + 9.0 * rng.normal(size=(30, 1))}
    data = Data(query, evidence={"arm": 1e3 * rng.normal(size=(30, 2))})
    head = veil.joint.Joint({"reward": heads.DiagonalGaussian(), "frame": heads.Bernoulli()})
    model = veil.VAE(2, head, veil.MLP((3,)))
    units = Units.of(data, model)
    assert units.query["frame"] is None
    assert 7 < units.query["reward"].scale[0] < 11
    assert units.evidence["arm"].scale.shape == (2,)
    fit = veil.fit(model, data, key=key, steps=2)
    assert started(fit.model)
    jax.tree.map(np.testing.assert_allclose, fit.model.units, units)
    one = jax.tree.map(lambda leaf: leaf[0], on_device(data))
    z = jnp.zeros(2)
    standard = units.standard(one)
    inside = fit.model.model.log_likelihood(z, standard)
    np.testing.assert_allclose(
        fit.model.log_likelihood(z, one), inside - np.log(units.query["reward"].scale[0]), rtol=1e-9
    )
    seen = fit.model.likelihood(z, one.evidence)
    np.testing.assert_allclose(seen.log_prob(one.query), fit.model.log_likelihood(z, one), rtol=1e-9)
    back = units.back(units.asked(one.query))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), back, one.query)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), units.inverse().inverse(), units)
