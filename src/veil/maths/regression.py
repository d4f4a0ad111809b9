"""Least squares in expectation: the sums over a linear-Gaussian path that its M-step needs, and the answers to them.

Ghahramani & Hinton 1996; Shumway & Stoffer 1982. T steps, state L, features P (1 and the controls), observation D.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from veil.maths import linear

Completed = tuple[Float[Array, "T D"], tuple[Float[Array, "T D L"], Float[Array, "T D *D"]] | None]


class Rows(NamedTuple):
    """What the M-step needs of one path: rows whose products are to be summed over the steps of all paths.

    ``moved`` [z', φ, z] of every move, z' the step before; ``states`` [z, 1] and ``seen`` y of every step, all in
    expectation. ``totals``, summed by name: how many there are, and what expectations of products have beyond products
    of expectations.
    """

    moved: Float[Array, "T U"]
    states: Float[Array, "T S"]
    seen: Float[Array, "T D"]
    totals: dict[str, Array]


def rows(
    moments: tuple[Float[Array, "T L"], Float[Array, "T L L"], Float[Array, "T L L"]],
    features: Float[Array, "T P"],
    completed: Completed,
    start: Float[Array, " T"],
    real: Float[Array, " T"],
    dense: bool,
) -> Rows:
    """Of one path whose steps count ``real`` times each, ``start`` of it as a start.

    ``moments``: mean, covariance and lag-one covariance of every state; ``completed``: see the function; ``dense``:
    whether y yᵀ is needed, or y².
    """
    mean, covariance, lagged = moments
    move = real - start
    back = lambda array: jnp.concatenate([jnp.zeros_like(array[:1]), array[:-1]])  # noqa: E731
    total = lambda weight, matrices: jnp.einsum("t,tij->ij", weight, matrices)  # noqa: E731
    totals = {
        "starts": jnp.sum(start)[None],
        "moves": jnp.sum(move)[None],
        "steps": jnp.sum(real)[None],
        "first_spread": total(start, covariance),
        "before_spread": total(move, back(covariance)),
        "lagged_spread": total(move, lagged),
        "after_spread": total(move, covariance),
        "states_spread": total(real, covariance),
    }
    query, missing = completed
    size = query.shape[1]
    seen, totals["seen_spread"] = query, jnp.zeros((size, mean.shape[1]))
    totals["missing_spread"] = jnp.zeros((size, size) if dense else (size,))
    if missing is not None:
        slope, rest = missing
        seen = query + jnp.einsum("tdl,tl->td", slope, mean)
        totals["seen_spread"] = jnp.einsum("t,tdi,tij->dj", real, slope, covariance)
        if dense:
            around = jnp.einsum("t,tdi,tij,tej->de", real, slope, covariance, slope)
            totals["missing_spread"] = total(real, rest) + around
        else:
            totals["missing_spread"] = real @ (rest + jnp.einsum("tdi,tij,tdj->td", slope, covariance, slope))
    if not dense:
        totals["squares"] = real @ seen**2
    states = jnp.concatenate([mean, jnp.ones((len(mean), 1))], 1)
    return Rows(jnp.concatenate([back(mean), features, mean], 1), states, seen, totals)


def moments(total: dict[str, Array], size: int) -> dict[str, Array]:
    """The sums of all paths by what the M-step does with them; ``total`` has products of ``Rows``, and their totals.

    Of the start: z and z zᵀ; of the moves: [z', φ] twice (``moment``), with z (``cross``), and z zᵀ (``second``); of
    the observations: [z, 1] twice (``states``), with y (``seen``), and y yᵀ, or y² if that is all there is.
    """
    first, moved, seen = total["first"], total["moved"], total["seen"]
    end = len(moved) - size
    found = {name: total[name] for name in ("starts", "moves", "steps")}
    found["first"], found["first_second"] = first[size, :size], first[:size, :size] + total["first_spread"]
    found["moment"] = moved[:end, :end].at[:size, :size].add(total["before_spread"])
    found["cross"] = moved[end:, :end].at[:, :size].add(total["lagged_spread"])
    found["second"] = moved[end:, end:] + total["after_spread"]
    found["states"] = seen[: size + 1, : size + 1].at[:size, :size].add(total["states_spread"])
    found["seen"] = seen[size + 1 :, : size + 1].at[:, :size].add(total["seen_spread"])
    second = total["squares"] if "squares" in total else seen[size + 1 :, size + 1 :]
    found["seen_second"] = second + total["missing_spread"]
    return found


def completed(
    query: Float[Array, "T D"],
    observed: Bool[Array, "T D"] | None,
    emission: Float[Array, "D L"],
    offset: Float[Array, " D"],
    variance: Float[Array, "D *D"],
) -> Completed:
    """E[y | z] = a + A z: a [T, D], and (A [T, D, L], Cov[y | z] [T, D, D] or, of a diagonal R, [T, D]).

    Of present entries these are the data, 0 and 0; of data without missing ones, the data and None. ``variance`` is R
    [D, D] or its diagonal [D].
    """
    size, dense = query.shape[1], variance.ndim == 2
    if observed is None:
        return query, None
    if not dense:
        slope = jnp.where(observed[:, :, None], 0.0, emission[None])
        return jnp.where(observed, query, offset[None]), (slope, jnp.where(observed, 0.0, variance[None]))

    def one(query: Array, seen: Array) -> tuple[Array, tuple[Array, Array]]:
        both, missing = seen[:, None] & seen[None, :], ~seen
        factor = linear.cholesky(jnp.where(both, variance, jnp.eye(size)))
        across = jnp.where(seen[:, None] & missing[None, :], variance, 0.0)
        gain = linear.solve_positive(factor, across).T  # R_mo R_oo⁻¹
        away = jnp.where(seen, query - offset, 0.0)
        filled = jnp.where(seen, query, offset + gain @ away)
        hidden = jnp.where(missing[:, None] & missing[None, :], variance - gain @ across, 0.0)
        return filled, (jnp.where(missing[:, None], emission - gain @ emission, 0.0), hidden)

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
