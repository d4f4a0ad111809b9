"""Along a field from noise to data and back: in a few steps for draws, by an adaptive solver for densities."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.parts.fields import Field, Separable

MOST = 4096  # steps of the solver


def carried(field: Field, noise: Float[Array, "*event"], given: Any, steps: int) -> Float[Array, "*event"]:
    """The data that noise becomes in so many steps: z_s = α_s ŷ + σ_s ε̂ of the field's ŷ, ε̂ at z_t. At the end it is ŷ.

    DDIM, Song et al. 2021, eq. 12 with η = 0; on a straight path these are Euler's steps.
    """
    times, path = field.path.grid(steps), field.path

    def walk(direction: Direction, moments: Any) -> Array:
        def step(state: tuple[Array, Array], now: Any) -> tuple[tuple[Array, Array], None]:
            time, then, moment = now
            clean, noise = path.split(state[0], direction(state[0], moment), time)
            return (path.noisy(clean, noise, then), clean), None

        # the last step is in the loop, too: the network is compiled once, and as quick as in the others
        return jax.lax.scan(step, (noise, jnp.zeros_like(noise)), (times[:-1], times[1:], moments))[0][1]

    return along(field, times[:-1], given, walk)


Direction = Callable[[Array, Any], Array]  # v of a value, and of the moment at which it is there


def along(field: Field, times: Float[Array, " S"], given: Any, walk: Callable[[Direction, Any], Any]) -> Any:
    """``walk(direction, moments)``: v is direction(value, moment), and there is a moment for each of the times.

    Moments of one datum are what a ``Separable`` field makes ahead, of all times at once, so that its weights are read
    once. Of a batch that would gain nothing, as weights are read for many rows anyhow, and take S times the memory:
    moments are then the times, as they are of other fields.
    """

    def each(given: Any) -> Any:
        return walk(lambda value, time: field(value, time, given), times)

    if not isinstance(field, Separable):
        return each(given)

    def ahead(given: Any) -> Any:
        return walk(field.after, jax.vmap(lambda time: field.ahead(time, given))(times))

    if given is None:
        return ahead(given)
    return jax.lax.cond(_alone(jax.lax.stop_gradient(given)), ahead, each, given)  # a constant to the compiler


@jax.custom_batching.custom_vmap
def _alone(given: Any) -> Array:
    return jnp.array(True)


@_alone.def_vmap
def _not_alone(size: int, batched: Any, given: Any) -> tuple[Array, bool]:
    return jnp.array(False), False


def solved(
    field: Field,
    value: Float[Array, "*event"],
    given: Any,
    tolerance: float,
    to_noise: bool,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, "*event"], Float[Array, ""]]:
    """The end of dz/dt = u(z, t) from data (t = 0) to noise (t = 1) or back, and log |det d end / d value| (nats).

    The determinant's rate is tr(du/dz) (Chen et al. 2018, theorem 1), exact from one product with the Jacobian an
    entry; with a ``key`` Hutchinson's unbiased estimate from one random sign an entry (Grathwohl et al. 2019).
    Solved by Tsitouras' 5/4 pair (diffrax), errors at ``tolerance``, relative and absolute.
    """
    path, size = field.path, value.size
    start = path.alpha(0.0)
    probe = None if key is None else jax.random.rademacher(key, (size,), value.dtype)
    begin = value.ravel() * start if to_noise else value.ravel()
    times = (0.0, 1.0) if to_noise else (1.0, 0.0)
    end, log_determinant = jax.tree.map(
        lambda leaf: leaf[-1], _solution(field, begin, value.shape, given, tolerance, times, None, probe)
    )
    shrunk = size * jnp.log(start)
    if to_noise:
        return end.reshape(value.shape), log_determinant + shrunk
    return (end / start).reshape(value.shape), log_determinant - shrunk


def on_the_way(
    field: Field, noise: Float[Array, "*event"], given: Any, times: Float[Array, " T"], tolerance: float
) -> tuple[Float[Array, "T *event"], Float[Array, " T"]]:
    """z_t and log |det dz_t / dz_1| (nats) at ``times``, which fall from 1 to 0, of what begins as ``noise`` z_1.

    With it the density on the way: log p_t(z_t | x) = log N(z_1; 0, I) - log |det dz_t / dz_1|. As ``solved`` solves.
    """
    values, determinants = _solution(field, noise.ravel(), noise.shape, given, tolerance, (1.0, 0.0), times, None)
    return values.reshape(len(times), *noise.shape), determinants


def _solution(
    field: Field,
    begin: Float[Array, " D"],
    shape: tuple[int, ...],
    given: Any,
    tolerance: float,
    ends: tuple[float, float],
    times: Float[Array, " T"] | None,
    probe: Float[Array, " D"] | None,
) -> Any:
    """z and the log-determinant so far, at ``times`` or at the end only, with an axis of times in front."""
    diffrax = _diffrax()

    def rate(time: Any, state: Any, args: Any) -> Any:
        def velocity(flat: Array) -> Array:
            return field.velocity(flat.reshape(shape), time, given).ravel()

        moved, push = jax.linearize(velocity, state[0])
        if probe is not None:
            return moved, probe @ push(probe)
        return moved, jnp.trace(jax.vmap(push)(jnp.eye(begin.size, dtype=begin.dtype)))

    return diffrax.diffeqsolve(
        diffrax.ODETerm(rate),
        diffrax.Tsit5(),
        *ends,
        None,
        (begin, jnp.zeros((), begin.dtype)),
        saveat=diffrax.SaveAt(t1=True) if times is None else diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=MOST,
    ).ys


def _diffrax() -> Any:
    try:
        import diffrax
    except ImportError as error:
        raise ImportError("the density of a continuous flow needs diffrax: pip install 'veil[flows]'") from error
    return diffrax
