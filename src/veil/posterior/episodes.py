"""An amortized posterior of a latent that is drawn once an episode: a network that reads all of its steps."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.model import Datum
from veil.model.abilities import name_of, parameter
from veil.model.per_episode import PerEpisode, over_steps
from veil.parts.heads import Head
from veil.parts.nets import MLP, Dense
from veil.posterior.amortized import Reader, family, latent_shape
from veil.posterior.base import Learned, Vectorial


class EpisodeEncoder(Learned, Vectorial):
    """q(z | y_1..T, x_1..T) = head(W combiner([mean_t h_t, h_1, log T])), h_t = net(y_t, x_t): one for all episodes.

    Given z the steps are independent, so that log p(z | y, x) is, but for a constant, a function of x_1 plus a sum over
    the steps, whatever their order: what a network of their mean, the first and their number can express (Zaheer et al.
    2017, theorem 2). Padding is not read. ``head``: any family over the latent's shape (default: what
    the model's prior suggests).

    Raises TypeError for a model whose latent is not drawn once an episode, or is not one array of a fixed shape.

    >>> EpisodeEncoder(MLP((32,))).net
    MLP(widths=(32,))
    """

    net: Any = MLP()
    head: Head | None = None
    combiner: MLP = MLP((64,))
    shape: tuple[int, ...] | None = parameter(static=True)
    reader: Reader = Reader()
    output: Dense | None = parameter()

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "EpisodeEncoder":
        if not isinstance(model, PerEpisode):
            raise TypeError(
                f"posterior: EpisodeEncoder() is for models whose latent is drawn once an episode, such as "
                f"veil.Episodic(...); for {name_of(model)} use veil.Amortized()"
            )
        shape = latent_shape(model, example)
        head = self.head or family(model, example)
        reader = Reader.of(model, example, self.net)
        inputs = reader.sizes(jax.tree.map(lambda leaf: leaf[0], example.each_step()))
        key_net, key_combiner, key_output = jax.random.split(key, 3)
        net = self.net.initialise(inputs, key_net)
        told = 2 * net.outputs(inputs) + 1
        combiner = self.combiner.initialise(told, key_combiner)
        output = Dense.initialise(combiner.outputs(told), head.size(shape), key_output)
        return EpisodeEncoder(net, head, combiner, shape, reader, output)

    def vector(self, model: Any, datum: Datum) -> Float[Array, " V"]:
        """The numbers that the head makes a distribution of."""
        if self.output is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        there = datum.there
        features = jax.vmap(lambda step: self.net(self.reader(step)))(datum.each_step())
        count = jnp.maximum(jnp.sum(there), 1).astype(features.dtype)  # rows that only fill a batch up have no step
        mean, first = over_steps(datum, features) / count, features[jnp.argmax(there)]
        return self.output(self.combiner(jnp.concatenate([mean, first, jnp.log(count)[None]])))

    def distribution(self, vector: Float[Array, " V"]) -> Distribution:
        """q from the head's numbers."""
        assert self.head is not None
        assert self.shape is not None
        return self.head(vector, self.shape)

    def __call__(self, model: Any, datum: Datum) -> Distribution:
        return self.distribution(self.vector(model, datum))
