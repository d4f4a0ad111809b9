"""Deep state-space models: a latent path whose steps are networks', seen through any head, images included."""

from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution, Moments
from veil.maths import markov
from veil.model import Datum, Model
from veil.model.chains import NeuralChain, Path, State, length
from veil.parts.dynamics import Dynamics, Gated, LinearDynamics, Recurrent
from veil.parts.experts import Linear
from veil.parts.heads import DiagonalGaussian, Head
from veil.parts.nets import MLP
from veil.posterior import Future, MessagePassing, Now, Posterior, Sequential
from veil.posterior.sequential import fresh
from veil.units import Units
from veil.zoo.emission import begun, emitted


class StateSpace(Model):
    """p(y, z | x) = Π_t p(z_t | past, x_t) p(y_t | z_t, past): ``dynamics`` of networks, and a decoder with any head.

    A datum is a sequence, query [T, ...], with evidence [T, P] (actions; x_t leads into z_t) or none. The dynamics make
    it a deep Markov model (``dynamics.Gated``; ``veil.dmm``), a recurrent state-space model (``dynamics.Recurrent``;
    ``veil.rssm``), a variational recurrent network (``veil.vrnn``), a linear path under neural observations
    (``dynamics.LinearDynamics``) or a locally linear one for planners (``dynamics.LocallyLinear``). ``decoder`` and
    ``head`` are as in ``VAE``: p(y_t | ·) = head(W [1, decoder(·)]), and run on all steps at once. Padding, resets,
    missing steps and missing entries are honoured; a variational recurrent network reads a missing entry as the
    data's centre.

    The path cannot be integrated out: ``veil.fit`` maximises the ELBO with the posterior that suits the dynamics,
    ``veil.evaluate`` reports bounds.

    >>> import jax, veil
    >>> data = veil.data.episodes([[[0.0], [1.0], [0.0], [1.0]], [[1.0], [0.0], [1.0]]])
    >>> result = veil.fit(veil.dmm(latent=2), data, key=jax.random.key(0), steps=20)
    >>> veil.sample(result.model, 3, key=jax.random.key(1), steps=5).query.shape
    (3, 5, 1)
    """

    tractable: ClassVar[bool] = False
    standardised: ClassVar[bool] = True
    sequential: ClassVar[bool] = True
    dynamics: Any = Gated()  # a Dynamics
    head: Head = DiagonalGaussian()
    decoder: Any = MLP()
    output: Linear | None = None
    inputs: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not isinstance(self.dynamics, Dynamics):
            raise TypeError(f"dynamics: expected one of veil.dynamics, such as Recurrent(); got {self.dynamics!r}")

    @property
    def latent(self) -> Any:
        """The family of one latent: what gradient estimators ask."""
        return self.dynamics.latent

    @property
    def ready(self) -> bool:
        return self.output is not None

    @property
    def query_shape(self) -> tuple[int, ...] | None:
        """The shape of one step's query, None before a fit."""
        return None if self.output is None else self.output.shape

    @property
    def usual_posterior(self) -> Posterior:
        """What ``veil.fit`` trains with it: the decoder's mirror image as encoder, and what suits the dynamics."""
        net = self.decoder.mirrored()
        if isinstance(self.dynamics, LinearDynamics):
            return MessagePassing(net)
        return Sequential(net, Now() if isinstance(self.dynamics, Recurrent) else Future())

    def chain(self, one: Any, features: Float[Array, "T F"], datum: Datum) -> NeuralChain:
        """Steps ``one(memory, features)`` with this model's memory over the steps of a datum."""
        starts, there = markov.steps(len(datum.query), datum.mask, datum.reset, fresh(datum))
        query = datum.query if datum.observed is None else jnp.where(datum.observed, datum.query, self._centre()[None])
        seen, dynamics = jax.vmap(self.dynamics.seen)(query), self.dynamics
        return NeuralChain(
            recall=dynamics.recall,
            one=one,
            start=dynamics.start(),
            begin=dynamics.start() if datum.begin is None else datum.begin.state,
            evidence=datum.evidence,
            seen=seen,
            features=features,
            starts=starts,
            there=there,
        )

    def _centre(self) -> Array:
        units = getattr(self.dynamics, "query", None)
        return jnp.zeros((1,) * len(self.query_shape or ())) if units is None else jnp.asarray(units.shift)

    def prior(self, evidence: Float[Array, "*evidence"] | None, steps: int | None = None) -> NeuralChain:
        """p(z_1..T | x): a chain of as many steps as the evidence has, or ``steps``."""
        if self.dynamics.autoregressive:
            raise TypeError("prior: these dynamics see observations, so that there is one for each datum: prior_for()")
        return self.prior_for(Datum(jnp.zeros((length(evidence, steps), *(self.query_shape or ()))), evidence))

    def prior_for(self, datum: Datum) -> NeuralChain:
        """p(z | x) over the steps of a datum, with its resets and padding (and what it shows, if they see it)."""
        return self.chain(self.dynamics.prior, jnp.zeros((len(datum.query), 0)), datum)

    def emission(self, memory: Float[Array, " M"], latent: Float[Array, "*latent"]) -> Distribution:
        """p(y_t | z_t, memory_t)."""
        return emitted(self.output, self.decoder, self.dynamics.shown(memory, latent))

    def likelihood(self, latent: Path, evidence: Float[Array, "*evidence"] | None) -> "Emitted":
        return Emitted(self, latent)

    def log_likelihoods(self, latent: Path, datum: Datum) -> Float[Array, " T"]:
        """log p(y_t | z_t, past) of every step, nats: zero at padding, of missing entries nothing."""

        def one(memory: Array, z: Array, query: Array, observed: Array | None) -> Float[Array, ""]:
            return distributions.log_prob(self.emission(memory, z), query, observed)

        _, there = markov.steps(len(datum.query), datum.mask, datum.reset)
        axes = (0, 0, 0, None if datum.observed is None else 0)
        return jnp.where(there, jax.vmap(one, axes)(latent.memory, latent.latent, datum.query, datum.observed), 0.0)

    def log_likelihood(self, latent: Path, datum: Datum) -> Float[Array, ""]:
        """Σ_t log p(y_t | z_t, past), nats, over the steps that are there and the entries that are present."""
        return jnp.sum(self.log_likelihoods(latent, datum))

    # -- one step at a time: see ``veil.model.stepwise`` ---------------------------------------------------------------

    def carry(self, evidence: Float[Array, "T *P"] | None) -> State:
        """What the first step of an episode has before it."""
        return self.dynamics.start()

    def advance(
        self,
        carry: State,
        latent: Array,
        query: Float[Array, "*event"],
        evidence: Float[Array, "*P"] | None,
        observed: Bool[Array, "*event"] | None,
    ) -> State:
        """What a step leaves to the next."""
        query = query if observed is None else jnp.where(observed, query, self._centre())
        return State(self.dynamics.recall(carry, evidence), latent, self.dynamics.seen(query))

    def step_prior(self, carry: State, evidence: Float[Array, "*P"] | None) -> Distribution:
        """p(z_t | past, x_t)."""
        return self.dynamics.prior(self.dynamics.recall(carry, evidence), jnp.zeros(0))

    def step_likelihood(self, carry: State, latent: Array, evidence: Float[Array, "*P"] | None) -> Distribution:
        """p(y_t | z_t, past, x_t)."""
        return self.emission(self.dynamics.recall(carry, evidence), latent)

    # -- draws and learning --------------------------------------------------------------------------------------------

    def ahead(
        self, state: State, evidence: Float[Array, "H *P"] | None, steps: int, key: PRNGKeyArray
    ) -> tuple[Path, Float[Array, "H *event"]]:
        """A draw of the future after a state, open loop: path and observations of so many steps."""

        def step(before: State, now: tuple[Any, ...]) -> tuple[State, tuple[Array, ...]]:
            key, evidence = now
            key_latent, key_query = jax.random.split(key)
            memory = self.dynamics.recall(before, evidence)
            latent = self.dynamics.prior(memory, jnp.zeros(0)).sample(key_latent).astype(before.latent.dtype)
            if not self.dynamics.autoregressive:
                return State(memory, latent, self.dynamics.seen(jnp.zeros(0))), (latent, memory)
            query = self.emission(memory, latent).sample(key_query).astype(jnp.result_type(float))
            return State(memory, latent, self.dynamics.seen(query)), (latent, memory, query)

        key_path, key_query = jax.random.split(key)
        latent, memory, *query = jax.lax.scan(step, state, (jax.random.split(key_path, steps), evidence))[1]
        path = Path(latent, memory)
        return path, query[0] if query else Emitted(self, path).sample(key_query)

    def sample(
        self, key: PRNGKeyArray, evidence: Float[Array, "*evidence"] | None = None, steps: int | None = None
    ) -> tuple[Path, Array]:
        """(path, y [T, ...]) drawn from the model, as long as the evidence, or ``steps``."""
        return self.ahead(self.dynamics.start(), evidence, length(evidence, steps), key)

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "StateSpace":
        """Random networks; the likelihood's constant part starts at the data's average."""
        key_dynamics, *keys = jax.random.split(key, 3)
        count, steps = data.query.shape[:2]
        flat = lambda array: None if array is None else array.reshape(count * steps, *array.shape[2:])  # noqa: E731
        inputs = 0 if data.evidence is None else int(np.prod(data.evidence.shape[2:]))
        query: Any = flat(data.query)
        dynamics = self.dynamics.initialise(inputs, int(np.prod(query.shape[1:])), key_dynamics)
        start = dynamics.start()
        shown = dynamics.shown(start.memory, start.latent).size
        weight = jnp.ones(count) if data.weight is None else data.weight
        there = jnp.ones((count, steps)) if data.mask is None else data.mask.astype(weight.dtype)
        weights = (weight[:, None] * there).ravel()
        decoder, output = begun(self.head, self.decoder, shown, query, flat(data.observed), weights, *keys)
        return StateSpace(dynamics, output.head, decoder, output, inputs)

    def rescaled(self, query: Units, evidence: Units | None) -> "StateSpace":
        """The same model in the user's units."""
        assert self.output is not None
        output = self.output.rescaled(query, None)
        dynamics = self.dynamics.rescaled(query if self.real else None, evidence)
        return replace(self, dynamics=dynamics, head=output.head, output=output)

    def parameters(self) -> int:
        """How many numbers are free: those of the dynamics and of the decoder (the posterior's are not the model's)."""
        assert self.output is not None
        parts = eqx.filter((self.dynamics, self.decoder), eqx.is_inexact_array)
        units = eqx.filter([getattr(self.dynamics, name, None) for name in ("query", "units")], eqx.is_inexact_array)
        sizes = [sum(leaf.size for leaf in jax.tree.leaves(each)) for each in (parts, units)]
        return sizes[0] - sizes[1] + self.output.parameters()


