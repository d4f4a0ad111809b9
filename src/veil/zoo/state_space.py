"""Deep state-space models: a latent path whose steps are networks', seen through any head, images included."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution, Moments
from veil.model import Datum, Guided, Startable, Stepwise
from veil.model.abilities import Sizes, Space, parameter
from veil.model.chains import NeuralChain, Path, State, length
from veil.model.contract import as_floats
from veil.model.slips import answering
from veil.model.stepwise import Marginal, rollout
from veil.parts.dynamics import Dynamics, Gated, LinearDynamics, Recurrent, neural_chain
from veil.parts.experts import Linear
from veil.parts.heads import DiagonalGaussian, Head, viewed
from veil.parts.nets import MLP, flat_size
from veil.posterior import Future, MessagePassing, Now, Posterior, Sequential
from veil.zoo.emission import begun, emitted


class StateSpace(Stepwise, Startable, Guided):
    """p(y, z | x) = Π_t p(z_t | past, x_t) p(y_t | z_t, past): ``dynamics`` of networks, and a decoder with any head.

    A datum is a sequence, query [T, ...], with evidence [T, P] (actions; x_t leads into z_t) or none. The dynamics make
    it a deep Markov model (``dynamics.Gated``; ``veil.dmm``), a recurrent state-space model (``dynamics.Recurrent``;
    ``veil.rssm``), a variational recurrent network (``veil.vrnn``), a linear path under neural observations
    (``dynamics.LinearDynamics``) or a locally linear one for planners (``dynamics.LocallyLinear``). ``decoder`` and
    ``head`` are as in ``VAE``: p(y_t | ·) = head(W [1, decoder(·)]), and run on all steps at once. Padding, resets,
    missing steps and missing entries are honoured.

    The path cannot be integrated out: ``veil.fit`` maximises the ELBO with the posterior that suits the dynamics,
    ``veil.evaluate`` reports bounds.

    >>> import jax, veil
    >>> data = veil.data.episodes([[[0.0], [1.0], [0.0], [1.0]], [[1.0], [0.0], [1.0]]])
    >>> result = veil.fit(veil.dmm(latent=2), data, key=jax.random.key(0), steps=20)
    >>> veil.sample(result.model, 3, key=jax.random.key(1), steps=5).query.shape
    (3, 5, 1)
    """

    dynamics: Any = Gated()  # a Dynamics
    head: Head = DiagonalGaussian()
    decoder: Any = MLP()
    output: Linear | None = parameter()
    inputs: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not isinstance(self.dynamics, Dynamics):
            raise TypeError(f"dynamics: expected one of veil.dynamics, such as Recurrent(); got {self.dynamics!r}")

    @property
    def sizes(self) -> Sizes:
        return Sizes(None if self.output is None else self.output.shape, self.inputs)

    @property
    def space(self) -> Space:
        return self.head

    @property
    def remembers(self) -> bool:
        return self.dynamics.autoregressive

    @property
    def usual_posterior(self) -> Posterior:
        """What ``veil.fit`` trains with it: the decoder's mirror image as encoder, and what suits the dynamics."""
        net = self.decoder.mirrored()
        if isinstance(self.dynamics, LinearDynamics):
            return MessagePassing(net)
        return Sequential(net, Now() if isinstance(self.dynamics, Recurrent) else Future())

    def prior_for(self, datum: Datum) -> NeuralChain:
        """p(z | x) over the steps of a datum, with its resets and padding (and what it shows, if they see it)."""
        return neural_chain(self.dynamics, self.dynamics.prior, jnp.zeros((len(datum), 0)), datum)

    def emission(self, memory: Float[Array, " M"], latent: Float[Array, "*latent"]) -> Distribution:
        """p(y_t | z_t, memory_t)."""
        return emitted(self.output, self.decoder, self.dynamics.shown(memory, latent))

    def likelihood(self, latent: Path, evidence: Any) -> "Emitted":
        return Emitted(self, latent)

    def log_likelihoods(self, latent: Path, datum: Datum) -> Float[Array, " T"]:
        """log p(y_t | z_t, past) of every step, nats: zero at padding, of missing entries nothing."""

        def one(memory: Array, z: Array, query: Any, observed: Any) -> Float[Array, ""]:
            return distributions.log_prob(self.emission(memory, z), query, observed)

        return jnp.where(datum.there, jax.vmap(one)(latent.memory, latent.latent, datum.query, datum.observed), 0.0)

    def log_likelihood(self, latent: Path, datum: Datum) -> Float[Array, ""]:
        """Σ_t log p(y_t | z_t, past), nats, over the steps that are there and the entries that are present."""
        return jnp.sum(self.log_likelihoods(latent, datum))

    # -- one step at a time: see ``veil.model.stepwise`` ---------------------------------------------------------------

    def carry(self, evidence: Any) -> State:
        """What the first step of an episode has before it."""
        return self.dynamics.begun()

    def advance(self, carry: State, latent: Array, query: Any, evidence: Any, observed: Any) -> State:
        """What a step leaves to the next."""
        seen = self.dynamics.seen(jnp.zeros(0), None) if query is None else self.dynamics.seen(query, observed)
        return State(self.dynamics.recalled(carry, evidence), latent, seen)

    def latent_of(self, carry: State) -> Marginal:
        return Marginal(None, carry.latent, jnp.zeros_like(carry.latent))

    def step_prior(self, carry: State, evidence: Any) -> Distribution:
        """p(z_t | past, x_t)."""
        return self.dynamics.prior(self.dynamics.recalled(carry, evidence), jnp.zeros(0))

    def step_likelihood(self, carry: State, latent: Array, evidence: Any) -> Distribution:
        """p(y_t | z_t, past, x_t)."""
        return self.emission(self.dynamics.recalled(carry, evidence), latent)

    def likelihood_after(self, carry: State, latent: Array, evidence: Any, after: State) -> Distribution:
        return self.emission(after.memory, latent)

    # -- draws and learning --------------------------------------------------------------------------------------------

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Path, Any]:
        """(path, y [T, ...]) drawn from the model, as long as the evidence, or ``steps``."""
        found = rollout(self, self.carry(evidence), evidence, length(evidence, steps), key)
        return Path(found.latent, found.after.memory), found.query

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "StateSpace":
        """Random networks; the likelihood's constant part starts at the data's average."""
        key_dynamics, *keys = jax.random.split(key, 3)
        count, steps = jax.tree.leaves(data.query)[0].shape[:2]
        side = lambda leaf: leaf.reshape(count * steps, *leaf.shape[2:])  # noqa: E731
        query, observed = jax.tree.map(side, (data.query, data.observed))
        inputs = flat_size(data.evidence, 2)
        weight = jnp.ones(count) if data.weight is None else data.weight
        there = jnp.ones((count, steps)) if data.mask is None else data.mask.astype(weight.dtype)
        weights = (weight[:, None] * there).ravel()
        view = self.head.view(query, observed, weights)
        watched = jax.eval_shape(jax.vmap(lambda *y: viewed(view, *y)), query, observed)
        dynamics = self.dynamics.initialise(inputs, flat_size(watched, 1), key_dynamics)
        if isinstance(dynamics, Recurrent):
            dynamics = replace(dynamics, view=view)
        start = dynamics.start()
        shown = dynamics.shown(start.memory, start.latent).size
        decoder, output = begun(self.head, self.decoder, shown, query, observed, weights, view, *keys)
        return StateSpace(dynamics, output.head, decoder, output, inputs)


