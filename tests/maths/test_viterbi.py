"""The best path in chunks is that of one piece; see also ``test_markov``, where paths are enumerated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.maths import markov, viterbi

STATES, COUNT, CHUNK = 4, 83, 10


def chain(rng, varying):
    first, move = np.log(rng.dirichlet(np.ones(STATES))), np.log(rng.dirichlet(np.ones(STATES), (COUNT, STATES)))
    return first, move if varying else move[0], 2.0 * rng.normal(size=(COUNT, STATES))


def in_one_piece(*parts):
    return viterbi._whole(*(markov.floored(jnp.asarray(part)) for part in parts[:3]), *parts[3:])


@pytest.fixture
def chunked(monkeypatch):
    monkeypatch.setattr(markov, "chunk_length", lambda count: CHUNK)


@pytest.mark.parametrize("varying", [False, True])
def test_chunks_settle_to_the_path_of_one_piece(x64, monkeypatch, chunked, varying):
    first, move, seen = chain(np.random.default_rng(0), varying)
    reset, mask = jnp.arange(COUNT) == 37, jnp.arange(COUNT) < 71
    for given in ((None, None), (mask, reset), (jnp.arange(COUNT) < 18, None)):
        parts = (*map(jnp.asarray, (first, move, seen)), *markov.steps(COUNT, *given))
        expected = in_one_piece(*parts)
        with monkeypatch.context() as patch:
            patch.setattr(viterbi, "_whole", lambda *parts: jnp.full(COUNT, -1))  # where nothing had settled
            path, score = jax.jit(viterbi.best_path)(*parts)
        np.testing.assert_array_equal(path, expected)
        there, starts = np.asarray(parts[4]), np.asarray(parts[3])
        best = 0.0
        for t in np.flatnonzero(there):
            into = move[t] if varying else move
            best += (first[path[t]] if starts[t] else into[path[t - 1], path[t]]) + seen[t, path[t]]
        np.testing.assert_allclose(score, best, atol=1e-10)


def test_states_that_are_never_left_are_worked_on_in_one_piece(x64, chunked):
    first, _, seen = chain(np.random.default_rng(1), False)
    move = np.where(np.eye(STATES) > 0, 0.0, -np.inf)
    parts = (*map(jnp.asarray, (first, move, 0.1 * seen)), *markov.steps(COUNT, None, None))
    path, score = viterbi.best_path(*parts)
    scores = first + 0.1 * seen.sum(0)
    np.testing.assert_array_equal(path, np.full(COUNT, np.argmax(scores)))
    np.testing.assert_allclose(score, scores.max())


def test_many_sequences_at_once_and_the_slope_of_the_score(x64, chunked):
    rng = np.random.default_rng(2)
    first, move, _ = map(jnp.asarray, chain(rng, False))
    seen = jnp.asarray(rng.normal(size=(3, COUNT, STATES)))
    flags = markov.steps(COUNT, None, None)
    paths, _ = jax.vmap(lambda seen: viterbi.best_path(first, move, seen, *flags))(seen)
    np.testing.assert_array_equal(paths, [in_one_piece(first, move, each, *flags) for each in seen])
    slope = jax.grad(lambda move: viterbi.best_path(first, move, seen[0], *flags)[1])(move)
    counts = np.zeros((STATES, STATES))
    np.add.at(counts, (paths[0, :-1], paths[0, 1:]), 1)
    np.testing.assert_allclose(slope, counts)
