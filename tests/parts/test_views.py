"""What an encoder is shown of values that are not standardised: units in which they vary by one, whatever the head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from cases import on_device, started
from veil.learning.gradient import trainable
from veil.parts import heads
from veil.parts.joint import Joint

RNG = np.random.default_rng(0)
LEVELS = np.exp(RNG.normal(size=(300, 3)))
# the same thing in very different units, and what of it does not depend on them
TABLE = {
    "poisson": (heads.Poisson(), [np.round(LEVELS * size) for size in (1e3, 1e6, 1e9)]),
    "negative binomial": (heads.NegativeBinomial(), [np.round(LEVELS * size) for size in (1e3, 1e6)]),
    "many zeros": (heads.ZeroInflated(), [np.round(LEVELS * size) for size in (1e3, 1e6)]),
    "log-normal": (heads.LogNormal(), [LEVELS * size for size in (1e-20, 1, 1e20)]),
    "positive": (heads.TruncatedNormal(), [LEVELS * size for size in (1e-6, 1e3)]),
    "grid": (heads.DiscretisedLogistic(0.0, 1e5, 100001), [np.round(LEVELS * size) for size in (100, 1000)]),
    "fractions": (heads.Beta(), [size * LEVELS / (1 + size * LEVELS) for size in (1e-4, 1, 1e3)]),
}


def seen(head, query, **options):
    """What the default posterior's network gets of each row [N, numbers]."""
    data = veil.Data(query, **options)
    fit = started(veil.VAE(1, head, veil.MLP((2,))), data)
    return fit, np.asarray(jax.vmap(fit.posterior.reader)(on_device(data)))


@pytest.mark.parametrize("name", TABLE)
def test_units_do_not_matter(name):
    head, queries = TABLE[name]
    found = [seen(head, query)[1] for query in queries]
    for each in found:
        assert each.shape == (300, 3)
        np.testing.assert_allclose(each.mean(), 0, atol=1e-3)
        np.testing.assert_allclose(each.std(), 1, rtol=1e-2)
        np.testing.assert_allclose(each, found[0], atol=0.06)


def test_categories_angles_and_coins_are_shown_as_such():
    categories = np.array([[0.0, 2.0], [1.0, 1.0]])
    _, found = seen(heads.Categorical(3), categories)
    np.testing.assert_array_equal(found, [[1, 0, 0, 0, 0, 1], [0, 0, 1, 1, 0, 0]])
    fit, found = seen(heads.Bernoulli(), categories > 0)
    np.testing.assert_array_equal(found, categories > 0)
    assert fit.posterior.reader.view is None
    _, found = seen(heads.VonMises(), np.array([[np.pi], [-np.pi], [0.0]]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)  # they are the same direction


def test_parts_of_a_tree_have_their_own_and_missing_entries_read_as_zero():
    counts, places = np.round(1e5 * LEVELS), RNG.normal(size=(300, 2))
    counts[3, 1] = places[4, 0] = np.nan
    head = Joint({"counts": heads.Poisson(), "place": heads.DiagonalGaussian()})
    fit, found = seen(head, {"counts": counts, "place": places})
    assert found.shape == (300, 10)  # and which are present
    assert found[3, 1] == found[4, 3] == 0
    np.testing.assert_allclose(found[:, :3].std(0), 1, rtol=0.02)
    np.testing.assert_allclose(found[5, 3:5], places[5], rtol=1e-6)
    centre, scale = fit.posterior.reader.view["counts"].scale.held()
    np.testing.assert_allclose(np.ravel(centre), np.nanmean(np.log1p(counts), 0), rtol=1e-4)
    # nothing of it is trained
    moved = [leaf for leaf in jax.tree.leaves(trainable(fit.posterior)) if leaf is scale or leaf is centre]
    assert not moved
    assert len(jax.tree.leaves(trainable(fit.posterior.reader))) == 0


def test_memory_that_sees_observations_is_shown_the_same():
    counts = veil.data.episodes([np.round(1e5 * LEVELS[:20]), np.round(1e5 * LEVELS[20:30])])
    model = veil.vrnn(1, heads.Poisson(), veil.MLP((2,)), memory=2)
    fit = started(model, counts)
    dynamics = fit.model.dynamics
    row = jnp.array(counts.query[0, 0], jnp.float32)
    wanted = dynamics.reader(fit.posterior.reader.view(row, None).ravel())
    np.testing.assert_allclose(dynamics.seen(row, None), wanted)
    assert np.all(np.abs(fit.posterior.reader.view(row, None)) < 5)
