"""What the world models of pictures share: a budget of time, pieces of episodes, a probe of states, an open loop.

No recipe itself: ``pendulum.py`` and ``half_cheetah.py`` are.
"""

import time

import equinox as eqx
import jax
import numpy as np

import veil


def affordable(fit, minutes, trial=40, skip=10, least=100):
    """How many steps there is time for, compiling included: ``fit(trial, record)`` shows the pace."""
    begin, clock = time.perf_counter(), []
    fit(trial, lambda _: clock.append(time.perf_counter()))
    compiling, pace = clock[0] - begin, (clock[-1] - clock[skip]) / (len(clock) - skip - 1)
    return max(least, int((60 * minutes - (clock[-1] - begin) - compiling) / pace))


def cut(data, state, begins, length):
    """Pieces of so many steps that begin at these steps of every episode, and their true states."""
    steps = np.asarray(begins)[:, None] + np.arange(length)
    pieces = jax.tree.map(lambda leaf: np.concatenate(leaf[:, steps]), (data.query, data.evidence, state))
    return veil.Data(*pieces[:2]), pieces[2]


def turned(angles):
    """Within half a turn of zero."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


def bootstrapped(values, measure, digits, episode):
    """A statistic of pieces and its standard error: episodes drawn again 300 times; ``episode``: that of each piece."""
    rng, names = np.random.default_rng(0), np.unique(episode)
    rows = [np.flatnonzero(episode == each) for each in names]
    again = [
        measure(values[np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])]) for _ in range(300)
    ]
    return f"{measure(values):.{digits}f} ± {np.std(again):.{digits}f}"


def filtered(found, pieces, after, key):
    """What a model remembers and infers, [pieces, T - after, memory + latent], where it sees everything so far."""

    @eqx.filter_jit
    def one(fit, datum, key):
        path = fit[1](fit[0], datum).sample(key)
        return path.memory, path.latent

    rows = []
    for n, each in enumerate(jax.random.split(key, len(pieces))):
        query, evidence = jax.tree.map(lambda leaf, n=n: leaf[n], (pieces.query, pieces.evidence))
        rows.append(state(*one((found.model, found.posterior), veil.Datum(query, evidence), each))[after:])
    return np.stack(rows)


def state(memory, latent):
    """[..., memory + latent] in float64."""
    return np.concatenate([memory, latent], -1).astype(np.float64)


class Probe:
    """A ridge regression from states [..., S] to what is true of them, [..., D]."""

    def __init__(self, states, truth):
        inputs, targets = self._inputs(states), truth.reshape(-1, truth.shape[-1]).astype(np.float64)
        inputs = inputs.reshape(-1, inputs.shape[-1])
        self.weight = np.linalg.solve(inputs.T @ inputs + 1e-2 * np.eye(inputs.shape[1]), inputs.T @ targets)
        self.spread = np.std(targets - inputs @ self.weight, 0)  # the probe's own error

    @staticmethod
    def _inputs(states):
        return np.concatenate([states, np.ones((*states.shape[:-1], 1))], -1)

    def __call__(self, states):
        return self._inputs(states) @ self.weight


def open_loop(found, pieces, horizon, futures, after, probe, key):
    """What a probe reads off the futures, [pieces, futures, horizon, D], their mean, and the first forecast.

    Some pieces at a time: a state for each future and step takes memory.
    """
    read, means, first = [], [], None
    for place in range(0, len(pieces), 8):
        some, each = pieces[place : place + 8], jax.random.fold_in(key, place)
        ahead = veil.forecast(found, some, horizon, futures, key=each, after=after, states=True)
        read.append(probe(state(ahead.states.memory, ahead.states.latent)))
        means.append(ahead.mean)
        first = first or ahead
    return np.concatenate(read), jax.tree.map(lambda *leaves: np.concatenate(leaves), *means), first
