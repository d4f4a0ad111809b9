"""The tables that tests multiply: covariance structures, heads, models, and data for each."""

import warnings
from types import SimpleNamespace

import equinox as eqx
import jax
import numpy as np
import scipy.special
import scipy.stats

import oracles
import veil
from veil import Data, Diagonal, Full, Linear, LinearGaussian, Mixture, Softmax, Spherical, Tied
from veil.model.batching import as_datum
from veil.parts import heads
from veil.posterior import Learned
from veil.posterior.choice import usual
from veil.units import in_user_units, standardised_posterior

STRUCTURES = {
    "full": Full(),
    "diagonal": Diagonal(),
    "spherical": Spherical(),
    "tied-full": Tied(Full()),
    "tied-diagonal": Tied(Diagonal()),
}
HEADS = {
    "diagonal": heads.DiagonalGaussian(),
    "homoscedastic": heads.HomoscedasticGaussian(),
    "full": heads.FullGaussian(),
    "student": heads.StudentT(),
    "logistic": heads.DiscretisedLogistic(0.0, 6.0, 7),
    "beta": heads.Beta(),
    "bernoulli": heads.Bernoulli(),
    "categorical": heads.Categorical(3),
    "poisson": heads.Poisson(),
}
EVERY_HEAD = HEADS | {  # the models below have the heads above: one more is a dozen compilations
    "negative": heads.NegativeBinomial(),
    "zeros": heads.ZeroInflated(),
    "more-zeros": heads.ZeroInflated(heads.NegativeBinomial()),
    "multinomial": heads.Multinomial(4),
    "bounded": heads.BoundedGaussian(0.01, 20.0),
    "log-normal": heads.LogNormal(),
    "truncated": heads.TruncatedNormal(-1.0, 2.0),
    "positive": heads.TruncatedNormal(),
    "von-mises": heads.VonMises(),
    "squashed": heads.Squashed(low=-1.0, high=2.0),
    "beta-between": heads.Beta(-1.0, 2.0),
    "symlog": heads.Symlog(),
    "two-hot": heads.TwoHot(-3.0, 3.0, 9),
}
TRUNK = veil.MLP((4,))


def _models():
    for name, covariance in STRUCTURES.items():
        yield f"mixture-{name}", Mixture(LinearGaussian(covariance), 3), "real"
        yield f"experts-{name}", Mixture(LinearGaussian(covariance), 3), "real | evidence"
    yield "gaussian", veil.density(LinearGaussian()), "real"
    yield "regression", veil.density(LinearGaussian()), "real | evidence"
    yield "gate-only", Mixture(LinearGaussian(evidence=False), 3), "real | evidence"
    yield "experts-only", Mixture(LinearGaussian(), 3, Softmax(evidence=False)), "real | evidence"
    yield "no-evidence-used", Mixture(LinearGaussian(evidence=False), 3, Softmax(evidence=False)), "real | evidence"
    yield "trunk-gaussian", Mixture(LinearGaussian(), 3, trunk=TRUNK), "real | evidence"
    yield "trunk-density", veil.density(Linear(heads.DiagonalGaussian()), TRUNK), "real | evidence"
    yield "trunk-diagonal", Mixture(Linear(heads.DiagonalGaussian()), 3, trunk=TRUNK), "real | evidence"
    for name, head in HEADS.items():
        yield f"constant-{name}", Mixture(Linear(head), 3), name
        yield f"linear-{name}", Mixture(Linear(head), 3), f"{name} | evidence"


MODELS = {name: (model, kind) for name, model, kind in _models()}
CLOSED_FORM = [name for name in MODELS if name.startswith(("mixture-", "experts-"))] + [
    *("gaussian", "regression", "gate-only", "no-evidence-used"),
    *("constant-bernoulli", "constant-categorical", "constant-poisson"),
]


