"""Common slips at the making of a model, and what they are answered with."""

import dataclasses
import re

import jax
import pytest

import veil
from veil.model import slips

PARTS = [
    (veil.Mixture, "experts", 2, "such as LinearGaussian(); got 2; numbers go by name: Mixture(components=2)"),
    (veil.HMM, "experts", 3, "such as LinearGaussian(); got 3; numbers go by name: HMM(states=3)"),
    (veil.VAE, "head", "gaussian", "such as DiagonalGaussian(); got 'gaussian'"),
    (veil.VAE, "decoder", (32,), "such as MLP(); got (32,)"),
]
SLIPS = {
    "Mixture(n_components=2)": "Mixture: there is no argument 'n_components'; say components: Mixture(components=2)",
    "HMM(n_components=2)": "HMM: there is no argument 'n_components'; say states: HMM(states=2)",
    "PPCA(n_components=2)": "PPCA: there is no argument 'n_components'; say latent: PPCA(latent=2)",
    "VAE(latent_dim=8)": "VAE: there is no argument 'latent_dim'; say latent: VAE(latent=8)",
    "rssm(memmory=8)": "rssm: there is no argument 'memmory'; did you mean 'memory'? Available: latent, head",
    "fit(Mixture, [[1.0]], key=KEY)": "model: Mixture makes one: call it, as in veil.Mixture()",
    "evaluate(rssm, [[1.0]])": "model: rssm makes one: call it, as in veil.rssm()",
    "fit([[1.0]], Mixture(), key=KEY)": "model: expected a veil.Model, such as veil.Mixture(components=3); got list",
}


@pytest.mark.parametrize(("kind", "name", "value", "words"), PARTS, ids=lambda each: str(each)[-30:])
def test_a_number_or_a_word_is_no_part(kind, name, value, words):
    made = object.__new__(kind)  # annotations are executed here, and would refuse it first
    for field in dataclasses.fields(kind):
        object.__setattr__(made, field.name, value if field.name == name else field.default)
    with pytest.raises(TypeError, match=re.escape(f"{name}: expected a part {words}")):
        slips.parts(made)


@pytest.mark.parametrize("call", SLIPS)
def test_a_slip_is_answered_with_the_right_call(call):
    with pytest.raises(TypeError, match=re.escape(SLIPS[call])):
        eval(call, {"KEY": jax.random.key(0), **{name: getattr(veil, name) for name in veil.__all__}})


def test_a_model_of_ones_own_takes_what_its_own_init_takes():
    class Own(veil.Model):
        size: int

        def __init__(self, width, **more):
            self.size = width + len(more)

        def prior(self, evidence):
            raise NotImplementedError

        def likelihood(self, latent, evidence):
            raise NotImplementedError

    assert Own(width=2, anything=1).size == 3
