"""Posteriors over paths as messages: a network's guesses of each step, joined by the exact smoother."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil.distributions import Reparameterised, StepDraws
from veil.maths import kalman, smoothing
from veil.model import Datum
from veil.model.abilities import parameter
from veil.model.chains import Chain, Conditionals, GaussianChain, NeuralChain, Normals, Path
from veil.parts.dynamics import Dynamics, LinearDynamics
from veil.parts.nets import MLP, Dense
from veil.posterior.amortized import Reader, part
from veil.posterior.base import Learned


class MessagePassing(Learned):
    """q(z_1..T | y, x) ∝ p(z | x) Π_t N(z_t; m(y_t), diag s(y_t)²): a network's guesses, joined by the exact smoother.

    The prior's linear-Gaussian dynamics carry the messages, so that every z_t sees all of the sequence, in both
    directions, without another network, and a step without data gets none. For ``StateSpace(LinearDynamics(...))``.
    Johnson et al. 2016, section 4; Fraccaro et al. 2017. ``net`` encodes the observation of one step.
    """

    net: Any = MLP()
    reader: Reader = Reader()
    output: Dense | None = parameter()

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "MessagePassing":
        dynamics = _linear(model)
        key_net, key_output = jax.random.split(key)
        reader = Reader.of(model, example, self.net)
        inputs = reader.sizes(jax.tree.map(lambda leaf: leaf[0], example.each_step()))
        net = self.net.initialise(inputs, key_net)
        output = Dense.initialise(net.outputs(inputs), 2 * dynamics.shape[0], key_output)
        return MessagePassing(net, reader, output)

    def messages(self, datum: Datum) -> tuple[Float[Array, "T L"], Float[Array, "T L"]]:
        """m(y_t) and 1 / s(y_t) of every step, which is zero where nothing was observed."""
        if self.output is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        net, output = self.net, self.output
        numbers = jax.vmap(lambda step: output(net(self.reader(step))))(datum.led().each_step())
        mean, log_precision = jnp.split(numbers, 2, axis=1)
        precision = jax.nn.softplus(log_precision)
        if datum.observed is not None:
            leaves = [leaf.reshape(len(precision), -1) for leaf in jax.tree.leaves(datum.observed)]
            some = jnp.any(jnp.concatenate(leaves, 1), 1)
            precision = jnp.where(some[:, None], precision, 0.0)
        return mean, precision

    def __call__(self, model: Any, datum: Datum) -> "Messages":
        dynamics = _linear(model)
        transition, scale, mean, first = dynamics.parts()
        count = len(datum)
        pushed = (
            jnp.broadcast_to(dynamics.pushed(None), (count, mean.size))
            if datum.evidence is None
            else jax.vmap(dynamics.pushed)(datum.evidence)
        )
        chain = kalman.LinearSystem(mean, jnp.diag(first**2), transition, pushed, jnp.diag(scale**2))
        guess, precision = self.messages(datum)
        rows = jnp.eye(mean.size, dtype=mean.dtype)[None] * precision[:, :, None]
        starts, there = datum.starts, datum.there
        found = kalman.filtered(chain, guess * precision, rows, starts, there)
        smooth = smoothing.smoothed(found, starts, there)
        gaussian = GaussianChain.smoothed(smooth, starts, there)
        return Messages(gaussian=gaussian, prior=model.prior_for(datum), there=there)


class Messages(Chain, StepDraws, Reparameterised):
    """A Gaussian chain over the latents of a ``NeuralChain``, ``prior``, whose memory its paths carry."""

    gaussian: GaussianChain
    prior: NeuralChain
    there: Bool[Array, " T"]

    def sample(self, key: PRNGKeyArray) -> Path:
        return self.prior.follow(self.gaussian.sample(key))

    def drawn(self, key: PRNGKeyArray, draw: Any) -> Path:
        """A path; normals have one way to be drawn."""
        return self.sample(key)

    def conditionals(self, path: Path) -> "MessageSteps":
        return MessageSteps(self.gaussian.conditionals(path.latent))


class MessageSteps(eqx.Module):
    """The distributions of all steps of ``Messages`` along a path."""

    normals: Normals

    def sample(self, key: PRNGKeyArray) -> Float[Array, "T L"]:
        return self.normals.sample(key)

    def log_prob(self, path: Path) -> Float[Array, " T"]:
        return self.normals.log_prob(path.latent)

    def at(self, steps: Int[Array, " T"]) -> "MessageSteps":
        """Those of other steps."""
        return MessageSteps(Normals(self.normals.mean[steps], self.normals.factor[steps]))

    def kl(self, other: Conditionals) -> Float[Array, "T 1"]:
        """KL(self || other) of every step (exact: the prior's are normals with diagonal covariances); one part."""
        q, (mean, variance) = self.normals, other.moments()
        factors = jnp.sqrt(variance)[:, :, None] * jnp.eye(mean.shape[1], dtype=mean.dtype)[None]
        return q.kl(Normals(mean, factors))

    def moments(self) -> tuple[Float[Array, "T L"], Float[Array, "T L"]]:
        """Mean and variance of every step."""
        return self.normals.mean, jnp.sum(self.normals.factor**2, 2)


def _linear(model: Any) -> LinearDynamics:
    dynamics = part(model, Dynamics)
    if not isinstance(dynamics, LinearDynamics):
        raise TypeError(
            f"posterior: MessagePassing needs LinearDynamics; these are {type(dynamics).__name__}: use Sequential()"
        )
    return dynamics
