"""Hidden Markov chains against the sum over every path."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from veil.maths import markov, scaled, viterbi

STATES = 3


def chain(steps: int, varying: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    log = lambda array: np.log(array / array.sum(-1, keepdims=True))  # noqa: E731
    shape = (steps, STATES, STATES) if varying else (STATES, STATES)
    return log(rng.random(STATES)), log(rng.random(shape)), 3.0 * rng.normal(size=(steps, STATES))


def enumerated(
    first: np.ndarray, move: np.ndarray, seen: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every path [P, T] and its log p(z, y) [P]."""
    count = len(seen)
    move = np.broadcast_to(move, (count, STATES, STATES))
    paths = np.array(list(itertools.product(range(STATES), repeat=count)))
    scores = []
    for path in paths:
        score = 0.0
        for t, state in enumerate(path):
            score += seen[t, state] + (first[state] if starts[t] else move[t][path[t - 1], state])
        scores.append(score)
    return paths, np.array(scores)


def on_device(*arrays: np.ndarray) -> tuple[jax.Array, ...]:
    return tuple(jnp.array(array) for array in arrays)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("reset", [None, [False, False, True, False, False]])
@pytest.mark.parametrize("chunked", [False, True])
def test_everything_is_the_sum_over_paths(
    x64: None, monkeypatch: pytest.MonkeyPatch, varying: bool, reset: list[bool] | None, chunked: bool
) -> None:
    monkeypatch.setattr(markov, "LONG", 1 if chunked else 100)
    first, move, seen = chain(5, varying)
    starts, there = markov.steps(5, None, None if reset is None else jnp.array(reset))
    paths, scores = enumerated(first, move, seen, np.asarray(starts))
    total = logsumexp(scores)
    weights = np.exp(scores - total)
    args = (*on_device(first, move, seen), starts, there)

    beliefs, normalisers = markov.forward(*args)
    found = markov.smooth(*args)
    np.testing.assert_allclose(np.sum(normalisers), total, atol=1e-12)
    np.testing.assert_allclose(found.log_likelihood, total, atol=1e-12)
    one_hot = np.eye(STATES)[paths]
    np.testing.assert_allclose(found.marginals, np.einsum("p,ptk->tk", weights, one_hot), atol=1e-12)
    pairs = np.einsum("p,pti,ptj->tij", weights, one_hot[:, :-1], one_hot[:, 1:]) * ~np.asarray(starts)[1:, None, None]
    np.testing.assert_allclose(found.pairs[1:], pairs, atol=1e-12)
    np.testing.assert_allclose(found.pairs[0], 0.0)
    np.testing.assert_allclose(np.exp(beliefs[-1]), found.marginals[-1], atol=1e-12)

    path, best = viterbi.best_path(*args)
    np.testing.assert_array_equal(path, paths[np.argmax(scores)])
    np.testing.assert_allclose(best, scores.max(), atol=1e-12)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_gradient_is_the_sum_over_paths(x64: None, monkeypatch: pytest.MonkeyPatch, chunked: bool) -> None:
    monkeypatch.setattr(markov, "LONG", 1 if chunked else 100)
    first, move, seen = chain(5, False)
    starts, there = markov.steps(5, None, None)
    normalisers = lambda *args: jnp.sum(markov.forward(*args, starts, there)[1])  # noqa: E731
    likelihood = lambda *args: markov.log_likelihood(*args, starts, there)  # noqa: E731
    gradients = jax.grad(likelihood, (0, 1, 2))(*on_device(first, move, seen))
    for other, gradient in zip(jax.grad(normalisers, (0, 1, 2))(*on_device(first, move, seen)), gradients, strict=True):
        np.testing.assert_allclose(other, gradient, atol=1e-10)
    # Fisher's identity: the gradient of log p(y) in a log-probability is how often it is expected to be used
    paths, scores = enumerated(first, move, seen, np.asarray(starts))
    weights, one_hot = np.exp(scores - logsumexp(scores)), np.eye(STATES)[paths]
    np.testing.assert_allclose(gradients[0], weights @ one_hot[:, 0], atol=1e-10)
    used = np.einsum("p,pti,ptj->ij", weights, one_hot[:, :-1], one_hot[:, 1:])
    np.testing.assert_allclose(gradients[1], used, atol=1e-10)
    np.testing.assert_allclose(gradients[2], np.einsum("p,ptk->tk", weights, one_hot), atol=1e-10)


