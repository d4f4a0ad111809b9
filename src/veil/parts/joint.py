"""Queries that are trees: their shapes, a head for each part, a network for each part."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model.abilities import Space, parameter
from veil.parts.heads import Head
from veil.parts.images import SMALL, Decoder
from veil.parts.nets import Dense, flat, he_normal

Shape = Any


def event_shape(query: Any, batch: int = 1) -> Shape:
    """The shape of one datum of arrays whose first ``batch`` axes are of data (or steps), as models keep it.

    Of a tree pairs of name and shape, by name, which can be compared and hashed.

    >>> event_shape({"b": np.zeros((5, 2)), "a": np.zeros((5, 8, 8, 3))})
    (('a', (8, 8, 3)), ('b', (2,)))
    """
    if isinstance(query, dict):
        return tuple((name, event_shape(query[name], batch)) for name in sorted(query))
    return tuple(query.shape[batch:])


def frozen_shape(shape: Any) -> Shape:
    """A tree of shapes (``Data.query_shape``) in that form."""
    if isinstance(shape, dict):
        return tuple((name, frozen_shape(shape[name])) for name in sorted(shape))
    return None if shape is None else tuple(shape)


def is_tree(shape: Shape) -> bool:
    """Whether a shape is that of a tree."""
    return bool(shape) and isinstance(shape[0], tuple)


def zeros(shape: Shape, *batch: int) -> Any:
    """An array, or a tree of them, [*batch, *shape]."""
    if is_tree(shape):
        return {name: zeros(each, *batch) for name, each in shape}
    return jnp.zeros((*batch, *shape))


def _by_name(parts: Any) -> dict[str, Any]:
    if not isinstance(parts, dict) or not parts:
        raise TypeError(f"parts: expected a dictionary, such as {{'reward': DiagonalGaussian()}}; got {parts!r}")
    return {name: Joint(part) if isinstance(part, dict) else part for name, part in parts.items()}


class Joint(Head):
    """A head for each part of a query that is a tree: ``Joint({"frame": Bernoulli(), "reward": DiagonalGaussian()})``.

    Parts are independent given the vector, which has their numbers one behind the other, by name; nested dictionaries
    are heads of nested trees. Each part's units and support are its own.

    >>> from veil.parts.heads import Bernoulli, DiagonalGaussian
    >>> Joint({"angle": DiagonalGaussian(), "ended": Bernoulli()}).size((("angle", (2,)), ("ended", (1,))))
    5
    """

    parts: dict[str, Any] = eqx.field(converter=_by_name)

    def __check_init__(self) -> None:
        for name, part in self.parts.items():
            if not isinstance(part, Head):
                raise TypeError(f"parts: expected a head for {name!r}, such as DiagonalGaussian(); got {part!r}")

    def _pairs(self, shape: Shape) -> list[tuple[str, Head, Shape]]:
        """Name, head and shape of every part. Raises ValueError for a query with others."""
        found = dict(shape) if is_tree(shape) else None
        if found is None or set(found) != set(self.parts):
            came = f"one with {', '.join(found)}" if found else f"an array {list(shape)}"
            raise ValueError(f"query: expected a dictionary with {', '.join(sorted(self.parts))}; got {came}")
        return [(name, self.parts[name], found[name]) for name in sorted(self.parts)]

    def at(self, name: str) -> Space:
        return self.parts[name] if name in self.parts else Space()

    def size(self, shape: Shape) -> int:
        return sum(head.size(each) for _, head, each in self._pairs(shape))

    def free(self, shape: Shape) -> int:
        return sum(head.free(each) for _, head, each in self._pairs(shape))

    def split(self, vector: Float[Array, " size"], shape: Shape) -> dict[str, Float[Array, " part"]]:
        """The numbers of each part."""
        pairs = self._pairs(shape)
        ends = np.cumsum([head.size(each) for _, head, each in pairs])[:-1]
        return dict(zip([name for name, _, _ in pairs], jnp.split(vector, ends), strict=True))

    def __call__(self, vector: Float[Array, " size"], shape: Shape) -> Distribution:
        return self.of_parts(self.split(vector, shape), shape)

    def of_parts(self, numbers: dict[str, Float[Array, " part"]], shape: Shape) -> Distribution:
        """The distribution that the numbers of each part stand for."""
        return distributions.Joint({name: head(numbers[name], each) for name, head, each in self._pairs(shape)})

    def features(self, query: Any, observed: Any) -> Any:
        seen = {} if observed is None else observed
        return {name: part.features(query[name], seen.get(name)) for name, part in self.parts.items()}

    def backed(self, sums: Any, shape: Shape, units: float) -> Any:
        return {name: head.backed(sums[name], each, units) for name, head, each in self._pairs(shape)}

    def from_sums(self, sums: Any) -> Float[Array, " size"]:
        return jnp.concatenate([self.parts[name].from_sums(sums[name]) for name in sorted(self.parts)])

    def blank(self, shape: Shape) -> "Joint":
        return Joint({name: head.blank(each) for name, head, each in self._pairs(shape)})

    def log_probs(self, vectors: Float[Array, "K size"], shape: Shape, query: Any, observed: Any) -> Float[Array, " K"]:
        seen, numbers = (
            {} if observed is None else observed,
            jax.vmap(lambda vector: self.split(vector, shape))(vectors),
        )
        each = [
            head.log_probs(numbers[name], part, query[name], seen.get(name)) for name, head, part in self._pairs(shape)
        ]
        return jnp.sum(jnp.stack(each), 0)

    def view(self, query: Any, observed: Any, weight: Float[Array, " M"]) -> dict[str, Any]:
        seen = {} if observed is None else observed
        return {name: part.view(query[name], seen.get(name), weight) for name, part in self.parts.items()}

    def held(self, query: Any, dtype: np.dtype) -> Any:
        return {name: self.at(name).held(leaf, dtype) for name, leaf in query.items()}

    def check(self, query: Any, names: tuple[str, ...]) -> None:
        self._pairs(event_shape(query))
        for name, part in self.parts.items():
            tree = isinstance(query[name], dict)
            columns = () if tree or query[name].ndim != 2 else tuple(f"{name}{i}" for i in range(query[name].shape[1]))
            part.check(query[name], (name,) if len(columns) == 1 else columns)


class Branches(eqx.Module):
    """A network for each part of a tree, by name.

    Decoders: each sees all of the latent and makes the numbers of its part of a ``Joint`` head.
    ``Branches({"frame": images.PyramidDecoder(...), "reward": veil.MLP((32,))})``; its mirror image are ``Readers``.
    """

    parts: dict[str, Any]
    outputs: dict[str, Dense | None] | None = parameter()
    shape: Shape = eqx.field(static=True, default=None)
    sizes: Shape = eqx.field(static=True, default=None)

    def making(self, head: Head, shape: Shape) -> "Branches":
        """These decoders for the parts of a head; TypeError, ValueError where they are not those of its parts."""
        if not isinstance(head, Joint):
            raise TypeError(f"decoder: Branches are for a heads.Joint; this head is {type(head).__name__}")
        if set(self.parts) != set(head.parts):
            raise ValueError(
                f"decoder: expected branches for {', '.join(sorted(head.parts))}; got {', '.join(sorted(self.parts))}"
            )
        shapes = dict(shape)
        sizes = {name: part.size(shapes[name]) for name, part in head.parts.items()}
        parts = {
            name: part.making(shapes[name], sizes[name] // int(np.prod(shapes[name])))
            if isinstance(part, Decoder)
            else part
            for name, part in self.parts.items()
        }
        return Branches(parts, None, shape, tuple(sorted(sizes.items())))

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Branches":
        parts: dict[str, Any] = {}
        outputs: dict[str, Dense | None] = {}
        sizes = dict(self.sizes)
        for name, each in zip(sorted(self.parts), jax.random.split(key, len(self.parts)), strict=True):
            key_part, key_output = jax.random.split(each)
            parts[name] = self.parts[name].initialise(inputs, key_part)
            outputs[name] = None
            if not isinstance(parts[name], Decoder):
                outputs[name] = he_normal(parts[name].outputs(inputs), sizes[name], key_output, SMALL)
        return Branches(parts, outputs, self.shape, self.sizes)

    def mirrored(self) -> "Readers":
        """The encoder that goes with it."""
        return Readers({name: part.mirrored() for name, part in self.parts.items()})

    def numbers(self, x: Float[Array, " in"], head: Joint) -> dict[str, Float[Array, " part"]]:
        """What the head makes a distribution of, but for its constant part; by part, so that one that nobody asks for

        need not be computed (compilers do not look through one vector of all).
        """
        if self.outputs is None:
            raise ValueError("this network has no parameters yet: call veil.fit, or initialise it first")
        shapes, pieces = dict(self.shape), {}
        for name in sorted(self.parts):
            made, output = self.parts[name](x), self.outputs[name]
            part = head.parts[name]
            pieces[name] = part.arranged(made.reshape(*shapes[name], -1)) if output is None else output(made)
        return pieces


def seen(net: Any, evidence: Any) -> Any:
    """Evidence as a network takes it: one vector; of ``Readers`` that of each part, by its name."""
    if not isinstance(net, Readers):
        return flat(evidence)
    if not isinstance(evidence, dict):
        raise TypeError(
            "evidence: Readers are for evidence that is a dictionary, and this is an array; give one network for it"
        )
    return {name: flat(part) for name, part in evidence.items()}


def seen_sizes(net: Any, evidence: Any) -> Any:
    """How many numbers that has."""
    found = jax.eval_shape(lambda given: seen(net, given), evidence)
    return {name: leaf.size for name, leaf in found.items()} if isinstance(net, Readers) else found.size


class Readers(eqx.Module):
    """An encoder for each part of a tree, by name: what they make, side by side, and behind it the other parts.

    Of a query, as an encoder reads it, evidence is such a part; of evidence they are a model's trunk. Without ``rest``
    the other parts are not read: an actor's encoder must not learn from rewards, which nobody shows it as it acts.
    """

    parts: dict[str, Any]
    rest: bool = eqx.field(static=True, default=True)

    def initialise(self, inputs: dict[str, int], key: PRNGKeyArray) -> "Readers":
        """``inputs``: how many numbers each part has."""
        keys = dict(zip(sorted(self.parts), jax.random.split(key, len(self.parts)), strict=True))
        parts = {name: part.initialise(inputs[name], keys[name]) for name, part in self.parts.items()}
        return Readers(parts, self.rest)

    def only(self) -> "Readers":
        """These without the rest."""
        return Readers(self.parts, rest=False)

    @property
    def inputs(self) -> None:
        """How many numbers they take: not known, as parts without a network may have any number."""
        return None

    def outputs(self, inputs: dict[str, int]) -> int:
        """How many numbers they make, and what has no network has."""
        rest = sum(size for name, size in inputs.items() if name not in self.parts) if self.rest else 0
        return rest + sum(part.outputs(inputs[name]) for name, part in self.parts.items())

    def __call__(self, x: dict[str, Float[Array, " in"]]) -> Float[Array, " out"]:
        read = [self.parts[name](x[name]) for name in sorted(self.parts)]
        others = sorted(name for name in x if name not in self.parts) if self.rest else []
        return jnp.concatenate([*read, *(flat(x[name]) for name in others)])
