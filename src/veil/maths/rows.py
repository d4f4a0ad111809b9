"""x Wᵀ + b of many rows x, whatever axes ``vmap`` gives them: what the layers of networks are made of.

``vmap`` of such a product makes the gradient of W a contraction over every batch axis, before which XLA (0.10.2, CPU)
copies one factor transposed, and adds b along the last of many axes, which it does not vectorise: together three times
the time of the product of a layer of few channels. Here batch axes are more rows: one matrix product, its gradient one
more. JAX is told what it must know: the product is linear in both factors, the bias is added.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

_product: Any = Primitive("rows_product")
_affine: Any = Primitive("rows_affine")


def product(left: Float[Array, "*rows K"], weight: Float[Array, "M K"]) -> Float[Array, "*rows M"]:
    """x Wᵀ of every row x: factors have the lower of their two precisions and sums the higher.

    >>> product(jnp.ones((4, 2, 3)), jnp.ones((5, 3))).shape
    (4, 2, 5)
    """
    low, high = sorted((left.dtype, weight.dtype), key=lambda dtype: dtype.itemsize)
    return _product.bind(left.astype(low), weight.astype(low), dtype=high)


def affine(
    left: Float[Array, "*rows K"], weight: Float[Array, "M K"], bias: Float[Array, " M"]
) -> Float[Array, "*rows M"]:
    """x Wᵀ + b of every row x, with the precisions of ``product``.

    >>> affine(jnp.ones((4, 2, 3)), jnp.ones((5, 3)), jnp.ones(5))[0, 0, 0].item()
    4.0
    """
    low, high = sorted((left.dtype, weight.dtype), key=lambda dtype: dtype.itemsize)
    return _affine.bind(left.astype(low), weight.astype(low), bias.astype(high), dtype=high)


def _flat(array: Array) -> Array:
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])  # not -1: there may be no columns


def _rows(left: Array, weight: Array, dtype: Any) -> Array:
    flat = _flat(left)
    if flat.shape[0] == 1:  # as matrix times vector XLA's CPU code reads the weights up to twice as fast
        one = jax.lax.dot_general(weight, flat[0], (((1,), (0,)), ((), ())), preferred_element_type=dtype)
        return one[None]
    return jax.lax.dot_general(flat, weight, (((1,), (1,)), ((), ())), preferred_element_type=dtype)


def _multiplied(left: Array, weight: Array, *, dtype: Any) -> Array:
    return _rows(left, weight, dtype).reshape(*left.shape[:-1], len(weight))


def _added(left: Array, weight: Array, bias: Array, *, dtype: Any) -> Array:
    return (_rows(left, weight, dtype) + bias[None]).reshape(*left.shape[:-1], len(weight))


def _shaped(left: Any, weight: Any, bias: Any = None, *, dtype: Any) -> Any:
    return left.update(shape=(*left.shape[:-1], weight.shape[0]), dtype=dtype)


# -- derivatives -------------------------------------------------------------------------------------------------------


def _to_left(slope: Array, left: Any, weight: Array, *, dtype: Any) -> Array:
    return product(slope, weight.T).astype(left.aval.dtype)


def _to_weight(slope: Array, left: Array, weight: Any, *, dtype: Any) -> Array:
    slope = _flat(slope).astype(left.dtype)
    found = jax.lax.dot_general(slope, _flat(left), (((0,), (0,)), ((), ())), preferred_element_type=dtype)
    return found.astype(weight.aval.dtype)


def _tangent(primals: tuple[Any, ...], tangents: tuple[Any, ...], *, dtype: Any) -> tuple[Any, Any]:
    (left, weight, bias), (to_left, to_weight, to_bias) = primals, tangents
    found = _affine.bind(left, weight, bias, dtype=dtype)
    parts = []
    if type(to_left) is not ad.Zero:
        parts.append(_product.bind(to_left, weight, dtype=dtype))
    if type(to_weight) is not ad.Zero:
        parts.append(_product.bind(left, to_weight, dtype=dtype))
    if type(to_bias) is not ad.Zero:
        parts.append(jnp.broadcast_to(to_bias, found.shape))
    return found, sum(parts[1:], parts[0])


# -- batches -----------------------------------------------------------------------------------------------------------


def _batched(factors: tuple[Array, ...], axes: tuple[Any, ...], *, dtype: Any) -> tuple[Array, int]:
    """More rows, where it is the rows that have a batch axis; else one product for each matrix."""
    left, weight, *bias = (
        array if axis is None else jnp.moveaxis(array, axis, 0) for array, axis in zip(factors, axes, strict=True)
    )
    if axes[0] is not None and all(axis is None for axis in axes[1:]):
        return (_affine.bind(left, weight, *bias, dtype=dtype) if bias else _product.bind(left, weight, dtype=dtype)), 0
    count = next(len(array) for array, axis in zip((left, weight, *bias), axes, strict=True) if axis is not None)
    left, weight, *bias = (
        jnp.broadcast_to(array, (count, *array.shape)) if axis is None else array
        for array, axis in zip((left, weight, *bias), axes, strict=True)
    )
    flat = left.reshape(count, math.prod(left.shape[1:-1]), left.shape[-1])
    found = jax.lax.dot_general(flat, weight, (((2,), (2,)), ((0,), (0,))), preferred_element_type=dtype)
    found = found + bias[0][:, None] if bias else found
    return found.reshape(*left.shape[:-1], weight.shape[1]), 0


for _primitive, _computed in ((_product, _multiplied), (_affine, _added)):
    _primitive.def_impl(jax.jit(_computed, static_argnames="dtype"))
    _primitive.def_abstract_eval(_shaped)
    batching.primitive_batchers[_primitive] = _batched
    mlir.register_lowering(_primitive, mlir.lower_fun(_computed, multiple_results=False))
ad.defbilinear(_product, _to_left, _to_weight)
ad.primitive_jvps[_affine] = _tangent
