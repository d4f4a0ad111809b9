"""How what is imagined teaches the policy: through the dynamics, or by the score of its actions."""

from abc import abstractmethod
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from veil.control.imagination.dreams import Dream
from veil.control.imagination.straight import Differentiable
from veil.control.imagined import Imagined


class Signal(NamedTuple):
    """Of imagined steps, rewards in units of their usual size: λ-``returns`` R_h, critic's ``values`` V_h,

    ``log_probs`` log π(a_h | s_h) and ``entropy`` H[π(· | s_h)], whose gradients are the policy's; ``mixing``: λ;
    ``soft``: returns and values have the entropy of their steps in them.
    """

    returns: Float[Array, "B H"]
    values: Float[Array, "B H"]
    log_probs: Float[Array, "B H"]
    entropy: Float[Array, "B H"]
    temperature: Float[Array, ""]
    mixing: float
    soft: bool


class Gradient(eqx.Module):
    """A strategy: what of a dream is raised by the policy."""

    @property
    @abstractmethod
    def through(self) -> bool:
        """Whether it looks through the dynamics, so that the dream must be differentiable in the policy."""

    @abstractmethod
    def prepared(self, problem: Imagined) -> Imagined:
        """The problem as it is to be dreamt of."""

    @abstractmethod
    def objective(self, dream: Dream, signal: Signal) -> Float[Array, ""]:
        """What the policy maximises, in units of the returns' usual size."""


class Pathwise(Gradient):
    """Through the dynamics: E[R_0 + τ Σ_h λ^h w_h H[π(· | s_h)]], all of R_0 a differentiable function of the policy.

    R_0, the λ-return of where the dream starts, has all rewards, values and chances of going on, so that every action
    of the dream gets its share of exactly what is wanted. (Hafner et al. 2020, eq. 7, raise the sum of R_h over h,
    in which a reward counts once for each step before it: its maximum is another policy where acting has a cost.) For
    actions and models whose draws are reparameterised; straight through, and biased, where either is discrete.
    """

    @property
    def through(self) -> bool:
        return True

    def prepared(self, problem: Imagined) -> Imagined:
        return replace(problem, model=Differentiable(problem.model))

    def objective(self, dream: Dream, signal: Signal) -> Float[Array, ""]:
        raised = dream.weight[:, 0] * signal.returns[:, 0]
        if not signal.soft:
            steps = jnp.arange(dream.weight.shape[1], dtype=raised.dtype)
            mixed = dream.weight * (signal.mixing**steps)[None]
            raised = raised + signal.temperature * jnp.sum(mixed * signal.entropy, 1)
        return jnp.mean(raised)


class Reinforce(Gradient):
    """By the score: E[Σ_h w_h (log π(a_h | s_h) (R_h - V_h) + τ H[π(· | s_h)])] / H, R and V held fixed.

    Unbiased but for the critic, of any model and any actions, and of more variance. Williams 1992; Hafner et al. 2023,
    eq. 11.
    """

    @property
    def through(self) -> bool:
        return False

    def prepared(self, problem: Imagined) -> Imagined:
        return problem

    def objective(self, dream: Dream, signal: Signal) -> Float[Array, ""]:
        better = jax.lax.stop_gradient(signal.returns - signal.values)
        return jnp.mean(dream.weight * (signal.log_probs * better + signal.temperature * signal.entropy))
