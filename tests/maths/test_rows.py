"""Products of rows with a matrix under every transformation, against plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.maths import rows

SHAPES = (4, 2, 3), (5, 3), (5,)


def numbers():
    return [jnp.array(np.random.default_rng(i).normal(size=shape)) for i, shape in enumerate(SHAPES)]


def plain(x, weight, bias):
    return jnp.matmul(x, weight.T) + jnp.broadcast_to(bias, (*x.shape[:-1], len(bias)))


def cube(f):
    return lambda *args: jnp.sum(f(*args) ** 3)


def scanned(f, x, w, b):
    def total(weight, bias):
        return jax.lax.scan(lambda carry, row: (carry + jnp.sum(f(row, weight, bias) ** 2), None), 0.0, x)[0]

    return jax.grad(total, (0, 1))(w, b)


TRANSFORMED = {
    "value": lambda f, x, w, b: f(x, w, b),
    "a vector": lambda f, x, w, b: f(x[0, 0], w, b),
    "jit": lambda f, x, w, b: jax.jit(f)(x, w, b),
    "gradient": lambda f, x, w, b: jax.grad(cube(f), (0, 1, 2))(x, w, b),
    "gradient of vmap": lambda f, x, w, b: jax.grad(
        cube(jax.vmap(jax.vmap(f, (0, None, None)), (0, None, None))), (0, 1, 2)
    )(x, w, b),
    "vmap of gradient": lambda f, x, w, b: jax.vmap(jax.grad(cube(f), (0, 1, 2)), (0, None, None))(x, w, b),
    "along another axis": lambda f, x, w, b: jax.vmap(f, (1, None, None), 1)(x, w, b),
    "many matrices": lambda f, x, w, b: jax.vmap(f, (None, 0, 0))(x, jnp.stack([w, 2 * w]), jnp.stack([b, -b])),
    "many of all": lambda f, x, w, b: jax.vmap(jax.grad(cube(f), (0, 1, 2)))(
        x[:2], jnp.stack([w, 2 * w]), jnp.stack([b, -b])
    ),
    "many matrices, one bias": lambda f, x, w, b: jax.vmap(f, (None, 0, None))(x, jnp.stack([w, 2 * w]), b),
    "many biases": lambda f, x, w, b: jax.grad(cube(jax.vmap(f, (None, None, 0))), (0, 1, 2))(x, w, jnp.stack([b, -b])),
    "hessian": lambda f, x, w, b: jax.hessian(cube(f), (0, 1, 2))(x[0], w, b),
    "tangent": lambda f, x, w, b: jax.jvp(lambda weight: f(x, weight, b), (w,), (2 * w,)),
    "scan": scanned,
    "checkpoint": lambda f, x, w, b: jax.grad(jax.checkpoint(cube(f)), (0, 1, 2))(x, w, b),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations(name: str, x64: None) -> None:
    pairs = [
        (rows.affine, plain),
        (lambda x, w, b: rows.product(x, w) + 0 * jnp.sum(b), lambda x, w, b: x @ w.T + 0 * jnp.sum(b)),
    ]
    for mine, other in pairs:
        transformed = jax.jit(
            lambda *args, mine=mine, other=other: [TRANSFORMED[name](f, *args) for f in (mine, other)]
        )
        found, expected = map(jax.tree.leaves, transformed(*numbers()))
        assert len(found) == len(expected)
        for left, right in zip(found, expected, strict=True):
            assert left.shape == right.shape
            np.testing.assert_allclose(left, right, rtol=1e-11, atol=1e-11)


def test_factors_have_the_lower_precision_and_sums_the_higher() -> None:
    x, weight, bias = (jnp.array(each, jnp.float32) for each in numbers())
    found = rows.affine(x, weight.astype(jnp.bfloat16), bias)
    assert found.dtype == jnp.float32
    low = x.astype(jnp.bfloat16).astype(jnp.float32) @ weight.astype(jnp.bfloat16).astype(jnp.float32).T
    np.testing.assert_allclose(found, low + bias[None, None], rtol=1e-5)
    slopes = jax.grad(lambda x, w: jnp.sum(rows.product(x, w)), (0, 1))(x, weight.astype(jnp.bfloat16))
    assert [slope.dtype for slope in slopes] == [jnp.float32, jnp.bfloat16]


def test_without_columns_only_the_bias_is_left() -> None:
    def total(x, weight, bias):
        return jnp.sum(jax.vmap(rows.affine, (0, None, None))(x, weight, bias) ** 2)

    empty = jnp.zeros((4, 2, 0)), jnp.zeros((5, 0)), jnp.ones(5)
    slopes = jax.grad(total, (0, 1, 2))(*empty)
    assert [slope.shape for slope in slopes] == [(4, 2, 0), (5, 0), (5,)]
    np.testing.assert_allclose(slopes[2], 16.0)
    many = jax.vmap(rows.affine)(empty[0], jnp.zeros((4, 5, 0)), jnp.ones((4, 5)))
    np.testing.assert_allclose(many, 1.0)
