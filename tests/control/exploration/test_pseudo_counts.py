"""Pseudo-counts and prediction gain: exact of tables, stable of images, and of a density that a user wrote."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.control.exploration.bins import Bins
from veil.control.exploration.bonus import Transition
from veil.control.exploration.context_tree import ContextTree
from veil.control.exploration.counts import Counted, Tally
from veil.control.exploration.densities import Density, Incremental, PredictionGain, PseudoCounts, ScaledPseudoCounts
from veil.control.exploration.densities import gain as gained
from veil.control.exploration.tables import DirichletCategorical, Factored

KEY = jax.random.key(0)


@pytest.mark.usefixtures("x64")
def test_a_table_has_pseudo_counts_of_counts_plus_alpha_in_a_total_of_all_plus_alpha_times_values():
    seen = np.random.default_rng(0).integers((2, 3), size=(40, 2))
    counter, tally = PseudoCounts(DirichletCategorical((2, 3), alpha=0.3)), Tally((2, 3))

    @jax.jit
    def both(seen, places):
        state = counter.update(counter.init(seen[0], KEY), seen)
        exact = tally.update(tally.init(seen[0], KEY), seen)
        rho = jnp.exp(jax.vmap(lambda x: counter.density.log_prob(state, x))(places))
        return [jax.vmap(lambda x, c=c, s=s: c.count(s, x))(places) for c, s in ((counter, state), (tally, exact))], rho

    (pseudo, counts), rho = both(seen, np.argwhere(np.ones((2, 3))))
    assert np.ptp(counts) > 0
    np.testing.assert_allclose(pseudo, counts + 0.3, rtol=1e-12)
    np.testing.assert_allclose(pseudo / rho, 40 + 0.3 * 6, rtol=1e-12)
    np.testing.assert_allclose(np.sum(rho), 1.0, rtol=1e-12)


def test_what_is_beyond_a_size_has_no_probability_and_teaches_nothing():
    density = DirichletCategorical((3,))

    @jax.jit
    def asked(seen):
        state = density.update(density.init(seen[0], KEY), seen)
        return state.total, density.log_prob(state, seen[1]), gained(density, state, seen[2])[1]

    assert [float(number) for number in asked(jnp.array([1, 3, -1]))] == [1, -np.inf, 0]


class Known(Incremental):
    """A density whose two numbers are given."""

    before: float
    learned: float

    def init(self, example, key):
        return ()

    def log_prob(self, state, x):
        return jnp.asarray(self.before)

    def gain(self, state, x):
        return jnp.asarray(self.learned)

    def update(self, state, batch):
        return state


def test_counts_of_what_is_hardly_likely_keep_their_digits():
    count = lambda counter: float(counter.count(counter.init(0, KEY), 0))  # noqa: E731
    for times in (0.01, 1.0, 1e3, 1e6):
        assert count(PseudoCounts(Known(-1500.0, np.log1p(1 / times)))) == pytest.approx(times, rel=1e-5)
    for learned in (0.0, -1e-3, -5.0):  # no likelier than before
        assert count(PseudoCounts(Known(-1500.0, learned), most=1e7)) == 1e7
        assert count(ScaledPseudoCounts(Known(-1500.0, learned), most=1e7)) == 1e7
    assert count(PseudoCounts(Known(0.7, 0.1))) == 0  # a density is no probability
    assert count(PseudoCounts(Known(0.7, 0.1), volume=0.0)) == pytest.approx(1 / np.expm1(0.1), rel=1e-5)
    counter = ScaledPseudoCounts(Known(-1500.0, 3.0))
    state = counter.update(counter.init(jnp.zeros(()), KEY), jnp.zeros(16))
    assert float(counter.count(state, 0)) == pytest.approx(1 / np.expm1(0.1 * 3.0 / 4), rel=1e-5)


def test_an_image_of_log_probability_minus_1500_has_the_pseudo_count_of_float64():
    entries, often = 1000, np.array([200, 100])  # all black, and all but the last of it
    density = Factored(Bins(2))
    images = np.zeros((2, entries))
    images[1, -1] = 1.0
    new = np.ones(entries)

    @jax.jit
    def count(batch, x):
        counter = PseudoCounts(density)
        state = counter.update(counter.init(x, KEY), batch)
        return density.log_prob(state, x), counter.count(state, x)

    log_rho, pseudo = count(np.repeat(images, often // 50, 0), new)
    own = np.where(np.arange(entries) < entries - 1, 0.5, 2.5)
    exact = np.sum(np.log(own) - np.log(7.0))
    after = np.sum(np.log(own + 1) - np.log(8.0))
    assert log_rho == pytest.approx(exact, rel=1e-5)
    assert exact < -1500
    assert float(pseudo) == pytest.approx(-np.expm1(after) / np.expm1(min(after - exact, 700.0)), abs=1e-6)


class Coin(Density):
    """As a user writes one: how often heads came, and Laplace's rule. It has only what the contract asks for."""

    def init(self, example, key):
        return jnp.ones(2)

    def log_prob(self, state, x):
        return jnp.log(state[x["side"]] / jnp.sum(state))

    def update(self, state, batch):
        return state.at[batch["side"]].add(1.0)


