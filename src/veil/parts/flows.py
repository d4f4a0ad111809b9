"""Normalising flows: invertible networks that turn a simple distribution into a flexible one (by flowjax)."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.model.abilities import parameter


class Flow(eqx.Module):
    """Affine coupling layers z = T(e): Dinh et al. 2017 (Real NVP), by flowjax (``pip install 'veil[flows]'``).

    ``layers`` couplings, each a network of one hidden layer of ``width``, with fixed permutations between them.
    ``arrays`` are its parameters. Without parameters until ``initialise(size, key)``.
    """

    layers: int = eqx.field(static=True, default=4)
    width: int = eqx.field(static=True, default=32)
    size: int = eqx.field(static=True, default=0)
    arrays: tuple[Array, ...] | None = parameter()

    def initialise(self, size: int, key: PRNGKeyArray) -> "Flow":
        """With starting parameters, near the identity, for vectors of ``size`` (2 or more)."""
        if size < 2:
            raise ValueError(f"a flow of coupling layers needs 2 or more dimensions; got {size}")
        built = _built(self.layers, self.width, size, key)
        return Flow(self.layers, self.width, size, tuple(jax.tree.leaves(eqx.filter(built, eqx.is_array))))

    def _bijection(self) -> Any:
        if self.arrays is None:
            raise ValueError("this flow has no parameters yet: call veil.fit, or initialise it first")
        import paramax

        static, structure = _skeleton(self.layers, self.width, self.size)
        return paramax.unwrap(eqx.combine(jax.tree.unflatten(structure, self.arrays), static))

    def forward(self, value: Float[Array, " L"]) -> tuple[Float[Array, " L"], Float[Array, ""]]:
        """T(e) and log |det dT/de|."""
        return self._bijection().transform_and_log_det(value)

    def inverse(self, value: Float[Array, " L"]) -> tuple[Float[Array, " L"], Float[Array, ""]]:
        """T⁻¹(z) and log |det dT⁻¹/dz|."""
        return self._bijection().inverse_and_log_det(value)

    def pushed(self, base: Any) -> distributions.Pushed:
        """The distribution of T(e) for e from ``base``."""
        return distributions.Pushed(base, self)


def _built(layers: int, width: int, size: int, key: PRNGKeyArray) -> Any:
    try:
        from flowjax.distributions import StandardNormal
        from flowjax.flows import coupling_flow
    except ImportError as error:
        raise ImportError("normalising flows need flowjax: pip install 'veil[flows]'") from error
    base = StandardNormal((size,))  # type: ignore[call-arg]
    # invert=False: drawing, which every training step does, is then the direct way; the inverse costs the same here
    return coupling_flow(key, base_dist=base, flow_layers=layers, nn_width=width, invert=False).bijection


@functools.lru_cache(maxsize=64)
def _skeleton(layers: int, width: int, size: int) -> tuple[Any, Any]:
    """What of a flow is not an array, and the structure of what is: the same for every flow of these sizes."""
    # The library's functions keep constants of the trace that they were made in, so they are made outside of any: a
    # new thread has none.
    with ThreadPoolExecutor(1) as outside:
        built = outside.submit(lambda: _built(layers, width, size, jax.random.key(0))).result()
    arrays, static = eqx.partition(built, eqx.is_array)
    return static, jax.tree.structure(arrays)
