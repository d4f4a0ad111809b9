"""Probabilistic ensembles: several networks that each say how a state that is seen goes on."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Guided, Startable
from veil.model.abilities import ANYWHERE, Sizes, Space, parameter
from veil.model.members import Members, Reached, SameMember, Staying
from veil.model.scales import Scale, Untrained
from veil.parts.heads import BoundedGaussian, Head
from veil.parts.joint import Joint, event_shape, is_tree
from veil.parts.nets import MLP, Dense, flat, flat_size, positive
from veil.posterior import Posterior, Undecided


class DynamicsEnsemble(Members, Startable, Guided):
    """s_t = s_t-1 + c + d ⊙ δ_t, δ_t ~ head(W_k net_k(s_t-1, u_t)): K ``members``, a network each.

    The query is the state s [D], which is seen whole, or a tree, of which ``state`` names the part that is the state;
    its other parts (a reward, whether the episode ended) are said by the same networks. The evidence u is the action
    that led to it. ``angles``: entries of s that are angles in radians, of which the networks see cosine and sine.
    ``keep``: whether a future has one member (``veil.model.SameMember()``) or one for each step (``NewMember()``).
    ``head``: of the changes in their own units (mean c, deviation d), which are measured at the start as those of s and
    u are: a normal whose deviation stays between a hundredth and 1. ``Units`` scale no query of it.

    ``veil.fit`` maximises ``objective.Bagging()``: each member learns from a draw of the steps of its own. Chua et al.
    2018, "Deep reinforcement learning in a handful of trials using probabilistic dynamics models". There the bounds of
    the deviations are learned with a penalty, and here they are given.

    Raises:
        ValueError: no number of members, data without evidence, with missing entries, or whose state is no vector.

    >>> import jax, numpy as np, veil
    >>> rng = np.random.default_rng(0)
    >>> pushed = rng.normal(size=(20, 11, 1))
    >>> data = veil.Data(np.cumsum(pushed, 1), pushed)
    >>> result = veil.fit(DynamicsEnsemble(3, MLP((8,))), data, key=jax.random.key(0), steps=20)
    >>> veil.sample(result.model, 2, key=jax.random.key(1), evidence=pushed[:2]).query.shape
    (2, 2, 11, 1)
    """

    members: int = eqx.field(static=True, default=5)
    trunk: Any = MLP((64, 64), "silu")
    head: Head | None = None
    keep: Staying = SameMember()
    state: str | None = eqx.field(static=True, default=None)
    angles: tuple[int, ...] = eqx.field(static=True, default=(), converter=tuple)
    outputs: Dense | None = parameter()
    first: Float[Array, " size"] | None = parameter()
    scales: "Spreads | None" = parameter()
    shape: Any = eqx.field(static=True, default=None)
    inputs: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        positive("members", self.members)

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.shape, self.inputs, values=self.members)

    @property
    def space(self) -> Space:
        return ANYWHERE

    @property
    def usual_posterior(self) -> Posterior:
        """All members stay as likely as they were."""
        return Undecided()

    # -- one step at a time --------------------------------------------------------------------------------------------

    def carry(self, evidence: Any) -> Reached:
        """No state yet."""
        nothing = jnp.zeros_like(jnp.asarray(self._measured().state.shift))
        return Reached(nothing, jnp.zeros((), int), jnp.array(False), jnp.array(True))

    def advance(self, carry: Reached, latent: Any, query: Any, evidence: Any, observed: Any) -> Reached:
        """The state is what was seen."""
        return Reached(self._state(query), latent, jnp.array(True), jnp.array(False))

    def step_likelihood(self, carry: Reached, latent: Int[Array, ""], evidence: Any) -> Distribution:
        """p(y_t | s_t-1, u_t, k)."""
        net, output = jax.tree.map(lambda leaf: leaf[latent] if eqx.is_array(leaf) else leaf, self._networks())
        return self._said(output(net(self._seen(carry.state, evidence))), carry.state, carry.fresh)

    def predictions(self, state: Float[Array, " D"], evidence: Any) -> tuple[Any, Any]:
        """Mean and variance of what comes next by every member, leaves [K, ...].

        Where the means differ there is something to be learned; the variances are of what nobody can know.
        """
        carry = Reached(state, jnp.zeros((), int), jnp.array(False), jnp.array(False))
        one = lambda member: distributions.moments(self.step_likelihood(carry, member, evidence))  # noqa: E731
        return jax.vmap(one)(jnp.arange(self.members))

    def _networks(self) -> tuple[Any, Dense]:
        if self.outputs is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        return self.trunk, self.outputs

    def _measured(self) -> "Spreads":
        if self.scales is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        return self.scales

    def _state(self, query: Any) -> Any:
        """The part of a query that is the state."""
        return query if self.state is None else query[self.state]

    def _seen(self, state: Float[Array, " D"], evidence: Any) -> Float[Array, " F"]:
        """What the networks see."""
        scales, turned = self._measured(), np.isin(np.arange(state.size), self.angles)
        angles = state[turned]
        plain = scales.state.standard(state)[~turned]
        return jnp.concatenate([plain, jnp.cos(angles), jnp.sin(angles), scales.evidence.standard(flat(evidence))])

    def _moves(self, state: Float[Array, " D"], fresh: Bool[Array, ""]) -> dict[str | None, tuple[Array, Array]]:
        """Shift and scale of what the head says, of each part of the query that has some."""
        scales = self._measured()
        (first, wide), (change, narrow) = scales.first.held(), scales.change.held()
        own = jnp.where(fresh, first, state + change), jnp.where(fresh, wide, narrow)
        return {self.state: own, **{name: scale.held() for name, scale in scales.others.items()}}

    def _said(self, vector: Float[Array, " size"], state: Float[Array, " D"], fresh: Bool[Array, ""]) -> Distribution:
        """p(y | s, u, k) from a network's numbers; where nothing came before, p(y_1)."""
        head, first = self._head(), self.first
        assert first is not None
        base: Any = head(jnp.where(fresh, first, vector), self.shape)
        moves = self._moves(state, fresh)
        if self.state is None:
            return distributions.Affine(base, *moves[None])
        return distributions.Joint(
            {
                name: distributions.Affine(part, *moves[name]) if name in moves else part
                for name, part in base.parts.items()
            }
        )

    def _head(self) -> Head:
        assert self.head is not None
        return self.head

    # -- whole sequences, and learning ---------------------------------------------------------------------------------

    def each_log_likelihood(self, datum: Datum) -> Float[Array, "K T"]:
        if datum.observed is not None:
            raise ValueError("query: an ensemble's state is seen whole, and here entries are missing; use veil.rssm()")
        state, starts = self._state(datum.query), datum.starts
        before = _before(state)
        features = jax.vmap(self._seen)(before, datum.evidence)

        def scored(vector: Array, before: Array, start: Array, query: Any) -> Float[Array, ""]:
            return distributions.log_prob(self._said(vector, before, start), query)

        def one(net: Any, output: Dense) -> Float[Array, " T"]:
            vectors = jax.vmap(lambda features: output(net(features)))(features)
            return jax.vmap(scored)(vectors, before, starts, datum.query)

        return jnp.where(datum.there[None], eqx.filter_vmap(one)(*self._networks()), 0.0)

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "DynamicsEnsemble":
        """Random networks; the units of states, actions and changes are those of the data."""
        shape = event_shape(data.query, 2)
        state = self._checked(data, shape)
        head = (self.head or _default(shape)).blank(shape)
        there, starts = jax.vmap(lambda datum: (datum.there, datum.starts))(data)
        weight = there * (jnp.ones(len(data)) if data.weight is None else data.weight)[:, None]
        early, later = weight * starts, weight * ~starts
        scales = Spreads(
            _measured(state, weight),
            _measured(jax.vmap(jax.vmap(flat))(data.evidence), later),
            _measured(state, early),
            _measured(state - jax.vmap(_before)(state), later),
            {
                name: _measured(data.query[name], later)
                for name, each in _parts(head, shape)
                if each.real and name != self.state
            },
        )
        begun = replace(self, head=head, shape=shape, inputs=flat_size(data.evidence, 2), scales=scales)
        features = jax.vmap(jax.vmap(begun._features))(data.query, jax.vmap(_before)(state), starts)
        constants = [
            head.from_sums(jax.tree.map(lambda leaf, w=w: jnp.tensordot(w, leaf, 2) / jnp.sum(w), features))
            for w in (early, later)
        ]
        seen = jax.eval_shape(begun._seen, state[0, 0], jax.tree.map(lambda leaf: leaf[0, 0], data.evidence))

        def one(key: PRNGKeyArray) -> tuple[Any, Dense]:
            key_net, key_output = jax.random.split(key)
            net = self.trunk.initialise(seen.size, key_net)
            output = Dense.initialise(net.outputs(seen.size), head.size(shape), key_output)
            return net, replace(output, bias=constants[1])

        nets, outputs = eqx.filter_vmap(one)(jax.random.split(key, self.members))
        return replace(begun, trunk=nets, outputs=outputs, first=constants[0])

    def _checked(self, data: Datum, shape: Any) -> Float[Array, "N T D"]:
        """The states of data that an ensemble can be of."""
        if data.evidence is None:
            raise ValueError("evidence: an ensemble is p(state | state before, action), and the data have no action")
        if is_tree(shape) != (self.state is not None) or (self.state is not None and self.state not in dict(shape)):
            raise ValueError(
                f"state: expected the name of the part of the query that is the state, None where the query is the "
                f"state; got {self.state!r} and a query {shape}"
            )
        state = self._state(data.query)
        if state.ndim != 3:
            raise ValueError(f"query: expected a state that is a vector, [N, T, D]; got {list(state.shape)}")
        if any(not 0 <= each < state.shape[-1] for each in self.angles):
            raise ValueError(f"angles: expected entries of a state of {state.shape[-1]}, from 0; got {self.angles}")
        return state

    def _features(self, query: Any, before: Float[Array, " D"], start: Bool[Array, ""]) -> Any:
        """A step's features for the head, in the units of what it says."""
        for name, (shift, scale) in self._moves(before, start).items():
            if name is None:
                query = (query - shift) / scale
            else:
                query = {**query, name: (query[name] - shift) / scale}
        return self._head().features(query, None)


