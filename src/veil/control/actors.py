"""Actors: what an environment talks to. All of it is pure, so it jits, vmaps over environments and exports."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.data.recorded.views import View
from veil.learning.result import Fit
from veil.model import Datum, Model, Plate, Sized, Tractable, checks
from veil.model.abilities import name_of
from veil.model.batching import on_device
from veil.model.filter import Filter
from veil.parts.nets import flat_size
from veil.posterior import Online
from veil.posterior.arguments import parts
from veil.verbs.prediction import Known, moments, sampled_moments


class Choice(eqx.Module):
    """How an action is chosen from p(a | o) of a model, whatever its latent."""

    @abstractmethod
    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        """The action, a draw of y or what stands for one."""


class Sample(Choice):
    """A draw from p(a | o)."""

    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        return model.sample(key, observation)[1]


class LowNoise(Choice):
    """A draw of the latent, then almost the centre of p(a | o, z): centre + ``scale`` (draw - centre).

    It stays on one mode, the draw's, without the noise that demonstrations had. Categories are the likeliest ones.
    """

    scale: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        if not 0 <= self.scale <= 1:
            raise ValueError(f"scale: expected a share of the noise from 0 to 1; got {self.scale!r}")

    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        key_latent, key_action = jax.random.split(key)
        seen = model.likelihood(model.prior(observation).sample(key_latent), observation)
        centre, draw = distributions.central(seen), seen.sample(key_action)

        def one(centre: Array, draw: Array) -> Array:
            if jnp.issubdtype(centre.dtype, jnp.integer) or jnp.issubdtype(draw.dtype, jnp.integer):
                return jnp.round(centre).astype(jnp.result_type(float))
            return centre + self.scale * (draw - centre)

        return jax.tree.map(one, centre, draw)


class Likeliest(Choice):
    """The likeliest of ``candidates`` draws, which is on one mode where there are several.

    By p(a | o) itself where that is known; else by its estimate from the candidates' own latents,
    1/S Σ_s p(a | o, z_s).
    """

    candidates: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        checks.whole("candidates", self.candidates)

    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        keys = jax.random.split(key, self.candidates)
        latents, actions = jax.vmap(lambda key: model.sample(key, observation))(keys)
        if isinstance(model, Tractable):
            scores = jax.vmap(lambda action: model.log_marginal(Datum(action, observation)))(actions)
        else:
            each = lambda z, action: model.log_likelihood(z, Datum(action, observation))  # noqa: E731
            table = jax.vmap(lambda action: jax.vmap(lambda z: each(z, action))(latents))(actions)
            scores = jax.scipy.special.logsumexp(table, axis=1)
        return jax.tree.map(lambda leaf: leaf[jnp.argmax(scores)], actions)


class Mean(Choice):
    """E[a | o], which of several modes may be between them: exact for a latent that can be listed, else from draws."""

    draws: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        checks.whole("draws", self.draws)

    def __call__(self, model: Model, observation: Any, key: PRNGKeyArray) -> Any:
        if distributions.enumerable(model.prior(observation)):
            return moments(model, observation)[0]
        return sampled_moments(model, observation, key, self.draws)[0]


class Actor(eqx.Module):
    """What an environment talks to, one episode at a time: ``jax.vmap`` both methods over environments.

    Observations must be numbers: one with NaN is refused, and under ``jit``, where nothing can be, its action is NaN.
    """

    # itself, whatever it holds, so that jax.jit(actor.act) works
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @abstractmethod
    def init(self, key: PRNGKeyArray) -> Any:
        """An episode begins: the memory, with whatever is drawn for the whole of it."""

    @abstractmethod
    def act(self, memory: Any, observation: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        """(action, memory) for what is seen now: one observation, an array or a tree."""


def _refuse_nan(observation: Any) -> None:
    """Raise ValueError for an observation that is not finite, where its numbers are there (not under ``jit``)."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(observation):
        if not isinstance(leaf, jax.core.Tracer) and not np.all(np.isfinite(np.asarray(leaf))):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"observation: expected finite numbers; got {np.asarray(leaf)!s:.200}{where and f' at {where}'}"
            )


def _or_nan(action: Any, observation: Any) -> Any:
    """The action of an observation that is finite, else NaN."""
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(observation)]))
    real = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)  # noqa: E731
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.nan) if real(leaf) else leaf, action)


