"""Normalising flows: invertible networks that turn a simple distribution into a flexible one (by flowjax)."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.model.abilities import parameter

Given = Float[Array, " C"] | None  # what a flow is conditional on


class Flow(eqx.Module):
    """Coupling layers z = T(e): Dinh et al. 2017 (Real NVP), by flowjax (``pip install 'veil[flows]'``).

    ``layers`` couplings, each a network of one hidden layer of ``width``, with fixed permutations between them; of one
    number, which cannot be coupled, functions of what it is conditional on. Each moves an entry by an affine function
    or, with ``knots``, by a monotone rational-quadratic spline of so many (Durkan et al. 2019), which can make several
    modes of one. ``arrays`` are its parameters. Without parameters until ``initialise(size, key, inputs)``; ``inputs``:
    how many numbers it is conditional on.
    """

    layers: int = eqx.field(static=True, default=4)
    width: int = eqx.field(static=True, default=32)
    size: int = eqx.field(static=True, default=0)
    knots: int = eqx.field(static=True, default=0)
    inputs: int = eqx.field(static=True, default=0)
    arrays: tuple[Array, ...] | None = parameter()

    def initialise(self, size: int, key: PRNGKeyArray, inputs: int = 0) -> "Flow":
        """With starting parameters, near the identity, for vectors of ``size``."""
        if size < 2 and not (inputs and self.knots):
            raise ValueError(
                f"a flow of coupling layers needs 2 or more dimensions; got {size}. With evidence and knots, such as "
                "Flow(knots=8), it may have one"
            )
        sizes = (self.layers, self.width, size, self.knots, inputs)
        arrays = jax.tree.leaves(eqx.filter(_built(*sizes, key), eqx.is_array))
        # permutations are integers, which a start in float64 would make long ones
        whole = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.integer)  # noqa: E731
        return Flow(*sizes, tuple(leaf.astype(jnp.int32) if whole(leaf) else leaf for leaf in arrays))

    def _bijection(self) -> Any:
        if self.arrays is None:
            raise ValueError("this flow has no parameters yet: call veil.fit, or initialise it first")
        import paramax

        static, structure = _skeleton(self.layers, self.width, self.size, self.knots, self.inputs)
        return paramax.unwrap(eqx.combine(jax.tree.unflatten(structure, self.arrays), static))

    def forward(self, value: Float[Array, " L"], given: Given = None) -> tuple[Float[Array, " L"], Float[Array, ""]]:
        """T(e) and log |det dT/de|."""
        return self._bijection().transform_and_log_det(value, given)

    def inverse(self, value: Float[Array, " L"], given: Given = None) -> tuple[Float[Array, " L"], Float[Array, ""]]:
        """T⁻¹(z) and log |det dT⁻¹/dz|."""
        return self._bijection().inverse_and_log_det(value, given)

    def pushed(self, base: Any) -> distributions.Pushed:
        """The distribution of T(e) for e from ``base``."""
        return distributions.Pushed(base, self)


def _built(layers: int, width: int, size: int, knots: int, inputs: int, key: PRNGKeyArray) -> Any:
    try:
        from flowjax.bijections import Affine, Chain, Coupling, RationalQuadraticSpline
        from flowjax.distributions import StandardNormal
        from flowjax.flows import coupling_flow
    except ImportError as error:
        raise ImportError("normalising flows need flowjax: pip install 'veil[flows]'") from error
    move = RationalQuadraticSpline(knots=knots, interval=5) if knots else Affine()
    if size == 1:
        options: dict[str, Any] = {"untransformed_dim": 0, "dim": 1, "cond_dim": inputs, "nn_width": width}
        return Chain(
            [Coupling(each, transformer=move, nn_depth=1, **options) for each in jax.random.split(key, layers)]
        )
    base: Any = StandardNormal((size,))  # type: ignore[call-arg]
    # invert=False: drawing, which every training step of a posterior does, is then the direct way; the inverse costs
    # the same here
    return coupling_flow(
        key,
        base_dist=base,
        transformer=move,
        flow_layers=layers,
        nn_width=width,
        cond_dim=inputs or None,
        invert=False,
    ).bijection


@functools.lru_cache(maxsize=64)
def _skeleton(layers: int, width: int, size: int, knots: int, inputs: int) -> tuple[Any, Any]:
    """What of a flow is not an array, and the structure of what is: the same for every flow of these sizes."""
    # The library's functions keep constants of the trace that they were made in, so they are made outside of any: a
    # new thread has none.
    with ThreadPoolExecutor(1) as outside:
        built = outside.submit(lambda: _built(layers, width, size, knots, inputs, jax.random.key(0))).result()
    arrays, static = eqx.partition(built, eqx.is_array)
    return static, jax.tree.structure(arrays)
