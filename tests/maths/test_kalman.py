"""The Kalman filter and smoother against one dense joint Gaussian of all states and observations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from veil.maths import affine, kalman, smoothing

STATES, SIZE = 2, 3


def parameters(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    spread = lambda n: (lambda rows: rows @ rows.T)(rng.normal(size=(n, n + 1)))  # noqa: E731
    return {
        "mean": rng.normal(size=STATES),
        "covariance": spread(STATES),
        "transition": 0.6 * rng.normal(size=(STATES, STATES)),
        "noise": spread(STATES),
        "emission": rng.normal(size=(SIZE, STATES)),
        "observation": spread(SIZE),
    }


def dense(p: dict[str, np.ndarray], drift: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [T L] and covariance of the path z, by writing z as a linear map of independent noise."""
    count = len(drift)
    mean, maps, scales = [], [], []
    for t in range(count):
        own = np.zeros((STATES, count * STATES))
        own[:, t * STATES : (t + 1) * STATES] = np.eye(STATES)
        if starts[t]:
            mean.append(p["mean"])
            maps.append(own)
            scales.append(p["covariance"])
        else:
            mean.append(p["transition"] @ mean[-1] + drift[t])
            maps.append(p["transition"] @ maps[-1] + own)
            scales.append(p["noise"])
    whole = np.concatenate(maps)
    inner = np.zeros((count * STATES, count * STATES))
    for t, scale in enumerate(scales):
        inner[t * STATES : (t + 1) * STATES, t * STATES : (t + 1) * STATES] = scale
    return np.concatenate(mean), whole @ inner @ whole.T


