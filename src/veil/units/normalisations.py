"""How units are measured: what of the data becomes zero, and what one."""

from abc import abstractmethod

import equinox as eqx
import numpy as np

from veil.model.scales import Scale, column_scale, deviation, harmless, table_scale, weighted_quantiles

LEAST = 1e-9  # the share of the weight below which a value does not count


class Normalisation(eqx.Module):
    """A strategy: data [N, *event] with weights -> the ``Scale`` of each entry, standard = (value - shift) / scale.

    A constant entry has a scale that does no harm, never (almost) zero: it becomes zeros, and so stays constant.
    """

    @abstractmethod
    def __call__(self, array: np.ndarray, weights: np.ndarray, observed: np.ndarray | None, isotropic: bool) -> Scale:
        """The scale; ``observed``: which entries are there; ``isotropic``: one scale for all entries."""


class Robust(Normalisation):
    """Medians, and half the distances between 16th and 84th percentiles: no outlier sets them. The default."""

    def __call__(self, array: np.ndarray, weights: np.ndarray, observed: np.ndarray | None, isotropic: bool) -> Scale:
        return table_scale(array, weights, observed, isotropic, column_scale)


class Deviation(Normalisation):
    """Means and standard deviations."""

    def __call__(self, array: np.ndarray, weights: np.ndarray, observed: np.ndarray | None, isotropic: bool) -> Scale:
        def by(column: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            mean, spread = deviation(column, weights)
            return mean, harmless(column, weights, mean, spread)

        return table_scale(array, weights, observed, isotropic, by)


class Quantiles(Normalisation):
    """The quantiles ``low`` and ``high`` of each entry become -1 and 1; what is beyond them is not clipped.

    >>> scale = Quantiles(0.0, 1.0)(np.array([[3.0], [7.0], [4.0]]), np.ones(3), None, False)
    >>> scale.exactly(np.array([3.0, 5.0, 7.0])).tolist()
    [-1.0, 0.0, 1.0]
    """

    low: float = eqx.field(static=True, default=0.01)
    high: float = eqx.field(static=True, default=0.99)

    def __check_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low: expected shares, 0 <= low < high <= 1; got {self.low!r} and {self.high!r}")

    def __call__(self, array: np.ndarray, weights: np.ndarray, observed: np.ndarray | None, isotropic: bool) -> Scale:
        def by(column: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            low, high = map(np.asarray, weighted_quantiles(column, weights, (max(self.low, LEAST), self.high)))
            middle = np.asarray(0.5 * (low + high))
            return middle, harmless(column, weights, middle, np.asarray(0.5 * (high - low)))

        return table_scale(array, weights, observed, isotropic, by)


class Range(Normalisation):
    """The least and the largest value of each entry become -1 and 1."""

    def __call__(self, array: np.ndarray, weights: np.ndarray, observed: np.ndarray | None, isotropic: bool) -> Scale:
        return Quantiles(0.0, 1.0)(array, weights, observed, isotropic)


class AlongSteps(Normalisation):
    """One unit for all steps of a chunk, [N, H, ...], of each entry of a step, measured ``by`` another way.

    Otherwise each step of a chunk has its own. Of data with less axes it is the other way.
    """

    by: Normalisation = Robust()

    def __call__(self, array: np.ndarray, weights: np.ndarray, observed: np.ndarray | None, isotropic: bool) -> Scale:
        if array.ndim < 3:
            return self.by(array, weights, observed, isotropic)
        steps = lambda part: part.reshape(-1, *part.shape[2:])  # noqa: E731
        seen = None if observed is None else steps(observed)
        one = self.by(steps(array), np.repeat(weights, array.shape[1]), seen, isotropic)
        shift, scale = (np.broadcast_to(part, array.shape[1:]).copy() for part in (one.shift, one.scale))
        return Scale(shift, scale)
