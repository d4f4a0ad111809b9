"""Networks that turn evidence into features: vectors in, vectors out."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.maths.rows import affine, product
from veil.model.abilities import parameter

Activation = Literal["tanh", "relu", "silu", "gelu", "elu", "softplus"]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
}


def positive(name: str, value: object) -> None:
    """Raise ValueError, naming the argument, for what is not a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: expected a positive whole number; got {value!r}")


def activated(name: Activation, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """An activation of every number."""
    return ACTIVATIONS[name](x)


def known_activation(name: object) -> None:
    """Raise ValueError for what is not the name of an activation."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}; got {name!r}")


def lowered(tree: Any) -> Any:
    """The same model or posterior, the weights of its networks' layers in bfloat16, their biases as they are."""
    layer = lambda node: isinstance(node, Lowerable)  # noqa: E731
    return jax.tree.map(lambda node: node.lowered() if layer(node) else node, tree, is_leaf=layer)


def flat(tree: Any) -> Float[Array, " D"]:
    """All numbers of a query or evidence, an array or a dictionary of them, as one vector."""
    leaves = [jnp.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if len(leaves) > 1 else leaves[0]


def with_one(evidence: Any) -> Float[Array, " P"]:
    """[1, x], what linear parts of a model multiply; [1] without evidence."""
    return jnp.concatenate([jnp.ones(1), *([] if evidence is None else [flat(evidence)])])


def each_with_one(evidence: Any, steps: int) -> Float[Array, "T P"]:
    """[1, x_t] of every datum or step."""
    return jax.vmap(with_one, axis_size=steps)(evidence)


def flat_size(tree: Any, batch: int = 0) -> int:
    """How many numbers that is, of arrays whose first ``batch`` axes are of data (or steps); 0 of None."""
    return sum(int(np.prod(leaf.shape[batch:])) for leaf in jax.tree.leaves(tree))


class Lowerable(eqx.Module):
    """A layer whose weights may be of lower precision."""

    @abstractmethod
    def lowered(self) -> Self:
        """With its weights in bfloat16."""


class Dense(Lowerable):
    """W x + b; weight [out, in], bias [out]. Of members of an ensemble with an axis in front; each is called alone."""

    weight: Float[Array, "*members out in"]
    bias: Float[Array, "*members out"]

    @staticmethod
    def initialise(inputs: int, outputs: int, key: PRNGKeyArray) -> "Dense":
        """Weights as in Glorot & Bengio 2010 (uniform, fan average), biases zero."""
        limit = (6.0 / (inputs + outputs)) ** 0.5
        return Dense(jax.random.uniform(key, (outputs, inputs), minval=-limit, maxval=limit), jnp.zeros(outputs))

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return affine(x, self.weight, self.bias)

    def lowered(self) -> "Dense":
        """With its weight in bfloat16."""
        return replace(self, weight=self.weight.astype(jnp.bfloat16))


def he_normal(inputs: int, outputs: int, key: PRNGKeyArray, gain: float) -> Dense:
    """Normal weights of variance 2 · gain / inputs (He et al. 2015, eq. 10), biases zero."""
    scale = (2.0 * gain / inputs) ** 0.5
    return Dense(scale * jax.random.normal(key, (outputs, inputs)), jnp.zeros(outputs))


class GRU(eqx.Module):
    """A gated recurrent unit, (h, x) -> h. Cho et al. 2014, eqs. 5-8, the reset gate after the product.

    h' = u ⊙ h + (1 - u) ⊙ tanh(a_x + r ⊙ a_h), r = σ(·), u = σ(·). State [size]; without parameters until
    ``initialise``.
    """

    size: int = eqx.field(static=True, default=128)
    inner: Dense | None = parameter()
    outer: Dense | None = parameter()

    def __check_init__(self) -> None:
        positive("size", self.size)

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "GRU":
        key_inner, key_outer = jax.random.split(key)
        inner = Dense.initialise(self.size, 3 * self.size, key_inner)
        return GRU(self.size, inner, Dense.initialise(inputs, 3 * self.size, key_outer))

    def read(self, x: Float[Array, " in"]) -> Float[Array, " three_sizes"]:
        """The input's part, which needs no state: of many steps it is one matrix product."""
        if self.outer is None:
            raise ValueError("this network has no parameters yet: call veil.fit, or initialise it first")
        return self.outer(x)

    def __call__(self, state: Float[Array, " size"], read: Float[Array, " three_sizes"]) -> Float[Array, " size"]:
        if self.inner is None:
            raise ValueError("this network has no parameters yet: call veil.fit, or initialise it first")
        return _gated(self.inner(state), read, state)

    def along(
        self,
        begin: Float[Array, " size"],
        reads: Float[Array, "T three_sizes"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        reverse: bool = False,
    ) -> Float[Array, "T size"]:
        """The state after every step of what was ``read``: from zero at ``starts``, as it was where none is ``there``.

        ``begin`` is the state before the first, where that is no start.

        With ``reverse`` the last step is the first. The gradient of the weights is one matrix product over all steps:
        adding up the steps' own, as a scan's gradient does, would read and write all weights at each of them.
        """
        if self.inner is None:
            raise ValueError("this network has no parameters yet: call veil.fit, or initialise it first")
        if reverse:
            reads, starts, there = reads[::-1], starts[::-1], there[::-1]
        states = _states(self.inner, begin, reads, starts, there)
        return states[::-1] if reverse else states


def _gated(own: Float[Array, " three"], read: Float[Array, " three"], state: Float[Array, " size"]) -> Array:
    """The gates of ``GRU``, from the products with the state and the input."""
    own_reset, own_update, own_new = jnp.split(
        own, 3
    )  # rows of a [3, size] array would be gathered, and scattered back
    reset, update, new = jnp.split(read, 3)
    reset, update = jax.nn.sigmoid(own_reset + reset), jax.nn.sigmoid(own_update + update)
    return update * state + (1.0 - update) * jnp.tanh(new + reset * own_new)


@jax.custom_vjp
def _states(inner: Dense, begin: Array, reads: Array, starts: Array, there: Array) -> Array:
    def step(before: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        read, fresh, real = now
        state = jnp.where(fresh, 0.0, before)
        after = jnp.where(real, _gated(inner(state), read, state), before)
        return after, after

    return jax.lax.scan(step, begin, (reads, starts, there))[1]


def _states_forward(inner: Dense, begin: Array, reads: Array, starts: Array, there: Array) -> tuple[Array, Any]:
    states = _states(inner, begin, reads, starts, there)
    return states, (inner, begin, reads, starts, there, states)


def _states_backward(saved: Any, slopes: Array) -> tuple[Dense, Array, Array, None, None]:
    inner, begin, reads, starts, there, states = saved
    before = jnp.concatenate([begin[None], states[:-1]])
    before = jnp.where(starts[:, None], 0.0, before)
    own = jax.vmap(inner)(before)  # anew, of all steps at once: cheaper than to keep it

    def step(carry: Array, now: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        slope, own, read, state, fresh, real = now
        whole = carry + slope
        _, back = jax.vjp(_gated, own, read, state)
        to_own, to_read, to_state = back(jnp.where(real, whole, 0.0))
        through = to_state + product(to_own, inner.weight.T)
        return jnp.where(real, jnp.where(fresh, 0.0, through), whole), (to_own, to_read)

    steps = (slopes, own, reads, before, starts, there)
    to_begin, (to_own, to_read) = jax.lax.scan(step, jnp.zeros_like(states[0]), steps, reverse=True)
    weight = product(to_own.T, before.T).astype(inner.weight.dtype)
    return Dense(weight, jnp.sum(to_own, 0)), to_begin, to_read, None, None


_states.defvjp(_states_forward, _states_backward)


class Identity(eqx.Module):
    """Evidence as it is: the trunk of linear models."""

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Identity":
        return self

    def outputs(self, inputs: int) -> int:
        return inputs

    @property
    def inputs(self) -> int | None:
        """How many numbers it takes; None: any."""
        return None

    def mirrored(self) -> "Identity":
        """The encoder that goes with it as a decoder."""
        return self

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " in"]:
        return x


class MLP(eqx.Module):
    """A multilayer perceptron whose every layer has an activation; a linear layer of the gate or the experts follows.

    ``widths`` are the hidden sizes, in order. Weights start as in Glorot & Bengio 2010 (uniform, fan average), biases
    at zero. Without parameters until ``initialise(inputs, key)``.
    """

    widths: tuple[int, ...] = eqx.field(static=True, default=(64, 64), converter=tuple)
    activation: Activation = eqx.field(static=True, default="tanh")
    layers: tuple[Dense, ...] | None = parameter()

    def __check_init__(self) -> None:
        if not self.widths or any(int(w) != w or w < 1 for w in self.widths):
            raise ValueError(f"widths: expected one or more positive integers, such as (64, 64); got {self.widths}")
        known_activation(self.activation)

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "MLP":
        sizes = (inputs, *self.widths)
        keys = jax.random.split(key, len(self.widths))
        return MLP(self.widths, self.activation, tuple(map(Dense.initialise, sizes[:-1], sizes[1:], keys)))

    def outputs(self, inputs: int) -> int:
        return self.widths[-1]

    @property
    def inputs(self) -> int | None:
        """How many numbers it takes; None before it has parameters."""
        return None if self.layers is None else self.layers[0].weight.shape[1]

    def mirrored(self) -> "MLP":
        """The encoder that goes with it as a decoder: the same layers in reverse order, without parameters."""
        return MLP(self.widths[::-1], self.activation)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        if self.layers is None:
            raise ValueError("this network has no parameters yet: call veil.fit, or initialise it first")
        for layer in self.layers:
            x = activated(self.activation, layer(x))
        return x


class Residual(eqx.Module):
    """A residual network: h = W_in x, then ``blocks`` times h + W_2 act(W_1 norm(h) + C c), and norm(h) at the end.

    ``width`` numbers throughout, layers normalised first (He et al. 2016; Ba et al. 2016; Xiong et al. 2020): trains
    deeper and faster than an ``MLP`` of the same size where the function is rough, as fields of flows are. Every second
    layer starts small, so that the network starts near a linear one. With a condition (of a field the time and the
    evidence) every block sees c = act(E_2 act(E_1 condition)), half as wide. Without parameters until ``initialise``.
    """

    width: int = eqx.field(static=True, default=512)
    blocks: int = eqx.field(static=True, default=3)
    activation: Activation = eqx.field(static=True, default="silu")
    entry: Dense | None = parameter()
    layers: tuple[tuple[Dense, Dense], ...] | None = parameter()
    embedding: tuple[Dense, Dense] | None = None
    conditions: tuple[Dense, ...] = ()

    def __check_init__(self) -> None:
        positive("width", self.width)
        positive("blocks", self.blocks)
        known_activation(self.activation)

    def initialise(self, inputs: int, key: PRNGKeyArray, condition: int = 0) -> "Residual":
        """For vectors of so many numbers, and conditions of so many (0: there are none)."""
        key_entry, key_condition, *keys = jax.random.split(key, 2 + 2 * self.blocks)
        width, narrow = self.width, max(1, self.width // 2)
        pairs = zip(keys[::2], keys[1::2], strict=True)
        layers = tuple((he_normal(width, width, a, 0.5), he_normal(width, width, b, 0.05)) for a, b in pairs)
        entry = he_normal(inputs, width, key_entry, 0.5)
        if not condition:
            return Residual(width, self.blocks, self.activation, entry, layers)
        first, second, *rest = jax.random.split(key_condition, 2 + self.blocks)
        embedding = he_normal(condition, narrow, first, 0.5), he_normal(narrow, narrow, second, 0.5)
        conditions = tuple(he_normal(narrow, width, each, 0.5) for each in rest)
        return Residual(width, self.blocks, self.activation, entry, layers, embedding, conditions)

    def outputs(self, inputs: int) -> int:
        return self.width

    @property
    def inputs(self) -> int | None:
        """How many numbers it takes; None before it has parameters."""
        return None if self.entry is None else self.entry.weight.shape[1]

    def mirrored(self) -> "Residual":
        """The encoder that goes with it as a decoder: another of its kind, without parameters."""
        return Residual(self.width, self.blocks, self.activation)

    def read(self, condition: Float[Array, " C"] | None) -> tuple[Float[Array, " width"], ...]:
        """C c of every block, which needs no x: of many conditions it is a matrix product. () without a condition."""
        if self.embedding is None:
            return ()
        if condition is None:
            raise ValueError("condition: this network is conditional on one; give it")
        seen = condition
        for layer in self.embedding:
            seen = activated(self.activation, layer(seen))
        return tuple(layer(seen) for layer in self.conditions)

    def __call__(self, x: Float[Array, " in"], condition: Float[Array, " C"] | None = None) -> Float[Array, " out"]:
        return self.after(x, self.read(condition))

    def after(self, x: Float[Array, " in"], read: tuple[Float[Array, " width"], ...]) -> Float[Array, " out"]:
        """The network's value, given what was ``read`` of the condition."""
        if self.entry is None or self.layers is None:
            raise ValueError("this network has no parameters yet: call veil.fit, or initialise it first")
        state = self.entry(x)
        for i, (first, second) in enumerate(self.layers):
            inside = first(normalised(state))
            state = state + second(activated(self.activation, inside + read[i] if read else inside))
        return normalised(state)


def normalised(x: Float[Array, " D"]) -> Float[Array, " D"]:
    """(x - mean) / sqrt(variance + 1e-5): Ba et al. 2016, without a gain of its own."""
    centred = x - jnp.mean(x)
    return centred * jax.lax.rsqrt(jnp.mean(centred * centred) + 1e-5)
