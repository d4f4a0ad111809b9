"""What networks of values see of an observation: a vector, or a picture of one light, of which little is worked out."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from veil.control.exploration.learning import Network
from veil.control.exploration.standards import vector
from veil.model.scales import Scale
from veil.parts.nets import activated
from veil.saved.registry import register

register(Network, name="veil.control.QNetwork")


class Lit(eqx.Module):
    """A picture [D] of which one ``pixel`` is ``light``, and the others are 0."""

    pixel: Int[Array, ""]
    light: Float[Array, ""]


class Eyes(eqx.Module):
    """From one observation to what a network sees of it: a vector [D], or a ``Lit``."""

    @property
    @abstractmethod
    def size(self) -> int:
        """D, how many numbers a network sees."""

    @abstractmethod
    def __call__(self, observation: Any) -> Any:
        """What is seen."""


@register(name="veil.control.Lights")
class Lights(Eyes):
    """Of the number of a state its picture of ``size`` pixels, one of which has a light."""

    pixel: Int[Array, " S"]
    light: Float[Array, " S"]
    pixels: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        return self.pixels

    def __call__(self, observation: Any) -> Lit:
        place = jnp.asarray(observation).astype(jnp.int32)
        return Lit(self.pixel[place], self.light[place])


@register(name="veil.control.Pictures")
class Pictures(Eyes):
    """Of the number of a state its picture, all pixels in a row."""

    rows: Float[Array, "S D"]

    @property
    def size(self) -> int:
        return self.rows.shape[1]

    def __call__(self, observation: Any) -> Float[Array, " D"]:
        return self.rows[jnp.asarray(observation).astype(jnp.int32)]


@register(name="veil.control.Scaled")
class Scaled(Eyes):
    """All numbers of an observation in a row [D], in units of ``scale``."""

    scale: Scale

    @property
    def size(self) -> int:
        return self.scale.shift.shape[0]

    def __call__(self, observation: Any) -> Float[Array, " D"]:
        return self.scale.standard(vector(observation))


def numbered(states: int) -> Lights:
    """A state's number as a row [S] of one 1."""
    return Lights(jnp.arange(states, dtype=jnp.int32), jnp.ones(states), states)


def pictured(pictures: Any) -> Eyes:
    """Pictures [S, ...] of every state: ``Lights`` where none has more than one pixel that is not 0.

    >>> import numpy as np
    >>> pictured(np.eye(4).reshape(4, 2, 2)).size
    4
    """
    rows = np.asarray(pictures, np.float32).reshape(len(pictures), -1)
    if not rows.size or not np.all(np.isfinite(rows)):
        raise ValueError(f"pictures: expected finite numbers [states, ...]; got the shape {np.shape(pictures)}")
    if np.any(np.count_nonzero(rows, 1) > 1):
        return Pictures(jnp.asarray(rows))
    pixel = np.argmax(rows != 0, 1)
    return Lights(jnp.asarray(pixel, jnp.int32), jnp.asarray(rows[np.arange(len(rows)), pixel]), rows.shape[1])


def valued(network: Network, seen: Any) -> Float[Array, " A"]:
    """Q of every action. Of one light the product with the first layer is a column of its weights, times the light."""
    if not isinstance(seen, Lit):
        return network(seen)
    first, *others = network.net.layers
    x = activated(network.net.activation, seen.light * first.weight[:, seen.pixel] + first.bias)
    for layer in others:
        x = activated(network.net.activation, layer(x))
    return network.output(x)
