"""Posteriors over the path of a sequence: networks that read it, step by step or as messages to an exact smoother."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution, Reparameterised, StepDraws
from veil.maths import kalman, markov
from veil.model import Datum, Model
from veil.model.chains import Chain, Conditionals, GaussianChain, NeuralChain, Normals, Path, State
from veil.parts.dynamics import LinearDynamics
from veil.parts.heads import Head
from veil.parts.nets import GRU, MLP, Dense
from veil.posterior.amortized import Reader
from veil.posterior.base import Posterior
from veil.units import Units


class Summary(eqx.Module):
    """What step t of a posterior sees of the sequence's features [T, F]: a strategy of ``Sequential``."""

    online: ClassVar[bool] = True  # whether it needs no step after t

    @abstractmethod
    def initialise(self, inputs: int, key: PRNGKeyArray) -> Self:
        """With starting parameters, for so many features."""

    @abstractmethod
    def outputs(self, inputs: int) -> int:
        """How many numbers it tells each step."""

    @abstractmethod
    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T S"]:
        """What every step is told; ``before``: see ``init``, where the first step does not start an episode."""

    def init(self) -> Float[Array, " B"]:
        """What it remembers before the first step."""
        return jnp.zeros(0)

    def ended(self, told: Float[Array, "T S"]) -> Float[Array, " B"]:
        """What it remembers after the last step."""
        return jnp.zeros(0)

    def step(self, before: Float[Array, " S"], features: Float[Array, " F"]) -> tuple[Array, Array]:
        """(what the next step gets as ``before``, what this step is told)."""
        raise ValueError(
            f"sees: {type(self).__name__}() needs the steps that are to come, so that it cannot act one step at a "
            "time; fit the model with Sequential(sees=Now()) or Past()"
        )


class Now(Summary):
    """The step's own features: enough where the memory holds the past, as in the recurrent state-space model."""

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Now":
        return self

    def outputs(self, inputs: int) -> int:
        return inputs

    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T F"]:
        return features

    def step(self, before: Float[Array, " S"], features: Float[Array, " F"]) -> tuple[Array, Array]:
        return before, features


class Past(Summary):
    """A recurrent network over the steps up to t: filtering (ST-L of Krishnan et al. 2017, table 1)."""

    size: int = eqx.field(static=True, default=128)
    cell: GRU | None = None

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Past":
        return Past(self.size, GRU(self.size).initialise(inputs, key))

    def outputs(self, inputs: int) -> int:
        return self.size

    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T S"]:
        return _recurrent(self.cell, features, starts, there, before)

    def init(self) -> Float[Array, " B"]:
        return jnp.zeros(self.size)

    def ended(self, told: Float[Array, "T S"]) -> Float[Array, " B"]:
        return told[-1]

    def step(self, before: Float[Array, " S"], features: Float[Array, " F"]) -> tuple[Array, Array]:
        assert self.cell is not None
        after = self.cell(before, self.cell.read(features))
        return after, after


class Future(Summary):
    """A recurrent network over the steps from the end back to t. With z_t-1 seen (``structured``) that is all of

    the data that p(z_t | z_t-1, y) depends on: smoothing (ST-R of Krishnan et al. 2017, section 4).
    """

    online: ClassVar[bool] = False
    size: int = eqx.field(static=True, default=128)
    cell: GRU | None = None

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Future":
        return Future(self.size, GRU(self.size).initialise(inputs, key))

    def outputs(self, inputs: int) -> int:
        return self.size

    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T S"]:
        return _recurrent(self.cell, features, starts, there, reverse=True)


class Both(Summary):
    """Networks over the steps before and after t (ST-LR; without ``structured``, MF-LR)."""

    online: ClassVar[bool] = False
    size: int = eqx.field(static=True, default=128)
    past: Past | None = None
    future: Future | None = None

    def initialise(self, inputs: int, key: PRNGKeyArray) -> "Both":
        key_past, key_future = jax.random.split(key)
        past, future = Past(self.size).initialise(inputs, key_past), Future(self.size).initialise(inputs, key_future)
        return Both(self.size, past, future)

    def outputs(self, inputs: int) -> int:
        return 2 * self.size

    def __call__(
        self,
        features: Float[Array, "T F"],
        starts: Bool[Array, " T"],
        there: Bool[Array, " T"],
        before: Float[Array, " B"] | None = None,
    ) -> Float[Array, "T S"]:
        assert self.past is not None
        assert self.future is not None
        parts = [self.past(features, starts, there, before), self.future(features, starts, there)]
        return jnp.concatenate(parts, 1)

    def init(self) -> Float[Array, " B"]:
        return jnp.zeros(self.size)

    def ended(self, told: Float[Array, "T S"]) -> Float[Array, " B"]:
        return told[-1, : self.size]


def _recurrent(
    cell: GRU | None,
    features: Float[Array, "T F"],
    starts: Array,
    there: Array,
    before: Array | None = None,
    reverse: bool = False,
) -> Float[Array, "T S"]:
    """The states of a recurrent network, which starts anew with each episode; padding is behind and is not read."""
    assert cell is not None
    fresh = jnp.concatenate([starts[1:], jnp.ones(1, bool)]) if reverse else starts
    begin = jnp.zeros(cell.size, features.dtype) if before is None else before
    return cell.along(begin, jax.vmap(cell.read)(features), fresh, there, reverse)


