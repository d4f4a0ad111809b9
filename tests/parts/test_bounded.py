"""Heads of bounded numbers at and near their ends, and where policies use them: saturated actions, mixed actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import veil
from veil import Data, distributions
from veil.parts import heads
from veil.parts.joint import Joint

KEY = jax.random.key(0)


def integral(head, vector, low, high):
    """∫ p(y) dy by the midpoint rule, of one entry, in the coordinate that spreads the ends out."""
    places = (np.arange(20_000) + 0.5) / 20_000
    spread = np.sin(0.5 * np.pi * places) ** 2  # dense where a density may be high
    y, slope = low + (high - low) * spread, (high - low) * 0.5 * np.pi * np.sin(np.pi * places)
    log_p = jax.vmap(lambda v: head(jnp.array(vector), (1,)).log_prob(v))(jnp.array(y[:, None]))
    return float(np.sum(np.exp(np.asarray(log_p)) * slope) / 20_000)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.0, 255.0), (1000.0, 1001.0)])
@pytest.mark.parametrize("kind", [heads.Squashed, heads.Beta, heads.TruncatedNormal])
def test_densities_integrate_to_one(kind, ends):
    head = kind(low=ends[0], high=ends[1])
    vector = [0.7, 0.4] if kind is not heads.TruncatedNormal else [0.7, np.log(ends[1] - ends[0])]
    assert integral(head, vector, *ends) == pytest.approx(1.0, abs=1e-4)


def test_without_its_jacobian_it_would_not():
    head = heads.Squashed(low=-1.0, high=3.0)
    y = jnp.array(np.linspace(-0.999, 2.999, 4001)[:, None], jnp.float32)
    base = head.head(jnp.array([0.7, 0.4]), (1,))
    found = np.exp(np.asarray(jax.vmap(lambda v: base.log_prob(head.shown(v)[0]))(y)))
    assert abs(np.trapezoid(found, y[:, 0]) - 1) > 0.1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", [heads.Squashed, heads.Beta])
def test_draws_match_the_density(kind):
    distribution = kind(low=-2.0, high=5.0)(jnp.array([0.3, 0.2]), (1,))
    draws = np.sort(np.asarray(jax.vmap(distribution.sample)(jax.random.split(KEY, 4000)))[:, 0])
    grid = np.linspace(-2, 5, 8001)[:, None]
    density = np.exp(np.asarray(jax.vmap(distribution.log_prob)(jnp.array(grid))))
    steps = np.cumsum(density) * (grid[1, 0] - grid[0, 0])
    empirical = np.searchsorted(draws, grid[:, 0]) / 4000
    assert np.max(np.abs(empirical - steps)) < 1.95 / np.sqrt(4000)  # Kolmogorov: one in a thousand


def test_draws_far_out_stay_inside_and_have_a_density():
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (1000.0, 1001.0)):
        far = heads.Squashed(low=low, high=high)(jnp.array([60.0, -60.0, 0.0, 0.0]), (2,))
        y = far.sample(KEY)
        assert low < y[1] < y[0] < high
        value, slope = jax.value_and_grad(far.log_prob)(y)
        assert np.isfinite(value)
        assert np.all(np.isfinite(slope))


def test_full_covariance_inside_bounds():
    rng = np.random.default_rng(0)
    b = rng.multivariate_normal([0.5, -0.5], [[1.0, 0.9], [0.9, 1.0]], 600)
    data = Data(np.tanh(b))
    full, diagonal = (
        veil.fit(veil.density(veil.Linear(heads.Squashed(head))), data, key=KEY, steps=200)
        for head in (heads.FullGaussian(), heads.DiagonalGaussian())
    )
    one, other = (veil.evaluate(fit, data).log_likelihood_per_datum for fit in (full, diagonal))
    assert one - other > 0.5  # at its best the mutual information, 0.83 nats


def saturated():
    rng = np.random.default_rng(0)
    return Data(np.clip(rng.normal(size=(300, 1)), -1, 1), query_names=("thrust",))


@pytest.mark.parametrize("head", [heads.Squashed(), heads.Beta(-1.0, 1.0)])
def test_saturated_actions_are_refused_with_advice_or_nudged(head):
    data = saturated()
    with pytest.raises(ValueError, match=r"strictly between -1 and 1; column thrust has -?1 in row .*margin=0.001"):
        veil.fit(veil.density(veil.Linear(head)), data, key=KEY, steps=1)
    kind = type(head)
    nudged = kind(low=-1.0, high=1.0, margin=0.01)
    fit = veil.fit(veil.density(veil.Linear(nudged)), data, key=KEY, steps=100)
    moved = Data(np.clip(data.query, -0.98, 0.98))
    np.testing.assert_allclose(veil.log_prob(fit, data), veil.log_prob(fit, moved), rtol=1e-5)
    assert np.all(np.isfinite(veil.log_prob(fit, data)))
    with pytest.raises(ValueError, match=r"column thrust has 1\.5 in row 1"):
        veil.fit(veil.density(veil.Linear(nudged)), Data([[0.5], [1.5]], query_names=["thrust"]), key=KEY, steps=1)


def mixed(count=300):
    """A gripper that opens on one way and closes on the other, and an arm that goes there."""
    rng = np.random.default_rng(0)
    x, side = rng.uniform(-1, 1, (count, 1)), rng.choice([-1.0, 1.0], (count, 1))
    arm = np.tanh(side * (1 + 0.2 * x) + 0.05 * rng.normal(size=(count, 2)))
    return Data({"arm": arm, "gripper": (side > 0).astype(float)}, evidence=x)


HEAD = Joint({"gripper": heads.Bernoulli(), "arm": heads.Squashed()})


@pytest.mark.parametrize("name", ["mixture", "vae", "codes"])
def test_mixed_actions_from_fit_to_acting(name):
    """Discrete and continuous parts of one action go together, draw by draw."""
    net = veil.MLP((16,))
    model = {
        "mixture": veil.Mixture(veil.Linear(HEAD), 2, trunk=net),
        "vae": veil.VAE(1, HEAD, net),
        "codes": veil.VAE(veil.priors.ResidualCodes(1, 2, net=net), HEAD, net),
    }[name]
    fit = veil.fit(model, mixed(), key=KEY, steps=400)
    log_p = veil.log_prob(fit, mixed(50), key=KEY, samples=50)
    assert log_p.shape == (50,)
    assert np.all(np.isfinite(log_p))
    policy = veil.Policy(fit)
    action = jax.jit(jax.vmap(lambda key: policy(jnp.zeros(1), key)))(jax.random.split(KEY, 300))
    arm, gripper = np.asarray(action["arm"]), np.asarray(action["gripper"])
    assert set(np.unique(gripper)) <= {0.0, 1.0}
    assert np.all(np.abs(arm) < 1)
    together = np.mean((arm[:, 0] > 0) == (gripper.ravel() > 0.5))
    assert together > (0.9 if name == "vae" else 0.97)
    assert 0.3 < gripper.mean() < 0.7


def test_an_unknown_moment_is_not_made_up():
    with pytest.raises(TypeError, match="Squashed are not known"):
        distributions.moments(heads.Squashed()(jnp.zeros(2), (1,)))