class Emitted(Distribution, Moments):
    """p(y_1..T | path): independent steps given the path."""

    model: StateSpace
    path: Path

    def _each(self, function: Any, *rest: Array) -> Array:
        emission = self.model.emission
        one = lambda memory, z, *more: function(emission(memory, z), *more)  # noqa: E731
        return jax.vmap(one)(self.path.memory, self.path.latent, *rest)

    @property
    def mean(self) -> Float[Array, "T *event"]:
        """E[y_t | z_t, past] of every step."""
        return self._each(lambda step: distributions.moments(step)[0])

    @property
    def variance(self) -> Float[Array, "T *event"]:
        """Var[y_t | z_t, past] of every step."""
        return self._each(lambda step: distributions.moments(step)[1])

    def sample(self, key: PRNGKeyArray) -> Float[Array, "T *event"]:
        draws = self._each(lambda step, key: step.sample(key), jax.random.split(key, len(self.path)))
        return draws.astype(jnp.result_type(float))

    def log_prob(self, query: Float[Array, "T *event"]) -> Float[Array, ""]:
        return jnp.sum(self._each(lambda step, query: distributions.log_prob(step, query), query))


def dmm(latent: Any = 16, head: Head | None = None, decoder: Any = None, width: int = 64) -> StateSpace:
    """A deep Markov model: gated transitions of networks (Krishnan et al. 2017); smoothing posterior by default.

    For filtering give ``veil.fit(..., posterior=veil.Sequential(net, veil.Past()))``.
    """
    return StateSpace(Gated(latent, width), head or DiagonalGaussian(), decoder or MLP())


def rssm(latent: Any = 30, head: Head | None = None, decoder: Any = None, memory: int = 200) -> StateSpace:
    """A recurrent state-space model: ``memory`` deterministic numbers and a stochastic latent (Hafner et al. 2019).

    ``latent``: dimensions of a normal, or ``priors.Codes(32, 32)`` (Hafner et al. 2021). It filters, so it can act.
    Free nats and KL balance are the objective's: ``ELBO(kl=(Balanced(0.8), FreeNats(1.0)))``.
    """
    return StateSpace(Recurrent(latent, memory, MLP((memory,), "elu")), head or DiagonalGaussian(), decoder or MLP())


def vrnn(latent: Any = 16, head: Head | None = None, decoder: Any = None, memory: int = 128) -> StateSpace:
    """A variational recurrent network: the memory sees the observations too (Chung et al. 2015)."""
    net, reader = MLP((memory,), "elu"), MLP((memory,), "elu")
    dynamics = Recurrent(latent, memory, net, observes=True, reader=reader)
    return StateSpace(dynamics, head or DiagonalGaussian(), decoder or MLP())
