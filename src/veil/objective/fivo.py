"""The filtering variational objective: the likelihood estimate of a particle filter, as a bound to learn from."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from veil.maths import particles as maths
from veil.model import Datum, Model
from veil.objective.base import Estimate, Objective
from veil.parts.nets import positive
from veil.posterior import Posterior, proposals


class FIVO(Objective):
    """log Ẑ of a particle filter with ``particles`` draws a step from ``posterior.step``: E[log Ẑ] ≤ log p(y | x).

    For sequence models that run step by step (``veil.model.stepwise``): ``HMM``, ``LDS``, nonlinear and deep ones. With
    a posterior that has seen all of y and no resampling it is the importance-weighted bound; resampling, when the
    effective number of particles falls below ``threshold`` times theirs, keeps it tight for long sequences.

    Its gradient leaves out the choice of ancestors, whose score has a large variance: it is biased, as in the paper.
    Where a draw is no differentiable function of the posterior's parameters (discrete latents), these get no gradient,
    and the model's is that of the bound with the proposals held fixed. Maddison et al. 2017, eq. 7 and section 4.

    >>> import jax, veil
    >>> data = veil.data.episodes([veil.data.load("nile").query[:20]])
    >>> model = veil.fit(veil.LDS(latent=1), data, key=jax.random.key(0), steps=5).model
    >>> one = jax.tree.map(lambda leaf: leaf[0], veil.Datum(jax.numpy.asarray(data.query, "float32")))
    >>> bool(abs(FIVO(64)(model, veil.Optimal(), one, jax.random.key(0)).value - model.log_marginal(one)) < 1)
    True
    """

    particles: int = eqx.field(static=True, default=16)
    threshold: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        positive("particles", self.particles)
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: expected a share from 0 (never) to 1 (always); got {self.threshold!r}")

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        found: maths.Particles = proposals.filtered(model, posterior, datum, key, self.particles, self.threshold)
        return Estimate(found.log_likelihood, {"effective_particles": jnp.mean(found.effective)})