class Spreads(Untrained):
    """Centres and deviations: of states, of the numbers of an action, of first states, of changes, of other parts."""

    state: Scale
    evidence: Scale
    first: Scale
    change: Scale
    others: dict[str, Scale]


def _default(shape: Any) -> Head:
    """Bounded normals for all there is."""
    return Joint({name: BoundedGaussian() for name, _ in shape}) if is_tree(shape) else BoundedGaussian()


def _parts(head: Any, shape: Any) -> list[tuple[str, Head]]:
    """The heads of a tree's parts."""
    return [(name, head.parts[name]) for name, _ in shape] if is_tree(shape) else []


def _before(state: Float[Array, "T D"]) -> Float[Array, "T D"]:
    """The state before each step; zeros before the first."""
    return jnp.concatenate([jnp.zeros_like(state[:1]), state[:-1]])


def _measured(values: Float[Array, "N T *event"], weight: Float[Array, "N T"]) -> Scale:
    """Weighted mean and deviation; 1 for the deviation of a constant."""
    share = weight / jnp.maximum(jnp.sum(weight), 1e-6)
    mean = jnp.tensordot(share, values, 2)
    spread = jnp.sqrt(jnp.tensordot(share, (values - mean[None, None]) ** 2, 2))
    return Scale(mean, jnp.where(spread > 1e-6 * (1.0 + jnp.abs(mean)), spread, 1.0))
