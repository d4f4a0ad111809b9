"""Heads: from a vector of unconstrained numbers to a distribution over one event.

A head is what a linear layer, a network or a table of constants ends in, and says where a query lives.
"""

from veil.parts.heads.base import Head, Shape, Showing, viewed
from veil.parts.heads.bounded import Beta, Squashed, TruncatedNormal
from veil.parts.heads.discrete import (
    Bernoulli,
    Categorical,
    DiscretisedLogistic,
    Multinomial,
    NegativeBinomial,
    OneHot,
    Poisson,
    ZeroInflated,
)
from veil.parts.heads.real import (
    BoundedGaussian,
    DiagonalGaussian,
    FullGaussian,
    HomoscedasticGaussian,
    LogNormal,
    SoftplusGaussian,
    StudentT,
    VonMises,
)
from veil.parts.heads.sizes import Symlog, TwoHot
