"""Information gain about the weights of a dynamics that is linear in features: exact, and in closed form."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil.control.exploration.bonus import About, Bonus, Transition, left
from veil.maths import linear
from veil.parts.nets import flat, positive, with_one


class Affine(eqx.Module):
    """[1, all numbers of what the step is ``about``], by default of o and u."""

    about: About = eqx.field(static=True, default=left)

    def __call__(self, step: Transition) -> Float[Array, " F"]:
        return with_one(self.about(step))


class Precision(eqx.Module):
    """S⁻¹ [F, F] of a row of W, its lower Cholesky ``factor``, and how many numbers o' has."""

    matrix: Float[Array, "F F"]
    factor: Float[Array, "F F"]
    outputs: Float[Array, ""]


class LinearGain(Bonus):
    """The information that a step is expected to give about W, nats: I(o'; W | o, u, all so far), exactly.

        o' = W φ(o, u) + noise,  noise ~ N(0, s² I),  each row of W ~ N(0, scale² I):
        ½ D log(1 + φᵀ S φ / s²),   S⁻¹ = I / scale² + Σ_n φ_n φ_nᵀ / s²

    with D numbers in o'. It does not depend on o', only on where the step begins and what is done there. ``features``:
    φ of a step, which must not look at ``following``; [1, o, u] by default. ``noise``: s, ``scale``: the deviation of
    the weights a priori, in the units that the numbers come in: nothing is standardised. A value takes F² operations;
    learning from a batch is one product of matrices and a factorisation, B F² + F³/3.

    Lindley 1956; MacKay 1992, "Information-based objective functions for active data selection".

    Raises ValueError for a noise or scale that is not positive.

    >>> bonus = LinearGain(noise=1.0)
    >>> step = Transition(jnp.zeros(2), jnp.zeros(1), jnp.zeros(2))
    >>> state = bonus.init(step, jax.random.key(0))
    >>> value, _ = bonus(state, step.observation, step.action, step.following)
    >>> round(float(value), 4)  # log 2, half for each of the two numbers
    0.6931
    """

    features: About = eqx.field(static=True, default=Affine())
    noise: float = eqx.field(static=True, default=0.1)
    scale: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        for name in ("noise", "scale"):
            if not vars(self)[name] > 0:
                raise ValueError(f"{name}: expected a positive number; got {vars(self)[name]!r}")

    def init(self, example: Transition, key: PRNGKeyArray) -> Precision:
        size = jax.eval_shape(self.features, example).size
        positive("features", size)
        eye = jnp.eye(size)
        return Precision(eye / self.scale**2, eye / self.scale, jnp.full((), float(flat(example.following).size)))

    def __call__(
        self, state: Precision, observation: Any, action: Any, following: Any
    ) -> tuple[Float[Array, ""], Precision]:
        seen = self.features(Transition(observation, action, following))
        white = linear.solve_lower(state.factor, seen[:, None])
        return 0.5 * state.outputs * jnp.log1p(jnp.sum(white**2) / self.noise**2), state

    def update(self, state: Precision, batch: Transition) -> Precision:
        seen = jax.vmap(self.features)(batch) / self.noise
        matrix = state.matrix + seen.T @ seen
        return Precision(matrix, linear.cholesky(matrix), state.outputs)