def walk(bonus, sides, late=False):
    """What a bonus gives along steps; ``late`` is the fault that it must not have."""
    steps = Transition({"side": sides}, sides, {"side": sides})

    def one(state, step):
        learned = bonus.update(state, jax.tree.map(lambda leaf: leaf[None], step))
        value, _ = bonus(learned if late else state, step.observation, step.action, step.following)
        return learned, value

    start = bonus.init(jax.tree.map(lambda leaf: leaf[0], steps), KEY)
    return np.asarray(jax.jit(lambda: jax.lax.scan(one, start, steps)[1])())


def test_a_density_as_a_user_writes_one_pays_what_counts_before_the_step_say():
    sides = jnp.array([0, 0, 1, 0, 1, 1, 0])
    before = np.array([0, 1, 0, 2, 1, 2, 3])
    n = np.arange(7)
    counted = (before + 1 + 0.01) ** -0.5  # Laplace's pseudo-count is one more
    gains = np.log((before + 2) / (n + 3)) - np.log((before + 1) / (n + 2))
    np.testing.assert_allclose(walk(Counted(PseudoCounts(Coin())), sides), counted, rtol=1e-5)
    np.testing.assert_allclose(walk(PredictionGain(Coin()), sides), gains, rtol=1e-4)
    late = walk(Counted(PseudoCounts(Coin())), sides, late=True)
    assert np.max(np.abs(late / counted - 1)) > 0.2


DENSITIES = {
    "table": (DirichletCategorical((2,) * 6), lambda x: jax.tree.map(lambda leaf: leaf.astype(int), x)),
    "factored": (Factored(Bins(2)), lambda x: x),
    "context tree": (ContextTree(Bins(2), ((-1,), (-2,), (-3,)), buckets=3), lambda x: x),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", DENSITIES)
def test_what_would_be_learned_is_what_is_learned_and_a_batch_is_its_rows_in_turn(name):
    density, prepared = DENSITIES[name]
    seen = prepared(np.random.default_rng(1).integers(2, size=(9, 6)).astype(float))

    @jax.jit
    def learned(seen):
        start = density.init(seen[0], KEY)
        state = density.update(start, seen[:8])
        turn = jax.lax.scan(lambda state, x: (density.update(state, x[None]), None), start, seen[:8])[0]
        x = seen[8]
        after = density.log_prob(density.update(state, x[None]), x)
        return density.gain(state, x), after - density.log_prob(state, x), state, turn

    gain, exact, state, turn = learned(seen)
    np.testing.assert_allclose(gain, exact, rtol=1e-9)
    assert eqx.tree_equal(state, turn, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_factored_density_is_the_product_of_tables_of_its_entries():
    rng = np.random.default_rng(2)
    seen = {"place": rng.uniform(-1, 1, (30, 2)), "speed": rng.uniform(0, 9, 30)}
    bins = Bins(4, (-1, -1, 0), (1, 1, 9))
    density, table = Factored(bins, alpha=0.7), DirichletCategorical((4,), alpha=0.7)

    @jax.jit
    def both(seen):
        x = jax.tree.map(lambda leaf: leaf[0], seen)
        whole = density.log_prob(density.update(density.init(x, KEY), seen), x)
        which = jax.vmap(bins)(seen)
        start = table.init(which[0, 0], KEY)
        parts = [table.log_prob(table.update(start, which[:, i]), which[0, i]) for i in range(3)]
        return whole, sum(parts), which

    whole, parts, which = both(seen)
    np.testing.assert_allclose(whole, parts, rtol=1e-12)
    np.testing.assert_array_equal(which[:, 2], np.floor(seen["speed"] / 9 * 4))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PseudoCounts(Coin(), volume=-1.0), "volume: expected"),
        (lambda: DirichletCategorical((3,), alpha=0.0), "alpha: expected"),
        (lambda: Bins(4, 1.0, 1.0), "high: expected"),
        (lambda: Bins(2, (0, 0), (1, 1))(jnp.zeros(3)), "low: expected one number"),
        (lambda: ContextTree(neighbours=((0, 1),)), "neighbours: expected offsets"),
        (lambda: ContextTree().init(jnp.zeros(3), KEY), "x: expected one array with the 2 axes"),
    ],
)
def test_wrong_arguments_are_named(make, says):
    with pytest.raises(ValueError, match=says):
        make()
