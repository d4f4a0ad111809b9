"""What the verbs are given: a model and its posterior, from those or from a ``Fit``."""

from dataclasses import dataclass
from typing import Any

from veil.data import Data
from veil.model import Model, checks
from veil.posterior.base import Posterior, per_datum


def verified(model: Any, posterior: Any, key: Any) -> None:
    """Raise TypeError or ValueError, naming the argument, unless these are a fitted model, a posterior and a key.

    ``posterior`` may be None where the prior stands in for it.
    """
    checks.fitted(model)
    checks.random_key(key)
    if posterior is not None and not isinstance(posterior, Posterior):
        raise TypeError(f"posterior: expected a veil posterior, such as a Fit's .posterior; got {posterior!r}")


@dataclass(frozen=True)
class Fitted:
    """A fitted model and its posterior: what every verb takes in the place of a model."""

    model: Any
    posterior: Posterior


def parts(model: Any, posterior: Posterior | None) -> tuple[Model, Posterior | None]:
    """A model and its posterior, from those or from a ``Fit``. Raises TypeError, ValueError for anything else."""
    if isinstance(model, Fitted):
        return model.model, posterior or model.posterior
    checks.fitted(model)
    return model, posterior


def known_to(posterior: Posterior | None, data: Any) -> Any:
    """The data, numbered by row where the posterior has a row for each of so many data."""
    table = per_datum(posterior)
    if table is None or table.count is None or not isinstance(data, Data) or data.index is not None:
        return data
    if len(data) != table.count:
        raise ValueError(
            f"data: the posterior has one row for each of the {table.count} data it was fitted to, and these are "
            f"{len(data)} without an index; fit a posterior to them with veil.fit(model, data, posterior=..., "
            "fixed=True)"
        )
    return data.numbered()
