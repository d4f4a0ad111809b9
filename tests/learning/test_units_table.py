"""Learning that goes on: parts that users write, on models of every kind, stay in the units they began with.

A fit of a fit's model with its posterior starts at the value where the other ended, and what comes out is again of the
user's data: the value after it is that in training units plus the Jacobian. (Each part alone: tests/test_units.py.)
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from veil import Data, Datum, distributions
from veil.evaluation.objective import values
from veil.learning.choices import usual_objective
from veil.model import Enumerable, Startable
from veil.model.abilities import Sizes, parameter
from veil.parts.heads import DiagonalGaussian
from veil.posterior import Learned
from veil.units import unwrapped, unwrapped_posterior

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.filterwarnings("ignore:collapse")]
KEY = jax.random.key(0)
STILL = optax.sgd(0.0)  # steps that go nowhere: their value is that of where they begin


class Lines(Learned):
    """q(z | y, x) = N(a + B [y, x], exp(s)²): linear in the query, by somebody who never heard of units."""

    lines: jnp.ndarray | None = parameter()

    def initialise(self, model, example, count, key):
        size = example.query.size + (0 if example.evidence is None else example.evidence.size)
        return Lines(0.1 * jax.random.normal(key, (2, size + 1)))

    def __call__(self, model, datum):
        seen = [jnp.ones(1), datum.query, *([] if datum.evidence is None else [datum.evidence])]
        mean, log_scale = self.lines @ jnp.concatenate(seen)
        return distributions.normal(mean[None], jnp.exp(0.1 * jnp.tanh(log_scale))[None])


class Blobs(Enumerable, Startable):
    """Three blobs of one shared width, the first of them at rest at zero; a discrete model of a user's own."""

    centres: jnp.ndarray | None = parameter()
    log_width: jnp.ndarray | None = parameter()

    @property
    def space(self):
        return DiagonalGaussian()

    @property
    def sizes(self):
        return Sizes(None if self.centres is None else self.centres.shape[1:], 0, values=3)

    def initialise(self, data, responsibilities, key):
        return Blobs(jax.random.normal(key, (2, data.query.shape[1])), jnp.zeros(()))

    def prior(self, evidence):
        return distributions.categorical(jnp.zeros(3))

    def likelihood(self, latent, evidence):
        centres = jnp.concatenate([jnp.zeros_like(self.centres[:1]), self.centres])
        return distributions.normal(centres[latent], jnp.full(centres.shape[1:], jnp.exp(self.log_width)))


def rows(evidence=False):
    rng = np.random.default_rng(3)
    y = rng.normal(size=(30, 2)) * [300.0, 0.01] + [5000.0, -3.0]
    return Data(y, evidence=rng.normal(size=(30, 1)) * 1e3 + 7.0 if evidence else None)


def sequences():
    rng = np.random.default_rng(4)
    return veil.data.episodes([rng.normal(size=(length, 1)) * 300.0 + 5000.0 for length in (4, 6, 6)])


SMALL = veil.MLP((3,))
CASES = {
    "vae": (veil.VAE(1, decoder=SMALL), Lines(), rows()),
    "conditional vae": (veil.VAE(veil.priors.ConditionalNormal(1, SMALL), decoder=SMALL), Lines(), rows(True)),
    "mdn": (veil.Mixture(veil.Linear(veil.heads.DiagonalGaussian()), 2, trunk=SMALL), None, rows(True)),
    "deep markov model": (veil.dmm(1, decoder=SMALL, width=3), None, sequences()),
    "bayesian network": (veil.BayesianNetwork((3,)), None, rows(True)),
    "enumerable": (Blobs(), None, rows()),
    "gaussian mixture": (veil.Mixture(components=2), None, rows()),
    "ppca with lines": (veil.PPCA(1), Lines(), rows()),
    "lds": (veil.LDS(1), None, sequences()),
}


def objective_of(fit):
    inner, _ = unwrapped(fit.model)
    found = usual_objective(inner, unwrapped_posterior(fit.posterior)[0], False)
    return veil.ELBO(found.gradient, 2000) if isinstance(found, veil.ELBO) else found