@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("spread", [3.0, 300.0])
@pytest.mark.parametrize("least", [-50.0, -80.0, -2000.0])
def test_probabilities_give_the_numbers_of_logarithms(
    monkeypatch: pytest.MonkeyPatch, precision: int, varying: bool, spread: float, least: float
) -> None:
    """Hardly possible transitions and data that are hundreds of nats apart: what underflows must not matter."""
    rng, count = np.random.default_rng(0), 150
    with jax.enable_x64():
        first, move, seen = chain(count, varying)
        move = np.where(rng.random(move.shape) < 0.4, least, move)
        move = np.where(np.eye(STATES, dtype=bool), -0.7, move)  # sticky: chunks forget slowly
        seen = seen / 3 * spread
        starts, there = markov.steps(count, jnp.arange(count) < 140, jnp.arange(count) == 77)
        args = (*on_device(first, move, seen), starts, there)
        beliefs, normalisers, messages = markov._both_of_logs(*args)
        exact = markov._smoothed(*args, beliefs, normalisers, messages)
    with jax.enable_x64(precision == 64):
        number = jnp.result_type(float)
        args = (
            *(jnp.array(np.asarray(array), number) for array in (first, move, seen)),
            jnp.array(np.array(starts)),
            jnp.array(np.array(there)),
        )
        for long in (1000, 1):
            monkeypatch.setattr(markov, "LONG", long)
            found, (filtered, _) = jax.jit(markov.smooth)(*args), jax.jit(markov.forward)(*args)
            learned = jax.jit(markov.expected)(*args)
            rounding = 1e-11 if precision == 64 else 2e-5 * max(1.0, spread / 30)  # of seen itself
            np.testing.assert_allclose(found.log_likelihood, exact.log_likelihood, rtol=rounding)
            np.testing.assert_allclose(filtered, beliefs, rtol=30 * rounding, atol=300 * rounding)
            np.testing.assert_allclose(found.marginals, exact.marginals, atol=30 * rounding)
            np.testing.assert_allclose(learned.marginals, exact.marginals, atol=30 * rounding)
            np.testing.assert_allclose(found.pairs, exact.pairs, atol=30 * rounding)
            total = exact.pairs if varying else np.asarray(exact.pairs).sum(0)
            np.testing.assert_allclose(learned.pairs, total, atol=300 * rounding)
            assert bool(scaled.safe(args[1])) == (least > -56 or (precision == 64 and least > -400))


@pytest.mark.parametrize("chunked", [False, True])
def test_padding_changes_nothing(x64: None, monkeypatch: pytest.MonkeyPatch, chunked: bool) -> None:
    first, move, seen = chain(4, False)
    short = (*on_device(first, move, seen), *markov.steps(4, None, None))
    plain, best = markov.smooth(*short), viterbi.best_path(*short)
    monkeypatch.setattr(markov, "LONG", 1 if chunked else 100)
    padded = np.concatenate([seen, np.full((3, STATES), 7.0)])
    mask = jnp.array([True] * 4 + [False] * 3)
    long = (*on_device(first, move, padded), *markov.steps(7, mask, None))
    found, path = markov.smooth(*long), viterbi.best_path(*long)
    np.testing.assert_allclose(found.log_likelihood, plain.log_likelihood, atol=1e-12)
    np.testing.assert_allclose(found.marginals[:4], plain.marginals, atol=1e-12)
    np.testing.assert_allclose(found.pairs[:4], plain.pairs, atol=1e-12)
    np.testing.assert_allclose(found.pairs[4:], 0.0)
    np.testing.assert_array_equal(path[0][:4], best[0])
    np.testing.assert_allclose(path[1], best[1])


def test_chunks_give_the_numbers_of_one_scan(x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first, move, seen = chain(333, False)
    reset = jnp.zeros(333, bool).at[jnp.array([100, 101])].set(True)
    args = (*on_device(first, move, 30.0 * seen), *markov.steps(333, jnp.arange(333) < 300, reset))
    plain, one = markov.smooth(*args), markov.forward(*args)
    monkeypatch.setattr(markov, "LONG", 1)
    chunked, other = markov.smooth(*args), markov.forward(*args)
    np.testing.assert_allclose(chunked.log_likelihood, plain.log_likelihood, rtol=1e-13)
    np.testing.assert_allclose(chunked.marginals, plain.marginals, atol=1e-10)
    np.testing.assert_allclose(chunked.pairs, plain.pairs, atol=1e-10)
    np.testing.assert_allclose(other[0], one[0], atol=1e-8)


def test_sampled_paths_have_the_posteriors_frequencies(x64: None) -> None:
    first, move, seen = chain(4, False)
    seen = 0.3 * seen
    starts, there = markov.steps(4, jnp.array([True, True, True, False]), None)
    beliefs, _ = markov.forward(*on_device(first, move, seen), starts, there)
    draw = lambda key: markov.sample_path(key, beliefs, jnp.array(move), starts, there)  # noqa: E731
    drawn = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), 20_000)))
    np.testing.assert_array_equal(drawn[:, 3], drawn[:, 2])
    _, scores = enumerated(first, move, seen[:3], np.asarray(starts[:3]))
    expected = np.exp(scores - logsumexp(scores))
    found = np.bincount(drawn[:, :3] @ [9, 3, 1], minlength=27) / len(drawn)
    assert np.max(np.abs(found - expected)) < 5 * np.sqrt(0.25 / len(drawn))