class Step(eqx.Module):
    """q(z_t | memory, features) = head(W net([memory, features])); without ``structured`` the memory is not seen."""

    head: Head
    shape: tuple[int, ...] = eqx.field(static=True)
    structured: bool = eqx.field(static=True)
    net: MLP
    output: Dense

    def __call__(self, memory: Float[Array, " M"], features: Float[Array, " F"]) -> Distribution:
        seen = jnp.concatenate([memory, features]) if self.structured else features
        return self.head(self.output(self.net(seen)), self.shape)


class Belief(eqx.Module):
    """What is known while acting, one draw of it: ``state`` after a step, the ``summary`` of the data so far.

    ``mean`` is that of q(z_t | z_1..t-1, y_1..t); ``fresh`` before the first step of an episode.
    """

    state: State
    summary: Float[Array, " S"]
    mean: Float[Array, "*latent"]
    fresh: Bool[Array, ""]


class Sequential(Posterior):
    """q(z_1..T | y, x) = Π_t head(W net([memory_t, features_t])): networks that read a sequence for a ``StateSpace``.

    ``net`` encodes each step's observation (an image net for images), all steps side by side; ``sees`` says which
    steps t is told of: ``Now()``, ``Past()``, ``Future()``, ``Both()``. ``structured``: whether it sees what the model
    remembers at t, z_t-1 among it; without, q is mean-field over time. Now and Past are filtering posteriors and can
    act: ``init`` and ``update``.

    With dynamics that remember (``Recurrent``) and ``Now`` it is the recurrent state-space model's posterior; with
    ``Gated`` dynamics, ``Future`` and ``structured`` the deep Kalman smoother's (Krishnan et al. 2017, table 1).
    """

    net: Any = MLP()
    sees: Any = Now()  # a Summary
    structured: bool = eqx.field(static=True, default=True)
    combiner: MLP = MLP((128,), "elu")
    reader: Reader = Reader()
    one: Step | None = None

    def __check_init__(self) -> None:
        if not isinstance(self.sees, Summary):
            raise TypeError(f"sees: expected Now(), Past(), Future() or Both(); got {self.sees!r}")

    @property
    def online(self) -> bool:
        """Whether it filters."""
        return bool(self.sees.online)

    @property
    def ready(self) -> bool:
        return self.one is not None

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "Sequential":
        _state_space(model)
        key_net, key_sees, key_one, key_output = jax.random.split(key, 4)
        reader = Reader.of(example)
        inputs = jax.eval_shape(lambda: jax.vmap(reader)(_steps(example))).shape[1]
        net = self.net.initialise(inputs, key_net)
        width = net.outputs(inputs)
        sees = self.sees.initialise(width, key_sees)
        dynamics = model.dynamics
        memory = dynamics.start().memory.size if self.structured else 0
        told = memory + sees.outputs(width)
        combiner = self.combiner.initialise(told, key_one)
        output = Dense.initialise(combiner.outputs(told), dynamics.head.size(dynamics.shape), key_output)
        one = Step(dynamics.head, dynamics.shape, self.structured, combiner, output)
        return Sequential(net, sees, self.structured, self.combiner, reader, one)

    def rescaled(self, query: Units | None, evidence: Units | None) -> "Sequential":
        return replace(self, reader=self.reader.rescaled(query, evidence))

    def encoded(self, datum: Datum) -> Float[Array, "T F"]:
        """The features of every step, all at once."""
        return jax.vmap(lambda step: self.net(self.reader(step)))(_steps(datum))

    def __call__(self, model: Any, datum: Datum) -> NeuralChain:
        return model.chain(self._ready(), self.step_proposals(model, datum), datum)

    def _ready(self) -> Step:
        if self.one is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        return self.one

    def init(self, model: Any) -> Belief:
        """The belief before anything is seen."""
        start = model.dynamics.start()
        return Belief(start, self.sees.init(), jnp.zeros(model.dynamics.shape), jnp.array(True))

    def step_proposals(self, model: Any, datum: Datum) -> Float[Array, "T S"]:
        """What every step is told: see ``veil.model.stepwise``."""
        starts, there = markov.steps(len(datum.query), datum.mask, datum.reset, fresh(datum))
        before = None if datum.begin is None else datum.begin.summary
        return self.sees(self.encoded(datum), starts, there, before)

    def ended(self, model: Any, datum: Datum, key: PRNGKeyArray) -> Belief:
        """The belief after the last step of a sequence, z drawn from q: what the ``begin`` of the next window is."""
        told = self.step_proposals(model, datum)
        chain = model.chain(self._ready(), told, datum)
        path = chain.sample(key)
        state = chain.ended(path)
        last = jnp.max(jnp.where(chain.there, jnp.arange(len(told)), 0))
        mean = distributions.moments(self._ready()(state.memory, told[last]))[0]
        return Belief(state, self.sees.ended(told), mean, jnp.array(False))

    def step(self, model: Any, features: Float[Array, " S"], carry: State, datum: Datum) -> Distribution:
        """q(z_t | past, features): the proposal of a particle filter."""
        return self._ready()(model.dynamics.recall(carry, datum.evidence), features)

    def update(self, model: Any, belief: Belief, datum: Datum, key: PRNGKeyArray) -> Belief:
        """The belief after one more step: ``datum`` is that step, query [...], evidence [P]; ``reset`` a single bool.

        z_t is drawn from q: several beliefs, from several keys, are draws of the filtering distribution.

        Raises ValueError if the posterior needs steps that are to come.
        """
        fresh = belief.fresh if datum.reset is None else belief.fresh | datum.reset
        choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(fresh, a, b), new, old)  # noqa: E731
        before, summary = choose((model.dynamics.start(), self.sees.init()), (belief.state, belief.summary))
        summary, told = self.sees.step(summary, self.net(self.reader(datum)))
        memory = model.dynamics.recall(before, datum.evidence)
        q = self._ready()(memory, told)
        state = State(memory, q.sample(key), model.dynamics.seen(datum.query))
        return Belief(state, summary, distributions.moments(q)[0], jnp.array(False))


