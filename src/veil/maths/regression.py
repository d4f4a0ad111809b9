"""Least squares in expectation: the sums over a linear-Gaussian path that its M-step needs, and the answers to them.

Ghahramani & Hinton 1996; Shumway & Stoffer 1982. T steps, state L, features P (1 and the controls), observation D.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from veil.maths import linear

Completed = tuple[Float[Array, "T D"], Float[Array, "T D L"], Float[Array, "T D *D"]]


def path_sums(
    moments: tuple[Float[Array, "T L"], Float[Array, "T L L"], Float[Array, "T L L"]],
    features: Float[Array, "T P"],
    completed: Completed,
    start: Float[Array, " T"],
    real: Float[Array, " T"],
) -> dict[str, Array]:
    """Expected sums over the steps of one path, each counting ``real`` times, ``start`` of it as a start.

    ``moments``: mean, covariance and lag-one covariance of every state; ``completed``: see the function. Of the start:
    z and z zᵀ; of the moves: [z', φ] twice and with z; of the observations: [z, 1] twice and with y.
    """
    mean, covariance, lagged = moments
    count, size = mean.shape
    move = real - start
    second = covariance + mean[:, :, None] * mean[:, None, :]

    before = jnp.concatenate([jnp.zeros_like(mean[:1]), mean[:-1]])
    second_before = jnp.concatenate([jnp.zeros_like(second[:1]), second[:-1]])
    inputs = jnp.concatenate([before, features], 1)
    moment = jnp.einsum("t,ti,tj->ij", move, inputs, inputs)
    spread = jnp.einsum("t,tij->ij", move, second_before - before[:, :, None] * before[:, None, :])
    moment = moment.at[:size, :size].add(spread)
    cross = jnp.einsum("t,ti,tj->ij", move, mean, inputs)
    cross = cross.at[:, :size].add(jnp.einsum("t,tij->ij", move, lagged))

    query, slope, rest = completed
    seen = query + jnp.einsum("tdl,tl->td", slope, mean)
    states = jnp.concatenate([mean, jnp.ones((count, 1))], 1)
    states_moment = jnp.einsum("t,ti,tj->ij", real, states, states)
    states_moment = states_moment.at[:size, :size].add(jnp.einsum("t,tij->ij", real, covariance))
    seen_cross = jnp.einsum("t,td,ti->di", real, seen, states)
    seen_cross = seen_cross.at[:, :size].add(jnp.einsum("t,tdi,tij->dj", real, slope, covariance))
    if rest.ndim == 3:
        seen_second = jnp.einsum("t,td,te->de", real, seen, seen) + jnp.einsum("t,tde->de", real, rest)
        seen_second = seen_second + jnp.einsum("t,tdi,tij,tej->de", real, slope, covariance, slope)
    else:
        square = seen**2 + rest + jnp.einsum("tdi,tij,tdj->td", slope, covariance, slope)
        seen_second = real @ square

    return {
        "starts": jnp.sum(start)[None],
        "first": start @ mean,
        "first_second": jnp.einsum("t,tij->ij", start, second),
        "moves": jnp.sum(move)[None],
        "moment": moment,
        "cross": cross,
        "second": jnp.einsum("t,tij->ij", move, second),
        "steps": jnp.sum(real)[None],
        "states": states_moment,
        "seen": seen_cross,
        "seen_second": seen_second,
    }


def completed(
    query: Float[Array, "T D"],
    observed: Bool[Array, "T D"] | None,
    emission: Float[Array, "D L"],
    offset: Float[Array, " D"],
    variance: Float[Array, "D *D"],
) -> Completed:
    """E[y | z] = a + A z with a [T, D], A [T, D, L], and Cov[y | z] [T, D, D] or, of a diagonal R, [T, D].

    Of present entries these are the data, 0 and 0. ``variance`` is R [D, D] or its diagonal [D].
    """
    (count, size), dense = query.shape, variance.ndim == 2
    if observed is None:
        rest = jnp.zeros((1, size, size) if dense else (1, size))
        return query, jnp.zeros((count, size, emission.shape[1])), jnp.broadcast_to(rest, (count, *rest.shape[1:]))
    if not dense:
        slope = jnp.where(observed[:, :, None], 0.0, emission[None])
        return jnp.where(observed, query, offset[None]), slope, jnp.where(observed, 0.0, variance[None])

    def one(query: Array, seen: Array) -> tuple[Array, Array, Array]:
        both, missing = seen[:, None] & seen[None, :], ~seen
        factor = linear.cholesky(jnp.where(both, variance, jnp.eye(size)))
        across = jnp.where(seen[:, None] & missing[None, :], variance, 0.0)
        gain = linear.solve_positive(factor, across).T  # R_mo R_oo⁻¹
        away = jnp.where(seen, query - offset, 0.0)
        filled = jnp.where(seen, query, offset + gain @ away)
        hidden = jnp.where(missing[:, None] & missing[None, :], variance - gain @ across, 0.0)
        return filled, jnp.where(missing[:, None], emission - gain @ emission, 0.0), hidden

    return jax.vmap(one)(query, observed)


def least_squares(
    cross: Float[Array, "A U"], moment: Float[Array, "U U"], held: Float[Array, "A U"], free: list[bool]
) -> Float[Array, "A U"]:
    """Least squares of A outputs on U inputs, from E[a uᵀ] and E[u uᵀ]; the columns that are not free stay as held."""
    some, others = np.flatnonzero(free), np.flatnonzero(~np.array(free))
    if len(some) == 0:
        return held
    right = cross[:, some]
    if len(others):
        right = right - held[:, others] @ moment[np.ix_(others, some)]
    inner = moment[np.ix_(some, some)]
    ridge = 8.0 * jnp.finfo(moment.dtype).eps * (jnp.diagonal(inner) + 1e-30)
    found = linear.solve_positive(linear.cholesky(inner + jnp.diag(ridge)), right.T).T
    return held.at[:, some].set(found)


def residual(
    second: Float[Array, "A A"], cross: Float[Array, "A U"], moment: Float[Array, "U U"], slope: Float[Array, "A U"]
) -> Float[Array, "A A"]:
    """E[(a - C u)(a - C u)ᵀ], whose diagonal is at least the rounding of E[a aᵀ]'s."""
    product = slope @ cross.T
    found = second - product - product.T + slope @ moment @ slope.T
    least = 16.0 * jnp.finfo(second.dtype).eps * jnp.diagonal(second)
    i = np.arange(len(second))
    return found.at[i, i].max(least)
