"""What a fit chooses where it is not told, and what it asks of its arguments."""

import functools
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from veil.data import Data, Stream, windows
from veil.learning.gradient import Optimiser, trainable
from veil.learning.search import Curvature, Newton, QuasiNewton
from veil.model import Model, PerEpisode, SecondOrder, Stepwise, Tractable, checks
from veil.model.abilities import Local, name_of, started
from veil.objective import (
    ELBO,
    FIVO,
    Bagging,
    Estimator,
    ExpectedLogLikelihood,
    FlowMatching,
    ImportanceWeighted,
    LocalReparameterisation,
    Marginal,
    Objective,
    Pathwise,
    PriorOnly,
    Quantising,
    StraightThrough,
)
from veil.parts.fields import Transporting
from veil.parts.priors import Codes, ResidualCodes
from veil.posterior import Bootstrap, Continuing, Exact, Optimal, Posterior, Quantised, Undecided
from veil.zoo.episodic import Episodes
from veil.zoo.flows import NormalisingFlow
from veil.zoo.vae import VAE

DRAWS = 5  # of the latent of a conditional VAE, for each datum and step
RATE_OF_WAYS = 3e-2  # of its learning
MANY, DEAR = 300, 1e7  # parameters, and numbers worked out for a Hessian, beyond which it is not taken


def usual_objective(model: Model, posterior: Posterior, by_sums: bool) -> Objective:
    """EM where its M-step is closed-form, the exact log-likelihood where there is one, else a lower bound."""
    if by_sums:
        return ExpectedLogLikelihood()
    if isinstance(model, Transporting):
        return FlowMatching()
    if isinstance(posterior, Exact):
        return Marginal()
    if isinstance(posterior, Undecided):
        return Bagging()
    if isinstance(posterior, Bootstrap | Optimal):
        return FIVO()
    if isinstance(posterior, Quantised):
        return Quantising()
    if conditional(model) and not _coded(model):
        return ImportanceWeighted(DRAWS)
    return ELBO(usual_gradient(model))


def conditional(model: Any) -> bool:
    """Whether it is a conditional VAE, whose latent is the choice among several y that one x allows."""
    if isinstance(model, Episodes):
        return conditional(model.model)
    return isinstance(model, VAE) and model.evidence and bool(model.inputs)


def usual_gradient(model: Model) -> Estimator:
    """The gradient estimator that suits a latent: pathwise, unless it is of codes, or has noise that can be moved."""
    if isinstance(model, Local):
        return LocalReparameterisation()
    return StraightThrough() if _coded(model) else Pathwise()


def _coded(model: Any) -> bool:
    """Whether a latent, of sequences that of a step, is of codes."""
    kinds = lambda node: isinstance(node, Codes | ResidualCodes)  # noqa: E731
    return any(kinds(node) for node in jax.tree.leaves(model, is_leaf=kinds))


def default_optimiser(steps: int, rate: float = 1e-2) -> Optimiser:
    """Adam with a learning rate from ``rate`` to zero along a cosine, gradients clipped to norm 10."""
    return replace(clipped_adam(rate), horizon=steps)


@functools.lru_cache(maxsize=32)  # one object for one rate: transforms are compared by identity when jit looks back
def clipped_adam(rate: float) -> Optimiser:
    """Adam, gradients clipped to norm 10, behind which its updates are finite wherever gradients are."""
    import optax

    return Optimiser(optax.adam(rate), clip=10.0, bounded=True)


def usual_optimiser(model: Model, steps: int, objective: Objective | None = None) -> Optimiser:
    """The one of a fit that is given none: exact likelihoods bear larger steps than bounds.

    A choice among ways is sharp, and takes larger weights than small steps ever reach; that of a whole episode is so
    sharp that one way takes all episodes at the first large steps (5 of 8 fits to drives at 0.01, none at 0.003).
    """
    if isinstance(objective, ImportanceWeighted) and conditional(model) and not isinstance(model, PerEpisode):
        return default_optimiser(steps, RATE_OF_WAYS)
    if isinstance(model, Transporting | NormalisingFlow):
        return default_optimiser(steps, 4e-3)
    drawn = not isinstance(model, Tractable) and not isinstance(objective, Quantising | PriorOnly)
    return default_optimiser(steps, 3e-3 if drawn or isinstance(model, PerEpisode) else 1e-2)


