"""Networks that read an image into features and make one from features, for ONE image; the verbs ``vmap`` outside.

Vectors in, vectors out, like ``nets``: the encoders know the shape [H, W, C] of the image at the beginning of the
vector that they read, and the decoders give every number that a head needs for an image of that shape.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.maths.rows import affine, product
from veil.model.abilities import parameter
from veil.parts.nets import Activation, Dense, activated, he_normal, known_activation, positive

Shape = tuple[int, ...]  # (H, W, C), which `_check` says in the user's words
WIDTHS = (32, 64, 128)
SMALL = (
    0.05  # an output layer's start, as a share of the usual variance: first images close to the average, first KL small
)


class Level(eqx.Module):
    """How a level halves the height and width of an image, or doubles them: what its layers are, and what they do."""

    @abstractmethod
    def halving(self, inputs: int, outputs: int, key: PRNGKeyArray, gain: float) -> Any:
        """A layer for ``down`` between these channels, its weights' variance multiplied by ``gain``."""

    @abstractmethod
    def doubling(self, inputs: int, outputs: int, key: PRNGKeyArray, gain: float) -> Any:
        """A layer for ``up``."""

    @abstractmethod
    def down(self, layer: Any, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Half the height and width."""

    @abstractmethod
    def up(self, layer: Any, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Twice the height and width."""

    def opened(self, image: Float[Array, "H W C"], levels: int) -> Float[Array, "..."]:
        """The image in the form that ``down`` takes, so many times."""
        return image

    def closed(self, x: Float[Array, "..."], size: tuple[int, int], levels: int) -> Float[Array, "H W C"]:
        """The image of this height and width, from the form that ``up`` gave after so many times."""
        return x


class Patches(Level):
    """2x2 neighbours to one cell and back: space-to-depth, or depth-to-space, and a matrix product."""

    def halving(self, inputs: int, outputs: int, key: PRNGKeyArray, gain: float) -> Dense:
        return he_normal(4 * inputs, outputs, key, gain)

    def doubling(self, inputs: int, outputs: int, key: PRNGKeyArray, gain: float) -> Dense:
        return he_normal(inputs, 4 * outputs, key, gain)

    def down(self, layer: Dense, x: Float[Array, "..."]) -> Float[Array, "m out"]:
        """W h + b of every cell, in one matrix product: in the order of ``to_cells`` the rest is a reshape."""
        return affine(x.reshape(-1, layer.weight.shape[1]), layer.weight, layer.bias)

    def up(self, layer: Dense, x: Float[Array, "..."]) -> Float[Array, "m out"]:
        return self.down(layer, x)

    def opened(self, image: Float[Array, "H W C"], levels: int) -> Float[Array, "n C"]:
        return to_cells(image, levels)

    def closed(self, x: Float[Array, "..."], size: tuple[int, int], levels: int) -> Float[Array, "H W C"]:
        return from_cells(x.reshape(size[0] * size[1], -1), size, levels)


class Convolutions(Level):
    """4x4 convolutions of stride 2, and their transposes."""

    def halving(self, inputs: int, outputs: int, key: PRNGKeyArray, gain: float) -> "Kernel":
        scale = (2.0 * gain / (16 * inputs)) ** 0.5
        return Kernel(scale * jax.random.normal(key, (4, 4, inputs, outputs)), jnp.zeros(outputs))

    def doubling(self, inputs: int, outputs: int, key: PRNGKeyArray, gain: float) -> "Kernel":
        return self.halving(inputs, outputs, key, 4.0 * gain)  # each number sums over a quarter of the kernel

    def down(self, layer: "Kernel", x: Float[Array, "H W in"]) -> Float[Array, "h w out"]:
        return jax.lax.platform_dependent(x, layer.weight, layer.bias, cpu=_gathered, default=_convolved)

    def up(self, layer: "Kernel", x: Float[Array, "h w in"]) -> Float[Array, "H W out"]:
        """The transpose of ``down``."""
        return jax.lax.platform_dependent(x, layer.weight, layer.bias, cpu=_spread, default=_unconvolved)


# On CPUs convolutions and their gradients are many times slower in a compiled loop (XLA 0.10.2) than the same sums as
# matrix products. A kernel of 4x4 with stride 2 is one of 2x2 cells, each of 2x2 pixels: u = 2 a + p, v = 2 b + q.


def _gathered(x: Array, weight: Array, bias: Array) -> Array:
    """h'[i, j] = b + Σ_{u,v<4} h[2i + u - 1, 2j + v - 1] K[u, v], by one product: each place gathers its 16 pixels."""
    height, width, channels = x.shape[0] // 2, x.shape[1] // 2, x.shape[2]
    cells = jnp.pad(x, ((1, 1), (1, 1), (0, 0))).reshape(height + 1, 2, width + 1, 2, channels).swapaxes(1, 2)
    cells = cells.reshape(height + 1, width + 1, 4 * channels)
    seen = jnp.concatenate([cells[a : a + height, b : b + width] for a in (0, 1) for b in (0, 1)], 2)
    matrix = weight.reshape(2, 2, 2, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5).reshape(16 * channels, -1)
    return affine(seen, matrix.T, bias)


def _spread(x: Array, weight: Array, bias: Array) -> Array:
    """h'[2i + u - 1, 2j + v - 1] += h[i, j] K[u, v], by one product: the way in which fewer numbers are written."""
    inputs, outputs = weight.shape[2:]
    made = _neighbouring(x, weight) if 4 * inputs < 16 * outputs else _scattered(x, weight)
    (height, width), channels = x.shape[:2], weight.shape[3]
    cells = made.swapaxes(1, 2).reshape(2 * height + 2, 2 * width + 2, channels)
    return cells[1:-1, 1:-1] + bias[None, None]


def _scattered(x: Array, weight: Array) -> Array:
    """Cells [h + 1, w + 1, 2, 2, out] of pixels: each place makes 16 of them, which are added up."""
    (height, width), outputs = x.shape[:2], weight.shape[3]
    matrix = weight.reshape(2, 2, 2, 2, -1, outputs).transpose(0, 2, 1, 3, 5, 4).reshape(16 * outputs, -1)
    made = product(x, matrix).reshape(height, width, 2, 2, 4 * outputs)
    parts = [jnp.pad(made[:, :, a, b], ((a, 1 - a), (b, 1 - b), (0, 0))) for a in (0, 1) for b in (0, 1)]
    return sum(parts[1:], parts[0]).reshape(height + 1, width + 1, 2, 2, outputs)


def _neighbouring(x: Array, weight: Array) -> Array:
    """The same cells: each gathers the four places that reach it."""
    (height, width), outputs = x.shape[:2], weight.shape[3]
    wide = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    parts = [wide[a : a + height + 1, b : b + width + 1] for a in (1, 0) for b in (1, 0)]
    matrix = weight.reshape(2, 2, 2, 2, -1, outputs).transpose(1, 3, 5, 0, 2, 4).reshape(4 * outputs, -1)
    return product(jnp.concatenate(parts, 2), matrix).reshape(height + 1, width + 1, 2, 2, outputs)


def _convolved(x: Array, weight: Array, bias: Array) -> Array:
    """``_gathered`` as accelerators like it."""
    image = x[None].astype(weight.dtype)
    found = jax.lax.conv_general_dilated(image, weight, (2, 2), [(1, 1), (1, 1)], dimension_numbers=_HWC)
    return found[0].astype(x.dtype) + bias[None, None]


def _unconvolved(x: Array, weight: Array, bias: Array) -> Array:
    """``_spread`` as a convolution of the image set apart by 2."""
    turned = weight[::-1, ::-1]
    found = jax.lax.conv_general_dilated(
        x[None].astype(turned.dtype), turned, (1, 1), [(2, 2), (2, 2)], lhs_dilation=(2, 2), dimension_numbers=_HWC
    )
    return found[0].astype(x.dtype) + bias[None, None]


class Kernel(eqx.Module):
    """A 4x4 kernel of stride 2 and a bias: weight [4, 4, in, out]."""

    weight: Float[Array, "4 4 in out"]
    bias: Float[Array, " out"]

    def lowered(self) -> "Kernel":
        """With its weight in bfloat16."""
        return replace(self, weight=self.weight.astype(jnp.bfloat16))


class Encoder(eqx.Module):
    """``Pyramid`` or ``Convolutional``: levels that halve the image, and a dense layer that reads what they leave.

    Whatever follows the image in the vector (evidence, which entries are present) joins it before the dense layer.
    Weights start as in He et al. 2015, eq. 10, biases at zero. Without parameters until ``initialise(inputs, key)``.
    """

    shape: Shape = eqx.field(static=True, converter=tuple)
    widths: tuple[int, ...] = eqx.field(static=True, converter=tuple)
    features: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    level: Level
    layers: tuple[Dense | Kernel, ...] | None = parameter()
    dense: Dense | None = parameter()

    def __check_init__(self) -> None:
        _check(self.shape, self.widths, self.features, self.activation)

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Encoder":
        size = int(np.prod(self.shape))
        if inputs < size:
            raise ValueError(
                f"shape: this encoder reads images of shape {self.shape}, {size} numbers; a datum here has {inputs}"
            )
        key_layers, key_dense = jax.random.split(key)
        layers = _chain(self.level.halving, (self.shape[2], *self.widths), key_layers, 1.0)
        read = _coarsest(self.shape, self.widths) + inputs - size
        return replace(self, layers=layers, dense=he_normal(read, self.features, key_dense, SMALL))

    @property
    def inputs(self) -> int | None:
        """How many numbers it reads, None without parameters."""
        if self.dense is None:
            return None
        return int(np.prod(self.shape)) + self.dense.weight.shape[1] - _coarsest(self.shape, self.widths)

    def outputs(self, inputs: int) -> int:
        return self.features

    def mirrored(self) -> "Decoder":
        """The decoder that goes with it: the same levels in reverse order, without parameters."""
        return Decoder(self.shape, self.widths, self.features, self.activation, self.level)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        if self.layers is None or self.dense is None:
            raise ValueError(_UNREADY)
        size = int(np.prod(self.shape))
        seen, beyond = self.level.opened(x[:size].reshape(self.shape), len(self.widths)), x[size:]
        for layer in self.layers:
            seen = activated(self.activation, self.level.down(layer, seen))
        joined = jnp.concatenate([seen.ravel(), beyond]) if beyond.size else seen.ravel()
        return activated(self.activation, self.dense(joined))


class Decoder(eqx.Module):
    """``PyramidDecoder`` or ``ConvolutionalDecoder``: its output is the head's numbers themselves.

    ``per_entry`` numbers for each entry of the image, [H, W, C, per_entry], flat: a dense layer from features to all of
    them, as follows other decoders, would be most of the model. ``VAE`` adds a constant for each number, which starts
    at the data's average. Two dense layers, then the encoder's levels upside down, the last one linear. Added to it is
    a linear map of the latent: as quick to learn as principal components, it keeps the posterior from collapsing while
    the levels are still random.
    """

    shape: Shape = eqx.field(static=True, converter=tuple)
    widths: tuple[int, ...] = eqx.field(static=True, converter=tuple)
    features: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    level: Level
    per_entry: int = eqx.field(static=True, default=1)
    linear: Float[Array, "out in"] | None = None
    dense: tuple[Dense, ...] | None = parameter()
    layers: tuple[Dense | Kernel, ...] | None = parameter()

    def __check_init__(self) -> None:
        _check(self.shape, self.widths, self.features, self.activation)

    def making(self, shape: tuple[int, ...], per_entry: int) -> "Decoder":
        """This decoder for a query of that shape, without parameters; ValueError where it makes another."""
        if tuple(shape) != self.shape:
            raise ValueError(
                f"query: this decoder makes images of shape {self.shape}; the data have shape {tuple(shape)}"
            )
        return Decoder(self.shape, self.widths, self.features, self.activation, self.level, per_entry)

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Decoder":
        key_linear, key_dense, key_layers = jax.random.split(key, 3)
        linear = he_normal(inputs, self.outputs(inputs), key_linear, SMALL).weight
        dense = _chain(he_normal, (inputs, self.features, _coarsest(self.shape, self.widths)), key_dense, 1.0)
        pixel = self.shape[2] * self.per_entry
        layers = _chain(self.level.doubling, (*self.widths[::-1], pixel), key_layers, SMALL)
        return replace(self, linear=linear, dense=dense, layers=layers)

    def outputs(self, inputs: int) -> int:
        return int(np.prod(self.shape)) * self.per_entry

    def mirrored(self) -> Encoder:
        """The encoder that goes with it, without parameters."""
        return Encoder(self.shape, self.widths, self.features, self.activation, self.level)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        if self.linear is None or self.dense is None or self.layers is None:
            raise ValueError(_UNREADY)
        added, (height, width, _), levels = product(x, self.linear), self.shape, len(self.widths)
        for dense in self.dense:
            x = activated(self.activation, dense(x))
        made = x.reshape(height >> levels, width >> levels, -1)
        for layer in self.layers[:-1]:
            made = activated(self.activation, self.level.up(layer, made))
        return added + self.level.closed(self.level.up(self.layers[-1], made), (height, width), levels).ravel()


def Pyramid(
    shape: Shape, widths: tuple[int, ...] = WIDTHS, features: int = 256, activation: Activation = "relu"
) -> Encoder:
    """Encoder: each level merges 2x2 neighbours into one cell of ``widths[level]`` numbers; a dense layer reads them.

    A level is space-to-depth, a matrix product and the activation: h' [n / 4, width] = φ(h [n / 4, 4 channels] W + b)
    (Liu et al. 2021, Swin Transformer, section 3.1: patch merging, without attention). On a CPU it learns several times
    faster than convolutions.

    * ``shape``: (H, W, C), H and W divisible by 2 to the number of levels
    * ``widths``: numbers in a cell after each level
    * ``features``: how many come out

    Raises ValueError for a shape that cannot be halved so often, and for sizes that are not positive.

    >>> import jax, jax.numpy as jnp
    >>> net = Pyramid((8, 8, 1), (16, 32), features=10).initialise(64, jax.random.key(0))
    >>> net(jnp.zeros(64)).shape
    (10,)
    """
    return Encoder(shape, widths, features, activation, Patches())


def PyramidDecoder(
    shape: Shape, widths: tuple[int, ...] = WIDTHS, features: int = 256, activation: Activation = "relu"
) -> Decoder:
    """``Pyramid`` upside down: each level splits a cell into 2x2; the last one gives the pixels.

    h' [4n, width] = φ(h [n, channels] W + b), depth-to-space. Arguments and errors as for ``Pyramid``, ``widths`` in
    the same order, from the image inwards.
    """
    return Decoder(shape, widths, features, activation, Patches())


def Convolutional(
    shape: Shape, widths: tuple[int, ...] = WIDTHS, features: int = 256, activation: Activation = "relu"
) -> Encoder:
    """Encoder of 4x4 convolutions of stride 2, a level for each of ``widths``, then a dense layer: for accelerators.

    h'[i, j] = φ(b + Σ_{u,v<4} h[2i + u - 1, 2j + v - 1] K[u, v]), zeros beyond the border; K [4, 4, in, out].
    Arguments and errors as for ``Pyramid``, which on a CPU is several times faster.
    """
    return Encoder(shape, widths, features, activation, Convolutions())


def ConvolutionalDecoder(
    shape: Shape, widths: tuple[int, ...] = WIDTHS, features: int = 256, activation: Activation = "relu"
) -> Decoder:
    """``Convolutional`` upside down: transposed 4x4 convolutions of stride 2.

    Each level is the transpose of the encoder's: h'[2i + u - 1, 2j + v - 1] += h[i, j] K[u, v]. Arguments and errors as
    for ``PyramidDecoder``.
    """
    return Decoder(shape, widths, features, activation, Convolutions())


_HWC = ("NHWC", "HWIO", "NHWC")
_UNREADY = "this network has no parameters yet: call veil.fit, or initialise it first"


def to_cells(image: Float[Array, "H W C"], levels: int) -> Float[Array, "n C"]:
    """The pixels in an order in which each run of 4^l of them is a square of side 2^l, for l up to ``levels``.

    Within a square of 2x2 the order is row by row. In this order (Morton's; the squares themselves go row by row)
    space-to-depth at every level is a reshape, [n, C] -> [n / 4, 4 C], which moves no memory.
    """
    height, width, channels = image.shape
    split = image.reshape(height >> levels, *[2] * levels, width >> levels, *[2] * levels, channels)
    pairs = [axis for i in range(levels) for axis in (1 + i, levels + 2 + i)]
    return split.transpose(0, levels + 1, *pairs, 2 * levels + 2).reshape(height * width, channels)


def from_cells(cells: Float[Array, "n C"], size: tuple[int, int], levels: int) -> Float[Array, "H W C"]:
    """The inverse of ``to_cells`` for an image of this height and width."""
    height, width = size
    split = cells.reshape(height >> levels, width >> levels, *[2] * (2 * levels), -1)
    rows, columns = (range(first, 2 * levels + 2, 2) for first in (2, 3))
    return split.transpose(0, *rows, 1, *columns, 2 * levels + 2).reshape(height, width, -1)


def _chain(
    make: Callable[[int, int, PRNGKeyArray, float], Any], sizes: tuple[int, ...], key: PRNGKeyArray, last: float
) -> Any:
    """Layers from each size to the next, the variance of the last one's weights multiplied by ``last``."""
    keys = jax.random.split(key, len(sizes) - 1)
    gains = [1.0] * (len(sizes) - 2) + [last]
    return tuple(make(a, b, key, gain) for a, b, key, gain in zip(sizes[:-1], sizes[1:], keys, gains, strict=True))


def _coarsest(shape: Shape, widths: tuple[int, ...]) -> int:
    """How many numbers the coarsest level has."""
    return (shape[0] >> len(widths)) * (shape[1] >> len(widths)) * widths[-1]


def _check(shape: Any, widths: Any, features: Any, activation: str) -> None:
    if len(shape) != 3:
        raise ValueError(f"shape: expected (height, width, channels), such as (32, 32, 3); got {shape}")
    for size in shape:
        positive("shape", size)
    if not widths:
        raise ValueError("widths: expected one or more positive integers, such as (32, 64, 128); got none")
    for width in widths:
        positive("widths", width)
    positive("features", features)
    if shape[0] % 2 ** len(widths) or shape[1] % 2 ** len(widths):
        raise ValueError(
            f"shape: {len(widths)} levels (widths={widths}) halve the image as often, so height and width must be "
            f"multiples of {2 ** len(widths)}; got {shape[:2]}: pad or crop the images, or use fewer widths"
        )
    known_activation(activation)
