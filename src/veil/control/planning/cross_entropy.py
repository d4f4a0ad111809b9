"""The cross-entropy method: a normal over actions, refitted to the best of its draws, round by round."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.imagined import Imagined
from veil.control.planning.base import Actions, Candidates, Plan, Planner, proposals, scores
from veil.control.planning.numbers import as_spread, check_numbers, share_of
from veil.maths.coloured import coloured

Found = tuple[Actions, Actions, Float[Array, "E H U"], Float[Array, ""]]  # mean, spread, elites, what the best earns


class CrossEntropy(Planner):
    """u ~ N(mean, spread²), cut at the bounds; mean and spread of the ``elites`` best are those of the next round.

    ``spread``: the first round's, a number or one for each entry of an action [U]; it never gets below ``least``. All
    candidates of a round meet the same noise, those of the next one another. The plan is the mean of the last elites.
    PlaNet's planner (Hafner et al. 2019, algorithm 2) has 1000 candidates, 100 elites, 10 rounds, a spread of 1, and
    begins anew at every step. Rubinstein 1999.

    What makes few candidates enough (Pinneri et al. 2020; ``CrossEntropy.improving`` has it all): ``colour`` β, noise
    of spectrum 1 / f^β, whose candidates keep a direction; ``kept`` elites are among the next candidates; each round
    has ``shrink`` times fewer, at least twice the elites; ``best``: the plan is the best candidate of the last round,
    to which the mean is added. With a ``policy(state, key)`` a ``share`` of the candidates is what it does in futures
    of the model (Hansen et al. 2022). Metrics: ``best``, what the best candidate of the last round earns, and
    ``spread``.

    Raises:
        ValueError: numbers that are not positive, more elites than candidates or more kept than elites.
    """

    horizon: int = eqx.field(static=True)
    spread: Float[Array, " U"] = eqx.field(converter=as_spread, default=1.0)
    candidates: int = eqx.field(static=True, default=256)
    elites: int = eqx.field(static=True, default=32)
    rounds: int = eqx.field(static=True, default=4)
    least: Float[Array, " U"] = eqx.field(converter=as_spread, default=0.0)
    colour: float = eqx.field(static=True, default=0.0)
    kept: int = eqx.field(static=True, default=0)
    shrink: float = eqx.field(static=True, default=1.0)
    best: bool = eqx.field(static=True, default=False)
    policy: Callable[[Any, PRNGKeyArray], Any] | None = None
    share: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        check_numbers(self, ("horizon", "candidates", "elites", "rounds"), ("spread",))
        if not self.kept <= self.elites < self.candidates or self.kept < 0:
            raise ValueError(
                "candidates, elites, kept: expected fewer elites than candidates, and no more kept than elites; got "
                f"{self.candidates}, {self.elites}, {self.kept}"
            )
        if not (self.colour >= 0 and self.shrink >= 1):
            raise ValueError(
                f"colour, shrink: expected numbers from 0 and from 1; got {self.colour!r} and {self.shrink!r}"
            )
        least = min(size for size, _ in self._sizes())
        given = self.kept + share_of(least, self.share, self.policy) + self.best
        if given >= least:
            raise ValueError(
                "kept, share: expected fewer candidates that are given (kept, the policy's, the mean) than the "
                f"smallest round has; got {given} of {least}"
            )

    @staticmethod
    def improving(
        horizon: int,
        spread: Any = 0.5,
        candidates: int = 128,
        elites: int = 10,
        rounds: int = 3,
        colour: float = 2.0,
        kept: int = 3,
        shrink: float = 1.25,
        **more: Any,
    ) -> "CrossEntropy":
        """All choices of Pinneri et al. 2020, "Sample-efficient cross-entropy method for real-time planning" (iCEM).

        But one: elites are not carried from one decision to the next, only the plan is.
        """
        return CrossEntropy(
            horizon, spread, candidates, elites, rounds, colour=colour, kept=kept, shrink=shrink, best=True, **more
        )

    def improved(self, problem: Imagined, state: Any, key: PRNGKeyArray, start: Actions) -> Plan:
        key_policy, key_kept, key = jax.random.split(key, 3)
        count = share_of(self.candidates, self.share, self.policy)
        proposed = proposals(problem, state, self.policy, count, self.horizon, key_policy)
        spread = jnp.broadcast_to(self.spread[None].astype(start.dtype), start.shape)
        draws = self._drawn(self.elites, start, spread, key_kept)  # nothing was kept before the first round
        found: Found = start, spread, problem.cut(draws), jnp.full((), -jnp.inf, start.dtype)
        keys = jax.random.split(key, self.rounds)
        at = 0
        for (size, last), repeats in _grouped(self._sizes()):

            def once(found: Found, key: PRNGKeyArray, size: int = size, last: bool = last) -> tuple[Found, None]:
                return self._round(problem, state, found, proposed, size, last, key), None

            found = jax.lax.scan(once, found, keys[at : at + repeats])[0]
            at += repeats
        mean, spread, elites, earned = found
        return Plan(elites[0] if self.best else mean, {"best": earned, "spread": jnp.mean(spread)})

    def _sizes(self) -> list[tuple[int, bool]]:
        """Of each round how many candidates it has, and whether the mean is added to them."""
        least = min(2 * self.elites, self.candidates)
        sizes = [max(least, int(self.candidates / self.shrink**i)) for i in range(self.rounds)]
        return [(size, self.best and i == self.rounds - 1) for i, size in enumerate(sizes)]

    def _drawn(self, count: int, mean: Actions, spread: Actions, key: PRNGKeyArray) -> Candidates:
        one = lambda key: coloured(key, mean.shape, self.colour)  # noqa: E731
        return mean[None] + spread[None] * jax.vmap(one)(jax.random.split(key, count))

    def _round(
        self,
        problem: Imagined,
        state: Any,
        found: Found,
        proposed: Candidates | None,
        size: int,
        last: bool,
        key: PRNGKeyArray,
    ) -> Found:
        mean, spread, elites, _ = found
        key_noise, key_future = jax.random.split(key)
        others = [elites[: self.kept]]
        if proposed is not None:
            others.append(proposed[: share_of(size, self.share, self.policy)])
        if last:
            others.append(mean[None])
        rest = size - sum(len(each) for each in others)
        drawn = problem.cut(self._drawn(rest, mean, spread, key_noise))
        actions = jnp.concatenate([drawn, *others])
        earned, chosen = jax.lax.top_k(scores(problem, state, actions, key_future), self.elites)
        elites = actions[chosen]
        return (
            jnp.mean(elites, 0),
            jnp.maximum(jnp.std(elites, 0), self.least[None].astype(mean.dtype)),
            elites,
            earned[0],
        )


def _grouped(each: list[Any]) -> list[tuple[Any, int]]:
    """Equal ones in a row, and how many: they are one loop of the program."""
    groups: list[tuple[Any, int]] = []
    for one in each:
        same = bool(groups) and groups[-1][0] == one
        groups[-1:] = [(one, groups[-1][1] + 1)] if same else [*groups[-1:], (one, 1)]
    return groups
