"""No action led to the first step of an episode: what stands there is read by no transition, on any way."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import Datum, dynamics
from veil.model.filter import beliefs
from veil.parts.priors import Codes
from veil.posterior import Online
from veil.units import standardised

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
STEPS, STARTS, INSIDE = 6, [0, 4], 2
SMALL = veil.MLP((3,))


class Pushed(dynamics.Dynamics):
    """A user's own: z_t ~ N(0.5 z_t-1 + x_t, 1), who wrote no word about resets."""

    latent: object = eqx.field(default_factory=lambda: dynamics.StandardNormal(1))

    def initialise(self, inputs, query, key):
        return self

    def start(self):
        return veil.chains.State(jnp.zeros(1), jnp.zeros(1), jnp.zeros(0))

    def recall(self, before, evidence):
        return 0.5 * before.latent + evidence

    def prior(self, memory, features):
        return veil.distributions.normal(memory, jnp.ones(1))


class Walk(veil.Stepwise):
    """A user's own, as the page about them says."""

    def carry(self, evidence):
        return veil.Before(jnp.zeros(1), jnp.array(True))

    def advance(self, carry, latent, query, evidence, observed):
        return veil.Before(latent, jnp.array(False))

    def step_prior(self, carry, evidence):
        return veil.distributions.normal(jnp.where(carry.fresh, 1.0, 0.9 * carry.latent + evidence), jnp.ones(1))

    def step_likelihood(self, carry, latent, evidence):
        return veil.distributions.normal(latent, jnp.ones(1))


def data(value: float = 0.0, at=STARTS) -> Datum:
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(STEPS, 1)), rng.normal(size=(STEPS, 1))
    x[STARTS] = 0.0
    x[at] += value
    reset = np.isin(np.arange(STEPS), STARTS)
    return jax.tree.map(jnp.asarray, Datum(y, x, reset=reset, mask=np.ones(STEPS, bool)))


MODELS = {
    "rssm": veil.rssm(1, decoder=SMALL, memory=2),
    "rssm, codes": veil.rssm(Codes(1, 2), decoder=SMALL, memory=2),
    "vrnn": veil.vrnn(1, decoder=SMALL, memory=2),
    "dmm": veil.dmm(1, decoder=SMALL, width=2),
    "linear": veil.StateSpace(dynamics.LinearDynamics(1), decoder=SMALL),
    "locally linear": veil.StateSpace(dynamics.LocallyLinear(1, veil.MLP((2,))), decoder=SMALL),
    "own dynamics": veil.StateSpace(Pushed(), decoder=SMALL),
    "own steps": Walk(),
    "lds": veil.LDS(1),
    "hmm": veil.HMM(veil.Linear(veil.heads.DiagonalGaussian()), 2, veil.Softmax(evidence=True)),
}


@eqx.filter_jit
def begun(model, whole, responsibilities):
    return model.initialise(whole, responsibilities, KEY)


def started(name):
    whole = jax.tree.map(lambda leaf: leaf[None], data())
    model = MODELS[name]
    if name == "own steps":
        return model
    if name == "hmm":  # its experts see the evidence of their step, also of a first one; here they do not use it
        model = begun(model, whole, jnp.ones((STEPS, 2)) / 2)
        model = eqx.tree_at(lambda m: m.experts.weight, model, replace_fn=lambda w: w.at[..., 1:].set(0.0))
        return eqx.tree_at(lambda m: m.transition.weight, model, replace_fn=lambda w: w.at[0, 0, 1].set(2.0))
    model = begun(model, whole, None)
    # a user's units, in which zero is not zero inside
    scale = veil.model.scales.Scale(jnp.array([3.0]), jnp.array([2.0]))
    return standardised(model, veil.Units(scale, scale)) if name == "rssm" else model


@eqx.filter_jit
def said(model, posterior, data):
    """Of one path its joint density; what a filter knows, and what a posterior of the whole says, after every step."""

    def one(datum):
        path = model.prior_for(datum).sample(KEY)
        found = [path, model.log_joint(path, datum)]
        if posterior is not None:
            found.append(posterior(model, datum).sample(KEY))
        if isinstance(posterior, Online):
            found.append(beliefs(posterior.filter(model), datum, KEY)[1])
        return [leaf for leaf in jax.tree.leaves(found) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    return jax.vmap(one)(data)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_reads_the_action_before_the_first_step(name) -> None:
    model, posterior = started(name), None
    if name == "own steps":
        posterior = veil.posterior.Bootstrap()
    elif "rssm" in name or "own" in name:
        posterior = veil.Sequential(SMALL, veil.posterior.Past(2), combiner=SMALL).initialise(model, data(), 1, KEY)
    elif name == "linear":
        posterior = veil.MessagePassing(SMALL).initialise(model, data(), 1, KEY)
    elif name in ("lds", "hmm"):
        posterior = veil.Exact()
    several = jax.tree.map(lambda *leaves: jnp.stack(leaves), data(), data(7.0), data(7.0, INSIDE))
    found = said(model, posterior, several)
    for expected, same, _ in found:
        np.testing.assert_allclose(expected, same, rtol=1e-12)
    assert any(not np.allclose(expected, other) for expected, _, other in found)
