"""Planning is inference over actions, dynamics held fixed, by weighted draws."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.imagined import Imagined
from veil.control.planning.base import Actions, Candidates, Plan, Planner, proposals
from veil.control.planning.numbers import as_spread, check_numbers, share_of
from veil.maths import importance, particles


class PathIntegral(Planner):
    """p(u_1..H | O) ∝ N(u; 0, spread²) exp(E[R(u)] / τ) by weighted draws: model predictive path integral control.

    Each of some ``rounds`` draws ``candidates`` from N(mean, spread²), weighs them by exp(R / τ) N(u; 0, spread²) /
    N(u; mean, spread²), and their weighted average is the next round's mean. ``spread``: a number, or one for each
    entry of an action [U]. R is ``Imagined.returns``, with the same noise for all candidates of a round. With τ small
    few candidates count: metric ``effective``, as how many of equal weight those of the last round do. Metric
    ``log_evidence``: an estimate of log E_p(u)[exp(R(u) / τ)], nats, low on average.

    With a ``policy(state, key)`` a ``share`` of the candidates is drawn about what it does in futures of the model,
    N(its actions, spread²), and weights divide by the mixture that all are drawn from (the balance heuristic of Veach
    & Guibas 1995): they stay importance weights, whatever the policy.

    Williams et al. 2017, "Information theoretic MPC for model-based reinforcement learning".

    Raises:
        ValueError: numbers that are not positive, or a share that is not between 0 and 1.
    """

    horizon: int = eqx.field(static=True)
    spread: Float[Array, " U"] = eqx.field(converter=as_spread)
    temperature: float = 1.0
    candidates: int = eqx.field(static=True, default=256)
    rounds: int = eqx.field(static=True, default=4)
    policy: Callable[[Any, PRNGKeyArray], Any] | None = None
    share: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        check_numbers(self, ("horizon", "candidates", "rounds"), ("temperature", "spread"))

    def improved(self, problem: Imagined, state: Any, key: PRNGKeyArray, start: Actions) -> Plan:
        key_policy, key = jax.random.split(key)
        count = share_of(self.candidates, self.share, self.policy)
        proposed = proposals(problem, state, self.policy, count, self.horizon, key_policy)
        shares = jnp.log(jnp.array([self.candidates - count] + [1] * count) / self.candidates)

        def once(mean: Actions, key: PRNGKeyArray) -> tuple[Actions, tuple[Array, Array]]:
            key_noise, key_future = jax.random.split(key)
            centres = mean[None] if proposed is None else jnp.concatenate([mean[None], proposed])
            repeats = np.array([self.candidates - count] + [1] * count)
            noise = jax.random.normal(key_noise, (self.candidates, *mean.shape), mean.dtype)
            actions = jnp.repeat(centres, repeats, 0, total_repeat_length=self.candidates)
            actions = actions + self.spread[None, None, :] * noise
            earned = jax.vmap(lambda each: problem.returns(state, each, key_future))(actions)
            weights = particles.finite(earned / self.temperature - self._density(actions, centres, shares))
            return jnp.tensordot(jax.nn.softmax(weights), actions, 1), (
                importance.log_mean_exp(weights),
                importance.effective_sample_size(weights),
            )

        mean, (evidence, effective) = jax.lax.scan(once, start, jax.random.split(key, self.rounds))
        return Plan(problem.cut(mean), {"log_evidence": evidence[-1], "effective": effective[-1]})

    def _density(
        self, actions: Candidates, centres: Float[Array, "K H U"], shares: Float[Array, " K"]
    ) -> Float[Array, " C"]:
        """log Σ_k share_k N(u; centre_k, spread²) - log N(u; 0, spread²), nats."""
        actions, centres = actions / self.spread[None, None, :], centres / self.spread[None, None, :]
        each = jnp.einsum("chu,khu->ck", actions, centres) - 0.5 * jnp.sum(centres**2, (1, 2))[None]
        return jax.nn.logsumexp(each + shares[None], 1)