class Policy(Actor):
    """π(a | o) = p(y = a | x = o) of a fitted model (or a ``Fit``): the observation is evidence, the action query.

    ``choose`` is how an action is chosen, for any model: ``Sample()``, ``LowNoise()``, ``Likeliest()``, ``Mean()``.
    Weights that all data share are drawn from their posterior, which the ``Fit`` has, for each action anew.
    Actions are clipped to ``low`` and ``high`` if given. A call, ``policy(observation, key)``, acts without memory.
    Of a ``Fit`` to a recording's data observations and actions are the environment's own: its ``view`` translates.
    Observations of N environments, [N, ...], get N actions, each with a key of its own.

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

    def __init__(self, model: Any, choose: Any = None, low: Any = None, high: Any = None) -> None:
        self.view = model.view if isinstance(model, Fit) else None
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
            raise TypeError(f"choose: expected Sample(), LowNoise(), Likeliest() or Mean(); got {choose!r}")

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        """Nothing: each step is on its own."""
        return ()

    def act(self, memory: tuple[()], observation: Any, key: PRNGKeyArray) -> tuple[Any, tuple[()]]:
        _refuse_nan(observation)
        if not self._many(observation):
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

    def _one(self, observation: Any, key: PRNGKeyArray) -> Any:
        given = observation if self.view is None else self.view.seen(observation, jnp)[0]
        given = on_device(given)
        action = _or_nan(self.choose(self.model, given, key), given)
        action = action if self.view is None else self.view.action(action, jnp)
        if self.low is None and self.high is None:
            return action
        return jax.tree.map(lambda leaf: jnp.clip(leaf, self.low, self.high), action)

    def __call__(self, observation: Any, key: PRNGKeyArray) -> Any:
        """The action for one observation, or the actions for those of several environments."""
        _refuse_nan(observation)
        return _acted(self, observation, key)


@eqx.filter_jit
def _acted(policy: Policy, observation: Any, key: PRNGKeyArray) -> Any:
    return policy.act((), observation, key)[0]


class Knowing(eqx.Module):
    """The memory of a ``FilteringActor``: its belief, and the last action (zero before the first)."""

    belief: Any
    action: Any


class FilteringActor(Actor):
    """It filters with a model of sequences, as it acts: ``policy(state, key)`` chooses from a state of the belief.

    The model's query is the observation, its evidence the action that led to it, at the first step ``nothing`` (an
    action of zeros, usually), which says of what shape it is: no model reads it. What it knows is what the batch
    posterior says of the same steps. Of a ``Fit`` to a recording's data observations and actions are the environment's
    own (its ``view`` translates), and ``policy`` chooses among the numbers of the model's evidence.
    """

    filter: Filter
    policy: Callable[[Any, PRNGKeyArray], Any]
    nothing: Any
    view: View | None = eqx.field(static=True, default=None)

    @staticmethod
    def of(model: Any, policy: Callable[[Any, PRNGKeyArray], Any], nothing: Any = None, posterior: Any = None) -> Any:
        """From a ``Fit``, or a model and its posterior. Raises TypeError, ValueError for one that cannot filter."""
        from veil.posterior.choice import chosen

        view = model.view if isinstance(model, Fit) else None
        if view is not None:
            view.check_acting(memory=True)
            nothing = view.nothing() if nothing is None else nothing
        if nothing is None:
            raise ValueError("nothing: expected the action before the first one, such as jnp.zeros(2); got none")
        model, posterior = parts(model, posterior)
        used = chosen(model, posterior, filtering=True)
        if not isinstance(used, Online):
            raise TypeError(
                f"posterior: {type(used).__name__} sees whole sequences and cannot filter; fit one that sees the past, "
                "veil.Sequential(sees=veil.posterior.Past()), or give veil.Bootstrap()"
            )
        return FilteringActor(used.filter(model), policy, on_device(nothing), view)

    def init(self, key: PRNGKeyArray) -> Knowing:
        return Knowing(self.filter.init(), self.nothing)

    def act(self, memory: Knowing, observation: Any, key: PRNGKeyArray) -> tuple[Any, Knowing]:
        _refuse_nan(observation)
        key_filter, key_state, key_action = jax.random.split(key, 3)
        query, observed = (observation, None) if self.view is None else self.view.seen(observation, jnp)
        datum = Datum(on_device(query), memory.action, observed=jax.tree.map(jnp.asarray, observed))
        belief = self.filter.update(memory.belief, datum, key_filter)
        action = _or_nan(self.policy(self.filter.draw(belief, key_state), key_action), datum.query)
        return action if self.view is None else self.view.action(action, jnp), Knowing(belief, action)


class RandomActor(Actor):
    """Uniform actions between ``low`` and ``high``, arrays of an action's shape."""

    low: Float[Array, "*action"]
    high: Float[Array, "*action"]

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def act(self, memory: tuple[()], observation: Any, key: PRNGKeyArray) -> tuple[Array, tuple[()]]:
        return jax.random.uniform(key, jnp.shape(self.low), minval=self.low, maxval=self.high), ()


class ScriptedActor(Actor):
    """``script(observation, key)`` is the action: a demonstrator that says what it is."""

    script: Callable[[Any, PRNGKeyArray], Any]

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def act(self, memory: tuple[()], observation: Any, key: PRNGKeyArray) -> tuple[Any, tuple[()]]:
        return self.script(observation, key), ()
