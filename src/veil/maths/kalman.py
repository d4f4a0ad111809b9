"""Linear-Gaussian chains: filter, smoother, exact likelihood and posterior paths of ONE sequence.

    z_1 ~ N(m_0, P_0),   z_t = F z_t-1 + b_t + N(0, Q),   y_t = H_t z_t + N(0, I)

m_0 and P_0 are of the state AT the first observation (and at every start of an episode), not one step before it. The
observations are *whitened*: divided by the Cholesky factor of their noise, so that its covariance is I; a missing entry
is a zero row of H_t and a zero in y_t. Then nothing as large as the observation is factored in a scan, and the
log-likelihood here lacks only ``log_normalisers``, which do not depend on the state.

Covariances are propagated in forms that are sums of squares (G M⁻¹ Gᵀ, Joseph's), so that rounding cannot make them
indefinite. They do not depend on y: under ``vmap`` over sequences that share H, starts and padding they are computed
once. Särkkä & Svensson 2023, chapters 6 and 12; T steps, state L, observation D.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.maths import gaussian, linear

LONG = 512  # steps from which on a recursion is worked on in chunks


class LinearSystem(NamedTuple):
    """``mean`` m_0 [L], ``covariance`` P_0 [L, L]; ``transition`` F [L, L], ``drift`` b [T, L], ``noise`` Q [L, L]."""

    mean: Float[Array, " L"]
    covariance: Float[Array, "L L"]
    transition: Float[Array, "L L"]
    drift: Float[Array, "T L"]
    noise: Float[Array, "L L"]


class Filtered(NamedTuple):
    """``mean`` and ``covariance`` of p(z_t | y_1..t); of p(z_t | y_1..t-1) the mean ``predicted``.

    ``log_likelihoods`` [T]: log p(y_t | y_1..t-1) without the noise's normaliser; zero at padding. Of
    p(z_t | z_t+1, y_1..t), as if a step followed each: ``gain`` J_t, with which z_t+1 enters, covariance ``spread``.
    """

    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    predicted: Float[Array, "T L"]
    log_likelihoods: Float[Array, " T"]
    gain: Float[Array, "T L L"]
    spread: Float[Array, "T L L"]


class Smoothed(NamedTuple):
    """Of p(z | y): ``mean`` [T, L], ``covariance`` [T, L, L], and ``lagged`` [T, L, L], Cov(z_t, z_t-1 | y).

    ``lagged`` is zero at starts and at padding.
    """

    mean: Float[Array, "T L"]
    covariance: Float[Array, "T L L"]
    lagged: Float[Array, "T L L"]


def whitened(
    query: Float[Array, "T D"],
    emission: Float[Array, "D L"],
    noise: Float[Array, "D *D"],
    observed: Bool[Array, "T D"] | None,
) -> tuple[Float[Array, "T D"], Float[Array, "*T D L"], Float[Array, "#T"]]:
    """y_t and H divided by the noise's factor, missing entries left out exactly, and ``log_normalisers`` [T] (or [1]).

    L_o⁻¹ y_o and L_o⁻¹ H_o for R_oo = L_o L_oᵀ; ``noise`` is R [D, D], or its diagonal [D] where it has no more. H
    comes as [D, L] if nothing is missing, else as [T, D, L].
    """
    size = noise.shape[0]
    if noise.ndim == 1:
        scale = jnp.sqrt(noise)
        logs = -jnp.log(scale) - 0.5 * gaussian.LOG_2PI
        white, divided = query / scale[None, :], emission / scale[:, None]
        if observed is None:
            return white, divided, jnp.sum(logs)[None]
        rows = jnp.where(observed[:, :, None], divided[None], 0.0)
        return jnp.where(observed, white, 0.0), rows, jnp.sum(jnp.where(observed, logs[None], 0.0), 1)

    def one(there: Array | None) -> tuple[Array, Array]:
        if there is None:
            factor = linear.cholesky(noise)
            return factor, -jnp.sum(jnp.log(jnp.diagonal(factor))) - 0.5 * size * gaussian.LOG_2PI
        identity = jnp.eye(size, dtype=noise.dtype)
        factor = linear.cholesky(jnp.where(there[:, None] & there[None, :], noise, identity))
        logs = jnp.where(there, jnp.log(jnp.diagonal(factor)) + 0.5 * gaussian.LOG_2PI, 0.0)
        return factor, -jnp.sum(logs)

    if observed is None:
        factor, normaliser = one(None)
        return linear.solve_lower(factor, query.T).T, linear.solve_lower(factor, emission), normaliser[None]
    factors, normalisers = jax.vmap(one)(observed)
    both = jnp.concatenate([jnp.broadcast_to(emission, (len(query), *emission.shape)), query[:, :, None]], 2)
    both = jax.vmap(linear.solve_lower)(factors, jnp.where(observed[:, :, None], both, 0.0))
    return both[:, :, -1], both[:, :, :-1], normalisers


def update(
    predicted: Float[Array, " L"],
    covariance: Float[Array, "L L"],
    query: Float[Array, " D"],
    emission: Float[Array, "D L"],
) -> tuple[Float[Array, " L"], Float[Array, "L L"], Float[Array, "L L"], Float[Array, ""]]:
    """Bayes' rule for one whitened observation: mean, covariance, the factor G of the prior covariance, log p(y).

    With P = G Gᵀ, B = H G, M = I + Bᵀ B: w = M⁻¹ Bᵀ (y - H m), mean m + G w, covariance G M⁻¹ Gᵀ, and
    log p(y) = -½ (|y - H (m + G w)|² + |w|² + log |M|), sums of squares throughout, without the noise's normaliser.
    """
    after, factor, gain, logs = _condition(covariance, emission)
    white = gain @ (query - emission @ predicted)
    mean = predicted + factor @ white
    left = query - emission @ mean
    square = jnp.sum(left * left) + jnp.sum(white * white)
    return mean, after, factor, -0.5 * square - logs


def _condition(covariance: Array, emission: Array) -> tuple[Array, Array, Array, Array]:
    """What of ``update`` does not depend on the data: covariance, G, M⁻¹ Bᵀ and ½ log |M|."""
    size = len(covariance)
    factor = linear.cholesky(covariance)
    scaled = emission @ factor
    inner = linear.cholesky(jnp.eye(size, dtype=factor.dtype) + scaled.T @ scaled)
    half = linear.solve_lower(inner, jnp.concatenate([factor.T, scaled.T], 1))
    after = half[:, :size].T @ half[:, :size]
    return after, factor, linear.solve_upper(inner, half[:, size:]), jnp.sum(jnp.log(jnp.diagonal(inner)))


def filtered(
    chain: LinearSystem,
    query: Float[Array, "T D"],
    emission: Float[Array, "*T D L"],
    starts: Bool[Array, " T"] | None,
    there: Bool[Array, " T"] | None,
) -> Filtered:
    """Kalman filter of whitened observations. ``starts`` None: the first step only; ``there`` None: no padding.

    Särkkä & Svensson 2023, theorem 6.6. At padding the mean stays as it was; covariances go on as without it, which no
    step that is there can see, and which keeps them equal for all sequences.

    With the same emission at every step covariances are those of ``ages``, and means an affine recursion.
    """
    if emission.ndim == 3:
        return _stepwise(chain, query, emission, starts, there)
    count, size = len(query), chain.mean.size
    table = ages(chain.covariance, chain.transition, chain.noise, emission, count)
    begin = jnp.arange(count) == 0 if starts is None else starts.at[0].set(True)
    if starts is not None:
        step = jnp.arange(count)
        table = jax.tree.map(lambda array: array[step - jax.lax.cummax(jnp.where(begin, step, 0))], table)
    gain = _product(table.factor, table.gain)
    rest = jnp.eye(size, dtype=gain.dtype)[None] - gain @ emission
    moved = jnp.where(begin[:, None, None], 0.0, _product(rest, chain.transition[None]))
    known = jnp.where(begin[:, None], chain.mean[None], chain.drift)
    added = _apply(rest, known) + _apply(gain, query)
    if there is not None:
        moved = jnp.where(there[:, None, None], moved, jnp.eye(size, dtype=gain.dtype)[None])
        added = jnp.where(there[:, None], added, 0.0)
    mean, _ = recursion(moved, added, None)
    before = jnp.concatenate([mean[:1], mean[:-1]])
    predicted = jnp.where(begin[:, None], chain.mean[None], before @ chain.transition.T + chain.drift)
    white = _apply(table.gain, query - predicted @ emission.T)
    left = query - mean @ emission.T
    values = -0.5 * (jnp.sum(left * left, 1) + jnp.sum(white * white, 1)) - table.logs
    values = values if there is None else jnp.where(there, values, 0.0)
    return Filtered(mean, table.covariance, predicted, values, table.back, table.spread)


class Ages(NamedTuple):
    """Of the filter's step t of an episode, [T, ...]: ``covariance`` and prior ``factor`` G as in ``Filtered``.

    ``gain`` M⁻¹ Bᵀ [T, L, D] and ``logs`` ½ log |M| [T] as in ``update``; ``back`` and ``spread`` are ``Filtered``'s
    ``gain`` and ``spread``.
    """

    covariance: Float[Array, "T L L"]
    factor: Float[Array, "T L L"]
    gain: Float[Array, "T L D"]
    logs: Float[Array, " T"]
    back: Float[Array, "T L L"]
    spread: Float[Array, "T L L"]


def _age(covariance: Array, transition: Array, noise: Array, emission: Array) -> tuple[Array, tuple[Array, ...]]:
    """The next prior covariance, and this step's part of ``Ages``."""
    after, factor, gain, logs = _condition(covariance, emission)
    following = linear.symmetric(transition @ after @ transition.T) + noise
    return following, (after, factor, gain, logs, *_back(after, following, transition, noise))


