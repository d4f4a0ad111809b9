"""The catalogue: models by name, from options that are plain words and numbers. Here words become strategies."""

import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from veil.cli.words import (
    ACTIVATIONS,
    COVARIANCES,
    DECODERS,
    GAUSSIANS,
    HEADS,
    NOISES,
    PATHS,
    SEES,
    STARTS,
    choose,
    made_decoder,
    made_dimensions,
    made_experts,
    made_head,
    made_network,
    made_prior,
    made_residual,
    made_step_latent,
)
from veil.model import Model
from veil.parts.experts import Linear, LinearGaussian
from veil.parts.fields import NeuralField
from veil.parts.flows import Flow
from veil.parts.gates import Softmax
from veil.parts.heads import HomoscedasticGaussian
from veil.parts.priors import ConditionalNormal, StandardNormal
from veil.zoo.bayesian import BayesianNetwork
from veil.zoo.diffusion import Diffusion
from veil.zoo.factor import PPCA, FactorAnalysis
from veil.zoo.flows import ContinuousFlow, NormalisingFlow
from veil.zoo.hmm import HMM
from veil.zoo.lds import LDS
from veil.zoo.mixture import Mixture, density
from veil.zoo.state_space import dmm, rssm, vrnn
from veil.zoo.switching import SwitchingLDS
from veil.zoo.vae import VAE


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue.

    ``what``: one line. ``conditional``: whether it is p(y|x), which needs evidence columns, or p(y), which has none;
    None: either. ``latent``: whether there is a latent to infer. ``options``: those it takes, with their defaults.
    """

    name: str
    what: str
    conditional: bool | None
    latent: bool
    make: Callable[..., Model]

    @property
    def options(self) -> dict[str, Any]:
        return {name: parameter.default for name, parameter in inspect.signature(self.make).parameters.items()}

    def words(self, option: str) -> tuple[str, ...]:
        """The words that an option takes; none for one that takes numbers.

        >>> entry("mdn").words("gate")
        ('evidence', 'constant')
        """
        if option == "covariance" and self.make in (_lds, _switching_lds):
            return tuple(NOISES)
        linear = self.make in (_gaussian, _linear_gaussian, _mixture, _mixture_of_experts, _hmm)
        tables: dict[str, Iterable[str]] = {
            "covariance": COVARIANCES if linear else GAUSSIANS,
            "head": HEADS,
            "gate": SEES,
            "experts": SEES,
            "activation": ACTIVATIONS,
            "start": STARTS,
            "decoder": DECODERS,
            "path": PATHS,
        }
        return tuple(tables.get(option, ()))

    def build(self, options: Mapping[str, Any]) -> Model:
        """The model, without parameters.

        Raises:
            ValueError: an option it does not take, a value of the wrong type or an unknown word.

        >>> entry("mixture").build({"components": 3, "covariance": "tied"}).components
        3
        """
        parameters = inspect.signature(self.make).parameters
        for name, value in options.items():
            if name not in parameters:
                raise ValueError(f"{self.name} does not take the option {name}; it takes {', '.join(parameters)}")
            if not _is_a(value, parameters[name].annotation):
                expected = inspect.formatannotation(parameters[name].annotation).replace("collections.abc.", "")
                raise ValueError(f"{name}: expected {expected}; got {value!r}")
        return self.make(**options)


def entry(name: str) -> Entry:
    """A model of the catalogue by name.

    Raises ValueError, with the closest match, for a name that is not there.

    >>> entry("gaussian").what
    'One Gaussian: p(y) = N(y; mean, covariance)'
    """
    return choose("MODEL", name, MODELS)


def build(name: str, options: Mapping[str, Any]) -> Model:
    """A model from its name and options, without parameters: ``entry(name).build(options)``.

    >>> build("mdn", {"components": 5, "hidden": [32]}).trunk.widths
    (32,)
    """
    return entry(name).build(options)


def _is_a(value: Any, annotation: Any) -> bool:
    """Whether a JSON value fits an annotation of the functions below."""
    if get_origin(annotation) is types.UnionType:
        return any(_is_a(value, part) for part in get_args(annotation))
    if get_origin(annotation) is Sequence:
        return isinstance(value, list | tuple) and all(_is_a(part, get_args(annotation)[0]) for part in value)
    if annotation is None or annotation is type(None):
        return value is None
    if isinstance(value, bool):
        return annotation is bool
    return isinstance(value, (int, float) if annotation is float else annotation)


# -- the models: one function each, its line of help and its options -------------------------------------------------


def _gaussian(covariance: str = "full") -> Model:
    """One Gaussian: p(y) = N(y; mean, covariance)."""
    return density(LinearGaussian(choose("covariance", covariance, COVARIANCES), evidence=False))


def _linear_gaussian(covariance: str = "full") -> Model:
    """Linear regression with Gaussian noise: p(y|x) = N(y; W x + b, covariance)."""
    return density(LinearGaussian(choose("covariance", covariance, COVARIANCES)))


def _generalised_linear(head: str = "gaussian", covariance: str | None = None) -> Model:
    """A head whose parameters are linear in x: logistic, Poisson, Student-t ... regression."""
    return density(Linear(made_head(head, covariance)))


def _neural(
    head: str = "gaussian", covariance: str | None = None, hidden: Sequence[int] = (64, 64), activation: str = "tanh"
) -> Model:
    """A head whose parameters are a network of x: p(y|x) = head(f(x))."""
    return density(Linear(made_head(head, covariance)), trunk=made_network(hidden, activation))


def _mixture(
    components: int = 2, covariance: str | None = None, head: str = "gaussian", start: str = "k-means"
) -> Model:
    """A mixture of Gaussians, or of another head: p(y) = Σ p(z) p(y|z)."""
    experts = made_experts(head, covariance, False)
    return Mixture(experts, components, Softmax(evidence=False), start=choose("start", start, STARTS))


def _mixture_of_experts(
    components: int = 2,
    covariance: str | None = None,
    head: str = "gaussian",
    gate: str = "evidence",
    experts: str = "evidence",
    start: str = "k-means",
) -> Model:
    """Linear experts that a gate chooses between: p(y|x) = Σ p(z|x) p(y|x,z)."""
    given, chosen = choose("experts", experts, SEES), choose("gate", gate, SEES)
    if not given and not chosen:
        raise ValueError("gate, experts: with both constant nothing sees the evidence; that is the model mixture")
    parts = made_experts(head, covariance, given)
    return Mixture(parts, components, Softmax(evidence=chosen), start=choose("start", start, STARTS))


def _mdn(
    components: int = 5,
    covariance: str | None = None,
    head: str = "gaussian",
    gate: str = "evidence",
    hidden: Sequence[int] = (64, 64),
    activation: str = "tanh",
    start: str = "k-means",
) -> Model:
    """A mixture density network: gate and components are a network of x."""
    weights = Softmax(evidence=choose("gate", gate, SEES))
    begin = choose("start", start, STARTS)
    return Mixture(Linear(made_head(head, covariance)), components, weights, made_network(hidden, activation), begin)


def _ppca(latent: str = "2") -> Model:
    """Probabilistic PCA: p(y) = N(y; m, W W' + s² I), exact."""
    return PPCA(made_dimensions(latent))


def _factor_analysis(latent: str = "2") -> Model:
    """Factor analysis: p(y) = N(y; m, W W' + diagonal), exact."""
    return FactorAnalysis(made_dimensions(latent))


def _vae(
    latent: str = "2",
    head: str = "gaussian",
    covariance: str | None = None,
    hidden: Sequence[int] = (64, 64),
    activation: str = "tanh",
) -> Model:
    """A variational autoencoder: p(y) = ∫ p(z) p(y|z) dz with a neural p(y|z)."""
    return VAE(
        made_prior(latent, made_network(hidden, activation)),
        made_head(head, covariance),
        made_network(hidden, activation),
    )


def _cvae(
    latent: str = "2",
    head: str = "gaussian",
    covariance: str | None = None,
    gate: str = "evidence",
    experts: str = "evidence",
    hidden: Sequence[int] = (64, 64),
    activation: str = "tanh",
) -> Model:
    """A conditional variational autoencoder: p(y|x) = ∫ p(z|x) p(y|x,z) dz."""
    net = made_network(hidden, activation)
    given, chosen = choose("experts", experts, SEES), choose("gate", gate, SEES)
    if not given and not chosen:
        raise ValueError("gate, experts: with both constant nothing sees the evidence; that is the model vae")
    prior = made_prior(latent, net)
    if chosen:
        if not isinstance(prior, StandardNormal):
            raise ValueError(
                f"latent: where the prior sees the evidence (gate evidence) it is a number of dimensions; got "
                f"{latent!r}"
            )
        prior = ConditionalNormal(prior.dimensions, net)
    return VAE(prior, made_head(head, covariance), net, evidence=given)


def _bayesian_network(head: str = "gaussian", hidden: Sequence[int] = (50,), activation: str = "tanh") -> Model:
    """A network of x whose weights are a latent that all data share: p(y|x) = ∫ p(w) p(y|x,w) dw."""
    chosen = HomoscedasticGaussian() if head == "gaussian" else made_head(head, None)
    word: Any = choose("activation", activation, {name: name for name in ACTIVATIONS})
    return BayesianNetwork(tuple(hidden), word, chosen)


def _flow(hidden: Sequence[int] = (64, 64), layers: int = 4, knots: int = 16) -> Model:
    """A normalising flow, of x if there is evidence: splines in coupling layers, exact."""
    return NormalisingFlow(Flow(layers, 64, knots=knots), made_network(hidden, "silu"))


def _flow_matching(width: int = 128, depth: int = 3, activation: str = "silu", draws: int = 16) -> Model:
    """Noise carried to y by a network's ODE, of x if there is evidence; learned by flow matching, exact density."""
    return ContinuousFlow(made_residual(width, depth, activation), draws)


def _diffusion(
    width: int = 128, depth: int = 3, activation: str = "silu", path: str = "log-linear", draws: int = 64
) -> Model:
    """A diffusion in continuous time, of x if there is evidence: noise taken away step by step."""
    net = made_residual(width, depth, activation)
    return Diffusion(NeuralField(net=net, path=choose("path", path, PATHS)), draws=draws)


def _hmm(
    components: int = 2,
    covariance: str | None = None,
    head: str = "gaussian",
    gate: str = "constant",
    experts: str = "constant",
    start: str = "k-means",
) -> Model:
    """A hidden Markov model of sequences: a mixture whose choice remembers, exact; components are states."""
    given, chosen = choose("experts", experts, SEES), choose("gate", gate, SEES)
    parts = made_experts(head, covariance, given)
    return HMM(parts, components, Softmax(evidence=chosen), start=choose("start", start, STARTS))


def _lds(latent: str = "2", covariance: str = "diagonal") -> Model:
    """A linear-Gaussian state-space model of sequences, with controls: Kalman filter and smoother, exact."""
    return LDS(made_dimensions(latent), choose("covariance", covariance, NOISES))


def _switching_lds(components: int = 2, latent: str = "2", covariance: str = "diagonal") -> Model:
    """Linear dynamics that switch between components, variational EM; sequences."""
    return SwitchingLDS(components, made_dimensions(latent), choose("covariance", covariance, NOISES))


def _dmm(
    latent: str = "16",
    head: str = "gaussian",
    covariance: str | None = None,
    hidden: Sequence[int] | None = None,
    activation: str | None = None,
    decoder: str | None = None,
    width: int = 64,
) -> Model:
    """A deep Markov model of sequences: p(z_t|z_t-1,x_t) and p(y_t|z_t) are networks."""
    if not latent.isdecimal():
        raise ValueError(f"latent: a deep Markov model's has dimensions, such as 16; got {latent!r}")
    return dmm(made_step_latent(latent), made_head(head, covariance), made_decoder(decoder, hidden, activation), width)


def _rssm(
    latent: str = "30",
    head: str = "gaussian",
    covariance: str | None = None,
    hidden: Sequence[int] | None = None,
    activation: str | None = None,
    decoder: str | None = None,
    memory: int = 200,
) -> Model:
    """A recurrent state-space model: a memory h_t and a latent z_t, of sequences of vectors or images."""
    return rssm(
        made_step_latent(latent), made_head(head, covariance), made_decoder(decoder, hidden, activation), memory
    )


def _vrnn(
    latent: str = "16",
    head: str = "gaussian",
    covariance: str | None = None,
    hidden: Sequence[int] | None = None,
    activation: str | None = None,
    decoder: str | None = None,
    memory: int = 128,
) -> Model:
    """A variational recurrent network: an rssm whose memory also reads the data."""
    return vrnn(
        made_step_latent(latent), made_head(head, covariance), made_decoder(decoder, hidden, activation), memory
    )


CONDITIONAL = (_linear_gaussian, _generalised_linear, _neural, _mixture_of_experts, _mdn, _cvae, _bayesian_network)
EITHER = (_flow, _flow_matching, _diffusion)
WITHOUT_LATENT = (_gaussian, _linear_gaussian, _generalised_linear, _neural)
ALL: tuple[Callable[..., Model], ...] = (
    _gaussian,
    _linear_gaussian,
    _generalised_linear,
    _neural,
    _mixture,
    _mixture_of_experts,
    _mdn,
    _ppca,
    _factor_analysis,
    _vae,
    _cvae,
    _bayesian_network,
    _flow,
    _flow_matching,
    _diffusion,
    _hmm,
    _lds,
    _switching_lds,
    _dmm,
    _rssm,
    _vrnn,
)


def _described(make: Callable[..., Model]) -> Entry:
    what = str(make.__doc__).removesuffix(".")
    return Entry(
        make.__name__[1:].replace("_", "-"),
        what,
        None if make in EITHER else make in CONDITIONAL,
        make not in WITHOUT_LATENT,
        make,
    )


MODELS: dict[str, Entry] = {each.name: each for each in map(_described, ALL)}
