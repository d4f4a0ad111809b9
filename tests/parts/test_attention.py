"""The transformer against naive numpy; what it can tell apart; where a network is expected."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import Data
from veil.parts import heads
from veil.parts.attention import Transformer

KEY = jax.random.key(0)
NET = Transformer(steps=4, size=3, width=8, layers=2, heads=2)


def naive(net, x):
    """Token by token and head by head, in float64."""
    get = lambda leaf: np.asarray(leaf, np.float64)  # noqa: E731
    dense = lambda layer, v: get(layer.weight) @ v + get(layer.bias)  # noqa: E731

    def norm(v, gain, bias):
        return gain * (v - v.mean()) / np.sqrt(v.var() + 1e-6) + bias

    def gelu(v):
        return 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))

    rest = len(x) - net.steps * net.size
    tokens = [dense(net.reading, x[rest + i * net.size :][: net.size]) + get(net.places)[i] for i in range(net.steps)]
    if rest:
        tokens = [dense(net.before, x[:rest]), *tokens]
    part = net.width // net.heads
    for block in net.blocks:
        gains, biases = get(block.gains), get(block.biases)
        made = [np.split(dense(block.asked, norm(t, gains[0], biases[0])), 3) for t in tokens]
        after = []
        for i, token in enumerate(tokens):
            seen = []
            for h in range(net.heads):
                at = slice(h * part, (h + 1) * part)
                scores = np.array([made[i][0][at] @ key[at] / np.sqrt(part) for _, key, _ in made])
                weights = np.exp(scores - scores.max())
                seen.append(sum(w * value[at] for w, (_, _, value) in zip(weights / weights.sum(), made, strict=True)))
            token = token + dense(block.joined, np.concatenate(seen))
            hidden = gelu(dense(block.wide, norm(token, gains[1], biases[1])))
            after.append(token + dense(block.narrow, hidden))
        tokens = after
    return norm(tokens[-1], get(net.gain), get(net.bias))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rest", [0, 5])
def test_it_is_what_naive_code_says(rest):
    rng = np.random.default_rng(rest)
    net = NET.initialise(12 + rest, KEY)
    # away from the norms' first values, too
    net = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape) if eqx.is_array(leaf) else leaf, net)
    for _ in range(3):
        x = rng.normal(size=12 + rest)
        np.testing.assert_allclose(net(jnp.array(x)), naive(net, x), atol=1e-6)
    assert net.inputs == 12 + rest
    assert net.outputs(12) == 8


def test_the_order_of_the_past_counts_by_places_alone():
    net, x = NET.initialise(12, KEY), np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    swapped = jnp.array(x[[2, 0, 1, 3]].ravel())
    with_places = np.abs(net(jnp.array(x.ravel())) - net(swapped)).max()
    blind = eqx.tree_at(lambda n: n.places, net, jnp.zeros_like(net.places))
    np.testing.assert_allclose(blind(jnp.array(x.ravel())), blind(swapped), atol=1e-5)
    assert with_places > 1e-3
    last = jnp.array(x[[3, 0, 1, 2]].ravel())  # who asks is the last observation
    assert np.abs(blind(jnp.array(x.ravel())) - blind(last)).max() > 1e-2


def test_every_observation_counts():
    net = NET.initialise(12, KEY)
    slopes = jax.jacobian(net)(jnp.array(np.random.default_rng(0).normal(size=12), jnp.float32))
    assert np.all(np.abs(slopes).reshape(8, 4, 3).max((0, 2)) > 1e-4)


def remembering(count=300):
    """Whether the newest number is larger than the oldest of four."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(count, 4, 1))
    return Data((seen[:, -1] > seen[:, 0]).astype(float), evidence=seen.reshape(count, 4))


def test_it_learns_from_the_past_as_a_trunk():
    net = Transformer(steps=4, width=16, layers=1, heads=2)
    model = veil.density(veil.Linear(heads.Bernoulli()), trunk=net)
    fit = veil.fit(model, remembering(), key=KEY, steps=300, batch_size=100)
    assert veil.evaluate(fit, remembering()).log_likelihood_per_datum > -0.4  # log 2 without the past


@pytest.mark.filterwarnings("ignore:collapse")
def test_in_every_place_of_a_conditional_vae(tmp_path):
    """Prior, decoder and encoder: the latent and the query are tokens before the observations."""
    data = remembering(60)
    net = Transformer(steps=4, size=1, width=8, layers=1, heads=2)
    fit = veil.fit(veil.ConditionalVAE(2, heads.Bernoulli(), net), data, key=KEY, steps=3)
    inner, q = fit.model.model, fit.posterior.posterior
    assert (inner.latent.net.inputs, inner.decoder.inputs, q.net.inputs) == (4, 6, 5)
    loaded = veil.load(veil.save(tmp_path, fit))
    for one, other in zip(jax.tree.leaves(fit.model), jax.tree.leaves(loaded.model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Transformer(steps=0), "steps: expected a positive"),
        (lambda: Transformer(steps=2, width=10, heads=4), "heads: expected a number that divides width=10"),
        (lambda: Transformer(steps=5).initialise(12, KEY), "steps: 12 numbers are not 5 observations"),
        (lambda: NET.initialise(11, KEY), "steps: 11 numbers are not 4 observations of 3"),
        (lambda: NET(jnp.zeros(12)), "no parameters yet"),
    ],
)
def test_bad_sizes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
