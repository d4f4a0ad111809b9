"""The mean of a quantity over data, with both of its errors."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Average:
    """A weighted mean over data (``value``) and how far it may be off.

    ``standard_error``: of data and Monte Carlo together, as if other data had come, sqrt(Σ w (v - mean)²) / Σ w.
    ``monte_carlo_error``: for these data, the draws' part alone, sqrt(Σ w² e²) / Σ w; zero for what is exact.
    """

    value: float
    standard_error: float
    monte_carlo_error: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.standard_error:.2g}"


def average(values: np.ndarray, weights: np.ndarray | None = None, errors: np.ndarray | None = None) -> Average:
    """The weighted mean of ``values`` [N], each with its own Monte Carlo standard error (None: exact).

    >>> average(np.array([1.0, 3.0]))
    Average(value=2.0, standard_error=0.707..., monte_carlo_error=0.0)
    """
    v = np.asarray(values, np.float64)
    w = np.ones(len(v)) if weights is None else np.asarray(weights, np.float64)
    total = float(np.sum(w))
    present = w > 0
    mean = float(np.sum(w[present] * v[present]) / total)
    spread = float(np.sqrt(np.sum(w[present] * (v[present] - mean) ** 2)) / total) if np.isfinite(mean) else np.nan
    noise = 0.0
    if errors is not None:
        noise = float(np.sqrt(np.sum((w[present] * np.asarray(errors, np.float64)[present]) ** 2)) / total)
    return Average(mean, spread, noise)


def text(number: Average) -> str:
    """Value and standard error, for a table."""
    return f"{number.value:.4f} ± {number.standard_error:.2g}"


def plain(number: Average) -> dict[str, float]:
    """A dictionary for JSON."""
    return {"value": number.value, "standard_error": number.standard_error, "monte_carlo": number.monte_carlo_error}


def largest(numbers: np.ndarray) -> str:
    """The ten largest, for a table.

    >>> largest(np.array([0.1, 2.0]))
    '2, 0.1'
    """
    shown = ", ".join(f"{number:.2g}" for number in np.sort(numbers)[::-1][:10])
    return shown + (", ..." if len(numbers) > 10 else "")
