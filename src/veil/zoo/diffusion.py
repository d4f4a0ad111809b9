"""Diffusion as what it is: a deep hierarchical VAE whose posterior is fixed."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.distributions import Distribution
from veil.model import Datum, Guided, Startable
from veil.model.abilities import RealLine, Sizes, Space
from veil.parts.fields import Chaining, NeuralField, as_field
from veil.parts.nets import positive
from veil.parts.paths import LogLinear
from veil.posterior import Posterior
from veil.posterior.noising import Noising, Walk, times_of
from veil.zoo.flows import ContinuousFlow


class Diffusion(Chaining, Startable, Guided):
    """p(y, z_1..z_0 | x) = p(z_1) Π p(z_s | z_t, x) p(y | z_0): noise that is taken away step by step.

    Each p(z_s | z_t, x) is q(z_s | z_t, y) with the network's ŷ(z_t, t, x) in the place of y. The latent is the noisy
    path [steps + 1, *event] from z_1 to z_0 and its posterior is fixed: the noising. Ho et al. 2020 (DDPM); Kingma et
    al. 2021 (variational diffusion), whose notation this is.

    ``field``: the network, or a ``fields.Field`` with a path of its own choice (``NeuralField(net, path=Cosine())``).
    ``steps``: how many the chain has; None: infinitely many, continuous time, of which a draw takes ``draws``.
    ``veil.fit`` minimises the squared error of directions (``objective.FlowMatching``), a weighted ELBO;
    ``objective.Denoising()`` is the ELBO itself, which ``veil.evaluate`` reports, and beside it log p of the
    probability flow, a model of its own with the same network: ``flow()``, whose draws in few steps are DDIM's.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> fit = veil.fit(Diffusion(veil.MLP((32,))), data, key=jax.random.key(0), steps=20)
    >>> veil.sample(fit, 3, key=jax.random.key(1)).query.shape
    (3, 2)
    """

    field: Any = eqx.field(default=NeuralField(path=LogLinear()), converter=lambda found: as_field(found, LogLinear()))
    steps: int | None = eqx.field(static=True, default=None)
    draws: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        positive("draws", self.draws)
        if self.steps is not None:
            positive("steps", self.steps)

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.field.shape, self.field.inputs)

    @property
    def space(self) -> Space:
        return RealLine()

    @property
    def usual_posterior(self) -> Posterior:
        return Noising()

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "Diffusion":
        one = jax.tree.map(lambda leaf: leaf[0], (data.query, data.evidence))
        return replace(self, field=self.field.initialise(*one, key))

    def prior(self, evidence: Any) -> Distribution:
        if self.field.shape is None:
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        times = times_of(self.field.path, self.steps, self.draws)
        return Walk(self.field.path, times, self.field.shape, field=self.field, given=self.field.read(evidence))

    def likelihood(self, latent: Float[Array, "S *event"], evidence: Any) -> Distribution:
        path = self.field.path
        alpha, sigma = path.alpha(path.first), path.sigma(path.first)
        value = latent[-1] / alpha
        return distributions.normal(value, jnp.full_like(value, sigma / alpha))

    def flow(self, steps: int | None = 16, tolerance: float = 1e-5) -> ContinuousFlow:
        """The probability flow: the ODE whose values have this diffusion's distribution at each time. Song et al. 2021.

        As a model: draws by ``steps`` of DDIM, or the solver (None), and log p(y | x) by the solver.
        """
        return ContinuousFlow(steps=steps, tolerance=tolerance, field=self.field)
