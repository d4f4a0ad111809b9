"""Probabilistic PCA: the linear VAE must become it (Lucas et al. 2019), and exact EM beside scikit-learn.

* ``linear-vae-digits``: digits / 16, 1797 x 64, ten latents. The exact maximum is 17.45195 nats an image with noise
  variance 0.022751. Seconds of a whole fit with compilation; ``details`` has the ELBO of the linear VAE (200 draws a
  datum), the reported gap (importance-weighted bound minus ELBO) and the exact likelihood at the VAE's own parameters.
  Bars: ELBO within 0.02 nats, gap below 0.02, within 60 s.
* ``ppca-digits``: the closed-form fit, beside scikit-learn's PCA; the quality is the log-likelihood over the exact
  maximum (scikit-learn's noise is not that of the maximum where there are fewer rows than columns).
* ``ppca-wide``: the same of 10,000 columns and 200 rows. Bar: half as fast as scikit-learn's.
* ``sandwich``: annealed importance sampling both ways on data drawn from the fitted PPCA. Bar: the exact log-likelihood
  between the bounds, their width below 0.1 nats.
"""

import time

import common
import numpy as np

EXACT, LATENT = 17.45195, 10
STEPS = 15_000


def images() -> np.ndarray:
    """scikit-learn's digits, divided by 16."""
    from sklearn.datasets import load_digits

    return load_digits().data / 16


def linear_vae(options: common.Options) -> common.Case:
    """ELBO, gap and seconds of the linear VAE."""
    import jax

    import veil
    from veil import objective
    from veil.learning.choices import default_optimiser
    from veil.parts import heads, nets

    data, steps = images(), 1000 if options.quick else STEPS
    model = veil.VAE(LATENT, heads.HomoscedasticGaussian(shared=True), nets.Identity())
    found = []
    for seed in range(options.repeats or (1 if options.quick else 3)):
        jax.clear_caches()
        begin = time.perf_counter()
        fit = veil.fit(
            model,
            data,
            key=jax.random.key(seed),
            objective=veil.ELBO(objective.StickingTheLanding()),
            optimiser=default_optimiser(steps, 1e-2),
            steps=steps,
            batch_size=256,
            progress=False,
        )
        taken = time.perf_counter() - begin
        bounds = veil.evaluate(fit, data, key=jax.random.key(1), samples=200, progress=False).approximation.bounds
        gap = bounds.importance_average.value - bounds.elbo_average.value
        found.append((taken, bounds.elbo_average.value, gap, marginal(fit.model, data)))
    taken, elbo, gap, exact = (np.array(column) for column in zip(*found, strict=True))
    peers = {
        "exact maximum": common.Peer("oracle", EXACT, float(np.median(elbo) / EXACT), float(np.median(elbo) - EXACT))
    }
    details = {
        "ELBO per seed": [round(float(value), 5) for value in elbo],
        "gap per seed": [round(float(value), 5) for value in gap],
        "exact log-likelihood at the VAE's parameters": [round(float(value), 5) for value in exact],
        "seconds per seed": [round(float(value), 1) for value in taken],
        "ELBO within 0.02, gap below 0.02, within 60 s": [
            bool(np.all(bar)) for bar in (np.abs(elbo - EXACT) < 0.02, gap < 0.02, taken < 60)
        ],
    }
    return common.Case("linear-vae-digits", "ELBO", "nats", float(np.median(elbo)), None, peers, details)


def marginal(model: object, data: np.ndarray) -> float:
    """The exact mean log-likelihood of a linear VAE, from its Jacobian: textbook code in float64."""
    import jax
    import jax.numpy as jnp

    def mean(z: jax.Array) -> jax.Array:
        return model.likelihood(z, None).mean  # type: ignore[attr-defined]

    zero = jnp.zeros(LATENT)
    offset, loadings = np.asarray(mean(zero), np.float64), np.asarray(jax.jacobian(mean)(zero), np.float64)
    variance = np.asarray(model.likelihood(zero, None).variance, np.float64)  # type: ignore[attr-defined]
    covariance = loadings @ loadings.T + np.diag(variance)
    residual = data - offset
    square = np.sum(residual * np.linalg.solve(covariance, residual.T).T, 1)
    return float(np.mean(-0.5 * (square + np.linalg.slogdet(2 * np.pi * covariance)[1])))