class MessagePassing(Posterior):
    """q(z_1..T | y, x) ∝ p(z | x) Π_t N(z_t; m(y_t), diag s(y_t)²): a network's guesses, joined by the exact smoother.

    The prior's linear-Gaussian dynamics carry the messages, so that every z_t sees all of the sequence, in both
    directions, without another network, and a step without data gets none. For ``StateSpace(LinearDynamics(...))``.
    Johnson et al. 2016, section 4; Fraccaro et al. 2017. ``net`` encodes the observation of one step.
    """

    net: Any = MLP()
    reader: Reader = Reader()
    output: Dense | None = None

    @property
    def ready(self) -> bool:
        return self.output is not None

    def initialise(self, model: Any, example: Datum, count: int, key: PRNGKeyArray) -> "MessagePassing":
        _state_space(model)
        if not isinstance(model.dynamics, LinearDynamics):
            raise TypeError(
                f"posterior: MessagePassing needs LinearDynamics; these are {type(model.dynamics).__name__}: "
                "use Sequential()"
            )
        key_net, key_output = jax.random.split(key)
        reader = Reader.of(example)
        inputs = jax.eval_shape(lambda: jax.vmap(reader)(_steps(example))).shape[1]
        net = self.net.initialise(inputs, key_net)
        output = Dense.initialise(net.outputs(inputs), 2 * model.dynamics.shape[0], key_output)
        return MessagePassing(net, reader, output)

    def rescaled(self, query: Units | None, evidence: Units | None) -> "MessagePassing":
        return replace(self, reader=self.reader.rescaled(query, evidence))

    def messages(self, datum: Datum) -> tuple[Float[Array, "T L"], Float[Array, "T L"]]:
        """m(y_t) and 1 / s(y_t) of every step, which is zero where nothing was observed."""
        if self.output is None:
            raise ValueError("this posterior has no parameters yet: call veil.fit on the model first")
        net, output = self.net, self.output
        numbers = jax.vmap(lambda step: output(net(self.reader(step))))(_steps(datum))
        mean, log_precision = jnp.split(numbers, 2, axis=1)
        precision = jax.nn.softplus(log_precision)
        if datum.observed is not None:
            some = jnp.any(datum.observed.reshape(len(precision), -1), 1)
            precision = jnp.where(some[:, None], precision, 0.0)
        return mean, precision

    def __call__(self, model: Any, datum: Datum) -> "Messages":
        dynamics = model.dynamics
        transition, scale, mean, first = dynamics.parts()
        count = len(datum.query)
        pushed = (
            jnp.broadcast_to(dynamics.pushed(None), (count, mean.size))
            if datum.evidence is None
            else jax.vmap(dynamics.pushed)(datum.evidence)
        )
        chain = kalman.LinearSystem(mean, jnp.diag(first**2), transition, pushed, jnp.diag(scale**2))
        guess, precision = self.messages(datum)
        rows = jnp.eye(mean.size, dtype=mean.dtype)[None] * precision[:, :, None]
        starts, there = markov.steps(count, datum.mask, datum.reset)
        found = kalman.filtered(chain, guess * precision, rows, starts, there)
        smooth = kalman.smoothed(found, starts, there)
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


def fresh(datum: Datum) -> Bool[Array, ""] | None:
    """Whether a window's first step starts an episode, without a reset; None: it does."""
    return None if datum.begin is None else datum.begin.fresh


def _steps(datum: Datum) -> Datum:
    """The fields of a sequence that have an axis of steps, as what each step's reader sees."""
    return Datum(datum.query, datum.evidence, observed=datum.observed)


def _state_space(model: Model) -> None:
    if not hasattr(model, "dynamics"):
        raise TypeError(f"posterior: this one is for veil.StateSpace models; this model is {type(model).__name__}")
