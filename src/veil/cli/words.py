"""Parts of models from plain words and numbers: the command line's vocabulary."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from veil.data.core import trees
from veil.data.core.columns import suggestion
from veil.parts.covariance import Covariance, Diagonal, Full, Spherical, Tied
from veil.parts.experts import Experts, Linear, LinearGaussian
from veil.parts.heads import (
    Bernoulli,
    Beta,
    Categorical,
    DiagonalGaussian,
    DiscretisedLogistic,
    FullGaussian,
    Head,
    HomoscedasticGaussian,
    LogNormal,
    Multinomial,
    NegativeBinomial,
    Poisson,
    Squashed,
    StudentT,
    Symlog,
    TruncatedNormal,
    TwoHot,
    VonMises,
    ZeroInflated,
)
from veil.parts.images import Convolutional, Decoder, Pyramid
from veil.parts.joint import Branches, Joint
from veil.parts.nets import MLP, Residual
from veil.parts.paths import Cosine, LogLinear, Path, Straight
from veil.parts.priors import (
    Codes,
    FlowPrior,
    MixtureOfNormals,
    Prior,
    ResidualCodes,
    StandardNormal,
    TwoLevels,
    VampPrior,
)
from veil.parts.start import KMeans, RandomResponsibilities, RandomRows, Start

Part = TypeVar("Part")

COVARIANCES: dict[str, Covariance] = {
    "full": Full(),
    "tied": Tied(shared=Full()),
    "diagonal": Diagonal(),
    "diag": Diagonal(),
    "spherical": Spherical(),
    "tied-diagonal": Tied(shared=Diagonal()),
    "tied-spherical": Tied(shared=Spherical()),
}
NOISES: dict[str, Covariance] = {name: COVARIANCES[name] for name in ("diagonal", "diag", "full", "spherical")}
STARTS: dict[str, Start] = {
    "k-means": KMeans(),
    "random-rows": RandomRows(),
    "random-responsibilities": RandomResponsibilities(),
}
PATHS: dict[str, Path] = {"straight": Straight(), "cosine": Cosine(), "log-linear": LogLinear()}
SEES = {"evidence": True, "constant": False}
GAUSSIANS: dict[str, Head] = {
    "diagonal": DiagonalGaussian(),
    "diag": DiagonalGaussian(),
    "full": FullGaussian(),
    "homoscedastic": HomoscedasticGaussian(),
}
ACTIVATIONS = ("tanh", "relu", "silu", "gelu", "elu", "softplus")
DECODERS = ("network", "pyramid:32x32x3", "convolutional:32x32x3")  # height, width and channels
LEVELS = (16, 32, 64)  # numbers in a cell of an image network, finest level first
HEADS: dict[str, Head] = {
    "gaussian": DiagonalGaussian(),
    "student-t": StudentT(),
    "beta": Beta(),
    "bernoulli": Bernoulli(),
    "soft-bernoulli": Bernoulli(soft=True),
    "poisson": Poisson(),
    "negative-binomial": NegativeBinomial(),
    "zero-inflated": ZeroInflated(),
    "multinomial": Multinomial(),
    "log-normal": LogNormal(),
    "truncated-normal": TruncatedNormal(),
    "squashed": Squashed(),
    "von-mises": VonMises(),
    "symlog": Symlog(),
    "two-hot": TwoHot(),
    "categorical": Categorical(),
    "discretised-logistic": DiscretisedLogistic(),
}


def choose(option: str, word: str, table: Mapping[str, Part]) -> Part:
    if word not in table:
        raise ValueError(f"{option}: there is no {word!r}; {suggestion(str(word), list(table))}")
    return table[word]


def by_part(option: str, words: str) -> dict[str, str]:
    """Words for the parts of a query that is a dictionary, by the keys that lead to them.

    >>> by_part("head", "frame=bernoulli, arm/angle=gaussian")
    {'frame': 'bernoulli', 'arm/angle': 'gaussian'}
    """
    pairs = [[word.strip() for word in pair.split("=")] for pair in words.split(",")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs) or len({name for name, *_ in pairs}) < len(pairs):
        raise ValueError(
            f"{option}: expected a word for each part, such as frame=bernoulli,reward=gaussian; got {words!r}"
        )
    return dict(pairs)


def made_head(word: str, covariance: str | None) -> Head:
    """A head from ``name`` or ``name:numbers``: categorical:COUNT, discretised-logistic:LEVELS[:LOW:HIGH], ...

    multinomial:TOTAL, two-hot:BINS[:LOW:HIGH], truncated-normal:LOW:HIGH, squashed:LOW:HIGH[:MARGIN],
    beta:LOW:HIGH[:MARGIN], zero-inflated:HEAD.

    For the parts of a dictionary part=name[:numbers], with commas between them; the covariance is that of its normals.
    """
    if "=" in word:
        heads = {
            tuple(part.split("/")): made_head(each, covariance if each == "gaussian" else None)
            for part, each in by_part("head", word).items()
        }
        return Joint(trees.nested(heads))
    name, *rest = word.split(":")
    choose("head", name, HEADS)
    if name == "gaussian":
        no_numbers(name, rest)
        return choose("covariance", covariance or "diagonal", GAUSSIANS)
    if name == "squashed":
        inside = choose("covariance", covariance or "diagonal", GAUSSIANS)
        return made(Squashed, inside, *numbers(word, rest, [-1.0, 1.0, 0.0], "squashed:-1:1:0.001", False))
    if covariance is not None:
        raise ValueError(
            f"covariance: only the head gaussian takes it, and squashed for the one inside; this one is {name}"
        )
    if name == "beta":
        return made(Beta, *numbers(word, rest, [0.0, 1.0, 0.0], "beta:-1:1:0.001", False))
    if name == "categorical":
        (categories,) = numbers(word, rest, [2], "categorical:3")
        return made(Categorical, int(categories))
    if name == "discretised-logistic":
        levels, low, high = numbers(word, rest, [256, 0.0, None], "discretised-logistic:256:0:255")
        return made(DiscretisedLogistic, low, low + levels - 1 if high is None else high, int(levels))
    if name == "two-hot":
        bins, low, high = numbers(word, rest, [255, -20.0, 20.0], "two-hot:255:-20:20")
        return made(TwoHot, low, high, int(bins))
    if name == "multinomial":
        (total,) = numbers(word, rest, [1], "multinomial:20")
        return made(Multinomial, int(total))
    if name == "truncated-normal":
        return made(TruncatedNormal, *numbers(word, rest, [0.0, float("inf")], "truncated-normal:0:10", False))
    if name == "zero-inflated" and rest:
        return made(ZeroInflated, made_head(":".join(rest), None))
    no_numbers(name, rest)
    return HEADS[name]


def made(kind: Callable[..., Head], *numbers: Any) -> Head:
    try:
        return kind(*numbers)
    except ValueError as error:
        raise ValueError(f"head: {error}") from error


def no_numbers(name: str, rest: list[str]) -> None:
    if rest:
        raise ValueError(f"head: {name} takes no numbers; got {':'.join([name, *rest])!r}")


def numbers(word: str, given: list[str], defaults: list[Any], example: str, counted: bool = True) -> list[Any]:
    try:
        numbers = [float(text) for text in given]
    except ValueError:
        numbers = []
    if len(numbers) != len(given) or len(numbers) > len(defaults) or not all(n == n // 1 for n in numbers[:counted]):
        raise ValueError(f"head: expected numbers as in {example}; got {word!r}")
    return numbers + defaults[len(numbers) :]


def made_experts(head: str, covariance: str | None, evidence: bool) -> Experts:
    """Gaussian experts with a covariance structure, or any other head; linear in the evidence, or constant."""
    if head == "gaussian":
        return LinearGaussian(choose("covariance", covariance or "full", COVARIANCES), evidence=evidence)
    return Linear(made_head(head, covariance), evidence=evidence)


def made_network(hidden: Sequence[int], activation: str) -> MLP:
    word: Any = choose("activation", activation, {name: name for name in ACTIVATIONS})
    return MLP(tuple(hidden), word)


def made_residual(width: int, depth: int, activation: str) -> Residual:
    word: Any = choose("activation", activation, {name: name for name in ACTIVATIONS})
    return Residual(width, depth, word)


def made_dimensions(words: str) -> int:
    if not words.isdecimal() or int(words) < 1:
        raise ValueError(f"latent: expected a number of dimensions, such as 2; got {words!r}")
    return int(words)


def made_step_latent(words: str) -> Prior:
    """The latent of one step: its dimensions, or codes."""
    name, *rest = words.split(":")
    sizes = rest if name == "codes" else [name, *rest]
    if len(sizes) != (2 if name == "codes" else 1) or not all(part.isdecimal() and int(part) > 0 for part in sizes):
        raise ValueError(f"latent: expected dimensions, as in 30, or codes:COUNT:CATEGORIES; got {words!r}")
    return Codes(int(sizes[0]), int(sizes[1])) if name == "codes" else StandardNormal(int(sizes[0]))


def made_decoder(word: str | None, hidden: Sequence[int] | None, activation: str | None) -> MLP | Decoder | Branches:
    """A network, or for images pyramid:HEIGHTxWIDTHxCHANNELS or convolutional:..., with levels of sizes ``hidden``.

    For the parts of a dictionary part=network or part=pyramid:..., with commas between them.
    """
    if word is not None and "=" in word:
        return Branches(
            {part: made_decoder(each, hidden, activation) for part, each in by_part("decoder", word).items()}
        )
    if word is None or word == "network":
        return made_network((64, 64) if hidden is None else hidden, activation or "tanh")
    name, _, shape = word.partition(":")
    kinds: dict[str, Any] = {"pyramid": Pyramid, "convolutional": Convolutional, "network": None}
    make = choose("decoder", name, kinds)
    sides = shape.split("x")
    if make is None or len(sides) != 3 or not all(part.isdecimal() and int(part) > 0 for part in sides):
        raise ValueError(
            f"decoder: expected network, or for images pyramid:HEIGHTxWIDTHxCHANNELS or convolutional:..., such as "
            f"pyramid:32x32x3; got {word!r}"
        )
    kind: Any = choose("activation", activation or "relu", {name: name for name in ACTIVATIONS})
    height, width, channels = map(int, sides)
    levels = tuple(hidden or LEVELS[: halvings(height, width)])
    try:
        return make((height, width, channels), levels, 128, kind).mirrored()
    except ValueError as error:
        raise ValueError(f"decoder: {error}; with hidden you give a number for each level") from error


def halvings(height: int, width: int) -> int:
    """How often an image can be halved, as far as the usual image networks do so.

    >>> halvings(32, 24), halvings(28, 28), halvings(9, 8)
    (3, 2, 0)
    """
    count = 0
    while count < len(LEVELS) and height % 2 == width % 2 == 0:
        count, height, width = count + 1, height // 2, width // 2
    return count


def made_prior(words: str, net: MLP) -> Prior:
    """A prior from words: 10, mixture:10:5, vamp:10:20, flow:10, codes:10:8, residual:2:16, levels:2:10."""
    name, *rest = words.split(":")
    if name.isdecimal() and not rest:
        name, rest = "normal", [name]
    kinds: dict[str, tuple[int, Callable[..., Prior]]] = {
        "normal": (1, StandardNormal),
        "mixture": (2, MixtureOfNormals),
        "vamp": (2, lambda size, count: VampPrior(size, count, net)),
        "flow": (1, FlowPrior),
        "codes": (2, Codes),
        "residual": (2, lambda levels, codes: ResidualCodes(levels, codes, net=net)),
        "levels": (2, lambda top, bottom: TwoLevels(top, bottom, net)),
    }
    count, make = choose("latent", name, kinds)
    if len(rest) != count or not all(part.isdecimal() and int(part) > 0 for part in rest):
        raise ValueError(
            f"latent: expected dimensions, as in 10, or mixture:DIMENSIONS:COMPONENTS, vamp:DIMENSIONS:COMPONENTS, "
            f"flow:DIMENSIONS, codes:COUNT:CATEGORIES, residual:LEVELS:CODES, levels:TOP:BOTTOM; "
            f"got {words!r}"
        )
    return make(*map(int, rest))