def make_data(kind, count=12, *, missing=False, weighted=False, seed=0):
    """Two entries a datum (three for plain reals) in the support that the kind names; values are spread on purpose."""
    rng = np.random.default_rng([seed, len(kind), missing, weighted])
    what = kind.split(" | ")[0]
    shape = (count, 3) if kind == "real" else (count, 2)
    query = {
        "bernoulli": lambda: rng.integers(0, 2, shape),
        "categorical": lambda: rng.integers(0, 3, shape),
        **dict.fromkeys(("poisson", "negative", "zeros", "more-zeros"), lambda: rng.poisson(2.0, shape)),
        "multinomial": lambda: rng.multinomial(4, [0.3, 0.7], shape[0]),
        **dict.fromkeys(("log-normal", "positive"), lambda: np.exp(rng.normal(size=shape))),
        **dict.fromkeys(("truncated", "squashed", "beta-between"), lambda: rng.uniform(-1, 2, shape)),
        "von-mises": lambda: rng.vonmises(0.5, 1.0, shape),
        "logistic": lambda: rng.integers(0, 7, shape),
        "beta": lambda: rng.uniform(0.05, 0.95, shape),
    }.get(what, lambda: 1.5 * rng.normal(size=shape))()
    query = np.asarray(query, np.float64)
    if missing:
        gone = rng.random(shape) < 0.35
        gone[0], gone[1] = True, [True] + [False] * (shape[1] - 1)  # one row with nothing, one with a gap
        query[gone] = np.nan
    weight = rng.integers(1, 4, count) * 0.5 if weighted else None
    evidence = rng.normal(size=(count, 2)) if "evidence" in kind else None
    return Data(query, evidence=evidence, weight=weight)


def on_device(data):
    """All data as one batched datum of JAX arrays."""
    return jax.device_put(as_datum(data))


@eqx.filter_jit  # outside jit every operation in it is a compilation of its own
def _initialised(model, datum, responsibilities, key):
    return model.initialise(datum, responsibilities, key)


def random_model(name, data, seed=0):
    """A model of the table with random parameters of the right shapes, at JAX's present precision."""
    model, _ = MODELS[name]
    rng = np.random.default_rng([seed, 7])
    responsibilities = rng.dirichlet(np.ones(model.components), len(data))
    model = _initialised(model, on_device(data), jax.numpy.array(responsibilities, float), jax.random.key(seed))

    def change(path, leaf):
        field, size = path[-1].name, np.shape(leaf)
        if field == "factor":
            new = np.tril(0.4 * rng.normal(size=size), -1) + np.eye(size[-1]) * (0.6 + rng.random(size[:-1])[..., None])
        elif field == "scale":
            one = any(getattr(key, "name", "") == "diagonal" for key in path)  # spherical: equal along the entries
            new = np.broadcast_to(np.exp(0.4 * rng.normal(size=(size[0], 1) if one else size)), size)
        else:
            new = np.asarray(leaf) + 0.5 * rng.normal(size=size)
        return jax.numpy.array(new, float)

    return jax.tree_util.tree_map_with_path(change, model)


def started(model, data, posterior=None, units=None):
    """Model and posterior with random starting parameters, as a ``Fit`` has them and much sooner; or in other units."""
    batch = on_device(data)
    responsibilities = None
    if isinstance(model, Mixture | veil.HMM):
        rng = np.random.default_rng(0)
        responsibilities = jax.numpy.array(rng.dirichlet(np.ones(model.components), len(data)), float)
    model = model.initialise(batch, responsibilities, jax.random.key(1))
    posterior = posterior or usual(model)
    if isinstance(posterior, Learned):
        example = jax.tree.map(lambda leaf: leaf[0], batch)
        posterior = posterior.initialise(model, example, len(data), jax.random.key(2))
    if units is not None:
        model, posterior = in_user_units(model, units), standardised_posterior(posterior, units)
    return SimpleNamespace(model=model, posterior=posterior)


# -- the same models by naive numpy ------------------------------------------------------------------------------------


def numpy_features(model, x, count):
    if x is not None and isinstance(model.trunk, veil.MLP):
        for layer in model.trunk.layers:
            x = np.tanh(x @ np.asarray(layer.weight).T + np.asarray(layer.bias))
    return oracles.features(x, count)


