"""Policies: a fitted model p(action | observation) as an actor, action by action or in chunks."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from veil.control.actors import Actor, or_nan, refuse_nan
from veil.control.choices import Choice, Following, Sample, whole_numbers
from veil.data.recorded.views import View
from veil.learning.result import Fit
from veil.model import Plate, Sized
from veil.model.abilities import name_of
from veil.model.batching import on_device
from veil.parts.nets import flat_size
from veil.posterior.arguments import parts
from veil.saved.functions import Decides
from veil.verbs.prediction import Known


class Ensemble(eqx.Module):
    """Temporal ensembling: a chunk at every step, and what all of them say of the present step averaged.

    The weights are exp(-``decay`` i), i = 0 for the oldest chunk: with a larger ``decay`` new ones count less.
    Zhao et al. 2023, Learning fine-grained bimanual manipulation, section IV.B. Counts and categories are voted on.
    """

    decay: float = eqx.field(static=True, default=0.01)

    def __check_init__(self) -> None:
        if not 0 <= self.decay < np.inf:
            raise ValueError(f"decay: expected a rate a step that is not negative; got {self.decay!r}")

    def __call__(self, chunks: Any, step: Int[Array, ""], whole: Any) -> Any:
        """The action of a ``step`` from the chunks [H, H, ...] of the last H steps, that of step s in row s mod H."""
        rows = jnp.arange(jax.tree.leaves(chunks)[0].shape[0])
        age = (step - rows) % len(rows)
        order = jnp.minimum(step, len(rows) - 1) - age  # 0 for the oldest, negative where there was none yet
        weight = jnp.where(order >= 0, jnp.exp(-self.decay * order), 0.0)
        weight = weight / jnp.sum(weight)

        def one(leaf: Array, whole: bool) -> Array:
            said = leaf[rows, age]
            if not whole:
                return jnp.tensordot(weight, said, 1)
            votes = jnp.tensordot(weight, (said[:, None] == said[None]).astype(weight.dtype), 1)
            return jnp.take_along_axis(said, jnp.argmax(votes, 0)[None], 0)[0]

        return jax.tree.map(one, chunks, whole)


class Underway(eqx.Module):
    """The memory of a policy that needs one.

    ``step`` t of the episode, from 0; ``seen`` [n, ...]: the last observations, as the model sees them; ``chunks`` of
    actions [K, H, ...], as the model has them: that being executed (K = 1), of an ensemble those of the last H steps.
    """

    step: Int[Array, ""]
    seen: Any
    chunks: Any


class Policy(Actor, Decides):
    """π(a | o) = p(y = a | x = o) of a fitted model (or a ``Fit``): the observation is evidence, the action query.

    ``choose`` is how an action is chosen, for any model: ``Sample()``, ``LowNoise()``, ``Likeliest()``, ``Mean()``,
    ``Coherent()``. Weights that all data share are drawn from their posterior, which the ``Fit`` has, for each action
    anew. Real actions are clipped to ``low`` and ``high`` if given. A call, ``policy(observation, key)``, acts without
    memory. Of a ``Fit`` to a recording's data observations and actions are the environment's own: its ``view``
    translates (that of a model's data may be given: ``view=data.view``). Observations of N environments, [N, ...], get
    N actions, each with a key of its own.

    Of chunks (``Recording.data(..., observations=n, horizon=H)``, ``veil.data.chunks``) the policy remembers the last n
    observations, and the chunk it is executing: after ``execute`` of its actions (default: half of them, at least one)
    it chooses a new one; with ``ensemble=Ensemble()`` it chooses one at every step. Then there are ``init`` and ``act``
    and no call, and several environments are ``jax.vmap`` of both.

    >>> import jax, jax.numpy as jnp, veil
    >>> x = jnp.linspace(-1, 1, 80)
    >>> data = veil.Data(jnp.sign(jnp.sin(40 * x)) + 0.1 * jnp.cos(90 * x), evidence=x)
    >>> fit = veil.fit(veil.Mixture(components=2), data, key=jax.random.key(0))
    >>> abs(float(veil.Policy(fit)(jnp.zeros(1), jax.random.key(1))[0])) > 0.5
    True
    """

    model: Any
    choose: Choice
    low: Any
    high: Any
    view: View | None = eqx.field(static=True)
    execute: int = eqx.field(static=True)  # 0 without chunks
    ensemble: Ensemble | None

    def __init__(
        self,
        model: Any,
        choose: Any = None,
        low: Any = None,
        high: Any = None,
        execute: int | None = None,
        ensemble: Any = None,
        view: View | None = None,
    ) -> None:
        self.view = model.view if isinstance(model, Fit) and view is None else view
        if self.view is not None:
            self.view.check_acting(memory=False)
        model, posterior = parts(model, None)
        if isinstance(model, Plate):
            if posterior is None:
                raise ValueError(f"model: what {name_of(model)} has learned is in its posterior; give the Fit")
            model = Known(model, posterior)
        self.model = model
        self.choose = Sample() if choose is None else choose
        self.low, self.high = low, high
        if not isinstance(self.choose, Choice):
            raise TypeError(f"choose: expected Sample(), LowNoise(), Likeliest(), Mean() or Coherent(); got {choose!r}")
        self.ensemble, self.execute = ensemble, self._executed(execute, ensemble)

    def _executed(self, execute: int | None, ensemble: Any) -> int:
        """How many actions of a chunk are executed. Raises ValueError, TypeError for what does not go together."""
        horizon = None if self.view is None else self.view.horizon
        if horizon is None:
            for name, value in (("execute", execute), ("ensemble", ensemble)):
                if value is not None:
                    raise ValueError(f"{name}: only of chunks of actions; leave it out, or {CHUNKS}")
            if isinstance(self.choose, Following):
                raise ValueError(f"choose: {self.choose!r} is of chunks of actions; choose another, or {CHUNKS}")
            return 0
        if ensemble is not None:
            if not isinstance(ensemble, Ensemble):
                raise TypeError(f"ensemble: expected veil.Ensemble(); got {ensemble!r}")
            if execute is not None:
                raise ValueError("execute: an ensemble chooses a chunk at every step; leave one of the two out")
            return 1
        if execute is None:
            return max(1, horizon // 2)
        if isinstance(execute, bool) or not isinstance(execute, int) or not 1 <= execute <= horizon:
            raise ValueError(f"execute: expected a whole number of actions of a chunk, 1 to {horizon}; got {execute!r}")
        return execute

    @property
    def remembers(self) -> bool:
        """Whether it has a memory."""
        return self.view is not None and (self.view.observations > 1 or self.view.horizon is not None)

    def init(self, key: PRNGKeyArray) -> Any:
        """Nothing, where each step is on its own; else an ``Underway``."""
        if not self.remembers:
            return ()
        assert self.view is not None
        wide, one = self.view.observations, on_device(self.view.nothing())
        seen = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (wide, *leaf.shape)), one)
        start = jnp.zeros((), jnp.int32)
        if not self.execute:
            return Underway(start, seen, ())
        chunk = jax.eval_shape(lambda: self.choose(self.model, self._evidence(seen), key))
        count = self.view.horizon if self.ensemble is not None else 1
        return Underway(start, seen, jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), chunk))

    def act(self, memory: Any, observation: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        refuse_nan(observation)
        many = self._many(observation)
        if self.remembers:
            if many:
                raise ValueError(
                    "observation: expected that of one environment, as this policy has a memory; got those of several. "
                    "Map over them: jax.vmap(policy.init)(keys), jax.vmap(policy.act)(memory, observations, keys)"
                )
            return self._remembering(memory, observation, key)
        if not many:
            return self._one(observation, key), ()
        observation = jax.tree.map(jnp.asarray, observation)
        keys = jax.random.split(key, jax.tree.leaves(observation)[0].shape[0])
        return jax.vmap(self._one)(observation, keys), ()

    def _many(self, observation: Any) -> bool:
        """Whether these are observations of several environments. Raises ValueError for numbers of another model."""
        if self.view is not None:
            return self.view.many(observation)
        leaves = jax.tree.leaves(observation)
        if any(jnp.result_type(leaf) == jnp.uint8 and np.ndim(leaf) > 1 for leaf in leaves):
            raise ValueError(
                "observation: expected numbers as the model learned them; got an image of bytes. Divide it by 255, or "
                "give the Fit to Recording.data, which sees images as it learned them"
            )
        needed = self.model.sizes.inputs if isinstance(self.model, Sized) else None
        if not needed:
            return False
        sizes = {np.shape(leaf)[:1] for leaf in leaves}
        count = sizes.pop()[0] if len(sizes) == 1 and () not in sizes else 0
        if flat_size(observation) == needed:
            return len(leaves) == 1 and np.shape(leaves[0]) == (1, needed)
        rows = len(leaves) > 1 or np.ndim(leaves[0]) > 1
        if rows and count and flat_size(observation) == count * needed:
            return True
        raise ValueError(
            f"observation: expected {needed} numbers, or those of several environments [N, {needed}]; got shape "
            f"{np.shape(observation)}"
        )

    # -- without memory ------------------------------------------------------------------------------------------------

    def _one(self, observation: Any, key: PRNGKeyArray) -> Any:
        return self.decide(self._given(observation), key)

    def decide(self, evidence: Any, key: PRNGKeyArray) -> Any:
        """The decision: the environment's action for a model's evidence; of chunks H actions for n observations."""
        evidence = on_device(evidence)
        numbers = or_nan(self.choose(self.model, evidence, key), evidence)
        return jax.vmap(self._action)(numbers) if self.execute else self._action(numbers)

    def _given(self, observation: Any) -> Any:
        """What the model sees of one observation."""
        return on_device(observation if self.view is None else self.view.seen(observation, jnp)[0])

    def _action(self, numbers: Any) -> Any:
        """One action of the environment, of the model's numbers, within the limits."""
        action = numbers if self.view is None else self.view.action(numbers, jnp)
        if self.low is None and self.high is None:
            return action
        real = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)  # noqa: E731
        return jax.tree.map(lambda leaf: jnp.clip(leaf, self.low, self.high) if real(leaf) else leaf, action)

    def __call__(self, observation: Any, key: PRNGKeyArray) -> Any:
        """The action for one observation, or the actions for those of several environments."""
        refuse_nan(observation)
        if self.remembers:
            raise ValueError(
                "policy: it has a memory, of observations or of the chunk that it executes; use policy.init(key) and "
                "policy.act(memory, observation, key), or veil.control.playing.Playing(policy, key)"
            )
        return _acted(self, observation, key)

    # -- with memory ---------------------------------------------------------------------------------------------------

    def _evidence(self, seen: Any) -> Any:
        """The model's evidence of the last observations [n, ...]: of one observation without that axis."""
        several = self.view is not None and self.view.observations > 1
        return seen if several else jax.tree.map(lambda leaf: leaf[0], seen)

    def _remembering(self, memory: Underway, observation: Any, key: PRNGKeyArray) -> tuple[Any, Underway]:
        given, step = self._given(observation), memory.step
        first = step == 0
        seen = jax.tree.map(
            lambda old, new: jnp.where(first, new[None], jnp.concatenate([old[1:], new[None]])), memory.seen, given
        )
        evidence = self._evidence(seen)
        if not self.execute:
            numbers, chunks = self.choose(self.model, evidence, key), ()
        else:
            chunks = self._chunks(memory, evidence, key)
            if self.ensemble is not None:
                numbers = self.ensemble(chunks, step, whole_numbers(self.model, evidence))
            else:
                numbers = jax.tree.map(lambda leaf: leaf[0, step % self.execute], chunks)
        return self._action(or_nan(numbers, given)), Underway(step + 1, seen, chunks)

    def _chunks(self, memory: Underway, evidence: Any, key: PRNGKeyArray) -> Any:
        """The chunks [K, H, ...] of the memory, with a new one where it is time for one."""
        count = jax.tree.leaves(memory.chunks)[0].shape[0]

        def new(_: None) -> Any:
            chunk = self._chunk(memory, count, evidence, key)
            return jax.tree.map(lambda leaf, one: leaf.at[memory.step % count].set(one), memory.chunks, chunk)

        if self.execute == 1:
            return new(None)
        return jax.lax.cond(memory.step % self.execute == 0, new, lambda _: memory.chunks, None)

    def _chunk(self, memory: Underway, count: int, evidence: Any, key: PRNGKeyArray) -> Any:
        if not isinstance(self.choose, Following):
            return self.choose(self.model, evidence, key)
        old = jax.tree.map(lambda leaf: leaf[(memory.step - 1) % count], memory.chunks)
        rest = jax.tree.map(lambda leaf: jnp.roll(leaf, -self.execute, axis=0), old)
        horizon = jax.tree.leaves(old)[0].shape[0]
        planned = (jnp.arange(horizon) < horizon - self.execute) & (memory.step > 0)
        return self.choose.follow(self.model, evidence, key, rest, planned)


CHUNKS = "give a Fit to Recording.data(..., horizon=H), or the view of such data"


@eqx.filter_jit
def _acted(policy: Policy, observation: Any, key: PRNGKeyArray) -> Any:
    return policy.act((), observation, key)[0]
