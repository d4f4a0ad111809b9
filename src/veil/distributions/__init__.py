"""Distributions of one event: what may be asked (``protocol``, ``asking``), numpyro's (``library``), and our own."""

from veil.distributions import supports
from veil.distributions.asking import (
    balanced,
    central,
    drawn,
    enumerable,
    kl_along,
    kl_entries,
    log_prob,
    log_ratio,
    moments,
    probabilities,
    reparameterised,
    support,
)
from veil.distributions.chained import ChainedCodes
from veil.distributions.composed import Affine, Chained, Joint, Pushed, Squashed
from veil.distributions.library import (
    Bernoulli,
    Beta,
    Categorical,
    Categoricals,
    LogNormal,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    TruncatedNormal,
    VonMises,
    bernoulli,
    beta,
    categorical,
    categoricals,
    multivariate_normal,
    normal,
    poisson,
    student_t,
    unchecked,
)
from veil.distributions.protocol import (
    Categories,
    Central,
    Composed,
    Distribution,
    Divergence,
    Entries,
    Finite,
    Gaussian,
    Marginals,
    Moments,
    PathDistribution,
    Reparameterised,
    StepDraws,
    event_shape,
    has,
)
from veil.distributions.simple import (
    Codes,
    Coins,
    DiscretisedLogistic,
    Empty,
    MixtureOfNormals,
    Multinomial,
    Point,
    ZeroInflated,
)
from veil.distributions.sizes import Symlog, TwoHot
from veil.distributions.supports import Support
