"""Dynamics: what a step of a deep state-space model remembers of the past, and what that says of its latent.

A strategy of ``veil.StateSpace``. Each step forms a memory from what the step before left (a ``chains.State``) and from
the evidence x_t that leads into it (an action), and p(z_t | memory). No action led to the first step of an episode, so
what stands there in its place is not read: dynamics see zeros.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum
from veil.model.abilities import parameter
from veil.model.chains import NeuralChain, State
from veil.model.datum import led
from veil.parts.heads import Head, OneHot, SoftplusGaussian, viewed
from veil.parts.nets import GRU, MLP, Dense, Identity, flat, positive
from veil.parts.priors import FLOOR, Codes, StandardNormal, as_prior

TURN = 0.5  # radians or so a step, at first
SPREAD = 0.1  # smallest scale of a step of networks, its latent being about one: DreamerV1's, against collapse


class Dynamics(eqx.Module):
    """p(z_t | past): ``start`` of an episode, ``recall`` the memory of a step, ``prior`` of its latent.

    ``latent``: ``priors.StandardNormal(L)`` (or a number L) for normals of L dimensions, ``priors.Codes`` for codes;
    only its shape and family count, since each step's parameters follow from the memory.
    """

    latent: eqx.AbstractVar[Any]

    @property
    def autoregressive(self) -> bool:
        """Whether steps remember what was observed, not only latents."""
        return False

    @abstractmethod
    def initialise(self, inputs: int, query: int, key: PRNGKeyArray) -> Self:
        """With starting parameters, for so many evidence columns and query entries of a step."""

    @abstractmethod
    def start(self) -> State:
        """What the first step of an episode has before it."""

    @abstractmethod
    def recall(self, before: State, evidence: Any) -> Float[Array, " M"]:
        """The memory of a step."""

    @abstractmethod
    def prior(self, memory: Float[Array, " M"], features: Float[Array, " F"]) -> Distribution:
        """p(z_t | memory); there are no features."""

    def begun(self) -> State:
        """``start``, marked as such."""
        return replace(self.start(), fresh=jnp.array(True))

    def recalled(self, before: State, evidence: Any) -> Float[Array, " M"]:
        """``recall``, of zeros in the place of evidence at the first step of an episode."""
        return self.recall(before, led(evidence, before.fresh))

    def shown(self, memory: Float[Array, " M"], latent: Array) -> Float[Array, " D"]:
        """What the decoder sees of a step: its latent."""
        return latent.ravel()

    def seen(self, query: Any, observed: Any) -> Float[Array, " S"]:
        """What later steps remember of an observation: nothing."""
        return jnp.zeros(0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        kind = self.latent
        return (kind.count, kind.categories) if isinstance(kind, Codes) else (kind.dimensions,)

    @property
    def head(self) -> Head:
        """The family of one latent."""
        return OneHot() if isinstance(self.latent, Codes) else SoftplusGaussian(SPREAD)


def _given(evidence: Any) -> Float[Array, " P"]:
    return jnp.zeros(0) if evidence is None else flat(evidence)


def _kind(value: Any) -> Any:
    kind = as_prior(value)
    if type(kind) not in (StandardNormal, Codes):
        raise TypeError(f"latent: expected a number of dimensions or veil.priors.Codes; got {value!r}")
    return kind


def _normals(value: Any) -> Any:
    kind = _kind(value)
    if isinstance(kind, Codes):
        raise TypeError(f"latent: these dynamics have real-valued latents, a number of dimensions; got {value!r}")
    return kind


_UNREADY = "this model has no parameters yet: call veil.fit on it first"


class Gated(Dynamics):
    """p(z_t | z_t-1, x_t) = N((1 - g) ⊙ (W z + b) + g ⊙ h, s²), with g, h and s of networks of [z_t-1, x_t].

    The deep Markov model's, whose linear part starts as the identity. Krishnan et al. 2017, section 5. The first step
    has a learned z_0 before it.
    """

    latent: Any = eqx.field(default=StandardNormal(16), converter=_normals)
    width: int = eqx.field(static=True, default=64)
    first: Float[Array, " L"] | None = parameter()
    gate: tuple[Dense, Dense] | None = parameter()
    move: tuple[Dense, Dense] | None = parameter()
    line: Dense | None = parameter()
    spread: Dense | None = parameter()

    def __check_init__(self) -> None:
        positive("width", self.width)

    def initialise(self, inputs: int, query: int, key: PRNGKeyArray) -> "Gated":
        size = self.shape[0]
        keys = jax.random.split(key, 6)
        pair = lambda one, two: (  # noqa: E731
            Dense.initialise(size + inputs, self.width, one),
            Dense.initialise(self.width, size, two),
        )
        line = Dense.initialise(size + inputs, size, keys[4])
        line = Dense(line.weight.at[:, :size].set(jnp.eye(size)), line.bias)
        spread = Dense.initialise(size, size, keys[5])
        gate, move = pair(keys[0], keys[1]), pair(keys[2], keys[3])
        return Gated(self.latent, self.width, jnp.zeros(size), gate, move, line, spread)

    def start(self) -> State:
        if self.first is None or self.line is None:
            raise ValueError(_UNREADY)
        return State(jnp.zeros(self.line.weight.shape[1]), self.first, jnp.zeros(0))

    def recall(self, before: State, evidence: Any) -> Float[Array, " M"]:
        return jnp.concatenate([before.latent, _given(evidence)])

    def prior(self, memory: Float[Array, " M"], features: Float[Array, " F"]) -> Distribution:
        if self.gate is None or self.move is None or self.line is None or self.spread is None:
            raise ValueError(_UNREADY)
        gate = jax.nn.sigmoid(self.gate[1](jax.nn.relu(self.gate[0](memory))))
        moved = self.move[1](jax.nn.relu(self.move[0](memory)))
        mean = (1.0 - gate) * self.line(memory) + gate * moved
        return distributions.normal(mean, jax.nn.softplus(self.spread(jax.nn.relu(moved))) + FLOOR)


class Recurrent(Dynamics):
    """h_t = GRU(h_t-1, [z_t-1, x_t]), p(z_t | h_t) = head(MLP(h_t)), and the decoder sees [h_t, z_t].

    The recurrent state-space model (Hafner et al. 2019, section 3): ``memory`` numbers are deterministic. With
    ``observes`` the recurrence also sees y_t-1, through a network ``reader``: the variational recurrent network (Chung
    et al. 2015, eqs. 5-9), whose likelihood of a step is given the observations before it.
    """

    latent: Any = eqx.field(default=StandardNormal(30), converter=_kind)
    memory: int = eqx.field(static=True, default=200)
    net: Any = MLP((200,), "elu")
    observes: bool = eqx.field(static=True, default=False)
    reader: Any = MLP((128,), "elu")
    view: Any = None
    joined: Dense | None = parameter()
    cell: GRU | None = parameter()
    output: Dense | None = parameter()

    def __check_init__(self) -> None:
        positive("memory", self.memory)

    @property
    def autoregressive(self) -> bool:
        return self.observes

    def initialise(self, inputs: int, query: int, key: PRNGKeyArray) -> "Recurrent":
        keys = jax.random.split(key, 5)
        reader = self.reader.initialise(query, keys[0]) if self.observes else Identity()
        seen = reader.outputs(query) if self.observes else 0
        joined = Dense.initialise(self._size() + inputs + seen, self.memory, keys[1])
        net = self.net.initialise(self.memory, keys[2])
        output = Dense.initialise(net.outputs(self.memory), self.head.size(self.shape), keys[3])
        cell = GRU(self.memory).initialise(self.memory, keys[4])
        return replace(self, net=net, reader=reader, joined=joined, cell=cell, output=output)

    def _size(self) -> int:
        size = 1
        for part in self.shape:
            size *= part
        return size

    def start(self) -> State:
        seen = jnp.zeros(self.reader.outputs(0) if self.observes else 0)
        return State(jnp.zeros(self.memory), jnp.zeros(self.shape), seen)

    def recall(self, before: State, evidence: Any) -> Float[Array, " M"]:
        if self.joined is None or self.cell is None:
            raise ValueError(_UNREADY)
        inputs = jnp.concatenate([before.latent.ravel(), _given(evidence), before.seen])
        return self.cell(before.memory, self.cell.read(jax.nn.elu(self.joined(inputs))))

    def prior(self, memory: Float[Array, " M"], features: Float[Array, " F"]) -> Distribution:
        if self.output is None:
            raise ValueError(_UNREADY)
        return self.head(self.output(self.net(memory)), self.shape)

    def shown(self, memory: Float[Array, " M"], latent: Array) -> Float[Array, " D"]:
        return jnp.concatenate([memory, latent.ravel()])

    def seen(self, query: Any, observed: Any) -> Float[Array, " S"]:
        return self.reader(flat(viewed(self.view, query, observed))) if self.observes else jnp.zeros(0)


class LinearDynamics(Dynamics):
    """z_t = F z_t-1 + B [1, x_t] + N(0, diag q²), and z ~ N(m, diag p²) AT the first step of an episode.

    Under neural observations (Johnson et al. 2016; Fraccaro et al. 2017) its posterior is best passed as messages:
    ``posterior.MessagePassing``. Diagonal covariances lose nothing: the latent's basis is free.
    """

    latent: Any = eqx.field(default=StandardNormal(8), converter=_normals)
    transition: Float[Array, "L L"] | None = parameter()
    drift: Dense | None = parameter()
    log_scale: Float[Array, " L"] | None = parameter()
    mean: Float[Array, " L"] | None = parameter()
    first_log_scale: Float[Array, " L"] | None = parameter()

    def initialise(self, inputs: int, query: int, key: PRNGKeyArray) -> "LinearDynamics":
        size, (key_drift, key_turn) = self.shape[0], jax.random.split(key)
        drift = Dense.initialise(inputs, size, key_drift)
        # about one throughout: z keeps 0.95 of itself and gains sqrt(1 - 0.95²); some turn, which would be hard to find
        turn = jax.random.normal(key_turn, (size, size)) * TURN / size**0.5
        scale = jnp.full(size, 0.5 * jnp.log(1.0 - 0.95**2))
        transition = 0.95 * jax.scipy.linalg.expm(turn - turn.T)
        return LinearDynamics(self.latent, transition, drift, scale, jnp.zeros(size), jnp.zeros(size))

    def parts(self) -> tuple[Array, Array, Array, Array]:
        """F [L, L], the scales q [L], m [L] and the scales p [L]."""
        if self.transition is None or self.log_scale is None or self.mean is None or self.first_log_scale is None:
            raise ValueError(_UNREADY)
        scales = (jnp.exp(each) + FLOOR for each in (self.log_scale, self.first_log_scale))
        return self.transition, next(scales), self.mean, next(scales)

    def pushed(self, evidence: Any) -> Float[Array, " L"]:
        """B [1, x]."""
        assert self.drift is not None
        return self.drift(_given(evidence))

    def start(self) -> State:
        size = self.shape[0]
        return State(jnp.zeros(2 * size + 1), jnp.zeros(size), jnp.zeros(0))

    def recall(self, before: State, evidence: Any) -> Float[Array, " M"]:
        return jnp.concatenate([before.latent, self.pushed(evidence), before.fresh[None].astype(before.latent.dtype)])

    def prior(self, memory: Float[Array, " M"], features: Float[Array, " F"]) -> Distribution:
        transition, scale, mean, first = self.parts()
        size = self.shape[0]
        before, pushed, fresh = memory[:size], memory[size : 2 * size], memory[2 * size] > 0
        moved = transition @ before + pushed
        return distributions.normal(jnp.where(fresh, mean, moved), jnp.where(fresh, first, scale))


class LocallyLinear(Dynamics):
    """z_t ~ N(z + v rᵀ z + B x_t + o, diag q²), z = z_t-1, with v, r, B and o of a network of z_t-1.

    Embed to control: a linear model about every point, for planners (Watter et al. 2015, eqs. 3 and 9). ``local(z)``
    gives A = I + v rᵀ, B and o. The first step has a learned z_0 before it.
    """

    latent: Any = eqx.field(default=StandardNormal(8), converter=_normals)
    net: Any = MLP((64,), "elu")
    first: Float[Array, " L"] | None = parameter()
    output: Dense | None = parameter()
    log_scale: Float[Array, " L"] | None = parameter()

    def initialise(self, inputs: int, query: int, key: PRNGKeyArray) -> "LocallyLinear":
        size, (key_net, key_output) = self.shape[0], jax.random.split(key)
        net = self.net.initialise(size, key_net)
        output = Dense.initialise(net.outputs(size), size * (3 + inputs), key_output)
        output = Dense(0.1 * output.weight, output.bias)  # close to a latent that stays where it is
        return LocallyLinear(self.latent, net, jnp.zeros(size), output, jnp.full(size, -1.0))

    def local(self, latent: Float[Array, " L"]) -> tuple[Float[Array, "L L"], Float[Array, "L P"], Float[Array, " L"]]:
        """A, B and o about a latent: z' = A z + B x + o (x in standardised units)."""
        if self.output is None:
            raise ValueError(_UNREADY)
        size = self.shape[0]
        numbers = self.output(self.net(latent)).reshape(-1, size)
        gain = jnp.eye(size, dtype=numbers.dtype) + jnp.outer(numbers[0], numbers[1])
        return gain, numbers[3:].T, numbers[2]

    def start(self) -> State:
        if self.first is None or self.output is None:
            raise ValueError(_UNREADY)
        size = self.shape[0]
        return State(jnp.zeros(self.output.bias.size // size - 3 + size), self.first, jnp.zeros(0))

    def recall(self, before: State, evidence: Any) -> Float[Array, " M"]:
        return jnp.concatenate([before.latent, _given(evidence)])

    def prior(self, memory: Float[Array, " M"], features: Float[Array, " F"]) -> Distribution:
        size = self.shape[0]
        gain, control, offset = self.local(memory[:size])
        mean = gain @ memory[:size] + control @ memory[size:] + offset
        assert self.log_scale is not None
        return distributions.normal(mean, jnp.exp(self.log_scale) + FLOOR)


def neural_chain(dynamics: Dynamics, one: Any, features: Float[Array, "T F"], datum: Datum) -> NeuralChain:
    """Steps ``one(memory, features)`` with the dynamics' memory over the steps of a datum.

    Dynamics that see observations read a missing entry as zero, the centre of standardised data.
    """
    return NeuralChain(
        recall=dynamics.recalled,
        one=one,
        start=dynamics.begun(),
        begin=dynamics.begun() if datum.begin is None else datum.begin.state.path,
        evidence=datum.evidence,
        seen=jax.vmap(dynamics.seen)(datum.query, datum.observed),
        features=features,
        starts=datum.starts,
        there=datum.there,
    )