def _back(after: Array, following: Array, transition: Array, noise: Array) -> tuple[Array, Array]:
    """Of p(z_t | z_t+1, y_1..t): the gain J_t and the covariance, from Cov(z_t | y_1..t) and Cov(z_t+1 | y_1..t)."""
    gain = linear.solve_positive(linear.cholesky(following), transition @ after).T
    rest = jnp.eye(len(after), dtype=after.dtype) - gain @ transition
    # Joseph's form: (I - J F) P (I - J F)ᵀ + J Q Jᵀ
    return gain, rest @ after @ rest.T + gain @ noise @ gain.T


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def ages(
    covariance: Float[Array, "L L"],
    transition: Float[Array, "L L"],
    noise: Float[Array, "L L"],
    emission: Float[Array, "D L"],
    count: int,
) -> Ages:
    """What of the filter does not depend on the data, for ``count`` steps from the start of an episode.

    The covariances' recursion (Riccati's) is run until it stands still: no entry changes by more than 4 eps of its
    scale, which is what rounding changes in each step. What is still to come is then of the order of the rounding that
    all steps would have added, eps / (1 - rate of convergence).
    """
    eps = 4 * jnp.finfo(covariance.dtype).eps
    shapes = jax.eval_shape(_age, covariance, transition, noise, emission)[1]
    empty = tuple(jnp.zeros((count, *shape.shape), shape.dtype) for shape in shapes)

    def step(carry: tuple[Array, Array, Array, tuple[Array, ...]]) -> tuple[Array, Array, Array, tuple[Array, ...]]:
        t, _, covariance, rows = carry
        following, found = _age(covariance, transition, noise, emission)
        scale = jnp.sqrt(jnp.diagonal(following))
        still = jnp.all(jnp.abs(following - covariance) <= eps * scale[:, None] * scale[None])
        rows = tuple(jax.lax.dynamic_update_index_in_dim(row, new, t, 0) for row, new in zip(rows, found, strict=True))
        return t + 1, still, following, rows

    begin = (jnp.zeros((), int), jnp.array(False), covariance, empty)
    end, _, _, rows = jax.lax.while_loop(lambda carry: (carry[0] < count) & ~carry[1], step, begin)
    at = jnp.minimum(jnp.arange(count), end - 1)
    return Ages(*(row[at] for row in rows))