@pytest.mark.parametrize("long", [1, 100])
def test_impossible_and_extreme_numbers_are_never_nan(monkeypatch: pytest.MonkeyPatch, long: int) -> None:
    monkeypatch.setattr(markov, "LONG", long)
    first = jnp.array([0.0, -jnp.inf])
    move = jnp.array([[0.0, -jnp.inf], [-jnp.inf, 0.0]])
    for seen in (
        jnp.full((6, 2), -jnp.inf),
        jnp.array([[-jnp.inf, 0.0]] * 6),
        jnp.array([[-1e6, 0.0], [0.0, -1e6]] * 3),
        jnp.full((6, 2), 1e5),
    ):
        found = markov.smooth(first, move, seen, *markov.steps(6, None, None))
        assert all(np.all(np.isfinite(part)) for part in found)
        np.testing.assert_allclose(np.sum(found.marginals, 1), 1.0, rtol=1e-5)
        assert np.all(np.isfinite(viterbi.best_path(first, move, seen, *markov.steps(6, None, None))[1]))


def test_the_best_path_of_a_long_sequence_in_single_precision() -> None:
    """Steps of float32 decide as those of float64 do, though the sum of so many scores has no digits for them."""
    rng = np.random.default_rng(0)
    states, count = 4, 20_000
    move = np.log(rng.dirichlet(np.ones(states), states))
    seen = rng.normal(size=(count, states)) - 50.0
    starts = np.arange(count) == 0
    paths, scores = [], []
    for precision in (False, True):
        with jax.enable_x64(precision):
            dtype = np.float64 if precision else np.float32
            given = (np.log(np.full(states, 0.25)).astype(dtype), move.astype(dtype), seen.astype(dtype))
            path, score = viterbi.best_path(*map(jnp.asarray, given), jnp.array(starts), jnp.ones(count, bool))
            paths.append(np.asarray(path))
            scores.append(float(score))
    assert np.mean(paths[0] != paths[1]) < 2e-4
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)


@pytest.mark.parametrize("certain", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
def test_hard_zeros_are_the_sum_over_paths(monkeypatch: pytest.MonkeyPatch, certain: bool, chunked: bool) -> None:
    """Minus infinity in the emission (and ``certain``: in transitions, too) forbids paths and nothing else."""
    monkeypatch.setattr(markov, "LONG", 1 if chunked else 100)
    first, move, seen = chain(5, False)
    seen[[0, 1, 2, 3, 3], [1, 0, 2, 0, 1]] = -np.inf
    if certain:
        move[0, 2] = first[2] = -np.inf
    starts, there = markov.steps(5, None, None)
    paths, scores = enumerated(first, move, seen, np.asarray(starts))
    weights = np.exp(scores - logsumexp(scores))
    args = (*on_device(first, move, seen), starts, there)
    found = jax.jit(markov.smooth)(*args)
    np.testing.assert_allclose(found.log_likelihood, logsumexp(scores), rtol=1e-5)
    np.testing.assert_allclose(found.marginals, np.einsum("p,ptk->tk", weights, np.eye(STATES)[paths]), atol=1e-5)
    np.testing.assert_array_equal(viterbi.best_path(*args)[0], paths[np.argmax(scores)])
    score = jax.jit(jax.value_and_grad(markov.log_likelihood, (0, 1, 2)))
    value, gradient = score(*args)
    np.testing.assert_allclose(value, logsumexp(scores), rtol=1e-5)
    np.testing.assert_allclose(gradient[2], found.marginals, atol=1e-5)
    value, gradient = score(*args[:2], args[2].at[2].set(-jnp.inf), starts, there)
    assert value == -np.inf
    assert all(np.all(np.isfinite(part)) for part in gradient)


def test_bayes_rule_in_logarithms(x64: None) -> None:
    joints = np.array([-3.0, -1000.0, 2.5, -np.inf])
    weights, value = markov.bayes(jnp.array(joints))
    np.testing.assert_allclose(value, logsumexp(joints), rtol=1e-15)
    np.testing.assert_allclose(weights, np.exp(joints - logsumexp(joints)), rtol=1e-14)
    many = 300.0 * jax.random.normal(jax.random.key(0), (50, 4))
    weights, values = jax.vmap(markov.bayes)(many)
    np.testing.assert_allclose(values, logsumexp(np.asarray(many), axis=1), rtol=1e-14)
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-14)
    slopes = jax.grad(lambda joints: markov.bayes(joints)[1])(many[0])
    np.testing.assert_allclose(slopes, weights[0], rtol=1e-12)  # d log Σ exp(j) / dj


def test_of_what_is_impossible_nothing_has_weight() -> None:
    weights, value = markov.bayes(jnp.full(3, -jnp.inf))
    np.testing.assert_array_equal(weights, np.zeros(3))
    assert value == -np.inf
    assert np.all(np.isfinite(jax.grad(lambda shift: markov.bayes(jnp.full(3, -jnp.inf) + shift)[1])(0.0)))
