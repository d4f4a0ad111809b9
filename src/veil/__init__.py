"""veil: latent variable models and amortized variational inference in JAX, for learning-based control."""

from veil.checkpoint import load, register, save
from veil.condition import condition
from veil.control.policy import Policy
from veil.covariance import Diagonal, Full, Spherical, Tied
from veil.data import Data, Stream
from veil.data import load as load_data
from veil.evaluate.likelihood import Evaluation, evaluate, log_prob
from veil.experts import Linear, LinearGaussian
from veil.fit import Fit, fit
from veil.gates import Softmax
from veil.model import Datum, Model
from veil.nets import MLP
from veil.objective import ExpectedLogLikelihood, Marginal
from veil.posterior import Exact
from veil.predict import infer, predict, sample
from veil.select import select
from veil.start import KMeans, RandomResponsibilities, RandomRows
from veil.zoo.mixture import Mixture, density
