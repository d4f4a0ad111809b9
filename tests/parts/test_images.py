"""Image networks against naive numpy versions; encoder and decoder pairs learn real digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import veil
from veil import Data, objective
from veil.evaluation.objective import values
from veil.learning.choices import default_optimiser
from veil.model.abilities import free_parameters
from veil.parts import heads, images

KEY = jax.random.key(0)
DECODERS = {"pyramid": images.PyramidDecoder, "convolutional": images.ConvolutionalDecoder}


def digits(levels=2):
    """Scikit-learn's digits as [8, 8, 1], at this many levels."""
    pixels = load_digits().data.reshape(-1, 8, 8, 1) / 16
    found = np.minimum(np.floor(pixels * levels), levels - 1).astype(np.float32)
    return Data(found[:1400]), Data(found[1400:])


def relu(x):
    return np.maximum(x, 0.0)


def naive_merge(image, weight, bias):
    """Space-to-depth of 2x2 neighbours and a matrix product, cell by cell."""
    height, width, _ = image.shape
    out = np.zeros((height // 2, width // 2, len(bias)))
    for i in range(height // 2):
        for j in range(width // 2):
            cell = [image[2 * i, 2 * j], image[2 * i, 2 * j + 1], image[2 * i + 1, 2 * j], image[2 * i + 1, 2 * j + 1]]
            out[i, j] = weight @ np.concatenate(cell) + bias
    return out


def naive_split(image, weight, bias):
    """A matrix product and depth-to-space, cell by cell."""
    height, width, _ = image.shape
    out = np.zeros((2 * height, 2 * width, len(bias) // 4))
    for i in range(height):
        for j in range(width):
            out[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = (weight @ image[i, j] + bias).reshape(2, 2, -1)
    return out


def naive_down(image, weight, bias):
    """The sum that defines a 4x4 convolution of stride 2."""
    height, width, _ = image.shape
    out = np.zeros((height // 2, width // 2, len(bias))) + bias
    for i, j, u, v in np.ndindex(height // 2, width // 2, 4, 4):
        a, b = 2 * i + u - 1, 2 * j + v - 1
        if 0 <= a < height and 0 <= b < width:
            out[i, j] += image[a, b] @ weight[u, v]
    return out


def naive_up(image, weight, bias):
    """The sum that defines a transposed 4x4 convolution of stride 2."""
    height, width, _ = image.shape
    out = np.zeros((2 * height, 2 * width, len(bias))) + bias
    for i, j, u, v in np.ndindex(height, width, 4, 4):
        a, b = 2 * i + u - 1, 2 * j + v - 1
        if 0 <= a < 2 * height and 0 <= b < 2 * width:
            out[a, b] += image[i, j] @ weight[u, v]
    return out


NAIVE = {"pyramid": (naive_merge, naive_split), "convolutional": (naive_down, naive_up)}
ENCODERS = {"pyramid": images.Pyramid, "convolutional": images.Convolutional}


def random_biases(net):
    """Biases start at zero, where a test would not see them."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.array(rng.normal(size=leaf.shape)) if leaf.ndim == 1 else leaf, net)


def exact(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_is_the_naive_one(kind, x64):
    """Levels by loops over cells; the order in which cells reach the dense layer is the network's own."""
    image = np.random.default_rng(0).normal(size=(8, 16, 3))
    net = random_biases(ENCODERS[kind]((8, 16, 3), (5, 6), features=7).initialise(8 * 16 * 3 + 2, KEY))
    naive = image
    for layer in exact(net.layers):
        naive = relu(NAIVE[kind][0](naive, layer.weight, layer.bias))
    beyond = np.array([0.3, -0.4])  # evidence follows the image
    dense = exact(net.dense)
    expected = relu(dense.weight @ np.concatenate([naive.ravel(), beyond]) + dense.bias)
    found = net(jnp.array(np.concatenate([image.ravel(), beyond])))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_is_the_naive_one(kind, x64):
    net = DECODERS[kind]((8, 16, 3), (5, 6), features=7).making((8, 16, 3), 2)
    net = random_biases(net.initialise(4, KEY))
    z = np.random.default_rng(0).normal(size=4)
    x = z
    for layer in exact(net.dense):
        x = relu(layer.weight @ x + layer.bias)
    naive = x.reshape(2, 4, 6)
    layers = exact(net.layers)
    for layer in layers[:-1]:
        naive = relu(NAIVE[kind][1](naive, layer.weight, layer.bias))
    naive = NAIVE[kind][1](naive, layers[-1].weight, layers[-1].bias)
    assert naive.shape == (8, 16, 6)
    naive = naive.ravel() + exact(net.linear) @ z
    np.testing.assert_allclose(net(jnp.array(z)), naive, rtol=1e-10, atol=1e-10)
    assert net.outputs(4) == naive.size


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_cells_are_nested_squares(levels):
    image = jnp.array(np.stack(np.meshgrid(np.arange(16), np.arange(8), indexing="ij"), -1))
    cells = images.to_cells(image.astype(float), levels)
    for level in range(1, levels + 1):
        squares = np.asarray(cells).reshape(-1, 4**level, 2)
        corner = squares.min(1)
        assert np.all(corner % 2**level == 0)
        np.testing.assert_array_equal(squares.max(1) - corner, 2**level - 1)
    np.testing.assert_array_equal(images.from_cells(cells, (16, 8), levels), image)


HEADS = {"bernoulli": (heads.Bernoulli(), 2), "categorical": (heads.Categorical(4), 4)}


@pytest.mark.parametrize(
    ("kind", "head", "least"),
    [("pyramid", "bernoulli", 4.0), ("pyramid", "categorical", 8.0), ("convolutional", "bernoulli", 0.8)],
)
def test_digits_are_learned(kind, head, least, tmp_path):
    """The held-out bound beats the best model without a latent; a saved pair gives the same numbers.

    Convolutions are slow on a CPU: fewer steps of a smaller net, which gains 2.7 to 3.9 nats (three keys).
    """
    likelihood, levels = HEADS[head]
    data, test = digits(levels)
    small = kind == "convolutional"
    steps, batch_size, rate = (300, 50, 1e-2) if small else (400, 100, 3e-3)
    decoder = DECODERS[kind]((8, 8, 1), (8, 16) if small else (16, 32), features=32 if small else 64)
    model = veil.VAE(8, likelihood, decoder)
    optimiser = default_optimiser(steps, rate)
    fit = veil.fit(model, data, key=KEY, steps=steps, batch_size=batch_size, optimiser=optimiser)
    assert fit.posterior.net.level == decoder.level
    found = values(veil.ELBO(), fit.model, fit.posterior, test, key=KEY)
    counts = np.stack([(data.query == level).mean(0) for level in range(levels)]) + 1e-3
    chosen = np.take_along_axis(np.log(counts / counts.sum(0)), test.query[None].astype(int)[0], axis=0)
    independent = chosen.reshape(len(test), -1).sum(1).mean()
    assert found.mean() > independent + least
    saved = veil.load(veil.save(tmp_path / "model", fit.model))
    posterior = veil.load(veil.save(tmp_path / "posterior", fit.posterior))
    np.testing.assert_array_equal(found, values(veil.ELBO(), saved, posterior, test, key=KEY))
    assert veil.sample(fit.model, 3, key=KEY).query.shape == (3, 8, 8, 1)


@pytest.mark.parametrize("head", [heads.DiagonalGaussian(), heads.DiscretisedLogistic(0.0, 15.0, 16)])
def test_the_constant_part_starts_at_the_average(head):
    """Before learning, the likelihood at the prior's mean is that of the data's moments, in the head's own order."""
    data, _ = digits(16)
    model = veil.VAE(4, head, images.PyramidDecoder((8, 8, 1), (8,)))
    model = model.initialise(veil.Datum(jnp.array(data.query)), None, KEY)
    start = model.likelihood(jnp.zeros(4), None)
    middle = slice(2, 6)  # pixels that are not nearly always the same
    for found, expected in ((start.mean, data.query.mean(0)), (jnp.sqrt(start.variance), data.query.std(0))):
        np.testing.assert_allclose(found[middle, middle], expected[middle, middle], rtol=0.25)


def test_missing_pixels_and_evidence_are_read():
    """A conditional VAE of digits with a third of the pixels missing: evidence and mask follow the image."""
    data, test = digits()
    rng = np.random.default_rng(0)

    def gapped(part, labels):
        return Data(part.query, evidence=np.eye(10)[labels], observed=rng.random(part.query.shape) > 0.3)

    labels = load_digits().target
    train, held = gapped(data, labels[:1400]), gapped(test, labels[1400:])
    model = veil.VAE(4, heads.Bernoulli(), images.PyramidDecoder((8, 8, 1), (16, 32), features=64))
    warmed = veil.ELBO(kl=objective.Annealed(300))
    fit = veil.fit(model, train, key=KEY, objective=warmed, steps=600, batch_size=100)
    p = np.clip(data.query.mean(0), 1e-3, 1 - 1e-3)
    alone = np.where(held.query == 1, np.log(p), np.log(1 - p)) * held.observed
    found = values(veil.ELBO(), fit.model, fit.posterior, held, key=KEY).mean()
    assert found > alone.reshape(len(held), -1).sum(1).mean() + 2.0


def test_images_as_evidence():
    """An encoder is a trunk, too: digits 0 and 1 told apart, and the units of the pixels are taken in."""
    digit = load_digits()
    chosen = digit.target < 2
    data = Data(digit.target[chosen][:, None].astype(float), evidence=digit.data[chosen].reshape(-1, 64) * 100 - 50)
    trunk = images.Pyramid((8, 8, 1), (8, 16), features=16)
    fit = veil.fit(veil.density(veil.Linear(heads.Bernoulli()), trunk=trunk), data, key=KEY, steps=200)
    assert veil.evaluate(fit.model, data).log_likelihood_per_datum > -0.05
    net = fit.model.model.trunk
    assert free_parameters(fit.model) == sum(leaf.size for leaf in jax.tree.leaves((net.layers, net.dense))) + 17


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: images.Pyramid((8, 12, 1), (4, 4, 4)),
            r"shape: 3 levels .* multiples of 8; got \(8, 12\): pad or crop",
        ),
        (lambda: images.Convolutional((8, 8), (4,)), r"shape: expected \(height, width, channels\)"),
        (lambda: images.PyramidDecoder((8, 8, 0), (4,)), "shape: expected a positive whole number; got 0"),
        (lambda: images.Pyramid((8, 8, 1), ()), "widths: expected one or more positive integers"),
        (lambda: images.Pyramid((8, 8, 1), (4, -1)), "widths: expected a positive whole number; got -1"),
        (lambda: images.Pyramid((8, 8, 1), (4,), features=0), "features: expected a positive whole number; got 0"),
        (
            lambda: veil.fit(veil.VAE(2, heads.Bernoulli(), images.PyramidDecoder((16, 16, 1))), digits()[0], key=KEY),
            r"query: this decoder makes images of shape \(16, 16, 1\); the data have shape \(8, 8, 1\)",
        ),
        (
            lambda: veil.fit(
                veil.VAE(2, heads.Bernoulli()),
                digits()[0],
                key=KEY,
                posterior=veil.Amortized(images.Pyramid((16, 16, 1))),
            ),
            r"shape: this encoder reads images of shape \(16, 16, 1\), 256 numbers; a datum here has 64",
        ),
        (lambda: images.Pyramid((8, 8, 1), (4,))(jnp.zeros(64)), "no parameters yet"),
    ],
)
def test_bad_choices_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_convolutions_are_the_same_sums_on_every_platform(x64):
    rng = np.random.default_rng(0)
    for one, other, size, outputs in (
        (images._gathered, images._convolved, (8, 6, 3), 5),
        (images._spread, images._unconvolved, (4, 3, 3), 5),  # each cell gathers its neighbours
        (images._spread, images._unconvolved, (4, 3, 8), 2),  # each place is spread
    ):
        image, bias = jnp.array(rng.normal(size=(2, *size))), jnp.array(rng.normal(size=outputs))
        weight = jnp.array(rng.normal(size=(4, 4, size[2], outputs)))
        found = []
        for level in (one, other):

            def total(image, weight, bias, level=level):
                return jnp.sum(jax.vmap(level, (0, None, None))(image, weight, bias) ** 3)

            found.append(jax.jit(jax.value_and_grad(total, (0, 1, 2)))(image, weight, bias))
        for left, right in zip(*map(jax.tree.leaves, found), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-10)
