"""veil: latent variable models and amortized variational inference in JAX, for learning-based control."""

from veil.covariance import Diagonal, Full, Spherical, Tied
from veil.data import Data, Stream
# load_data
from veil.evaluate.likelihood import Evaluation, evaluate, log_prob
from veil.experts import Linear, LinearGaussian
from veil.fit import Fit, fit
from veil.gates import Softmax
from veil.model import Datum, Model
from veil.nets import MLP
from veil.objective import ExpectedLogLikelihood, Marginal
from veil.posterior import Exact
from veil.start import KMeans, RandomResponsibilities, RandomRows
from veil.zoo.mixture import Mixture, density
