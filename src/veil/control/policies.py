"""Policies: a fitted model p(action | observation) as an actor, action by action or in chunks."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from veil import distributions
from veil.control.actors import Actor, clipped, or_nan, refuse_nan
from veil.control.choices import Choice, Following, Sample, whole_numbers
from veil.control.chunking import Ensemble, Underway, renewed, zeros
from veil.data.recorded.views import View
from veil.distributions import Distribution
from veil.learning.result import Fit
from veil.model import Enumerable, PerEpisode, Plate, Sized, Stepwise
from veil.model.abilities import Sizes, Wrapped, name_of
from veil.model.batching import on_device
from veil.parts.nets import flat_size
from veil.posterior.arguments import parts
from veil.saved.functions import Decides
from veil.verbs.prediction import Known


class Kept(Enumerable, Wrapped):
    """A ``model`` of episodes at one of their steps, with the latent that was drawn for the episode."""

    model: Any
    latent: Any

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if isinstance(self.model, Sized) else Sizes()

    def prior(self, evidence: Any) -> Distribution:
        return distributions.Empty()

    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        return self.model.likelihood_at(self.latent, evidence)


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
    and no call, and several environments are ``jax.vmap`` of both. So it is with a model whose latent is drawn once an
    episode (``PerEpisode``): it is drawn at the first observation and kept.

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
        if isinstance(model, Stepwise):
            raise TypeError(f"model: {name_of(model)} remembers its latent; use veil.RecurrentPolicy.of(fit)")
        self.model = model
        self.choose = Sample() if choose is None else choose
        self.low, self.high = low, high
        if not isinstance(self.choose, Choice):
            raise TypeError(f"choose: expected Sample(), LowNoise(), Likeliest(), Mean() or Coherent(); got {choose!r}")
        self.ensemble, self.execute = ensemble, self._executed(execute, ensemble)
        if isinstance(self.model, PerEpisode) and self.view is None:
            raise ValueError(
                f"view: a {name_of(self.model)} draws its latent at the first observation, whose shape is not known; "
                "give a Fit to Recording.data or to veil.data.chunks(data, sequences=True), or the view of such data"
            )

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
        several = self.view is not None and (self.view.observations > 1 or self.view.horizon is not None)
        return several or isinstance(self.model, PerEpisode)

    def init(self, key: PRNGKeyArray) -> Any:
        """Nothing, where each step is on its own; else an ``Underway``."""
        if not self.remembers:
            return ()
        assert self.view is not None
        wide, one = self.view.observations, on_device(self.view.nothing())
        seen = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (wide, *leaf.shape)), one)
        evidence = self._evidence(seen)
        latent: Any = ()
        if isinstance(self.model, PerEpisode):
            latent = zeros(lambda: self.model.prior_at(evidence).sample(key))
        chunks: Any = ()
        if self.execute:
            count = self.view.horizon if self.ensemble is not None else 1
            chunks = zeros(lambda: self.choose(self._now(latent), evidence, key), count)
        return Underway(jnp.zeros((), jnp.int32), seen, chunks, latent)

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
        if isinstance(self.model, PerEpisode):
            raise ValueError("policy: it keeps its latent for an episode, which `act` does; it decides nothing alone")
        evidence = on_device(evidence)
        numbers = or_nan(self.choose(self.model, evidence, key), evidence)
        return jax.vmap(self._action)(numbers) if self.execute else self._action(numbers)

    def _given(self, observation: Any) -> Any:
        """What the model sees of one observation."""
        return on_device(observation if self.view is None else self.view.seen(observation, jnp)[0])

    def _action(self, numbers: Any) -> Any:
        """One action of the environment, of the model's numbers, within the limits."""
        action = numbers if self.view is None else self.view.action(numbers, jnp)
        return clipped(action, self.low, self.high)

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

    def _now(self, latent: Any) -> Any:
        """The model of the present step."""
        return Kept(self.model, latent) if isinstance(self.model, PerEpisode) else self.model

    def _remembering(self, memory: Underway, observation: Any, key: PRNGKeyArray) -> tuple[Any, Underway]:
        given, step = self._given(observation), memory.step
        first = step == 0
        seen = jax.tree.map(
            lambda old, new: jnp.where(first, new[None], jnp.concatenate([old[1:], new[None]])), memory.seen, given
        )
        evidence, latent = self._evidence(seen), memory.latent
        if isinstance(self.model, PerEpisode):
            key_latent, key = jax.random.split(key)
            drawn = self.model.prior_at(evidence).sample(key_latent)
            latent = jax.tree.map(lambda new, old: jnp.where(first, new, old), drawn, latent)
        model = self._now(latent)
        if not self.execute:
            numbers, chunks = self.choose(model, evidence, key), ()
        else:
            chunks = self._chunks(memory, model, evidence, key)
            if self.ensemble is not None:
                numbers = self.ensemble(chunks, step, whole_numbers(model, evidence))
            else:
                numbers = jax.tree.map(lambda leaf: leaf[0, step % self.execute], chunks)
        return self._action(or_nan(numbers, given)), Underway(step + 1, seen, chunks, latent)

    def _chunks(self, memory: Underway, model: Any, evidence: Any, key: PRNGKeyArray) -> Any:
        """The chunks [K, H, ...] of the memory, with a new one where it is time for one."""
        arrays, rest = eqx.partition((self.choose, model), eqx.is_array)

        def new(given: Any) -> Any:
            arrays, memory, evidence, key = given
            choose, model = eqx.combine(arrays, rest)
            count = jax.tree.leaves(memory.chunks)[0].shape[0]
            chunk = self._chunk(choose, model, memory, evidence, key)
            return jax.tree.map(lambda leaf, one: leaf.at[memory.step % count].set(one), memory.chunks, chunk)

        given = arrays, memory, evidence, key
        if self.execute == 1:
            return new(given)
        return renewed(memory.step % self.execute == 0, new, given, memory.chunks)

    def _chunk(self, choose: Any, model: Any, memory: Underway, evidence: Any, key: PRNGKeyArray) -> Any:
        if not isinstance(choose, Following):
            return choose(model, evidence, key)
        count, horizon = jax.tree.leaves(memory.chunks)[0].shape[:2]
        old = jax.tree.map(lambda leaf: leaf[(memory.step - 1) % count], memory.chunks)
        rest = jax.tree.map(lambda leaf: jnp.roll(leaf, -self.execute, axis=0), old)
        planned = (jnp.arange(horizon) < horizon - self.execute) & (memory.step > 0)
        return choose.follow(model, evidence, key, rest, planned)


CHUNKS = "give a Fit to Recording.data(..., horizon=H), or the view of such data"


@eqx.filter_jit
def _acted(policy: Policy, observation: Any, key: PRNGKeyArray) -> Any:
    return policy.act((), observation, key)[0]