def oracle(
    p: dict[str, np.ndarray], drift: np.ndarray, query: np.ndarray, starts: np.ndarray, observed: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """log p(y), and mean and covariance of the whole path given y."""
    count = len(query)
    mean, covariance = dense(p, drift, starts)
    emission = np.kron(np.eye(count), p["emission"])[observed.ravel()]
    noise = np.kron(np.eye(count), p["observation"])[np.ix_(observed.ravel(), observed.ravel())]
    seen = query.ravel()[observed.ravel()]
    spread = emission @ covariance @ emission.T + noise
    value = multivariate_normal(emission @ mean, spread).logpdf(seen) if len(seen) else 0.0
    gain = covariance @ emission.T @ np.linalg.inv(spread)
    return value, mean + gain @ (seen - emission @ mean), covariance - gain @ emission @ covariance


@eqx.filter_jit
def run(p, drift, query, observed=None, starts=None, there=None):
    p = {name: jnp.array(array) for name, array in p.items()}
    white, emission, normalisers = kalman.whitened(jnp.array(query), p["emission"], p["observation"], observed)
    chain = kalman.LinearSystem(p["mean"], p["covariance"], p["transition"], jnp.array(drift), p["noise"])
    found = kalman.filtered(chain, white, emission, starts, there)
    real = jnp.ones(len(query)) if there is None else there
    value = jnp.sum(found.log_likelihoods) + jnp.sum(jnp.where(real, normalisers, 0.0))
    return value, found, smoothing.smoothed(found, starts, there), chain


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("diagonal", [False, True])
def test_everything_is_the_dense_gaussians(x64: None, missing: bool, resets: bool, diagonal: bool) -> None:
    p, rng = parameters(), np.random.default_rng(1)
    if diagonal:
        p["observation"] = np.diag(np.diagonal(p["observation"]))
    drift, query = rng.normal(size=(5, STATES)), rng.normal(size=(5, SIZE))
    starts = np.array([True, False, False, resets, False])
    observed = rng.random((5, SIZE)) < 0.6 if missing else np.ones((5, SIZE), bool)
    if missing:
        observed[1] = False  # a step of which nothing is seen
    value, mean, covariance = oracle(p, drift, query, starts, observed)
    given = {**p, "observation": np.diagonal(p["observation"])} if diagonal else p
    found, filtered, smoothed, _ = run(
        given, drift, query, jnp.array(observed) if missing else None, jnp.array(starts) if resets else None
    )
    np.testing.assert_allclose(found, value, atol=1e-10)
    np.testing.assert_allclose(np.ravel(smoothed.mean), mean, atol=1e-10)
    blocks = covariance.reshape(5, STATES, 5, STATES)
    for t in range(5):
        np.testing.assert_allclose(smoothed.covariance[t], blocks[t, :, t], atol=1e-10)
        lag = blocks[t, :, t - 1] if not starts[t] else np.zeros((STATES, STATES))
        np.testing.assert_allclose(smoothed.lagged[t], lag, atol=1e-10)
        part = oracle(p, drift[: t + 1], query[: t + 1], starts[: t + 1], observed[: t + 1])
        np.testing.assert_allclose(filtered.mean[t], part[1][-STATES:], atol=1e-10)
        np.testing.assert_allclose(filtered.covariance[t], part[2][-STATES:, -STATES:], atol=1e-10)


def test_the_gradient_is_the_dense_gaussians(x64: None) -> None:
    p, rng = parameters(), np.random.default_rng(1)
    drift, query = rng.normal(size=(4, STATES)), rng.normal(size=(4, SIZE))
    observed, starts = rng.random((4, SIZE)) < 0.7, np.array([True, False, True, False])
    symmetric = ("covariance", "noise", "observation")

    def likelihood(p):
        return run(p, drift, query, jnp.array(observed), jnp.array(starts))[0]

    gradient = jax.jit(jax.grad(likelihood))({name: jnp.array(array) for name, array in p.items()})
    step = 1e-5
    for name, array in p.items():
        for place in np.ndindex(array.shape):
            values = []
            for sign in (1, -1):
                moved = array.copy()
                moved[place] += sign * step
                if name in symmetric and place[0] != place[1]:
                    moved[place[::-1]] += sign * step
                values.append(oracle({**p, name: moved}, drift, query, starts, observed)[0])
            expected = (values[0] - values[1]) / (2 * step)
            found = gradient[name][place]
            if name in symmetric and place[0] != place[1]:
                found = found + gradient[name][place[::-1]]
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_padding_changes_nothing(x64: None) -> None:
    p, rng = parameters(), np.random.default_rng(1)
    drift, query = rng.normal(size=(4, STATES)), rng.normal(size=(4, SIZE))
    value, filtered, smoothed, _ = run(p, drift, query)
    more = lambda array: np.concatenate([array, np.zeros((3, array.shape[1]))])  # noqa: E731
    there = jnp.arange(7) < 4
    padded = run(p, more(drift), more(query), there=there)
    np.testing.assert_allclose(padded[0], value, atol=1e-12)
    np.testing.assert_allclose(padded[1].mean[:4], filtered.mean, atol=1e-12)
    for name in smoothed._fields:
        np.testing.assert_allclose(getattr(padded[2], name)[:4], getattr(smoothed, name), atol=1e-12)
    np.testing.assert_allclose(padded[2].lagged[4:], 0.0)


def test_sampled_paths_have_the_posteriors_moments(x64: None) -> None:
    p, rng = parameters(), np.random.default_rng(1)
    drift, query = rng.normal(size=(3, STATES)), rng.normal(size=(3, SIZE))
    _, mean, covariance = oracle(p, drift, query, np.array([True, False, False]), np.ones((3, SIZE), bool))
    _, filtered, *_ = run(p, drift, query)
    keys = jax.random.split(jax.random.key(0), 40_000)
    drawn = jax.jit(jax.vmap(lambda key: smoothing.sample_path(key, filtered, None, None)))(keys)
    flat = np.asarray(drawn).reshape(len(keys), -1)
    scale = np.sqrt(np.diagonal(covariance))
    assert np.max(np.abs(flat.mean(0) - mean) / scale) < 5 / np.sqrt(len(keys))
    assert np.max(np.abs(np.cov(flat.T) - covariance) / np.outer(scale, scale)) < 7 / np.sqrt(len(keys))


@pytest.mark.parametrize("long", [100, 4])
def test_covariances_are_computed_once_for_all_sequences(x64: None, monkeypatch: pytest.MonkeyPatch, long: int) -> None:
    monkeypatch.setattr(affine, "LONG", long)
    p, rng = parameters(), np.random.default_rng(1)
    drift, many = np.zeros((6, STATES)), rng.normal(size=(11, 6, SIZE))

    def one(query):
        _, filtered, smoothed, _ = run(p, drift, query)
        return filtered.covariance, smoothed.covariance, smoothed.lagged

    # out_axes=None: an error, if the result had an axis of sequences
    found = jax.vmap(one, out_axes=None)(jnp.array(many))
    for a, b in zip(found, one(jnp.array(many[0])), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("kind", ["plain", "padded", "resets", "missing", "in chunks"])
def test_many_side_by_side_are_each_by_itself(x64: None, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Many sequences are worked on together, sharing what they can: numbers and slopes are those of each."""
    if kind == "in chunks":
        monkeypatch.setattr(affine, "LONG", 4)
        jax.clear_caches()
    p, rng = parameters(), np.random.default_rng(1)
    drift, many = jnp.array(rng.normal(size=(6, STATES))), jnp.array(rng.normal(size=(5, 6, SIZE)))
    more = {
        "plain": {},
        "in chunks": {},
        "padded": {"there": jnp.arange(6)[None] < jnp.array([6, 4, 6, 1, 5])[:, None]},
        "resets": {"starts": jnp.array(rng.random((5, 6)) < 0.3).at[:, 0].set(True)},
        "missing": {"observed": jnp.array(rng.random((5, 6, SIZE)) < 0.7)},
    }[kind]

    def one(query, more, p):
        value, filtered, smoothed, _ = run(p, drift, query, **more)
        return value + sum(jnp.sum(jnp.sin(part)) for part in smoothed), filtered, smoothed

    rows = range(len(many))
    row = lambda i: {name: array[i] for name, array in more.items()}  # noqa: E731
    by_row = [one(many[i], row(i), p) for i in rows]
    together = eqx.filter_vmap(one, in_axes=(0, 0, None))(many, more, p)
    for a, b in zip(
        jax.tree.leaves(together), jax.tree.leaves(jax.tree.map(lambda *x: jnp.stack(x), *by_row)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-12)

    total = lambda p: jnp.sum(eqx.filter_vmap(one, in_axes=(0, 0, None))(many, more, p)[0])  # noqa: E731
    apart = lambda p: sum(one(many[i], row(i), p)[0] for i in rows)  # noqa: E731
    slopes = [jax.grad(each)({name: jnp.array(array) for name, array in p.items()}) for each in (total, apart)]
    for name in p:
        np.testing.assert_allclose(slopes[0][name], slopes[1][name], atol=1e-10, err_msg=name)
    if kind == "in chunks":
        jax.clear_caches()


def test_singular_noise_in_float32_is_finite() -> None:
    p = {name: array.astype(np.float32) for name, array in parameters().items()}
    p["noise"], p["covariance"] = np.zeros((STATES, STATES), np.float32), np.zeros((STATES, STATES), np.float32)
    p["observation"] = 1e-8 * np.eye(SIZE, dtype=np.float32)
    query = np.random.default_rng(0).normal(size=(50, SIZE)).astype(np.float32)
    value, filtered, smoothed, _ = run(p, np.zeros((50, STATES), np.float32), query)
    assert np.isfinite(value)
    for part in (*filtered, *smoothed):
        assert np.all(np.isfinite(part))
