"""A network over the last observations: each is a token, and the last one has looked at all of them."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.model.abilities import parameter
from veil.parts.nets import Dense, positive


def layer_norm(
    x: Float[Array, " width"], gain: Float[Array, " width"], bias: Float[Array, " width"]
) -> Float[Array, " width"]:
    """(x - mean) / deviation, times gain, plus bias. Ba et al. 2016, eq. 4."""
    away = x - jnp.mean(x)
    return gain * away * jax.lax.rsqrt(jnp.mean(away**2) + 1e-6) + bias


class Block(eqx.Module):
    """x + attention(norm(x)), then x + net(norm(x)), of tokens [T, width]: pre-norm. Xiong et al. 2020, fig. 1b.

    attention = softmax(Q Kᵀ / √d) V in each of ``heads`` parts of d = width / heads numbers (Vaswani et al. 2017,
    eq. 1); the net has one hidden layer of 4 width numbers with GELU.
    """

    heads: int = eqx.field(static=True)
    gains: Float[Array, "2 width"]
    biases: Float[Array, "2 width"]
    asked: Dense  # queries, keys and values, one behind the other
    joined: Dense
    wide: Dense
    narrow: Dense

    @staticmethod
    def initialise(width: int, heads: int, key: PRNGKeyArray) -> "Block":
        """Layers of random weights; norms as they are."""
        keys = jax.random.split(key, 4)
        sizes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
        layers = [Dense.initialise(*size, each) for size, each in zip(sizes, keys, strict=True)]
        return Block(heads, jnp.ones((2, width)), jnp.zeros((2, width)), *layers)

    def __call__(self, tokens: Float[Array, "T width"]) -> Float[Array, "T width"]:
        count, width = tokens.shape
        norm = lambda x, i: jax.vmap(lambda row: layer_norm(row, self.gains[i], self.biases[i]))(x)  # noqa: E731
        made = jax.vmap(self.asked)(norm(tokens, 0)).reshape(count, 3, self.heads, -1)
        query, key, value = (made[:, i] for i in range(3))
        scores = jnp.einsum("thd,shd->hts", query, key) * (width // self.heads) ** -0.5
        seen = jnp.einsum("hts,shd->thd", jax.nn.softmax(scores, axis=-1), value)
        tokens = tokens + jax.vmap(self.joined)(seen.reshape(count, width))
        return tokens + jax.vmap(self.narrow)(jax.nn.gelu(jax.vmap(self.wide)(norm(tokens, 1))))


class Transformer(eqx.Module):
    """The last ``steps`` observations, ``size`` numbers each, as tokens with learned places; features of the last one.

    Usable where an ``MLP`` is. Of the vector that it gets the observations are the end, the oldest first, as the
    evidence [steps, size] of a chunked recording is laid flat. What is before them (a latent, a query) is a token of
    its own. Without a ``size`` there is nothing before them. Every token looks at all: there is no future in it to
    hide. Observations are to be one array: a dictionary's arrays are laid flat one behind the other, not by steps.

    >>> net = Transformer(steps=4, width=16, layers=1, heads=2).initialise(4 * 3, jax.random.key(0))
    >>> net(jnp.zeros(12)).shape
    (16,)
    """

    steps: int = eqx.field(static=True)
    size: int | None = eqx.field(static=True, default=None)
    width: int = eqx.field(static=True, default=64)
    layers: int = eqx.field(static=True, default=2)
    heads: int = eqx.field(static=True, default=4)
    reading: Dense | None = parameter()
    before: Dense | None = None
    places: Float[Array, "steps width"] | None = parameter()
    blocks: tuple[Block, ...] | None = parameter()
    gain: Float[Array, " width"] | None = parameter()
    bias: Float[Array, " width"] | None = parameter()

    def __check_init__(self) -> None:
        for name in ("steps", "width", "layers", "heads"):
            positive(name, vars(self)[name])
        if self.size is not None:
            positive("size", self.size)
        if self.width % self.heads:
            raise ValueError(f"heads: expected a number that divides width={self.width}; got {self.heads}")

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Transformer":
        size = self.size or inputs // self.steps
        rest = inputs - self.steps * size
        if size == 0 or rest < 0 or (self.size is None and rest):
            raise ValueError(
                f"steps: {inputs} numbers are not {self.steps} observations of {self.size or 'the same size'}; give "
                "the steps that the evidence has, and size if a latent or a query comes before them"
            )
        keys = jax.random.split(key, 3 + self.layers)
        return replace(
            self,
            size=size,
            reading=Dense.initialise(size, self.width, keys[0]),
            before=Dense.initialise(rest, self.width, keys[1]) if rest else None,
            places=0.02 * jax.random.normal(keys[2], (self.steps, self.width)),
            blocks=tuple(Block.initialise(self.width, self.heads, each) for each in keys[3:]),
            gain=jnp.ones(self.width),
            bias=jnp.zeros(self.width),
        )

    def outputs(self, inputs: int) -> int:
        return self.width

    @property
    def inputs(self) -> int | None:
        """How many numbers it takes; None before it has parameters."""
        if self.reading is None or self.size is None:
            return None
        return self.steps * self.size + (0 if self.before is None else self.before.weight.shape[1])

    def mirrored(self) -> "Transformer":
        """The encoder that goes with it as a decoder: of the same sizes, without parameters."""
        return Transformer(self.steps, self.size, self.width, self.layers, self.heads)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " width"]:
        if self.reading is None or self.places is None or self.blocks is None or self.size is None:
            raise ValueError("this network has no parameters yet: call veil.fit, or initialise it first")
        rest = x.shape[0] - self.steps * self.size
        tokens = jax.vmap(self.reading)(x[rest:].reshape(self.steps, self.size)) + self.places
        if self.before is not None:
            tokens = jnp.concatenate([self.before(x[:rest])[None], tokens])
        for block in self.blocks:
            tokens = block(tokens)
        assert self.gain is not None
        assert self.bias is not None
        return layer_norm(tokens[-1], self.gain, self.bias)
