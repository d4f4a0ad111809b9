"""Training on windows that go on from one another: the order they are seen in, what is carried, what it is worth."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import veil
from veil import posterior
from veil.learning.windows import WindowOrder
from veil.parts.dynamics import Recurrent


def test_lanes_go_through_whole_sequences() -> None:
    lengths = np.array([3, 1, 4, 2, 5])
    begins = np.zeros(lengths.sum(), bool)
    begins[np.cumsum(lengths) - lengths] = True
    rows = WindowOrder(begins, 2, [7]).rows(0, 60)
    # within a lane every row that begins no sequence is behind the row before it
    for lane in rows.T:
        assert all(begins[now] or now == before + 1 for before, now in pairwise(lane))
        ends = [before for before, now in pairwise(lane) if begins[now]]
        assert set(ends) <= set(np.flatnonzero(np.append(begins[1:], True)))
    # every sequence once before any twice: of two lanes, in the order in which they are begun
    begun = [int(row) for step in rows for row in step if begins[row]]
    for epoch in range(4):
        assert sorted(begun[5 * epoch : 5 * epoch + 5]) == list(np.flatnonzero(begins))
    assert begun[:5] != begun[5:10]
    # the same from any step, and backwards
    again = WindowOrder(begins, 2, [7])
    for first in (0, 31, 8):
        np.testing.assert_array_equal(again.rows(first, 9), rows[first : first + 9])


def pair(sees, count, key):
    """A model with random parameters and its posterior."""
    rng = np.random.default_rng(0)
    data = veil.Datum(jnp.array(rng.normal(size=(4, count, 2))), jnp.array(rng.normal(size=(4, count, 1))))
    model = veil.StateSpace(Recurrent(2, 3, veil.MLP((4,), "elu")), decoder=veil.MLP((4,)))
    model = model.initialise(data, None, key)
    q = veil.Sequential(veil.MLP((4,)), sees, combiner=veil.MLP((5,)))
    one = jax.tree.map(lambda leaf: leaf[0], data)
    return model, q.initialise(model, one, 1, jax.random.key(1)), one


@pytest.mark.parametrize("sees", [posterior.Now(), posterior.Past(3)], ids=["now", "past"])
def test_windows_that_go_on_add_up_to_the_whole(sees, x64: None, key) -> None:
    model, q, datum = pair(sees, 9, key)
    datum = replace(datum, mask=jnp.arange(9) < 8, reset=jnp.arange(9) == 5)
    path = q(model, datum).sample(jax.random.key(2))
    whole = model.log_joint(path, datum) - q(model, datum).log_prob(path)

    total, begin = jnp.zeros(()), q.begin(model)
    for low, high in ((0, 2), (2, 5), (5, 6), (6, 9)):  # with and without a reset at the cut
        part, window = jax.tree.map(lambda leaf, low=low, high=high: leaf[low:high], (datum, path))
        part = replace(part, begin=begin)
        chain = q(model, part)
        np.testing.assert_allclose(chain.follow(window.latent).memory, window.memory, atol=1e-12)
        total += model.log_joint(window, part) - chain.log_prob(window)
        begin = q.after(model, part, window, jnp.sum(part.mask) - 1)
    np.testing.assert_allclose(total, whole, atol=1e-10)
    # what the posterior knows at the end is what acting step by step would know
    filter = q.filter(model)
    belief = filter.init()
    for t in range(8):
        step = veil.Datum(datum.query[t], datum.evidence[t], reset=datum.reset[t])
        belief = filter.update(belief, step, key)
    np.testing.assert_allclose(begin.state.summary, belief.state.summary, atol=1e-12)


def test_the_state_that_is_carried_is_drawn_from_the_posterior(x64: None, key) -> None:
    model, q, datum = pair(posterior.Now(), 6, key)
    draws = jax.vmap(lambda key: q.ended(model, datum, key))(jax.random.split(key, 4000))
    chain = q(model, datum)
    paths = jax.vmap(chain.sample)(jax.random.split(jax.random.key(5), 4000))
    for found, expected in (
        (draws.state.path.latent, paths.latent[:, -1]),
        (draws.state.path.memory, paths.memory[:, -1]),
    ):
        error = np.std(np.asarray(expected), 0) / np.sqrt(2000)
        assert np.all(np.abs(np.mean(found, 0) - np.mean(expected, 0)) < 4 * error)
        np.testing.assert_allclose(np.std(found, 0), np.std(expected, 0), rtol=0.1)


def signs(count: int, steps: int, rng) -> veil.Data:
    """Sequences about one or minus one, for each as a whole."""
    return veil.Data((rng.choice([-1.0, 1.0], (count, 1)) + 0.3 * rng.normal(size=(count, steps)))[:, :, None])


@pytest.mark.filterwarnings("ignore:collapse")
def test_what_was_seen_windows_ago_is_known(key) -> None:
    data = signs(128, 12, np.random.default_rng(1))
    warming, adam = veil.ELBO(kl=veil.objective.Annealed(200)), optax.adam(1e-2)
    options = {"key": key, "steps": 400, "batch_size": 64, "objective": warming, "optimiser": adam, "progress": False}
    model = veil.rssm(1, memory=8)
    found = veil.fit(model, data, window=3, **options)
    apart = veil.fit(model, veil.data.windows(data, 3), **options)
    # the sign has to be said once, log 2 = 0.69 nats, and not in each of a sequence's four windows
    last = [np.mean(each.history.value[-60:]) for each in (found, apart)]
    assert last[0] > last[1] + 0.75 * np.log(2) - 0.1
    # the values are of windows, whose sum is the sequence's bound
    whole = veil.evaluate(found, data, key=key, samples=20).approximation.bounds.elbo_average.value
    np.testing.assert_allclose(last[0], whole / 4, atol=0.1)


def test_what_cannot_go_on_says_so(key) -> None:
    data = signs(4, 12, np.random.default_rng(3))
    for model, options, words in (
        (veil.LDS(2), {}, "LDS with Exact cannot go on from one window to the next"),
        (veil.rssm(2, memory=4), {"objective": veil.FIVO(4)}, "FIVO's particles cannot go on"),
        (veil.rssm(2, memory=4), {"window": 0}, "window: expected a positive integer"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            veil.fit(model, data, key=key, **({"window": 4} | options))
