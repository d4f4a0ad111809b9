"""Linear-Gaussian state-space models: a latent path that moves linearly, seen through a linear map; all exact."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from veil.distributions import Distribution
from veil.maths import kalman, linear, regression, smoothing
from veil.model import ClosedForm, Datum, Rescalable
from veil.model.abilities import RealLine, Redundant, Sizes, Space, parameter, started
from veil.model.chains import Emissions, GaussianChain, Normal
from veil.model.filter import ExactChain
from veil.model.scales import Scale, rescale_features
from veil.model.stepwise import Before, Marginal
from veil.parts.covariance import Covariance, Diagonal
from veil.parts.nets import each_with_one, positive, with_one
from veil.parts.statistics import Outer, Steps, contract
from veil.zoo.filters import KalmanFilter

NAMES = ("mean", "factor", "transition", "drift", "process", "emission", "offset", "noise")


class LDS(ExactChain, ClosedForm, Rescalable, Redundant):
    """z_t = F z_t-1 + B [1, x_t] + N(0, Q), y_t = H z_t + d + N(0, R); z ~ N(m, P) AT the first step of an episode.

    A datum is a sequence, query [T, D], with controls x [T, U] as evidence or none. ``noise`` is the structure of R:
    ``Diagonal()``, ``Spherical()`` or ``Full()``. Likelihood, posterior (Kalman filter and smoother) and the M-step of
    EM are exact (Ghahramani & Hinton 1996; Shumway & Stoffer 1982), with missing entries, padding and resets. EM holds
    the parameters named in ``fixed`` at the values that the model has.

    mean m [L], factor P = factor factorᵀ, transition F [L, L], drift B [L, 1 + U], process Q = process processᵀ,
    emission H [D, L], offset d [D]. The state's own units are free: EM keeps those it starts with.

    >>> import jax, veil
    >>> data = veil.data.episodes([[[0.0], [1.1], [1.9], [3.2], [3.9], [5.1]]])
    >>> result = veil.fit(LDS(latent=1), data, key=jax.random.key(0))
    >>> veil.infer(result.model, data).mean.shape
    (1, 6, 1)
    """

    latent: int = eqx.field(static=True, default=2)
    noise: Covariance = Diagonal()
    fixed: tuple[str, ...] = eqx.field(static=True, default=())
    floor: float = eqx.field(static=True, default=1e-6)
    mean: Float[Array, " L"] | None = parameter()
    factor: Float[Array, "L L"] | None = parameter()
    transition: Float[Array, "L L"] | None = parameter()
    drift: Float[Array, "L P"] | None = parameter()
    process: Float[Array, "L L"] | None = parameter()
    emission: Float[Array, "D L"] | None = parameter()
    offset: Float[Array, " D"] | None = parameter()

    def __check_init__(self) -> None:
        positive("latent", self.latent)
        unknown = [name for name in self.fixed if name not in NAMES]
        if unknown:
            raise ValueError(f"fixed: expected names among {', '.join(NAMES)}; got {unknown[0]!r}")

    @property
    def sizes(self) -> Sizes:
        if self.emission is None or self.drift is None:
            return Sizes()
        return Sizes((self.emission.shape[0],), self.drift.shape[1] - 1)

    @property
    def space(self) -> Space:
        return RealLine(self.noise.isotropic)

    @property
    def remembers(self) -> bool:
        return False

    def _parts(self) -> tuple[Array, Array, Array, Array, Array, Array, Array]:
        """m, factor of P, F, B, factor of Q, H, d."""
        if not started(self):
            raise ValueError("this model has no parameters yet: call veil.fit on it first")
        found: Any = self.mean, self.factor, self.transition, self.drift, self.process, self.emission, self.offset
        return found

    def _variance(self) -> Float[Array, "D *D"]:
        """R [D, D], or its diagonal."""
        if self.noise.dense:
            return self.noise.dense_covariance()[0]
        size = self._parts()[-1].size
        return 1.0 / jnp.broadcast_to(self.noise.precision(), (1, size))[0]

    def _chain(self, datum: Datum) -> kalman.LinearSystem:
        mean, factor, transition, drift, process, _, _ = self._parts()
        pushed = each_with_one(datum.evidence, len(datum)) @ drift.T
        return kalman.LinearSystem(mean, factor @ factor.T, transition, pushed, process @ process.T)

    def _filter(self, datum: Datum) -> tuple[kalman.LinearSystem, kalman.Filtered, Float[Array, ""]]:
        """The chain, its filter and log p(y | x)."""
        chain = self._chain(datum)
        *_, emission, offset = self._parts()
        white, divided, normalisers = kalman.whitened(
            datum.query - offset[None], emission, self._variance(), datum.observed
        )
        found = kalman.filtered(chain, white, divided, self._starts(datum), datum.mask)
        normalisers = jnp.broadcast_to(normalisers, (len(datum),))
        there = jnp.ones(len(datum), bool) if datum.mask is None else datum.mask
        return chain, found, jnp.sum(found.log_likelihoods + jnp.where(there, normalisers, 0.0))

    def _starts(self, datum: Datum) -> Bool[Array, " T"] | None:
        # None where only the first step is one: then covariances are the same for all sequences
        return None if datum.reset is None else datum.starts

    # -- the model -----------------------------------------------------------------------------------------------------

    def prior_for(self, datum: Datum) -> GaussianChain:
        """p(z | x) over the steps of a datum, with its resets and padding."""
        mean, factor, transition, _, process, _, _ = self._parts()
        starts, there = datum.starts, datum.there
        at = starts[:, None, None]
        pushed = self._chain(datum).drift
        offset = jnp.where(starts[:, None], mean[None], pushed)
        return GaussianChain(
            jnp.where(at, 0.0, transition[None]), offset, jnp.where(at, factor[None], process[None]), there
        )

    def _emission(self, state: Float[Array, " L"], evidence: Any) -> Distribution:
        *_, emission, offset = self._parts()
        return self.noise.distribution(emission @ state + offset, 0)

    def likelihood(self, latent: Float[Array, "T L"], evidence: Any) -> Distribution:
        return Emissions(self._emission, latent, evidence)

    def log_likelihood(self, latent: Float[Array, "T L"], datum: Datum) -> Float[Array, ""]:
        """Σ_t log p(y_t | z_t), nats, over the steps that are there and the entries that are present."""
        *_, emission, offset = self._parts()
        residual = datum.query - latent @ emission.T - offset[None]
        white, _, normalisers = kalman.whitened(residual, emission, self._variance(), datum.observed)
        each = jnp.broadcast_to(normalisers, (len(latent),)) - 0.5 * jnp.sum(white * white, 1)
        return jnp.sum(jnp.where(datum.there, each, 0.0))

    def log_marginal(self, datum: Datum) -> Float[Array, ""]:
        """log p(y | x), the path integrated out by the Kalman filter (nats, exact)."""
        return self._filter(datum)[-1]

    def posterior(self, datum: Datum) -> Distribution:
        """p(z | y, x), exact: again a chain, from the smoother's moments of successive states."""
        found = self._smooth(datum)[0]
        starts, there = datum.starts, datum.there
        return GaussianChain.smoothed(found, starts, there)

    def _smooth(self, datum: Datum) -> tuple[smoothing.Smoothed, Float[Array, ""]]:
        _, found, value = self._filter(datum)
        return smoothing.smoothed(found, self._starts(datum), datum.mask), value

    def marginals(self, datum: Datum) -> Marginal:
        found = self._smooth(datum)[0]
        return Marginal(None, found.mean, jnp.diagonal(found.covariance, axis1=1, axis2=2))

    def sample(self, key: PRNGKeyArray, evidence: Any = None, steps: int | None = None) -> tuple[Array, Array]:
        """(path [T, L], y [T, D]) drawn from the model, as long as the evidence, or ``steps``."""
        key_path, key_query = jax.random.split(key)
        path = self.prior(evidence, steps).sample(key_path)
        return path, self.likelihood(path, evidence).sample(key_query)

    # -- one step at a time: see ``veil.model.stepwise`` and ``filter`` ------------------------------------------------

    def filter(self) -> KalmanFilter:
        """p(z_t | y_1..t), exact."""
        return KalmanFilter(self)

    def carry(self, evidence: Any) -> Before:
        """No state before."""
        return Before(jnp.zeros(self.latent), jnp.array(True))

    def advance(self, carry: Before, latent: Array, query: Any, evidence: Any, observed: Any) -> Before:
        """The state is what the next step needs."""
        return Before(latent, jnp.array(False))

    def step_prior(self, carry: Before, evidence: Any) -> Normal:
        """p(z_t | z_t-1, x_t)."""
        mean, factor, transition, drift, process, _, _ = self._parts()
        onward = transition @ carry.latent + drift @ with_one(evidence)
        return Normal(jnp.where(carry.fresh, mean, onward), jnp.where(carry.fresh, factor, process))

    def step_likelihood(self, carry: Before, latent: Array, evidence: Any) -> Distribution:
        """p(y_t | z_t)."""
        return self._emission(latent, evidence)

    def step_posterior(self, carry: Before, datum: Datum) -> Normal:
        """p(z_t | z_t-1, y_t, x_t), exact."""
        prior = self.step_prior(carry, datum.evidence)
        *_, emission, offset = self._parts()
        observed = None if datum.observed is None else datum.observed[None]
        white, divided, _ = kalman.whitened((datum.query - offset)[None], emission, self._variance(), observed)
        after, spread, *_ = kalman.update(
            prior.mean, prior.factor @ prior.factor.T, white[0], divided.reshape(emission.shape)
        )
        return Normal(after, linear.cholesky(spread))

    # -- learning ------------------------------------------------------------------------------------------------------

    def expectations(self, datum: Datum) -> tuple[Any, Float[Array, ""]]:
        """Mean, covariance and lag-one covariance of p(z | y, x) at every step, and log p(y | x)."""
        found, value = self._smooth(datum)
        return tuple(found), value

    def statistics(
        self, datum: Datum, expectations: tuple[Array, Array, Array], weights: Float[Array, " T"] | None = None
    ) -> Any:
        """Expected sums over the steps of one sequence, each counting ``weights`` times; additive over sequences.

        Of the start [z, 1], of the moves [z', φ, z], of the observations [z, 1, y]: products of expectations, and what
        expectations of products have beyond them.
        """
        mean = expectations[0]
        start, real = datum.starts.astype(mean.dtype), datum.there.astype(mean.dtype)
        if weights is not None:
            start, real = weights * start, weights * real
        *_, emission, offset = self._parts()
        completed = regression.completed(datum.query, datum.observed, emission, offset, self._variance())
        features, dense = each_with_one(datum.evidence, len(mean)), self.noise.dense
        moved, states, seen, totals = regression.rows(expectations, features, completed, start, real, dense)
        every = jnp.concatenate([states, seen], 1)
        sums: dict[str, Any] = {name: Outer(jnp.ones(1), total[None]) for name, total in totals.items()}
        sums["first"], sums["moved"] = Steps(start, states, states), Steps(real - start, moved, moved)
        sums["seen"] = Steps(real, every, every if dense else states)
        return sums

    def maximise(self, sums: Any) -> "LDS":
        """The parameters that maximise the expected log-likelihood plus log-prior, but those that are fixed.

        Least squares of z on [z', φ] and of y on [z, 1], in expectation, then the residuals' covariances.
        """
        mean, factor, transition, drift, process, emission, offset = self._parts()
        size = self.latent
        total = regression.moments({name: leaf[0] for name, leaf in sums.items()}, size)
        free = lambda *names: [name not in self.fixed for name in names]  # noqa: E731

        starts, moves, count = (total[name][0] for name in ("starts", "moves", "steps"))
        if "mean" not in self.fixed:
            mean = total["first"] / starts
        shift = jnp.outer(mean, total["first"])
        spread = total["first_second"] - shift - shift.T + starts * jnp.outer(mean, mean)
        if "factor" not in self.fixed:
            factor = self._spread(spread, starts)

        held = jnp.concatenate([transition, drift], 1)
        chosen = [free("transition")[0]] * size + [free("drift")[0]] * drift.shape[1]
        moved = regression.least_squares(total["cross"], total["moment"], held, chosen)
        # of sequences of a single step nothing is known about moves
        moved = jnp.where(moves > 0, moved, held)
        transition, drift = moved[:, :size], moved[:, size:]
        scatter = regression.residual(total["second"], total["cross"], total["moment"], moved)
        if "process" not in self.fixed:
            process = jnp.where(moves > 0, self._spread(scatter, jnp.maximum(moves, 1.0)), process)

        held = jnp.concatenate([emission, offset[:, None]], 1)
        chosen = [free("emission")[0]] * size + free("offset")
        seen = regression.least_squares(total["seen"], total["states"], held, chosen)
        emission, offset = seen[:, :size], seen[:, size]
        noise = self.noise
        if "noise" not in self.fixed:
            second = total["seen_second"] if noise.dense else jnp.diag(total["seen_second"])
            left = regression.residual(second, total["seen"], total["states"], seen)
            noise = noise.maximise((left if noise.dense else jnp.diagonal(left))[None], count[None])
        return replace(
            self,
            noise=noise,
            mean=mean,
            factor=factor,
            transition=transition,
            drift=drift,
            process=process,
            emission=emission,
            offset=offset,
        )

    def _spread(self, scatter: Float[Array, "L L"], count: Float[Array, ""]) -> Float[Array, "L L"]:
        return linear.cholesky(
            linear.symmetric(scatter + self.floor * jnp.eye(self.latent, dtype=scatter.dtype)) / count
        )

    def log_prior(self) -> Float[Array, ""]:
        """The penalty of the penalised likelihood that EM raises (nats): the floors of the free covariances."""
        _, factor, _, _, process, _, _ = self._parts()
        penalty = jnp.zeros(()) if "noise" in self.fixed else self.noise.log_prior()
        for name, part in (("factor", factor), ("process", process)):
            if name not in self.fixed:
                inverse = linear.solve_lower(part, jnp.eye(self.latent, dtype=part.dtype))
                penalty = penalty - 0.5 * self.floor * jnp.sum(inverse**2)
        return penalty

    def initialise(self, data: Datum, responsibilities: Any, key: PRNGKeyArray) -> "LDS":
        """Principal components of short windows of the past as states of unit variance, then least squares."""
        if self.fixed:
            raise ValueError(
                f"fixed: {', '.join(self.fixed)} can only be held at values that the model has; give it all parameters "
                "(see veil.zoo.lds.local_level), and no restarts"
            )
        if data.query.ndim != 3:
            raise ValueError(f"query: a linear-Gaussian state-space model takes [N, T, D]; got {data.query.shape}")
        count, steps, width = data.query.shape
        weight = jnp.ones(count) if data.weight is None else data.weight
        there = jax.vmap(lambda datum: datum.there)(replace(data, index=None, weight=None))
        real = weight[:, None] * there
        query = data.query if data.observed is None else jnp.where(data.observed, data.query, 0.0)
        offset = jnp.einsum("nt,ntd->d", real, query) / jnp.sum(real)
        away = jnp.where(there[:, :, None], query - offset[None, None], 0.0)
        lags = min(steps, 4 * -(-self.latent // width))  # long enough to see slow turns through noise
        windows = jnp.concatenate([jnp.pad(away, ((0, 0), (k, 0), (0, 0)))[:, :steps] for k in range(lags)], 2)
        second = jnp.einsum("nt,ntd,nte->de", real, windows, windows) / jnp.sum(real)
        values, vectors = jnp.linalg.eigh(second)
        values, vectors = values[::-1][: self.latent], vectors[:, ::-1][:, : self.latent]
        states = windows @ vectors / jnp.sqrt(jnp.maximum(values, 1e-6 * jnp.maximum(values[0], 1e-12)))[None, None]
        noise = jax.random.normal(key, (*states.shape[:2], self.latent), states.dtype)
        states = jnp.pad(states, ((0, 0), (0, 0), (0, self.latent - states.shape[2]))) + 0.1 * noise
        features = jax.vmap(lambda x: each_with_one(x, steps), axis_size=count)(data.evidence)
        identity = jnp.eye(self.latent, dtype=states.dtype)
        blank = replace(
            self,
            noise=self.noise.blank(1, width),
            mean=jnp.zeros(self.latent),
            factor=identity,
            transition=jnp.zeros((self.latent, self.latent)),
            drift=jnp.zeros((self.latent, features.shape[2])),
            process=identity,
            emission=jnp.zeros((width, self.latent)),
            offset=offset,
        )
        flat = jnp.zeros((count, steps, self.latent, self.latent))
        complete = eqx.tree_at(lambda datum: datum.query, data, away + offset[None, None])
        complete = replace(complete, observed=None)
        terms = jax.vmap(blank.statistics)(complete, (states, flat, flat))
        made = blank.maximise(contract(terms, weight))
        # one start says nothing of its spread; a tenth of unit variance keeps every covariance broad enough to move
        broad = lambda factor: linear.cholesky(factor @ factor.T + 0.1 * identity)  # noqa: E731
        return replace(made, factor=identity, process=broad(made.process))

    def rescaled(self, query: Scale, evidence: Scale | None) -> "LDS | None":
        """The same model in the user's units; the state keeps its own. None where variances in them are no numbers."""
        if not query.square_held:
            return None
        _, _, _, drift, _, emission, offset = self._parts()
        scale = np.asarray(query.scale, np.float64)
        kept = lambda array: jax.device_put(np.asarray(array, jnp.result_type(float)))  # noqa: E731
        return replace(
            self,
            noise=self.noise.rescaled(scale),
            drift=rescale_features(drift, evidence),
            emission=kept(np.asarray(emission, np.float64) * scale[:, None]),
            offset=kept(np.asarray(offset, np.float64) * scale + np.asarray(query.shift, np.float64)),
        )

    def parameters(self) -> int:
        """Free numbers: another basis and origin of the state changes nothing, so L² + L of them are not free."""
        mean, _, transition, drift, _, emission, offset = self._parts()
        triangle = self.latent * (self.latent + 1) // 2
        noise = self.noise.parameters(1, offset.size)
        sizes = (mean.size, triangle, transition.size, drift.size, triangle, emission.size, offset.size, noise)
        free = sum(size for name, size in zip(NAMES, sizes, strict=True) if name not in self.fixed)
        return free if self.fixed else free - self.latent * (self.latent + 1)


def local_level(
    observation: float,
    level: float,
    mean: float = 0.0,
    variance: float = 1e7,
    fixed: tuple[str, ...] = ("mean", "factor", "transition", "drift", "emission", "offset"),
) -> LDS:
    """The local level model: y_t = z_t + N(0, observation), z_t = z_t-1 + N(0, level), z_1 ~ N(mean, variance).

    Both variances learn in ``veil.fit``; the rest is ``fixed``. Durbin & Koopman 2012, chapter 2. Raises ValueError for
    a variance of the observations that is not positive, or another that is negative.

    >>> import veil
    >>> nile = veil.data.episodes([[1120.0, 1160.0, 963.0]])
    >>> veil.log_prob(local_level(15099.0, 1469.1), nile).shape
    (1,)
    """
    if not observation > 0:
        said = "seen without noise, the level is the data themselves; give a small variance"
        raise ValueError(f"observation: expected a positive variance; got {observation}: {said}")
    for name, value in (("level", level), ("variance", variance)):
        if not value >= 0:
            raise ValueError(f"{name}: expected a variance, zero or more; got {value}")
    one = jnp.ones((1, 1))
    return LDS(
        1,
        Diagonal(scale=one * observation**0.5),
        fixed,
        mean=jnp.full(1, float(mean)),
        factor=one * variance**0.5,
        transition=one,
        drift=jnp.zeros((1, 1)),
        process=one * level**0.5,
        emission=one,
        offset=jnp.zeros(1),
    )