def numpy_log_gate(model, phi):
    if not isinstance(model.gate, Softmax):
        return np.zeros((len(phi), 1))
    weight = np.asarray(model.gate.weight)
    return np.log(np.array([oracles.softmax(weight @ row[: weight.shape[1]]) for row in phi]))


def numpy_covariances(experts):
    """[K, D, D] from the parameters themselves."""
    components, size, _ = experts.weight.shape
    inner = getattr(experts.covariance, "shared", experts.covariance)
    inner = getattr(inner, "diagonal", inner)
    if isinstance(inner, Full):
        factor = np.asarray(inner.factor)
        parts = np.array([one @ one.T for one in factor])
    else:
        parts = np.array([np.diag(one**2) for one in np.asarray(inner.scale)])
    return np.broadcast_to(parts, (components, size, size))


def numpy_log_joints(model, data):
    """log p(y_n, z | x_n) [N, K] for every model of the table."""
    count = len(data)
    seen = np.ones(data.query.shape, bool) if data.observed is None else data.observed
    phi = numpy_features(model, data.evidence, count)
    gate = numpy_log_gate(model, phi)
    weight = np.asarray(model.experts.weight)
    if isinstance(model.experts, LinearGaussian):
        return oracles.log_joints(data.query, phi, gate, weight, numpy_covariances(model.experts), seen)
    out = gate.copy()
    for n in range(count):
        for k in range(len(weight)):
            vector = weight[k] @ phi[n, : weight.shape[2]]
            out[n, k] += head_log_prob(model.experts.head, vector, data.query[n], seen[n])
    return out