class Emitted(Distribution, Moments):
    """p(y_1..T | path): independent steps given the path."""

    model: StateSpace
    path: Path

    def _each(self, function: Any, *rest: Any) -> Any:
        emission = self.model.emission
        one = lambda memory, z, *more: function(emission(memory, z), *more)  # noqa: E731
        return jax.vmap(one)(self.path.memory, self.path.latent, *rest)

    @property
    def mean(self) -> Any:
        """E[y_t | z_t, past] of every datum or step."""
        return self._each(lambda step: distributions.moments(step)[0])

    @property
    def variance(self) -> Any:
        """Var[y_t | z_t, past] of every datum or step."""
        return self._each(lambda step: distributions.moments(step)[1])

    def sample(self, key: PRNGKeyArray) -> Any:
        draws = self._each(lambda step, key: step.sample(key), jax.random.split(key, len(self.path)))
        return as_floats(draws)

    def log_prob(self, query: Any) -> Float[Array, ""]:
        return jnp.sum(self._each(lambda step, query: distributions.log_prob(step, query), query))


@answering
def dmm(latent: Any = 16, head: Head | None = None, decoder: Any = None, width: int = 64) -> StateSpace:
    """A deep Markov model: gated transitions of networks (Krishnan et al. 2017); smoothing posterior by default.

    For filtering give ``veil.fit(..., posterior=veil.Sequential(net, veil.posterior.Past()))``.
    """
    return StateSpace(Gated(latent, width), head or DiagonalGaussian(), decoder or MLP())


@answering
def rssm(latent: Any = 30, head: Head | None = None, decoder: Any = None, memory: int = 200) -> StateSpace:
    """A recurrent state-space model: ``memory`` deterministic numbers and a stochastic latent (Hafner et al. 2019).

    ``latent``: dimensions of a normal, or ``priors.Codes(32, 32)`` (Hafner et al. 2021). It filters, so it can act.
    Free nats and KL balance are the objective's: ``ELBO(kl=(Balanced(0.8), FreeNats(1.0)))``.
    """
    return StateSpace(Recurrent(latent, memory, MLP((memory,), "elu")), head or DiagonalGaussian(), decoder or MLP())


@answering
def vrnn(latent: Any = 16, head: Head | None = None, decoder: Any = None, memory: int = 128) -> StateSpace:
    """A variational recurrent network: the memory sees the observations too (Chung et al. 2015)."""
    net, reader = MLP((memory,), "elu"), MLP((memory,), "elu")
    dynamics = Recurrent(latent, memory, net, observes=True, reader=reader)
    return StateSpace(dynamics, head or DiagonalGaussian(), decoder or MLP())