@ages.defjvp
def _ages_derivative(count: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    def every(covariance: Array, *rest: Array) -> Ages:
        return Ages(*jax.lax.scan(lambda now, _: _age(now, *rest), covariance, None, count)[1])

    return jax.jvp(every, primals, tangents)


def _stepwise(
    chain: LinearSystem,
    query: Float[Array, "T D"],
    emission: Float[Array, "T D L"],
    starts: Bool[Array, " T"] | None,
    there: Bool[Array, " T"] | None,
) -> Filtered:
    """``filtered`` with another emission at every step (missing entries), step by step."""

    def step(carry: tuple[Array, Array], now: tuple[Any, ...]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        predicted, covariance = carry
        look, part, start, real, drift = now
        if start is not None:
            predicted = jnp.where(start, chain.mean, predicted)
            covariance = jnp.where(start, chain.covariance, covariance)
        mean, after, _, value = update(predicted, covariance, look, part)
        following = chain.transition @ mean + drift
        spread = linear.symmetric(chain.transition @ after @ chain.transition.T) + chain.noise
        if real is not None:
            mean, following = jnp.where(real, mean, predicted), jnp.where(real, following, predicted)
            value = jnp.where(real, value, 0.0)
        return (following, spread), (mean, after, predicted, value, spread)

    following_drift = jnp.concatenate([chain.drift[1:], jnp.zeros_like(chain.drift[:1])])
    xs = (query, emission, starts, there, following_drift)
    mean, covariance, predicted, values, spread = jax.lax.scan(step, (chain.mean, chain.covariance), xs)[1]
    back = jax.vmap(lambda after, following: _back(after, following, chain.transition, chain.noise))
    return Filtered(mean, covariance, predicted, values, *back(covariance, spread))


def recursion(
    gain: Float[Array, "T L L"],
    offset: Float[Array, "T L"],
    spread: Float[Array, "T L L"] | None,
    reverse: bool = False,
) -> tuple[Float[Array, "T L"], Float[Array, "T L L"] | None]:
    """m_t = A_t m_t-1 + c_t and P_t = A_t P_t-1 A_tᵀ + S_t from m = 0 and P = 0 before; ``reverse``: from t + 1 to t.

    Long ones in chunks side by side: within each from zero, with the product of its A; then from border to border; then
    both are put together (Särkkä & García-Fernández 2021, in two levels instead of a tree).
    """
    count, size = offset.shape
    if count < LONG:

        def one(carry: tuple[Array, Any], now: tuple[Array, Array, Any]) -> tuple[tuple[Array, Any], tuple[Array, Any]]:
            mean, covariance = carry
            a, c, s = now
            mean = a @ mean + c
            covariance = None if s is None else linear.symmetric(a @ covariance @ a.T) + s
            return (mean, covariance), (mean, covariance)

        start = (jnp.zeros_like(offset[0]), None if spread is None else jnp.zeros_like(spread[0]))
        return jax.lax.scan(one, start, (gain, offset, spread), reverse=reverse)[1]

    length = int(count**0.5)
    chunks = -(-count // length)

    def cut(array: Array) -> Array:
        """[L, ..., C]: chunks last, the axis that processors like. What is added comes after all others."""
        rest = chunks * length - count
        padded = jnp.pad(array, [(rest, 0) if reverse else (0, rest)] + [(0, 0)] * (array.ndim - 1))
        return jnp.moveaxis(padded.reshape(chunks, length, *array.shape[1:]), 0, -1)

    parts: Any = (cut(gain), cut(offset), None if spread is None else cut(spread))

    def product(left: Array, right: Array) -> Array:
        """Σ_j left[..., i, j, C] right[j, ..., C]."""
        lefts = [left[..., j, :] for j in range(size)]
        if right.ndim == 3:
            lefts = [part[..., None, :] for part in lefts]
        terms = [part * right[j] for j, part in enumerate(lefts)]
        return sum(terms[1:], terms[0])

    def step(carry: tuple[Array, Array, Any], now: tuple[Array, Array, Any]) -> tuple[Any, Any]:
        total, mean, covariance = carry
        a, c, s = now
        mean = product(a, mean) + c
        if s is not None:
            # (A (A P)ᵀ): P is symmetric
            covariance = product(a, jnp.swapaxes(product(a, covariance), 0, 1)) + s
        carry = (product(a, total), mean, covariance)
        return carry, carry

    identity = jnp.broadcast_to(jnp.eye(size, dtype=offset.dtype)[:, :, None], (size, size, chunks))
    zero = jnp.zeros((size, chunks), offset.dtype)
    begin: Any = (identity, zero, None if spread is None else 0.0 * identity)
    ends, (totals, means, covariances) = jax.lax.scan(step, begin, parts, reverse=reverse)

    def border(carry: tuple[Array, Any], now: tuple[Array, Array, Any]) -> tuple[Any, Any]:
        mean, covariance = carry
        a, c, s = now
        after = None if s is None else linear.symmetric(a @ covariance @ a.T) + s
        return (a @ mean + c, after), carry

    last = jax.tree.map(lambda array: jnp.moveaxis(array, -1, 0), ends)
    nothing = (jnp.zeros_like(offset[0]), None if spread is None else jnp.zeros_like(spread[0]))
    mean, covariance = jax.lax.scan(border, nothing, last, reverse=reverse)[1]

    def joined(array: Array) -> Array:
        flat = jnp.moveaxis(array, -1, 0).reshape(chunks * length, *array.shape[1:-1])
        return flat[-count:] if reverse else flat[:count]

    means = means + product(totals, mean.T)
    if spread is None:
        return joined(means), None
    grown = product(totals, jnp.moveaxis(covariance, 0, -1))
    added = [grown[:, :, None, j] * totals[:, None, :, j] for j in range(size)]
    covariances = joined(sum(added, covariances))
    return joined(means), 0.5 * (covariances + jnp.swapaxes(covariances, 1, 2))


def _backward(found: Filtered, ends: Bool[Array, " T"]) -> tuple[Array, Array, Array]:
    """Of p(z_t | z_t+1, y_1..t): the gain J_t, the covariance, and the mean's part m_t - J_t m⁻_t+1; J = 0 at ends."""
    predicted = jnp.concatenate([found.predicted[1:], found.predicted[-1:]])
    gain = jnp.where(ends[:, None, None], 0.0, found.gain)
    spread = jnp.where(ends[:, None, None], found.covariance, found.spread)
    return gain, spread, found.mean - _apply(gain, predicted)


def _ends(count: int, starts: Bool[Array, " T"] | None, there: Bool[Array, " T"] | None) -> Bool[Array, " T"]:
    """After which steps nothing follows: the last one, before a start, before padding."""
    ends = jnp.arange(count) == count - 1
    if starts is not None:
        ends = ends | jnp.concatenate([starts[1:], jnp.ones(1, bool)])
    if there is not None:
        ends = ends | jnp.concatenate([~there[1:], jnp.ones(1, bool)])
    return ends


def smoothed(found: Filtered, starts: Bool[Array, " T"] | None, there: Bool[Array, " T"] | None) -> Smoothed:
    """Rauch-Tung-Striebel smoother with lag-one covariances. Särkkä & Svensson 2023, theorem 12.2 and eq. 12.8."""
    ends = _ends(len(found.mean), starts, there)
    gain, spread, base = _backward(found, ends)
    mean, covariance = recursion(gain, base, spread, reverse=True)
    assert covariance is not None  # because there is a spread
    lag = _product(covariance[1:], jnp.swapaxes(gain[:-1], 1, 2))
    return Smoothed(mean, covariance, jnp.concatenate([jnp.zeros_like(gain[:1]), lag]))


def sample_path(
    key: PRNGKeyArray, found: Filtered, starts: Bool[Array, " T"] | None, there: Bool[Array, " T"] | None
) -> Float[Array, "T L"]:
    """A path from p(z | y), backwards from the filter. Särkkä & Svensson 2023, algorithm 12.1 (Carter & Kohn 1994)."""
    gain, spread, base = _backward(found, _ends(len(found.mean), starts, there))
    noise = jax.random.normal(key, base.shape, base.dtype)
    offset = base + jax.vmap(lambda covariance, some: linear.cholesky(covariance) @ some)(spread, noise)
    return recursion(gain, offset, None, reverse=True)[0]


def _product(left: Float[Array, "#T i j"], right: Float[Array, "#T j k"]) -> Float[Array, "T i k"]:
    # written out: ten times as fast as XLA's batched dots on CPUs; jnp.sum of a product was wrong under vmap (0.10.2)
    terms = [left[:, :, j, None] * right[:, j, None, :] for j in range(right.shape[1])]
    return sum(terms[1:], terms[0])


def _apply(left: Float[Array, "T i j"], right: Float[Array, "T j"]) -> Float[Array, "T i"]:
    return jnp.einsum("tij,tj->ti", left, right)