def head_log_prob(head, vector, y, seen=None):
    """log p(y) of a head, by scipy, entry by entry over the entries present."""
    seen = np.ones(len(y), bool) if seen is None else seen
    vector, size, stats = np.asarray(vector, np.float64), len(y), scipy.stats
    if isinstance(head, heads.FullGaussian):
        factor = np.diag(np.exp(vector[size : 2 * size]) + head.floor)
        factor[np.tril_indices(size, -1)] = vector[2 * size :]
        return oracles.gaussian_log_density(y, vector[:size], factor @ factor.T, seen)
    if isinstance(head, heads.DiagonalGaussian):
        mean, scale = vector[:size], np.exp(vector[size:]) + head.floor
        each = stats.norm.logpdf(y, mean, scale)
    elif isinstance(head, heads.BoundedGaussian):
        below = np.log(head.high) - np.log1p(np.exp(np.log(head.high) - vector[size:]))
        scale = head.low + np.exp(below)  # exp(b + log(1 + exp(t - b)))
        each = stats.norm.logpdf(y, vector[:size], scale)
    elif isinstance(head, heads.HomoscedasticGaussian):
        each = stats.norm.logpdf(y, vector, np.exp(np.asarray(head.log_scale)))
    elif isinstance(head, heads.StudentT):
        degrees, mean, scale = vector.reshape(3, size)
        each = stats.t.logpdf(y, 1 + np.exp(degrees), mean, np.exp(scale) + head.floor)
    elif isinstance(head, heads.DiscretisedLogistic):
        width, half = head.high - head.low, 0.5 * (head.high - head.low) / (head.levels - 1)
        mean = head.low + width * vector[:size]
        scale = width * np.exp(vector[size:]) + 0.1 * width / (head.levels - 1)
        first, last = y <= head.low + half / 2, y >= head.high - half / 2
        below = np.where(last, 1.0, stats.logistic.cdf(y + half, mean, scale))
        below = below - np.where(first, 0.0, stats.logistic.cdf(y - half, mean, scale))
        above = np.where(first, 1.0, stats.logistic.sf(y - half, mean, scale))
        above = above - np.where(last, 0.0, stats.logistic.sf(y + half, mean, scale))
        each = np.log(np.where(y < mean, below, above))  # in each tail the difference that does not cancel
    elif isinstance(head, heads.Beta):
        mean, concentration = scipy.special.expit(vector[:size]), np.exp(vector[size:])
        ends = {"loc": head.low, "scale": head.high - head.low}
        each = stats.beta.logpdf(y, mean * concentration, (1 - mean) * concentration, **ends)
    elif isinstance(head, heads.Squashed):
        place, width = (y - head.low) / (head.high - head.low), head.high - head.low
        scale = np.exp(vector[size:]) + head.head.floor
        each = stats.norm.logpdf(scipy.special.logit(place), vector[:size], scale) - np.log(place * (1 - place) * width)
    elif isinstance(head, heads.Bernoulli):
        each = stats.bernoulli.logpmf(y, scipy.special.expit(vector))
    elif isinstance(head, heads.Categorical):
        each = np.log(oracles.softmax(vector.reshape(size, -1))[np.arange(size), y.astype(int)])
    elif isinstance(head, heads.Poisson):
        each = stats.poisson.logpmf(y, np.exp(vector))
    elif isinstance(head, heads.NegativeBinomial):
        mean, number = np.exp(vector[:size]), np.exp(-vector[size:])
        each = stats.nbinom.logpmf(y, number, number / (number + mean))
    elif isinstance(head, heads.ZeroInflated):
        none, alone = scipy.special.expit(vector[:size]), [vector[size:].reshape(-1, size)[:, i] for i in range(size)]
        counted = [head_log_prob(head.counts, alone[i], y[i : i + 1]) for i in range(size)]
        each = np.logaddexp(np.where(y == 0, np.log(none), -np.inf), np.log1p(-none) + counted)
    elif isinstance(head, heads.Multinomial):
        probabilities, rest = oracles.softmax(vector), [head.total - np.sum(y[seen])] if not seen.all() else []
        merged = np.append(probabilities[seen], [probabilities[~seen].sum()] * len(rest))
        return float(stats.multinomial.logpmf(np.append(y[seen], rest), head.total, merged / merged.sum()))
    elif isinstance(head, heads.LogNormal):
        each = stats.lognorm.logpdf(y, np.exp(vector[size:]) + head.floor, scale=np.exp(vector[:size]))
    elif isinstance(head, heads.TruncatedNormal):
        scale = np.exp(vector[size:])
        mean, scale = (head.low if np.isfinite(head.low) else head.high) + vector[:size] * scale, scale + head.floor
        each = stats.truncnorm.logpdf(y, (head.low - mean) / scale, (head.high - mean) / scale, mean, scale)
    elif isinstance(head, heads.Symlog):
        scale = np.exp(vector[size:]) + head.head.floor
        each = stats.norm.logpdf(np.sign(y) * np.log1p(abs(y)), vector[:size], scale) - np.log1p(abs(y))
    elif isinstance(head, heads.TwoHot):
        places = np.linspace(head.low, head.high, head.bins)
        grid, logs = np.sign(places) * np.expm1(abs(places)), np.log(oracles.softmax(vector.reshape(size, -1)))
        each = np.array([np.interp(value, grid, row) for value, row in zip(y, logs, strict=True)])
    elif isinstance(head, heads.VonMises):
        each = stats.vonmises.logpdf(y, np.hypot(*vector.reshape(2, size)), np.arctan2(vector[size:], vector[:size]))
    else:
        raise TypeError(head)
    return float(np.sum(each[seen]))


# -- running -----------------------------------------------------------------------------------------------------------


def quiet_fit(*args, **options):
    """`veil.fit`, whose notes on unusual components and columns also come as warnings: not here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return veil.fit(*args, **options)


def mixture_parameters(model):
    """Weights [K], means [K, D] and covariances [K, D, D] of a Gaussian mixture, sorted by the first mean."""
    weights = np.ones(1)
    if isinstance(model.gate, Softmax):
        weights = oracles.softmax(np.asarray(model.gate.weight, np.float64)[:, 0])
    means = np.asarray(model.experts.mean, np.float64)
    order = np.argsort(means[:, 0])
    return weights[order], means[order], np.asarray(numpy_covariances(model.experts), np.float64)[order]
