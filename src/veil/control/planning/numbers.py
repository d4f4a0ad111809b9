"""What planners are told in numbers: counts, spreads, shares."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from veil.model.checks import whole


def as_spread(value: Any) -> Float[Array, " U"]:
    """A number, or one for each entry of an action, as an array [1] or [U]."""
    return jnp.atleast_1d(jnp.asarray(value, float))


def check_numbers(planner: Any, counts: tuple[str, ...], positive: tuple[str, ...] = ()) -> None:
    """Raise ValueError for fields that are not positive integers, or not positive; the share must be one."""
    given = vars(planner)
    for name in counts:
        whole(name, given[name])
    for name in positive:
        if not isinstance(given[name], jax.core.Tracer) and not np.all(np.asarray(given[name]) > 0):
            raise ValueError(f"{name}: expected positive numbers; got {given[name]}")
    if not 0 < given.get("share", 0.5) < 1:
        raise ValueError(
            f"share: expected the part of the candidates that is the policy's, between 0 and 1; got {given['share']}"
        )


def share_of(candidates: int, share: float, policy: Any) -> int:
    """How many of the candidates are the policy's: at least one, and none without one."""
    return 0 if policy is None else min(max(1, round(share * candidates)), candidates - 1)
