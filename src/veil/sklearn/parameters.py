"""The parameters of a Gaussian mixture, as scikit-learn names and shapes them, from a model and back."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from veil.data import Data
from veil.learning.preprocessing import preprocess
from veil.maths import kmeans
from veil.parts.covariance import Covariance, Diagonal, Full, Spherical, Tied
from veil.parts.experts import LinearGaussian
from veil.parts.gates import Softmax
from veil.sklearn import common
from veil.zoo.mixture import Mixture


def factor_of(upper: np.ndarray, covariance_type: str) -> np.ndarray:
    """The covariances' factor from ``precisions_cholesky_``: L = U⁻ᵀ."""
    if covariance_type in ("full", "tied"):
        return np.swapaxes(np.linalg.inv(upper), -1, -2)
    return 1.0 / upper


def as_model(parameters: dict[str, np.ndarray], covariance_type: str, structure: Covariance) -> Mixture:
    means, factor = np.asarray(parameters["means"]), np.asarray(parameters["factor"])
    floor = floor_of(structure)
    covariance: Covariance
    if covariance_type == "full":
        covariance = Full(floor, array(factor))
    elif covariance_type == "tied":
        covariance = Tied(Full(floor, array(factor[None])))
    elif covariance_type == "diag":
        covariance = Diagonal(floor, array(factor))
    else:
        covariance = Spherical(floor, Diagonal(floor, array(np.repeat(factor[:, None], means.shape[1], axis=1))))
    gate = Softmax(weight=array(np.log(np.maximum(parameters["weights"], 1e-30))[:, None]))
    return Mixture(LinearGaussian(covariance, weight=array(means[..., None])), len(means), gate)


def floor_of(structure: Any) -> float:
    return structure.floor


def array(values: np.ndarray) -> Any:
    return jnp.asarray(values, jnp.result_type(float))


def parameters_of(model: Mixture) -> dict[str, np.ndarray]:
    experts: Any = model.experts
    gate: Any = model.gate
    structure: Any = experts.covariance
    if isinstance(structure, Tied):
        shared: Any = structure.shared
        factor = shared.factor[0]
    elif isinstance(structure, Full):
        factor = structure.factor
    elif isinstance(structure, Diagonal):
        factor = structure.scale
    else:
        factor = structure.diagonal.scale[:, 0]
    logits = np.asarray(gate.weight, np.float64)[:, 0]
    weights = np.exp(logits - np.max(logits))
    return {
        "weights": weights / np.sum(weights),
        "means": np.asarray(experts.mean, np.float64),
        "factor": np.asarray(factor, np.float64),
    }


# -- where EM starts


def starting(
    data: Data,
    structure: Covariance,
    components: int,
    init_params: str,
    given: dict[str, np.ndarray],
    n_init: int,
    seed: common.Seed,
) -> list[dict[str, np.ndarray]]:
    """Starting parameters of each run: the M-step of starting responsibilities, but for what the user gave."""
    generator = seed.generator()
    blank = Mixture(LinearGaussian(structure), components, start=common.start(init_params))
    seen = preprocess(blank, data, generator)
    points, units = seen.points(), seen.units.query
    shift, scale = np.asarray(units.shift, np.float64), np.asarray(units.scale, np.float64)
    starts = []
    # from given means every run would be the same
    for _ in range(1 if "means" in given else n_init):
        if "means" in given:
            nearest = np.argmin(kmeans.squared_distances(points, (given["means"] - shift) / scale), axis=1)
            shares = np.eye(components)[nearest] + 0.01 / components
        else:
            shares = np.asarray(blank.responsibilities(points, seen.weights, generator))
        shares = shares * seen.weights[:, None]
        counts = np.sum(shares, axis=0)
        means = shares.T @ points / counts[:, None]
        scatter = np.stack([(points - m).T @ (r[:, None] * (points - m)) for r, m in zip(shares.T, means, strict=True)])
        floor = max(floor_of(structure), 1e-6)
        parameters = {
            "weights": counts / np.sum(counts),
            "means": shift + scale * means,
            "factor": scaled(start_factor(structure, scatter, counts, floor), structure, scale),
        }
        if "precisions" in given:
            parameters["factor"] = precision_factor(given["precisions"], structure)
        starts.append(parameters | {name: given[name] for name in ("weights", "means") if name in given})
    return starts


def start_factor(structure: Covariance, scatter: np.ndarray, counts: np.ndarray, floor: float) -> np.ndarray:
    identity = np.eye(scatter.shape[-1])
    if isinstance(structure, Tied):
        return np.linalg.cholesky((np.sum(scatter, 0) + floor * identity) / np.sum(counts))
    if isinstance(structure, Full):
        return np.linalg.cholesky((scatter + floor * identity) / counts[:, None, None])
    variances = (np.diagonal(scatter, axis1=1, axis2=2) + floor) / counts[:, None]
    return np.sqrt(variances if isinstance(structure, Diagonal) else np.mean(variances, axis=1))


def scaled(factor: np.ndarray, structure: Covariance, scale: np.ndarray) -> np.ndarray:
    """The factor in the user's units; of spherical covariances all scales are one."""
    if isinstance(structure, Spherical):
        return factor * scale[0]
    return factor * (scale if isinstance(structure, Diagonal) else scale[:, None])


def precision_factor(precisions: np.ndarray, structure: Covariance) -> np.ndarray:
    if structure.dense:
        return np.linalg.cholesky(np.linalg.inv(precisions))
    return precisions**-0.5