def usual_curvature(model: Any, batched: bool) -> Curvature | None:
    """How a model's likelihood is raised by its curvature; None: by its gradient, on batches."""
    if batched or not isinstance(model, SecondOrder) or not model.smooth:
        return None
    count = sum(leaf.size for leaf in jax.tree.leaves(trainable(model)))
    return Newton() if count <= MANY and count * model.work <= DEAR else QuasiNewton()


def check_search(posterior: Posterior, objective: Objective | None, batch_size: Any, window: Any, look: Any) -> None:
    """Raise TypeError or ValueError where steps along the curvature cannot be what a fit does."""
    if not isinstance(posterior, Exact) or not isinstance(objective, Marginal | None):
        raise TypeError(
            "optimiser: Newton() and QuasiNewton() raise the exact likelihood, Marginal() with Exact(); got "
            f"{type(objective).__name__} with {type(posterior).__name__}: choose an optax optimiser for others"
        )
    for name, value in (("batch_size", batch_size), ("window", window), ("look", look)):
        if value is not None:
            raise ValueError(
                f"{name}: it is of fits by gradients, and this one sees all data at every step; leave it out"
            )


def as_optimiser(optimiser: Any) -> Optimiser:
    """An ``Optimiser``, or an optax transform, which becomes one. Raises TypeError for anything else."""
    if isinstance(optimiser, Optimiser):
        return optimiser
    try:
        return Optimiser(optimiser)
    except TypeError:
        raise TypeError(
            f"optimiser: expected an optax optimiser, such as optax.adam(1e-3); got {optimiser!r}"
        ) from None


def as_data(data: Any) -> Data:
    """``Data``, or whatever its constructor takes as a query."""
    return data if isinstance(data, Data) else Data(data)


def check_arguments(
    model: Any, data: Any, steps: Any, batch_size: Any, restarts: Any, tolerance: Any, held_out: Any, patience: Any
) -> None:
    counts = {"steps": steps, "batch_size": batch_size, "restarts": restarts, "patience": patience}
    for name, value in counts.items():
        if value is not None or name in ("restarts", "patience"):
            checks.whole(name, value)
    checks.sequences(model, data)
    if started(model) and restarts == 1:
        checks.shapes(model, data)
    if not (isinstance(tolerance, int | float | np.number) and tolerance > 0):
        raise ValueError(f"tolerance: expected a positive number of nats per datum, such as 1e-6; got {tolerance!r}")
    fraction = isinstance(held_out, float) and 0 < held_out < 1
    if held_out is not None and not isinstance(held_out, Data) and not fraction:
        came = held_out if isinstance(held_out, int | float) else type(held_out).__name__
        raise ValueError(f"held_out: expected Data, or a fraction between 0 and 1; got {came}")
    if isinstance(held_out, float) and isinstance(data, Stream):
        raise ValueError("held_out: a stream cannot be split; give the held-out Data themselves")


def check_parts(key: Any, posterior: Any, objective: Any) -> None:
    checks.random_key(key)
    if posterior is not None and not isinstance(posterior, Posterior):
        raise TypeError(f"posterior: expected a posterior, such as veil.Exact(); got {posterior!r}")
    if objective is not None and not isinstance(objective, Objective):
        raise TypeError(f"objective: expected an objective, such as veil.Marginal(); got {objective!r}")


def in_windows(
    model: Model, data: Data | Stream, window: int, posterior: Posterior, objective: Objective | None
) -> Data:
    """Sequences cut into windows, marked where one begins a sequence. Raises TypeError, ValueError."""
    checks.whole("window", window)
    if not isinstance(model, Stepwise) or not isinstance(posterior, Continuing):
        raise TypeError(
            f"window: {name_of(model)} with {type(posterior).__name__} cannot go on from one window to the next; "
            "StateSpace models (veil.rssm, veil.dmm, veil.vrnn) with Sequential posteriors can. Exact models take "
            "sequences of any length whole; others can be given veil.data.windows(data, length)"
        )
    if isinstance(objective, FIVO):
        raise TypeError("window: FIVO's particles cannot go on from one window to the next; use ELBO()")
    if not isinstance(data, Data):
        raise TypeError("window: windows are cut from data in memory, and these are a stream")
    return windows(data, window, marked=True)


def numbered(data: Data | Stream, held_out: Any) -> Data:
    """Data with an index, for posteriors with a row for each datum."""
    if not isinstance(data, Data):
        raise TypeError("posterior: one row per datum needs data in memory, and these are a stream; use Amortized()")
    if held_out is not None:
        raise ValueError("held_out: a posterior with one row per datum knows no other data; use Amortized()")
    return data.numbered()
