"""Linear-Gaussian chains: filter and exact likelihood of ONE sequence; ``maths.smoothing`` goes back from there.

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
from jaxtyping import Array, Bool, Float

from veil.maths import affine, gaussian, linear


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
    count = len(query)
    table = ages(chain.covariance, chain.transition, chain.noise, emission, count)
    begin = jnp.arange(count) == 0 if starts is None else starts.at[0].set(True)
    if starts is not None:
        step = jnp.arange(count)
        table = jax.tree.map(lambda array: array[step - jax.lax.cummax(jnp.where(begin, step, 0))], table)
    matrices = table, chain.mean, chain.transition, emission, begin
    mean, predicted, values = _means(matrices, (query, chain.drift, there))
    return Filtered(mean, table.covariance, predicted, values, table.back, table.spread)


def _means_alone(matrices: Any, vectors: Any) -> tuple[Array, Array, Array]:
    """Means, predicted means and log-likelihoods of one sequence: an affine recursion."""
    (table, first, transition, emission, begin), (query, drift, there) = matrices, vectors
    gain = affine.product(table.factor, table.gain)
    identity = jnp.eye(first.size, dtype=gain.dtype)[None]
    rest = identity - gain @ emission
    moved = jnp.where(begin[:, None, None], 0.0, affine.product(rest, transition[None]))
    known = jnp.where(begin[:, None], first[None], drift)
    added = affine.apply(rest, known) + affine.apply(gain, query)
    if there is not None:
        moved = jnp.where(there[:, None, None], moved, identity)
        added = jnp.where(there[:, None], added, 0.0)
    mean, _ = affine.recursion(moved, added, None)
    before = jnp.concatenate([mean[:1], mean[:-1]])
    predicted = jnp.where(begin[:, None], first[None], before @ transition.T + drift)
    white = affine.apply(table.gain, query - predicted @ emission.T)
    left = query - mean @ emission.T
    values = -0.5 * (jnp.sum(left * left, 1) + jnp.sum(white * white, 1)) - table.logs
    return mean, predicted, values if there is None else jnp.where(there, values, 0.0)


def _means_beside(matrices: Any, vectors: Any) -> tuple[Array, Array, Array]:
    """The same of many, step by step, as it is in the book."""
    (table, first, transition, emission, begin), (query, drift, there) = matrices, vectors

    times = affine.times

    def step(before: Array, now: tuple[Any, ...]) -> tuple[Array, tuple[Array, Array, Array]]:
        factor, gain, logs, begin, query, drift, there = now
        predicted = jnp.where(begin[None], first, times(transition, before) + drift)
        white = times(gain, query - times(emission, predicted))
        mean = predicted + times(factor, white)
        left = query - times(emission, mean)
        value = -0.5 * (jnp.sum(left * left, 0) + jnp.sum(white * white, 0)) - logs
        if there is not None:
            mean, value = jnp.where(there[None], mean, before), jnp.where(there, value, 0.0)
        return mean, (mean, predicted, value)

    steps = table.factor, table.gain, table.logs, begin, query, drift, there
    nothing = affine.zeros((matrices, vectors), len(first))
    return jax.lax.scan(step, nothing, steps)[1]


_means = affine.columns(_means_alone, _means_beside)


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