def wide(options: common.Options) -> np.ndarray:
    """200 rows of 10,000 columns, of which ten latents explain half."""
    rng, columns = np.random.default_rng(0), 2_000 if options.quick else 10_000
    loadings = rng.normal(size=(LATENT, columns)) / np.sqrt(LATENT)
    return (rng.normal(size=(200, LATENT)) @ loadings + rng.normal(size=(200, columns))).astype(np.float32)


def maximum(data: np.ndarray) -> float:
    """The greatest mean log-likelihood, nats, in float64: Tipping & Bishop 1999, eqs. 5 and 8."""
    data = np.asarray(data, np.float64)
    rows, columns = data.shape
    variances = np.linalg.svd(data - data.mean(0), compute_uv=False) ** 2 / rows
    first, noise = variances[:LATENT], np.sum(variances[LATENT:]) / (columns - LATENT)
    logs = np.sum(np.log(first)) + (columns - LATENT) * np.log(noise)
    return float(-0.5 * (columns * (np.log(2 * np.pi) + 1) + logs))


def closed_form(name: str, data: np.ndarray, options: common.Options) -> common.Case:
    """Seconds of the exact fit, warm, beside scikit-learn's."""
    import jax
    from sklearn.decomposition import PCA

    import veil

    before = common.peak_memory()
    begin = time.perf_counter()
    fit = veil.fit(veil.PPCA(LATENT), data, key=jax.random.key(0), progress=False)
    compiled, grown = time.perf_counter() - begin, common.peak_memory() - before
    measures = {
        "ours": lambda: common.seconds(
            lambda: veil.fit(veil.PPCA(LATENT), data, key=jax.random.key(0), progress=False)
        ),
        "scikit-learn": lambda: common.seconds(lambda: PCA(LATENT).fit(data)),
    }
    times = common.in_turn(measures, options.repeats or 5)
    ours, theirs = (float(np.median(times[name])) for name in ("ours", "scikit-learn"))
    difference = veil.evaluate(fit.model, data).log_likelihood_per_datum - maximum(data)
    details = {
        "peak memory of the first fit over libraries and data, MB": round(grown),
        "the data, MB": round(data.nbytes / 2**20, 1),
    }
    peer = common.Peer(
        common.version("scikit-learn"), theirs, common.ratio(times["ours"], times["scikit-learn"]), difference
    )
    return common.Case(name, "a whole fit, warm", "s", ours, compiled, {"scikit-learn": peer}, details)


def bracketed(options: common.Options) -> common.Case:
    """The width of the sandwich, and where the exact value lies."""
    import jax

    import veil
    from veil.evaluation.annealing import sandwich

    model = veil.fit(veil.PPCA(LATENT), images(), key=jax.random.key(0), progress=False).model
    count = 20 if options.quick else 200
    begin = time.perf_counter()
    found = sandwich(model, None, jax.random.key(1), count, temperatures=300 if options.quick else 1000, progress=False)
    taken = time.perf_counter() - begin
    exact = float(np.mean(veil.log_prob(model, found.query)))
    lower, upper = found.lower_average, found.upper_average
    details = {
        "lower": f"{lower.value:.4f} ± {lower.monte_carlo_error:.4f}",
        "exact": f"{exact:.4f}",
        "upper": f"{upper.value:.4f} ± {upper.monte_carlo_error:.4f}",
        "seconds": round(taken, 1),
        "data": count,
    }
    width = found.width.value
    peers = {"bar": common.Peer("0.1", 0.1, 0.1 / max(abs(width), 1e-9))}
    return common.Case("sandwich", "upper minus lower bound", "nats", width, None, peers, details)


if __name__ == "__main__":
    common.main(
        "ppca",
        __doc__,
        {
            "linear-vae-digits": linear_vae,
            "ppca-digits": lambda options: closed_form("ppca-digits", images(), options),
            "ppca-wide": lambda options: closed_form("ppca-wide", wide(options), options),
            "sandwich": bracketed,
        },
        ["linear-vae-digits", "ppca-digits"],
    )
