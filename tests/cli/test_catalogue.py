"""The catalogue: words become strategies, wrong words become errors that help."""

import pytest

from veil.cli import catalogue
from veil.model import Model
from veil.model.abilities import started
from veil.parts import covariance, heads, nets, priors, start
from veil.zoo.mixture import Mixture


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_every_model_builds_with_its_defaults(name):
    entry = catalogue.entry(name)
    model = entry.build(entry.options)
    assert not started(model)
    if isinstance(model, Mixture):
        assert (model.components > 1) == entry.latent


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_every_word_of_every_option_builds(name):
    entry = catalogue.entry(name)
    for option in entry.options:
        for word in entry.words(option):
            assert isinstance(entry.build({option: word}), Model)


@pytest.mark.parametrize(
    ("word", "structure"),
    [
        ("full", covariance.Full()),
        ("tied", covariance.Tied(shared=covariance.Full())),
        ("diagonal", covariance.Diagonal()),
        ("diag", covariance.Diagonal()),
        ("spherical", covariance.Spherical()),
        ("tied-diagonal", covariance.Tied(shared=covariance.Diagonal())),
    ],
)
def test_covariances(word, structure):
    assert catalogue.build("mixture", {"covariance": word}).experts.covariance == structure
    assert catalogue.build("gaussian", {"covariance": word}).experts.covariance == structure


@pytest.mark.parametrize(
    ("words", "prior"),
    [
        ("3", priors.StandardNormal(3)),
        ("mixture:3:5", priors.MixtureOfNormals(3, 5)),
        ("flow:3", priors.FlowPrior(3)),
        ("codes:4:8", priors.Codes(4, 8)),
        ("residual:2:4", priors.ResidualCodes(2, 4)),
        ("levels:2:6", priors.TwoLevels(2, 6, nets.MLP((64, 64)))),
        ("vamp:2:7", priors.VampPrior(2, 7, nets.MLP((64, 64)))),
    ],
)
def test_priors(words, prior):
    assert catalogue.build("vae", {"latent": words}).latent == prior


@pytest.mark.parametrize("words", ["", "0", "codes:3", "mixture:a:2", "3:4", "flow"])
def test_priors_that_cannot_be_read(words):
    with pytest.raises(ValueError, match="latent: "):
        catalogue.build("vae", {"latent": words})


def test_decompositions_of_a_conditional_vae():
    both = catalogue.build("cvae", {"gate": "evidence"})
    assert isinstance(both.latent, priors.ConditionalNormal)
    assert both.evidence
    assert not catalogue.build("cvae", {"gate": "evidence", "experts": "constant"}).evidence
    with pytest.raises(ValueError, match="that is the model vae"):
        catalogue.build("cvae", {"gate": "constant", "experts": "constant"})
    with pytest.raises(ValueError, match="latent: where the prior sees"):
        catalogue.build("cvae", {"gate": "evidence", "latent": "codes:2:2"})


@pytest.mark.parametrize(
    ("word", "head"),
    [
        ("bernoulli", heads.Bernoulli()),
        ("poisson", heads.Poisson()),
        ("beta", heads.Beta()),
        ("student-t", heads.StudentT()),
        ("categorical:4", heads.Categorical(4)),
        ("negative-binomial", heads.NegativeBinomial()),
        ("zero-inflated", heads.ZeroInflated()),
        ("zero-inflated:negative-binomial", heads.ZeroInflated(heads.NegativeBinomial())),
        ("multinomial:20", heads.Multinomial(20)),
        ("log-normal", heads.LogNormal()),
        ("truncated-normal", heads.TruncatedNormal(0.0, float("inf"))),
        ("truncated-normal:-1.5:2", heads.TruncatedNormal(-1.5, 2.0)),
        ("von-mises", heads.VonMises()),
        ("symlog", heads.Symlog()),
        ("two-hot", heads.TwoHot()),
        ("two-hot:41:-5:5", heads.TwoHot(-5.0, 5.0, 41)),
        ("discretised-logistic", heads.DiscretisedLogistic(0.0, 255.0, 256)),
        ("discretised-logistic:17", heads.DiscretisedLogistic(0.0, 16.0, 17)),
        ("discretised-logistic:256:0:1", heads.DiscretisedLogistic(0.0, 1.0, 256)),
    ],
)
def test_heads(word, head):
    for name in ("mixture", "mixture-of-experts", "mdn", "neural", "generalised-linear"):
        assert catalogue.build(name, {"head": word}).experts.head == head


def test_decompositions():
    linear = catalogue.build("mixture-of-experts", {})
    assert (linear.gate.evidence, linear.experts.evidence) == (True, True)
    constant = catalogue.build("mixture-of-experts", {"gate": "constant"})
    assert (constant.gate.evidence, constant.experts.evidence) == (False, True)
    switching = catalogue.build("mixture-of-experts", {"experts": "constant"})
    assert (switching.gate.evidence, switching.experts.evidence) == (True, False)


def test_networks_and_starts():
    model = catalogue.build("mdn", {"hidden": [32, 16], "activation": "relu", "start": "random-rows", "components": 7})
    assert model.trunk == nets.MLP((32, 16), "relu")
    assert model.start == start.RandomRows()
    assert model.components == 7


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mixtures", {}, "did you mean 'mixture'"),
        ("gaussian", {"components": 2}, "does not take the option components; it takes covariance"),
        ("mixture", {"components": 2.0}, "components: expected int"),
        ("mixture", {"components": True}, "components: expected int"),
        ("mixture", {"components": 0}, "components: expected a positive integer"),
        ("mixture", {"covariance": ["full"]}, "covariance: expected str"),
        ("mdn", {"hidden": "64"}, "hidden: expected Sequence"),
        ("mdn", {"hidden": [64, "x"]}, "hidden: expected Sequence"),
        ("mdn", {"hidden": [64, -1]}, "widths: expected"),
        ("mdn", {"covariance": "tied"}, "covariance: there is no 'tied'"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        catalogue.build(name, options)
