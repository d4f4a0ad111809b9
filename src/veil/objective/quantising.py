"""Learning of codes that are chosen, not drawn; and of a prior alone, behind codes or latents that stay as they are."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from veil import distributions
from veil.maths import quantising
from veil.model import Datum, Model
from veil.objective.base import Estimate, Helped, Objective, with_gradient
from veil.objective.elbo import ELBO, as_terms
from veil.objective.estimators import Enumerated
from veil.parts.priors import ResidualCodes
from veil.posterior.amortized import part
from veil.posterior.base import Posterior
from veil.posterior.quantised import Quantised


class Quantising(Helped):
    """log p(y | x, z) + log p(z | x) - Σ_l (|sg(r_l) - C_l[z_l]|² + ``commitment`` |r_l - sg(C_l[z_l])|²), nats.

    z are the codes that ``posterior.Quantised`` chooses, r_l what is left before level l, sg what no gradient passes.
    The first two terms are the ELBO (the metric ``elbo``), whose gradient reaches the encoder as if its output had not
    been rounded to codes (straight through); the penalties (the metric ``quantisation``, in squared units of the
    encoder's output) draw codes and encoder to each other. van den Oord et al. 2017, eq. 3, at each level as
    in Zeghidour et al. 2021. ``kl``: what is done to -log p(z | x), as in ``ELBO``; ``Beta(0.0)`` learns codes alone,
    the first of two stages, of which ``PriorOnly()`` is the second.

    A ``commitment`` above the papers' 0.25, whose first term is a squared error: a sharp likelihood pulls the encoder
    by 1 / variance as much, and codes that it runs away from are found again by no prior.
    """

    commitment: float = eqx.field(static=True, default=10.0)
    kl: Any = eqx.field(default=(), converter=as_terms)

    def __check_init__(self) -> None:
        if not self.commitment >= 0:
            raise ValueError(f"commitment: expected a number, zero or more; got {self.commitment!r}")

    @property
    def bound(self) -> ELBO:
        """The ELBO at the codes."""
        return ELBO(Enumerated())

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        if not isinstance(posterior, Quantised):
            raise TypeError(
                f"objective: Quantising is for codes that posterior.Quantised() chooses; this posterior is "
                f"{type(posterior).__name__}: use ELBO(StraightThrough()) or ELBO(Enumerated())"
            )
        encoded = posterior.encoded(model, datum)
        codebooks, _ = part(model, ResidualCodes).known()
        fixed = jax.lax.stop_gradient
        codes, left = quantising.residual_codes(fixed(encoded), fixed(codebooks))
        straight = encoded - fixed(encoded)  # zero, with the encoder's gradient
        is_codes = lambda node: isinstance(node, ResidualCodes)  # noqa: E731
        through = jax.tree.map(lambda n: n.moved(straight) if is_codes(n) else n, model, is_leaf=is_codes)
        reconstruction = through.log_likelihood(codes, datum)
        parts = distributions.kl_entries(distributions.Point(codes), model.prior_for(datum))
        assert parts is not None
        counted = parts
        for term in self.kl:
            counted = term(counted)
        chosen = jnp.einsum("lc,lcd->ld", codes, codebooks)
        drawn = jnp.sum((left - chosen) ** 2)
        committed = jnp.sum((left + straight[None] - fixed(chosen)) ** 2)
        value = reconstruction - jnp.sum(counted) - drawn - self.commitment * committed
        elbo = reconstruction - jnp.sum(parts)
        metrics = {"elbo": elbo, "reconstruction": reconstruction, "kl": jnp.sum(parts), "quantisation": drawn}
        return Estimate(value, fixed(metrics))

    def advanced(self, metrics: dict[str, Float[Array, ""]]) -> "Quantising":
        return Quantising(self.commitment, tuple(term.advanced() for term in self.kl))


class PriorOnly(Objective):
    """The ELBO from one draw z ~ q(z | y, x), of which only p(z | x) learns: the gradient is that of log p(z | x).

    The second of two stages: what was learned first, likelihood and posterior, stays as it is. The prior comes to the
    posterior averaged over the data with the same x (van den Oord et al. 2017, section 3.3; any latent).
    """

    def __call__(self, model: Model, posterior: Posterior, datum: Datum, key: PRNGKeyArray) -> Estimate:
        q = posterior(model, datum)
        latent = jax.lax.stop_gradient(q.sample(key))
        prior = distributions.log_prob(model.prior_for(datum), latent)
        reconstruction = model.log_likelihood(latent, datum)
        kl = distributions.log_prob(q, latent) - prior
        metrics = {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
        return Estimate(with_gradient(reconstruction - kl, prior), jax.lax.stop_gradient(metrics))
