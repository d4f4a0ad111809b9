"""p(y | features): a decoder and the layer of experts it ends in, as VAEs and deep state-space models have it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.parts.experts import Linear
from veil.parts.heads import Head
from veil.parts.images import Decoder
from veil.parts.joint import Branches, event_shape
from veil.parts.statistics import contract


def begun(
    head: Head,
    decoder: Any,
    inputs: int,
    query: Any,
    observed: Any,
    weight: Float[Array, " M"],
    view: Any,
    key_decoder: PRNGKeyArray,
    key_output: PRNGKeyArray,
) -> tuple[Any, Linear]:
    """A decoder with random weights and a layer whose constant part is at the data's average."""
    shape, whole = event_shape(query), isinstance(decoder, Decoder | Branches)
    if isinstance(decoder, Branches):
        decoder = decoder.making(head, shape)
    elif isinstance(decoder, Decoder):
        decoder = decoder.making(shape, head.size(shape) // int(np.prod(shape)))
    decoder = decoder.initialise(inputs, key_decoder)
    blank = Linear(head, not whole, view=view).blank(1, 1 if whole else 1 + decoder.outputs(inputs), shape)
    one, features = jnp.ones((len(weight), 1)), jnp.zeros(blank.weight.shape[-1])  # type: ignore[union-attr]
    terms = jax.vmap(blank.statistics, (0, None, 0, 0))(query, features, observed, one)
    return decoder, blank.maximise(contract(terms, weight)).scattered(key_output)


def emitted(output: Linear | None, decoder: Any, inputs: Float[Array, " D"]) -> Distribution:
    """p(y | inputs)."""
    if output is None:
        raise ValueError("this model has no parameters yet: call veil.fit on it first")
    if isinstance(decoder, Branches):
        joint: Any = output.head
        constant = joint.split(output.constant(), output.shape)
        moved = {name: constant[name] + made for name, made in decoder.numbers(inputs, joint).items()}
        return joint.of_parts(moved, output.shape)
    if isinstance(decoder, Decoder):
        return output.moved_by(decoder(inputs))
    return output.distribution(0, jnp.concatenate([jnp.ones(1), decoder(inputs)]))
