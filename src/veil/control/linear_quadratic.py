"""Control as inference where everything is linear, quadratic and Gaussian: exact, and dual to Kalman's filter."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.control.optimality import Fixed, Hoped, Luck
from veil.maths import gaussian, kalman, linear


class LinearQuadratic(eqx.Module):
    """s' = A s + B u + N(0, W); each of H decisions earns -½ sᵀ Q s - ½ uᵀ R u, the last state -½ sᵀ Q_H s.

    ``transition`` A [S, S], ``steering`` B [S, U], ``noise`` W [S, S] (None: none), ``state_cost`` Q and ``final_cost``
    Q_H [S, S] (None: Q), positive semi-definite, ``action_cost`` R [U, U], positive definite.

    Raises:
        ValueError: matrices that do not fit together, or a horizon that is not positive.
    """

    transition: Float[Array, "S S"] = eqx.field(converter=jnp.asarray)
    steering: Float[Array, "S U"] = eqx.field(converter=jnp.asarray)
    state_cost: Float[Array, "S S"] = eqx.field(converter=jnp.asarray)
    action_cost: Float[Array, "U U"] = eqx.field(converter=jnp.asarray)
    horizon: int = eqx.field(static=True)
    noise: Any = None
    final_cost: Any = None

    def __check_init__(self) -> None:
        states, actions = self.steering.shape
        for name, matrix, size in (
            ("transition", self.transition, states),
            ("state_cost", self.state_cost, states),
            ("action_cost", self.action_cost, actions),
            ("noise", self.noise, states),
            ("final_cost", self.final_cost, states),
        ):
            if matrix is not None and jnp.shape(matrix) != (size, size):
                raise ValueError(f"{name}: expected a matrix [{size}, {size}]; got the shape {jnp.shape(matrix)}")
        if isinstance(self.horizon, bool) or self.horizon < 1:
            raise ValueError(f"horizon: expected a positive number of decisions; got {self.horizon!r}")


class LinearPolicy(eqx.Module):
    """π_t(u | s) = N(-K_t s, Σ_t), and V_t(s) = c_t - ½ sᵀ P_t s, in units of reward.

    ``gain`` K [H, U, S], ``covariance`` Σ [H, U, U] (zero at temperature 0), ``curvature`` P [H + 1, S, S],
    ``constant`` c [H + 1].
    """

    gain: Float[Array, "H U S"]
    covariance: Float[Array, "H U U"]
    curvature: Float[Array, "T S S"]
    constant: Float[Array, " T"]

    def value(self, state: Float[Array, " S"], step: int = 0) -> Float[Array, ""]:
        """V_t(s)."""
        return self.constant[step] - 0.5 * state @ self.curvature[step] @ state


def solve_linear_quadratic(
    problem: LinearQuadratic, temperature: float = 1.0, luck: Luck | None = None
) -> LinearPolicy:
    """The soft-optimal policy, exactly: the mean action is that of linear-quadratic control at any temperature.

        P⁺ = P - P B M⁻¹ Bᵀ P      P_t = Q + Aᵀ P⁺ A      K_t = M⁻¹ Bᵀ P A      Σ_t = τ M⁻¹      M = R + Bᵀ P B

    The first is the covariance of Kalman's update, of a prior P that is observed through Bᵀ with noise R, and the
    second its prediction, through Aᵀ with noise Q: backward messages are a filter of the dual system, and here they are
    computed by it (Kalman 1960; Todorov 2008, "General duality between optimal control and estimation"). ``luck``:
    ``Fixed()`` (None), or ``Hoped()``, which sees P (I + W P / τ)⁻¹ in the place of P: what noise may do, success makes
    likely. In units of reward; actions have the measure du, so c_t counts -½ τ log |M / 2πτ| for each.

    Raises:
        ValueError: a negative temperature, or one of zero with ``Hoped()``.

    >>> one = LinearQuadratic([[1.0]], [[1.0]], [[1.0]], [[1.0]], horizon=50)
    >>> round(float(solve_linear_quadratic(one, temperature=0.0).gain[0, 0, 0]), 4)  # (√5 - 1) / 2
    0.618
    """
    chosen = Fixed() if luck is None else luck
    if not isinstance(chosen, Fixed | Hoped):
        raise TypeError(f"luck: of this problem Fixed() and Hoped() are known; got {chosen!r}")
    if not temperature >= 0 or (temperature == 0 and isinstance(chosen, Hoped)):
        raise ValueError(f"temperature: expected a number from 0, with Hoped() above 0; got {temperature!r}")
    return _solved(problem, float(temperature), isinstance(chosen, Hoped))


@eqx.filter_jit
def _solved(problem: LinearQuadratic, temperature: float, hoped: bool) -> LinearPolicy:
    moved, steered, cost = problem.transition, problem.steering, problem.state_cost
    states, actions = steered.shape
    noise = jnp.zeros_like(cost) if problem.noise is None else jnp.asarray(problem.noise)
    last = cost if problem.final_cost is None else jnp.asarray(problem.final_cost)
    whitener = linear.solve_lower(linear.cholesky(problem.action_cost), steered.T)  # R^-½ Bᵀ

    def step(after: tuple[Array, Array], _: Any) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        curvature, constant = after
        if hoped:
            bent = jnp.eye(states, dtype=cost.dtype) + noise @ curvature / temperature
            curvature = linear.symmetric(curvature @ jnp.linalg.inv(bent))
            constant = constant - 0.5 * temperature * jnp.linalg.slogdet(bent)[1]
        else:
            constant = constant - 0.5 * jnp.trace(curvature @ noise)
        _, left, _, _ = kalman.update(jnp.zeros(states), curvature, jnp.zeros(actions), whitener)
        inner = linear.cholesky(problem.action_cost + steered.T @ curvature @ steered)
        gain = linear.solve_positive(inner, steered.T @ curvature @ moved)
        spread = temperature * linear.solve_positive(inner, jnp.eye(actions, dtype=cost.dtype))
        if temperature > 0:
            whole = 0.5 * actions * (gaussian.LOG_2PI + jnp.log(temperature)) - jnp.sum(jnp.log(jnp.diagonal(inner)))
            constant = constant + temperature * whole
        before = linear.symmetric(cost + moved.T @ left @ moved)
        return (before, constant), (gain, spread, before, constant)

    begin = (last, jnp.zeros((), cost.dtype))
    _, (gain, spread, curvature, constant) = jax.lax.scan(step, begin, None, problem.horizon, reverse=True)
    return LinearPolicy(
        gain, spread, jnp.concatenate([curvature, last[None]]), jnp.concatenate([constant, begin[1][None]])
    )
