"""Policies that remember: p(a_t | o_1..t, a_1..t-1) of any model that runs step by step."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from veil.control.actors import Actor, clipped, or_nan, refuse_nan
from veil.control.choices import Choice, Following, Sample
from veil.data.recorded.views import View
from veil.distributions import Distribution
from veil.learning.result import Fit
from veil.model import Datum, Model, Stepwise
from veil.model.abilities import name_of
from veil.model.batching import on_device
from veil.model.filter import Belief, Filter
from veil.posterior import Online
from veil.posterior.arguments import parts
from veil.posterior.choice import chosen


class AtStep(Model):
    """One step of a ``model`` that runs step by step, from a state: p(z_t | state, x_t) p(y_t | state, z_t, x_t)."""

    model: Any
    state: Any

    def prior(self, evidence: Any) -> Distribution:
        return self.model.step_prior(self.state, evidence)

    def likelihood(self, latent: Any, evidence: Any) -> Distribution:
        return self.model.step_likelihood(self.state, latent, evidence)


class RecurrentPolicy(Actor):
    """π(a_t | o_1..t, a_1..t-1) = p(y_t | x_1..t, y_1..t-1) of a model of sequences: actions are its query.

    The memory is the filter's belief of the latent, given what was seen and done so far. A state is drawn from it, an
    action is chosen by ``choose`` from that state and the observation, and the belief learns of both. With a discrete
    latent (an ``HMM`` whose experts see the evidence) it is a policy of skills that come and go. Make the data with
    ``Recording.data("action", "observation", sequences=True)``.
    """

    model: Any
    filter: Filter
    choose: Choice
    low: Any = None
    high: Any = None
    view: View | None = eqx.field(static=True, default=None)

    @staticmethod
    def of(
        model: Any, choose: Any = None, low: Any = None, high: Any = None, posterior: Any = None
    ) -> "RecurrentPolicy":
        """From a ``Fit``, or a model and its posterior. Raises TypeError, ValueError for one that cannot filter."""
        view = model.view if isinstance(model, Fit) else None
        if view is not None:
            view.check_acting(memory=False)
            if view.observations > 1 or view.horizon is not None:
                raise ValueError("model: it remembers by itself; make its data without observations= and horizon=")
        model, posterior = parts(model, posterior)
        if not isinstance(model, Stepwise):
            raise TypeError(f"model: {name_of(model)} has no memory of its own; use veil.Policy")
        choose = Sample() if choose is None else choose
        if not isinstance(choose, Choice) or isinstance(choose, Following):
            raise TypeError(f"choose: expected Sample(), LowNoise(), Likeliest() or Mean(); got {choose!r}")
        used = chosen(model, posterior, filtering=True)
        if not isinstance(used, Online):
            raise TypeError(
                f"posterior: {type(used).__name__} sees whole sequences and cannot filter; fit one that sees the past, "
                "veil.Sequential(sees=veil.posterior.Past()), or give veil.Bootstrap()"
            )
        return RecurrentPolicy(model, used.filter(model), choose, low, high, view)

    def init(self, key: PRNGKeyArray) -> Belief:
        return self.filter.init()

    def act(self, memory: Belief, observation: Any, key: PRNGKeyArray) -> tuple[Any, Belief]:
        refuse_nan(observation)
        key_state, key_action, key_filter = jax.random.split(key, 3)
        given = on_device(observation if self.view is None else self.view.seen(observation, jnp)[0])
        model = AtStep(self.model, self.filter.draw(memory, key_state))
        numbers = or_nan(self.choose(model, given, key_action), given)
        action = numbers if self.view is None else self.view.action(numbers, jnp)
        action = clipped(action, self.low, self.high)
        done = (
            action if self.view is None else self.view.done(action, jnp)
        )  # what the belief learns of is what was done
        return action, self.filter.update(memory, Datum(done, given), key_filter)
