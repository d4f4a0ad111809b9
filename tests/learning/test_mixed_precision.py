"""Products in bfloat16, everything else in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from veil.learning.gradient import Gradient, GradientState
from veil.maths.rows import product
from veil.parts.nets import MLP, lowered


def test_products_round_their_factors_and_not_their_sums(key):
    left, right = (np.asarray(jax.random.normal(each, (64, 64))) for each in jax.random.split(key))
    low = [jnp.array(factor).astype(jnp.bfloat16).astype(jnp.float32) for factor in (left, right)]
    rounded = [np.asarray(factor, np.float64) for factor in low]
    found = np.asarray(product(jnp.array(left).astype(jnp.bfloat16), jnp.array(right)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rounded[0] @ rounded[1].T, atol=2e-5)
    assert np.abs(found - left.astype(np.float64) @ right.T).max() > 1e-3
    same = product(jnp.array(left), jnp.array(right))
    np.testing.assert_array_equal(same, jnp.array(left) @ jnp.array(right).T)


def test_only_the_weights_of_layers_are_lowered(key):
    model = veil.VAE(2, decoder=veil.MLP((8,)))
    fitted = veil.fit(model, veil.data.load("faithful"), key=key, steps=3).model.model
    found = lowered(fitted)
    assert {layer.weight.dtype for layer in found.decoder.layers} == {jnp.dtype(jnp.bfloat16)}
    assert {layer.bias.dtype for layer in found.decoder.layers} == {jnp.dtype(jnp.float32)}
    assert found.output.weight.dtype == jnp.float32


@pytest.mark.parametrize(
    ("decoder", "shape"),
    [
        (MLP((32,)), (64,)),
        (veil.images.PyramidDecoder((8, 8, 1), (8, 16), 16), (8, 8, 1)),
        (veil.images.ConvolutionalDecoder((8, 8, 1), (4, 8), 16), (8, 8, 1)),
    ],
    ids=["mlp", "pyramid", "convolutional"],
)
def test_gradients_are_those_of_full_precision_to_the_rounding_of_bfloat16(decoder, shape, key):
    """One gradient of the ELBO, with the same draws: within two per cent (bfloat16 has 8 bits), and not the same."""
    key_model, key_posterior, key_data, key_step = jax.random.split(key, 4)
    y = jax.random.normal(key_data, (20, *shape))
    model = veil.VAE(2, decoder=decoder)
    model = model.initialise(veil.Datum(y), None, key_model)
    posterior = model.usual_posterior.initialise(model, veil.Datum(y[0]), 1, key_posterior)
    batch = veil.Datum(y, weight=jnp.ones(20))

    def gradient(mixed):
        learner = Gradient(veil.ELBO(), veil.Optimiser(optax.identity(), mixed_precision=mixed))
        zero = jnp.zeros((), int)
        state = GradientState(model, posterior, veil.ELBO(), None, zero, zero, zero)
        terms = jax.jit(learner.accumulate)(state, batch, key_step).terms[0]
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(terms)])

    full, mixed = gradient(False), gradient(True)
    assert mixed.dtype == jnp.float32
    away = float(jnp.linalg.norm(full - mixed) / jnp.linalg.norm(full))
    assert 1e-5 < away < 0.02
