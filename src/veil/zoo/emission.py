"""p(y | features): a decoder and the layer of experts it ends in, as VAEs and deep state-space models have it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.parts.experts import Linear
from veil.parts.heads import Head, Joint
from veil.parts.images import Beside, Decoder
from veil.parts.statistics import contract


def begun(
    head: Head,
    decoder: Any,
    inputs: int,
    query: Float[Array, "M *event"],
    observed: Bool[Array, "M *event"] | None,
    weight: Float[Array, " M"],
    key_decoder: PRNGKeyArray,
    key_output: PRNGKeyArray,
) -> tuple[Any, Linear]:
    """A decoder with random weights and a layer whose constant part is at the data's average."""
    shape, whole = query.shape[1:], isinstance(decoder, Decoder | Beside)
    if isinstance(decoder, Beside):
        if not isinstance(head, Joint):
            raise TypeError(f"decoder: Beside is for a heads.Joint; this head is {type(head).__name__}")
        head.size(shape)
        sizes = [part.size(each) for part, each in zip(head.parts, head.shapes, strict=True)]
        decoder = decoder.making(head.shapes, sizes)
    elif whole:
        decoder = decoder.making(shape, head.size(shape) // int(np.prod(shape)))
    decoder = decoder.initialise(inputs, key_decoder)
    blank = Linear(head, evidence=not whole).blank(1, 1 if whole else 1 + decoder.outputs(inputs), shape)
    one, features = jnp.ones((len(query), 1)), jnp.zeros(blank.weight.shape[-1])  # type: ignore[union-attr]
    axes = (0, None, None if observed is None else 0, 0)
    terms = jax.vmap(blank.statistics, axes)(query, features, observed, one)
    return decoder, blank.maximise(contract(terms, weight)).scattered(key_output)


def emitted(output: Linear | None, decoder: Any, inputs: Float[Array, " D"]) -> Distribution:
    """p(y | inputs)."""
    if output is None:
        raise ValueError("this model has no parameters yet: call veil.fit on it first")
    if isinstance(decoder, Beside):
        joint: Any = output.head
        pieces = [
            part.arranged(numbers) if isinstance(net, Decoder) else numbers
            for part, net, numbers in zip(joint.parts, decoder.parts, decoder(inputs), strict=True)
        ]
        return output.plus(jnp.concatenate(pieces))
    if isinstance(decoder, Decoder):
        return output.moved_by(decoder(inputs))
    return output.distribution(0, jnp.concatenate([jnp.ones(1), decoder(inputs)]))
