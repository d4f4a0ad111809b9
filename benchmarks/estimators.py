"""Gradient estimators: bias and variance of each against the exact gradient, and signal-to-noise against samples.

* ``linear-gaussian``: z ~ N(0, I), y | z ~ N(W z + b, s² I) with a wrong Gaussian q, whose ELBO and its gradient have
  closed forms.
* ``discrete``: a code of five values; everything by enumeration.
* ``signal-to-noise``: the slope of log signal-to-noise in log k of the importance-weighted bound near its optimum
  (oracle 7): +1/2 for the model, -1/2 for the inference network by the pathwise gradient, +1/2 by the doubly
  reparameterised one. Rainforth et al. 2018, Tucker et al. 2019.

``ours`` is the largest bias over parameters in standard errors of the mean (below about 4 for what is unbiased);
``details`` has for each estimator the relative bias |mean - exact| / |exact|, its standard error and the variance a
datum, Σ var / |exact|². Float64.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the tests' toy models, the same here


def _statistics(made: Any, pair: Any, datum: Any, draws: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the gradient's entries over draws."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    arrays, rest = eqx.partition(pair, eqx.is_array)

    @jax.jit
    def rows(keys: Any) -> Any:
        value = lambda arrays, key: made(*eqx.combine(arrays, rest), datum, key).value  # noqa: E731
        one = lambda key: jnp.concatenate([g.ravel() for g in jax.tree.leaves(jax.grad(value)(arrays, key))])  # noqa: E731
        return jax.vmap(one)(keys)

    parts = [rows(keys) for keys in jax.random.split(jax.random.key(seed), (draws // 1000, 1000))]
    found = np.concatenate([np.asarray(part) for part in parts])
    return found.mean(0), found.var(0)


def _table(
    name: str,
    estimators: dict[str, Any],
    pair: Any,
    datum: Any,
    exact: np.ndarray,
    draws: int,
    unbiased: Callable[[str], bool],
) -> common.Case:
    details, worst = {}, 0.0
    size = float(np.linalg.norm(exact))
    for label, made in estimators.items():
        mean, variance = _statistics(made, pair, datum, draws)
        error = np.sqrt(variance / draws)
        bias = float(np.linalg.norm(mean - exact)) / size
        score = float(np.max(np.abs(mean - exact) / (error + 1e-9 * size)))
        promise = "unbiased" if unbiased(label) else "BIASED"
        details[label] = (
            f"{promise}: relative bias {bias:.2g} (standard error {np.linalg.norm(error) / size:.2g}, "
            f"largest {score:.1f} sigma), variance {float(variance.sum()) / size**2:.3g}"
        )
        if unbiased(label):
            worst = max(worst, score)
    return common.Case(name, "largest bias of the unbiased", "standard errors", worst, None, {}, details)


def linear_gaussian(options: common.Options) -> common.Case:
    """Estimators for a latent that can be reparameterised."""
    import jax

    import toys
    from veil import objective as o

    with jax.enable_x64(True):
        model, exact, datum = toys.linear(entries=6, latents=3)
        q = toys.Free(0.8 * exact.gain, exact.shift + 0.2, 1.2 * exact.factor)
        estimators = {
            "pathwise": o.ELBO(),
            "sticking the landing": o.ELBO(o.StickingTheLanding()),
            "score function, no baseline": o.ELBO(o.ScoreFunction(o.NoBaseline())),
            "score function, running mean": o.ELBO(o.ScoreFunction(o.RunningMean(mean=-8.0, steps=50.0))),
            "score function, leave one out (8)": o.ELBO(o.ScoreFunction(), samples=8),
            "pathwise (8)": o.ELBO(samples=8),
        }
        gradient = toys.gradient(toys.linear_elbo, model, q, datum)
        draws = 5_000 if options.quick else 200_000
        return _table("linear-gaussian", estimators, (model, q), datum, gradient, draws, lambda label: True)


def discrete(options: common.Options) -> common.Case:
    """Estimators for a code of five values."""
    import jax
    import jax.numpy as jnp

    import toys
    from veil import objective as o
    from veil.model import Datum

    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        model = toys.Coded(jnp.asarray(rng.normal(size=(1, 5))), jnp.asarray(rng.normal(size=(5, 3))))
        q = toys.Fixed(jnp.asarray(rng.normal(size=(1, 5))))
        datum = Datum(jnp.asarray(rng.normal(size=3)))
        estimators = {
            "enumerated": o.ELBO(o.Enumerated()),
            "score function, no baseline": o.ELBO(o.ScoreFunction(o.NoBaseline())),
            "score function, running mean": o.ELBO(o.ScoreFunction(o.RunningMean(mean=-5.0, steps=50.0))),
            "score function, leave one out (8)": o.ELBO(o.ScoreFunction(), samples=8),
            "gumbel-softmax, 0.5": o.ELBO(o.GumbelSoftmax(0.5)),
            "gumbel-softmax, 0.1": o.ELBO(o.GumbelSoftmax(0.1)),
            "straight-through, 0.5": o.ELBO(o.StraightThrough(0.5)),
        }
        gradient = toys.gradient(toys.coded_elbo, model, q, datum)
        draws = 5_000 if options.quick else 200_000
        honest = lambda label: not label.startswith(("gumbel", "straight"))  # noqa: E731
        return _table("discrete", estimators, (model, q), datum, gradient, draws, honest)


def signal_to_noise(options: common.Options) -> common.Case:
    """Slopes of log signal-to-noise in log k, near the optimum of the linear-Gaussian model."""
    import jax

    import toys
    from veil import objective as o

    with jax.enable_x64(True):
        model, exact, datum = toys.linear(entries=6, latents=3)
        rng = np.random.default_rng(1)
        off = lambda array: array + 0.01 * rng.normal(size=array.shape)  # noqa: E731
        q = toys.Free(off(exact.gain), off(exact.shift), np.tril(off(exact.factor)))
        q = jax.tree.map(jax.numpy.asarray, q)
        ks = [4, 16, 64] if options.quick else [4, 16, 64, 256, 1024]
        draws = 2_000 if options.quick else 20_000
        split = sum(leaf.size for leaf in jax.tree.leaves(model))
        slopes, details = {}, {}
        for label, gradient in (("pathwise", o.Pathwise()), ("doubly reparameterised", o.DoublyReparameterised())):
            ratios = []
            for k in ks:
                mean, variance = _statistics(o.ImportanceWeighted(k, gradient), (model, q), datum, draws)
                # the mean square less its own noise
                signal = np.sqrt(np.maximum(mean**2 - variance / draws, 0.0))
                ratios.append([np.mean(part) for part in np.split(signal / np.sqrt(variance + 1e-300), [split])])
            for part, values in zip(("model", "inference network"), np.array(ratios).T, strict=True):
                slopes[f"{label}, {part}"] = float(np.polyfit(np.log(ks), np.log(np.maximum(values, 1e-12)), 1)[0])
                slope = slopes[f"{label}, {part}"]
                details[f"{label}, {part}"] = f"slope {slope:+.2f}; k = {ks}: {np.round(values, 4).tolist()}"
        value = slopes["doubly reparameterised, inference network"]
        return common.Case(
            "signal-to-noise", "slope for q, doubly reparameterised (theory +0.5)", "", value, None, {}, details
        )


if __name__ == "__main__":
    common.main(
        "estimators",
        __doc__,
        {"linear-gaussian": linear_gaussian, "discrete": discrete, "signal-to-noise": signal_to_noise},
        ["linear-gaussian", "discrete", "signal-to-noise"],
    )
