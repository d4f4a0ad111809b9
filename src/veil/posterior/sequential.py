"""Posteriors over the path of a sequence: networks that read it, step by step."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum
from veil.model.abilities import parameter
from veil.model.chains import NeuralChain, State
from veil.model.datum import led
from veil.model.filter import Belief, Filter, Marginal, known, started_anew
from veil.model.stepwise import where
from veil.parts.dynamics import Dynamics, neural_chain
from veil.parts.heads import Head
from veil.parts.nets import MLP, Dense
from veil.posterior.amortized import Reader, part
from veil.posterior.base import Continuing, Learned, Online, Proposal
from veil.posterior.summaries import Now, Summary


class Sequential(Learned, Proposal, Online, Continuing):
    """q(z_1..T | y, x) = Π_t head(W net([memory_t, features_t])): networks that read a sequence for a ``StateSpace``.

    ``net`` encodes each step's observation (an image net for images), all steps side by side; ``sees`` says which
    steps t is told of: ``Now()``, ``Past()``, ``Future()``, ``Both()``. ``structured``: whether it sees what the model
    remembers at t, z_t-1 among it; without, q is mean-field over time. Now and Past are filtering posteriors and can
    act: ``filter``.

    With dynamics that remember (``Recurrent``) and ``Now`` it is the recurrent state-space model's posterior; with
    ``Gated`` dynamics, ``Future`` and ``structured`` the deep Kalman smoother's (Krishnan et al. 2017, table 1).
    """

    net: Any = MLP()
    sees: Any = Now()  # a Summary
    structured: bool = eqx.field(static=True, default=True)
    combiner: MLP = MLP((128,), "elu")
    reader: Reader = Reader()
    head: Head | None = parameter()
    shape: tuple[int, ...] | None = parameter(static=True)
    output: Dense | None = parameter()

    def __check_init__(self) -> None:
        if not isinstance(self.sees, Summary):
            raise TypeError(f"sees: expected Now(), Past(), Future() or Both(); got {self.sees!r}")

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "Sequential":
        dynamics = part(model, Dynamics)
        key_net, key_sees, key_one, key_output = jax.random.split(key, 4)
        reader = Reader.of(model, example, self.net)
        inputs = reader.sizes(jax.tree.map(lambda leaf: leaf[0], example.each_step()))
        net = self.net.initialise(inputs, key_net)
        width = net.outputs(inputs)
        sees = self.sees.initialise(width, key_sees)
        memory = dynamics.start().memory.size if self.structured else 0
        told = memory + sees.outputs(width)
        combiner = self.combiner.initialise(told, key_one)
        output = Dense.initialise(combiner.outputs(told), dynamics.head.size(dynamics.shape), key_output)
        return Sequential(net, sees, self.structured, combiner, reader, dynamics.head, dynamics.shape, output)

    def one(self, memory: Float[Array, " M"], features: Float[Array, " F"]) -> Distribution:
        """q(z_t | memory, features) = head(W net([memory, features])); without ``structured`` memory is not seen."""
        if self.head is None or self.shape is None or self.output is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        seen = jnp.concatenate([memory, features]) if self.structured else features
        return self.head(self.output(self.combiner(seen)), self.shape)

    def __call__(self, model: Any, datum: Datum) -> NeuralChain:
        return neural_chain(part(model, Dynamics), self.one, self.step_proposals(model, datum), datum)

    def step_proposals(self, model: Any, datum: Datum) -> Float[Array, "T S"]:
        """What every step is told: its features are encoded all at once."""
        features = jax.vmap(lambda step: self.net(self.reader(step)))(datum.led().each_step())
        before = None if datum.begin is None else datum.begin.state.summary
        return self.sees(features, datum.starts, datum.there, before)

    def step(self, model: Any, features: Float[Array, " S"], carry: State, datum: Datum) -> Distribution:
        """q(z_t | past, features): the proposal of a particle filter."""
        return self.one(part(model, Dynamics).recalled(carry, datum.evidence), features)

    def filter(self, model: Any) -> "NeuralFilter":
        """One step at a time: z_t is drawn from q. Raises ValueError if it sees the steps that are to come."""
        if not self.sees.online:
            raise ValueError(
                f"sees: {type(self.sees).__name__}() needs the steps that are to come, so that it cannot act one step "
                "at a time; fit the model with Sequential(sees=Now()) or Past()"
            )
        return NeuralFilter(part(model, Dynamics), self)

    def begin(self, model: Any) -> Belief:
        """The belief before an episode."""
        dynamics = part(model, Dynamics)
        return _belief(dynamics.begun(), self.sees.init(), jnp.zeros(dynamics.shape), jnp.array(True))

    def after(self, model: Any, datum: Datum, path: Any, step: Int[Array, ""]) -> Belief:
        """The belief after a step of a sequence, on a path."""
        told = self.step_proposals(model, datum)
        chain = neural_chain(part(model, Dynamics), self.one, told, datum)
        state = chain.after(path, step)
        mean = distributions.moments(self.one(state.memory, told[step]))[0]
        return _belief(state, self.sees.after(told, step), mean, jnp.array(False))


class Known(eqx.Module):
    """The state of a ``NeuralFilter``: a draw of the model's state, the ``summary`` of the data so far, and of

    q(z_t | z_1..t-1, y_1..t) the ``mean`` and ``variance``.
    """

    path: State
    summary: Float[Array, " S"]
    mean: Float[Array, "*latent"]
    variance: Float[Array, "*latent"]


def _belief(state: State, summary: Array, mean: Array, fresh: Bool[Array, ""]) -> Belief:
    return Belief(Known(state, summary, mean, jnp.zeros_like(mean)), fresh, jnp.full((), jnp.nan))


class NeuralFilter(Filter):
    """A network's filter: each belief holds one draw of the path; several, from several keys, are draws of q."""

    dynamics: Any
    posterior: Sequential

    def init(self) -> Belief:
        return self.posterior.begin(self.dynamics)

    def update(self, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        dynamics, q = self.dynamics, self.posterior
        fresh, there = started_anew(belief, datum)
        datum = replace(datum, evidence=led(datum.evidence, fresh))
        kept = belief.state
        before, summary = where(fresh, (dynamics.begun(), q.sees.init()), (kept.path, kept.summary))
        summary, told = q.sees.step(summary, q.net(q.reader(datum)))
        memory = dynamics.recalled(before, datum.evidence)
        one = q.one(memory, told)
        latent = one.sample(key).astype(before.latent.dtype)
        state = Known(
            State(memory, latent, dynamics.seen(datum.query, datum.observed)), summary, *distributions.moments(one)
        )
        return known(belief, state, jnp.full((), jnp.nan), fresh, there)

    def draw(self, belief: Belief, key: PRNGKeyArray) -> State:
        """The path's own state: the belief is a draw already."""
        return belief.state.path

    def marginal(self, belief: Belief) -> Marginal:
        return Marginal(None, belief.state.mean, belief.state.variance)
