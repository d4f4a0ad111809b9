"""The certificate: the policy that gave the demonstrations passes at nominal rates; each known fault has its name."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from veil import Data, Enumerable, Mean, Model, Policy, ScriptedActor, Tractable, distributions
from veil.control.certificate import certify, modes
from veil.control.choices import Choice
from veil.control.worlds import Tree, tree
from veil.posterior import Posterior

KEY = jax.random.key(0)
NOISE, ROWS = 0.1, 800
BETWEEN, COLLAPSE, IGNORED, ZERO = (
    "acts between modes",
    "one mode only (mode collapse)",
    "z is ignored",
    "acts by z = 0",
)


def way(evidence):
    """How far to the side the demonstrators go: a = ± way + noise."""
    return 1 + 0.3 * evidence[:1]


class Truth(Enumerable):
    """p(a | o) = ½ N(way, 0.1²) + ½ N(-way, 0.1²), a component each."""

    left: jax.Array = eqx.field(default_factory=lambda: jnp.array(0.5))

    def prior(self, evidence):
        return distributions.categorical(jnp.log(jnp.stack([self.left, 1 - self.left])))

    def likelihood(self, latent, evidence):
        return distributions.normal(jnp.where(latent == 0, -1.0, 1.0) * way(evidence), jnp.full(1, NOISE))


class Smooth(Model):
    """The same with z ~ N(0, 1): a ~ N(tanh(gain z) way, scale²); of gain 0 the decoder ignores z."""

    gain: float = 100.0
    scale: float = NOISE

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(1), jnp.ones(1))

    def likelihood(self, latent, evidence):
        return distributions.normal(jnp.tanh(self.gain * latent) * way(evidence), jnp.full(1, self.scale))


class Half(Posterior):
    """q(z | a): about the half of a standard normal that is on the action's side."""

    def __call__(self, model, datum):
        return distributions.normal(0.8 * jnp.sign(datum.query), jnp.full(1, 0.4))


class Prior(Posterior):
    """q(z | a) = p(z): collapsed."""

    def __call__(self, model, datum):
        return model.prior(datum.evidence)


class Flow(Tractable):
    """The same, exact, as a map of z ~ N(0, 1): its lower half to the one mode, the upper to the other."""

    def prior(self, evidence):
        return distributions.normal(jnp.zeros(1), jnp.ones(1))

    def likelihood(self, latent, evidence):
        share = norm.cdf(-jnp.abs(latent)) * 2  # uniform within a half
        side = jnp.where(latent < 0, -1.0, 1.0)
        return distributions.Point(side * way(evidence) + NOISE * norm.ppf(jnp.clip(share, 1e-6, 1 - 1e-6)))

    def log_marginal(self, datum):
        return Truth().log_marginal(datum)

    def posterior(self, datum):
        side = jnp.where(datum.query < 0, -1.0, 1.0)
        share = norm.cdf((datum.query - side * way(datum.evidence)) / NOISE)
        return distributions.Point(-side * norm.ppf(jnp.clip(share, 1e-6, 1 - 1e-6) / 2))


class Plain(Tractable):
    """A single Gaussian: the best that it can be."""

    scale: float = 1.0

    def prior(self, evidence):
        return distributions.Empty()

    def likelihood(self, latent, evidence):
        return distributions.normal(jnp.zeros(1), jnp.full(1, self.scale))

    def log_marginal(self, datum):
        return self.likelihood(None, datum.evidence).log_prob(datum.query)

    def posterior(self, datum):
        return distributions.Empty()


class DecodesZero(Choice):
    """What some conditional VAEs do when they act: the decoder at z = 0."""

    def __call__(self, model, observation, key):
        return model.likelihood(jnp.zeros(1), observation).sample(key)


def drawn(seed, rows=ROWS):
    """Demonstrations by the truth."""
    rng = np.random.default_rng(seed)
    seen = rng.uniform(-1, 1, (rows, 2))
    side = np.where(rng.random((rows, 1)) < 0.5, -1.0, 1.0)
    return Data(side * (1 + 0.3 * seen[:, :1]) + NOISE * rng.normal(size=(rows, 1)), evidence=seen, name="fork")


