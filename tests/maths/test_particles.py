"""Particle filters against the exact recursions of hidden Markov and linear-Gaussian chains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from veil.maths import markov, particles

SCHEMES = [particles.systematic, particles.stratified, particles.multinomial]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_resampling_keeps_every_share_on_average(x64: None, scheme: particles.Resampling) -> None:
    weights = np.array([0.05, 0.0, 0.4, 0.3, 0.25, 0.0])
    with np.errstate(divide="ignore"):
        logs = jnp.array(np.log(weights))
    drawn = jax.vmap(lambda key: scheme(key, logs))(jax.random.split(jax.random.key(0), 20_000))
    counts = np.stack([np.bincount(row, minlength=6) for row in np.asarray(drawn)])
    error = counts.std(0) / np.sqrt(len(counts))
    assert np.all(np.abs(counts.mean(0) - 6 * weights) <= 5 * error + 1e-12)
    assert np.all(counts[:, [1, 5]] == 0)
    if scheme is particles.systematic:  # never more than one away from its share
        assert np.all(np.abs(counts - 6 * weights) < 1)
    if scheme is particles.multinomial:
        np.testing.assert_allclose(counts.var(0), 6 * weights * (1 - weights), atol=0.06)


def test_impossible_particles_are_never_chosen_whatever_rounding_does() -> None:
    logs = jnp.where(jnp.arange(1000) < 999, -7.0, -jnp.inf)
    drawn = jax.vmap(lambda key: particles.systematic(key, logs))(jax.random.split(jax.random.key(0), 500))
    assert int(drawn.max()) < 999


STATES, STEPS = 3, 6


def chain(seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    log = lambda *shape: jax.nn.log_softmax(jnp.array(rng.normal(size=shape)))  # noqa: E731
    return log(STATES), log(STATES, STATES), jnp.array(rng.normal(size=(STEPS, STATES)) - 1.0)


def run(key, first, move, seen, starts, there, count, **options):
    """A bootstrap filter of a hidden Markov chain."""

    def propose(key, carry, given):
        before, fresh = carry
        drawn = jax.random.categorical(key, jnp.where(fresh, first, move[before]))
        return drawn, given[drawn]

    begin = (jnp.zeros((), int), jnp.array(True))
    advance = lambda carry, latent, given: (latent, jnp.array(False))  # noqa: E731
    return particles.filtered(key, begin, propose, advance, seen, starts, there, count, **options)


RESET = jnp.arange(STEPS) == 3
MASK = jnp.arange(STEPS) < 5


@pytest.mark.parametrize(("scheme", "threshold"), [(SCHEMES[0], 0.0), (SCHEMES[0], 0.5), *((s, 1.0) for s in SCHEMES)])
def test_the_estimate_is_unbiased_with_resets_and_padding(x64: None, threshold: float, scheme: object) -> None:
    first, move, seen = chain()
    starts, there = markov.steps(STEPS, MASK, RESET)
    exact = jnp.sum(markov.forward(first, move, seen, starts, there)[1])
    filter_of = lambda key: run(  # noqa: E731
        key, first, move, seen, starts, there, 4, threshold=threshold, resampling=scheme
    )
    values = jax.vmap(lambda key: filter_of(key).log_likelihood)(jax.random.split(jax.random.key(1), 20_000))
    ratio = np.exp(np.asarray(values) - float(exact))
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(len(ratio))
    assert ratio.std() > 0.05
    assert values.mean() < exact


def test_filtered_and_smoothed_distributions_are_the_exact_ones(x64: None) -> None:
    first, move, seen = chain(1)
    starts, there = markov.steps(STEPS, MASK, RESET)
    beliefs, normalisers = markov.forward(first, move, seen, starts, there)
    found = run(jax.random.key(0), first, move, seen, starts, there, 40_000)
    np.testing.assert_allclose(found.log_likelihoods, normalisers, atol=0.03)
    assert float(found.log_likelihoods[5]) == 0
    weights = np.exp(found.log_weights)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    shares = lambda latents, weights: np.stack([weights[..., latents == s].sum() for s in range(STATES)])  # noqa: E731
    for t in range(STEPS):
        np.testing.assert_allclose(shares(np.asarray(found.latents[t]), weights[t]), np.exp(beliefs[t]), atol=0.02)
    marginals = markov.smooth(first, move, seen, starts, there).marginals
    traced = np.asarray(particles.paths(found))
    back = particles.backward_paths(
        jax.random.key(1), run(jax.random.key(0), first, move, seen, starts, there, 400),
        lambda before, after, given: move[before, after], seen, starts, there, 4000,
    )  # fmt: skip
    for t in range(STEPS):
        np.testing.assert_allclose(shares(traced[:, t], weights[-1]), marginals[t], atol=0.03)
        np.testing.assert_allclose(np.bincount(back[:, t], minlength=STATES) / 4000, marginals[t], atol=0.1)
    assert np.array_equal(traced[:, 5], traced[:, 4])
    assert np.array_equal(back[:, 5], back[:, 4])
    assert particles.sample_path(jax.random.key(2), found).shape == (STEPS,)


def test_traced_paths_are_those_that_were_drawn(x64: None) -> None:
    """Latents that count their steps since the start, and know their own first draw."""
    starts, there = markov.steps(STEPS, None, RESET)

    def propose(key, carry, given):
        mine = jnp.where(carry[0] == 0, jax.random.uniform(key), carry[1])
        return (carry[0] + 1, mine), jnp.log(jax.random.uniform(jax.random.fold_in(key, 1)))

    advance = lambda carry, latent, given: latent  # noqa: E731
    begin = (jnp.zeros((), int), jnp.zeros(()))
    found = particles.filtered(
        jax.random.key(0), begin, propose, advance, jnp.zeros(STEPS), starts, there, 8, threshold=0.9
    )
    counts, names = particles.paths(found)
    assert np.array_equal(counts, np.tile([1, 2, 3, 1, 2, 3], (8, 1)))
    names = np.asarray(names)
    assert np.all(names[:, :3] == names[:, :1])
    assert np.all(names[:, 3:] == names[:, 3:4])
    assert np.all(names[:, 0] != names[:, 3])


def test_no_possible_particle_is_a_small_number_and_never_nan() -> None:
    starts, there = markov.steps(4, None, None)
    weights = jnp.array([0.0, -jnp.inf, jnp.nan, 0.0])
    propose = lambda key, carry, given: (jax.random.normal(key), given)  # noqa: E731
    advance = lambda carry, latent, given: latent  # noqa: E731
    found = particles.filtered(jax.random.key(0), jnp.zeros(()), propose, advance, weights, starts, there, 5)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(found))
    np.testing.assert_allclose(found.log_likelihoods, [0, -1e30, -1e30, 0], atol=1e-5)
    assert float(found.log_likelihood) < -1e29