@pytest.mark.parametrize("name", CASES)
def test_a_fit_goes_on_where_the_other_ended(name):
    model, posterior, data = CASES[name]
    options = {"key": KEY, "posterior": posterior, "optimiser": optax.adam(0.01), "steps": 3, "batch_size": len(data)}
    if posterior is not None:
        options["objective"] = veil.ELBO()
    first = veil.fit(model, data, **options)
    objective = objective_of(first)
    ended = values(objective, first.model, first.posterior, data, key=KEY)
    still = {**options, "posterior": first.posterior, "objective": objective, "optimiser": STILL, "steps": 1}
    again = veil.fit(first.model, data, **still)
    exact = isinstance(first.posterior, veil.Exact)
    tolerance = {"rtol": 1e-9} if exact else {"rtol": 0.02, "atol": 0.1}
    np.testing.assert_allclose(again.history.value[0], ended.mean(), **tolerance)
    assert type(again.model) is type(first.model)
    assert type(again.posterior) is type(first.posterior)
    for one, other in ((first.model, again.model), (first.posterior, again.posterior)):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12)
    # other data do not change the units; what comes out is of the user's
    moved = Data(3.0 * data.query + 1.0, evidence=data.evidence, mask=data.mask)
    far = veil.fit(first.model, moved, **{**still, "optimiser": optax.adam(1e-4), "batch_size": len(data)})
    if unwrapped(first.model)[1] is not None:
        assert eqx.tree_equal(unwrapped(far.model)[1], unwrapped(first.model)[1])
    near = values(objective, far.model, far.posterior, data, key=KEY)
    np.testing.assert_allclose(near.mean(), ended.mean(), rtol=0.05, atol=0.2)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][1] is not None])
def test_the_value_of_a_fit_is_that_of_training_plus_the_jacobian(name):
    """By hand: standardised numbers in, the logarithm of the query's scales out."""
    model, posterior, data = CASES[name]
    fit = veil.fit(model, data, key=KEY, posterior=posterior, objective=veil.ELBO(), steps=3)
    q, units = unwrapped_posterior(fit.posterior)
    scale, shift = np.asarray(units.query.scale), np.asarray(units.query.shift)
    inner = unwrapped(fit.model)[0]
    if inner is fit.model:  # written in the user's units: PPCA
        inner = fit.model.rescaled(units.query.inverse(), None)
    x = units.evidence
    given = None if x is None else jnp.array((data.evidence - np.asarray(x.shift)) / np.asarray(x.scale))
    block = Datum(jnp.array((data.query - shift) / scale), given)

    @eqx.filter_jit
    def one(model, posterior, datum, key):
        return jax.vmap(lambda datum, key: veil.ELBO()(model, posterior, datum, key).value)(
            datum, jax.random.split(key, len(datum))
        )

    trained = np.asarray(one(inner, q, block, KEY)) - np.log(scale).sum()
    user = Datum(jnp.array(data.query), None if x is None else jnp.array(data.evidence))
    np.testing.assert_allclose(one(fit.model, fit.posterior, user, KEY), trained, rtol=1e-8, atol=1e-8)


def test_old_faithful_with_a_posterior_linear_in_the_query():
    """The KL of raw numbers to what was learned of standardised ones was 1.7 million nats."""
    data = veil.data.load("faithful")
    fit = veil.fit(veil.VAE(latent=1), data, key=KEY, posterior=Lines(), steps=300)
    q, units = unwrapped_posterior(fit.posterior)
    block = Datum(jnp.array(data.query))

    def kl(q):
        """KL(q || N(0, 1)) of each datum, by hand."""
        mean, variance = jax.vmap(lambda datum: distributions.moments(q(fit.model, datum)))(block)
        return np.asarray(0.5 * jnp.sum(variance + mean**2 - 1 - jnp.log(variance), 1))

    assert kl(fit.posterior).max() < 10
    assert kl(q).max() > 100  # the fault: the posterior of standardised data, shown raw ones
    assert units is not None
    found = veil.evaluate(fit, data, key=KEY, samples=100)
    assert found.log_likelihood_per_datum > fit.history.value[-50:].mean() - 0.3