DATA = drawn(0)


def of(policy, data=DATA, **more):
    return certify(policy, data, key=KEY, **{"draws": 16, "samples": 20, **more})


@pytest.fixture(scope="module")
def truth():
    return of(Truth())


def test_the_truth_passes_at_its_nominal_rates(truth):
    assert truth.faults == ()
    assert truth.multimodal_policy
    assert 1.95 < truth.modes < 2.1
    assert truth.acts.off == pytest.approx(0.01, abs=0.012)
    assert truth.acts.between < 0.02
    assert truth.acts.coverage > 0.98
    assert truth.explained == pytest.approx(1 / (1 + NOISE**2), abs=0.02)
    # two Gaussians that never meet: H = log 2 + log(0.1 sqrt(2 π e))
    assert truth.nll.value == pytest.approx(np.log(2) + np.log(NOISE) + 0.5 * np.log(2 * np.pi * np.e), abs=0.1)
    assert truth.evaluation.kind == "exact"
    assert truth.codes == ((2, pytest.approx(2.0, abs=0.05), 2),)


def test_a_demonstration_that_is_its_own_neighbour_is_caught(monkeypatch):
    """With it among them, the demonstrations' own distances are zero, and all else is off."""
    nearest = modes.nearest
    with_itself = lambda points, count: np.concatenate([np.arange(len(points))[:, None], nearest(points, count - 1)], 1)  # noqa: E731
    monkeypatch.setattr(modes, "nearest", with_itself)
    assert "off the demonstrations" in of(Truth()).faults


GOOD = {"a latent that is switched": (Smooth(), Half()), "a flow": (Flow(), None)}


@pytest.mark.parametrize("name", GOOD)
def test_good_policies_pass(name, truth):
    model, posterior = GOOD[name]
    found = of(model, posterior=posterior)
    assert found.faults == ()
    assert found.multimodal_policy
    assert found.acts.off == pytest.approx(0.01, abs=0.012)
    assert found.ablation["own"].coverage > 0.98
    assert found.ablation["other"].between < 0.03
    if name == "a flow":
        assert found.evaluation.log_likelihood == pytest.approx(truth.evaluation.log_likelihood)
    else:
        assert found.evaluation.kind.startswith("lower bound")
        assert found.nll.value > truth.nll.value - 0.02
        assert found.ablation["centre"].between > 0.9
        assert found.latents.active_units == 1


WRONG = {
    "squared error": (Policy(Plain(), Mean()), None, {BETWEEN, COLLAPSE}, {ZERO, IGNORED}),
    "a single Gaussian": (Plain(), None, {BETWEEN}, {ZERO, IGNORED}),
    "decodes z = 0": (Policy(Smooth(), DecodesZero()), Half(), {BETWEEN, ZERO}, {IGNORED}),
    "a collapsed CVAE": (Smooth(0.0, 1.0), Prior(), {BETWEEN, IGNORED}, {ZERO}),
    "one side only": (Truth(jnp.array(1e-6)), None, {COLLAPSE, IGNORED}, {BETWEEN}),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_fault_has_its_name(name):
    policy, posterior, named, other = WRONG[name]
    found = of(policy, posterior=posterior)
    assert named <= set(found.faults)
    assert not other & set(found.faults)
    assert found.multimodal_policy is False


def test_one_side_is_half_the_coverage_and_never_off():
    found = of(Truth(jnp.array(1e-6)))
    assert found.acts.coverage == pytest.approx(0.5, abs=0.02)
    assert found.acts.off < 0.02


def test_where_demonstrations_have_one_mode_there_is_nothing_to_certify():
    rng = np.random.default_rng(0)
    data = Data(rng.normal(size=(600, 1)), evidence=rng.normal(size=(600, 2)))
    found = of(Plain(), data)
    assert found.faults == ()
    assert found.multimodal_policy is None
    assert found.multimodal < 0.01
    assert found.acts.off == pytest.approx(0.01, abs=0.01)


@pytest.mark.parametrize("size", [1, 8, 64])
def test_how_many_modes_there_are(size):
    rng = np.random.default_rng(size)
    normal = np.array([modes.modes(rng.normal(size=(32, size))).max() for _ in range(200)])
    assert np.mean(normal > 0) < 0.02
    where = 12 * np.eye(max(3, size))[:3, :size]
    where[0] = -12
    three = [modes.modes(where[np.arange(48) % 3] + rng.normal(size=(48, size))) for _ in range(50)]
    expected = 2 if size == 1 else 3  # on a line the last two are in one place
    assert np.mean([labels.max() + 1 == expected for labels in three]) > 0.9


def test_the_best_split_of_a_line_is_found():
    values = np.random.default_rng(0).normal(size=30)
    upper, found = modes.halves(values)
    order = np.sort(values)
    within = [np.var(order[:n]) * n + np.var(order[n:]) * (30 - n) for n in range(3, 28)]
    assert np.sum(~upper) == 3 + int(np.argmin(within))
    low, high = values[~upper], values[upper]
    spread = np.sqrt((np.var(low) + np.var(high)) / 2)
    assert found == pytest.approx((high.mean() - low.mean()) / spread, rel=0.01)


def test_chunks_and_dictionaries_are_measured():
    rng = np.random.default_rng(1)
    side = np.where(rng.random((400, 1, 1)) < 0.5, -1.0, 1.0)
    action = {"hand": side + 0.1 * rng.normal(size=(400, 4, 2)), "still": np.zeros((400, 1))}
    data = Data(action, evidence={"arm": rng.normal(size=(400, 2))})

    class Both(Enumerable):
        def prior(self, evidence):
            return distributions.categorical(jnp.zeros(2))

        def likelihood(self, latent, evidence):
            hand = distributions.normal(jnp.full((4, 2), 2.0 * latent - 1), jnp.full((4, 2), 0.1))
            return distributions.Joint({"hand": hand, "still": distributions.normal(jnp.zeros(1), jnp.ones(1))})

    found = of(Both(), data)
    assert found.faults == ()
    assert found.multimodal > 0.95


def test_a_black_box_is_driven():
    side = lambda key: tree.Demonstrator(Tree(), jnp.where(jax.random.bernoulli(key), 1.0, -1.0))  # noqa: E731
    straight = certify(ScriptedActor(lambda seen, key: jnp.zeros(1)), None, key=KEY, world=Tree(), drives=60)
    wavering = ScriptedActor(lambda seen, key: side(key)(seen, key))
    found = certify(wavering, None, key=KEY, world=Tree(), drives=60)
    left = certify(ScriptedActor(tree.Demonstrator(Tree(), 1.0)), None, key=KEY, world=Tree(), drives=60)
    assert straight.driven.success[0] == 0
    assert found.driven.switching[0] > 0.2
    assert "changes its mind" in found.faults
    assert left.faults == ("few of the ways to succeed",)
    assert left.driven.success[0] == 1
    assert left.driven.switching[0] <= 0.05 >= left.driven.demonstrators.switching[0]
    said = left.as_dict()
    assert (said["success"], said["episodes"], said["return_mean"], said["nll"]) == (1.0, 60, 1.0, None)


def test_it_says_what_it_found(truth):
    text = repr(truth)
    assert "nats per datum, exact" in text
    assert "multimodal: yes" in text
    said = json.loads(json.dumps(truth.as_dict(), allow_nan=False))
    assert said["faults"] == []
    assert said["between"] == truth.acts.between
    assert list(said["ablation"]) == ["prior", "centre", "own", "other"]


def test_wrong_arguments_are_named():
    for more, words in (({"draws": 2}, "draws, neighbours: "), ({"rows": 0}, "rows: "), ({"rows": 40}, "data: ")):
        with pytest.raises(ValueError, match=f"^{words}"):
            of(Truth(), **more)
    with pytest.raises(ValueError, match=r"^data: "):
        of(Truth(), None)
    with pytest.raises(ValueError, match=r"^world: "):
        certify(ScriptedActor(lambda seen, key: seen), DATA, key=KEY)
    with pytest.raises(TypeError, match=r"^policy: "):
        of(3)
