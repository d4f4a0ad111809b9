"""What can be said of log p(y | x) of models that carry noise to data: a diffusion's ELBO, a flow's density."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil.evaluation.average import Average, average, plain, text
from veil.host.progress import Progress
from veil.host.showing import Shown
from veil.model import Datum, blocks, checks
from veil.model.abilities import name_of, space_of
from veil.objective import Denoising
from veil.parts import transport
from veil.parts.fields import Chaining, Transporting
from veil.posterior.arguments import parts
from veil.posterior.noising import Noising
from veil.units import Units, unwrapped

EXACT = 256  # entries of a query up to which the trace is exact unless asked otherwise
FLOWED = 1000  # data whose density by the flow an evaluation of a diffusion tells


@dataclass(frozen=True, repr=False)
class Density(Shown):
    """log p(y | x) of each datum [N] by a flow's ODE, nats; ``error``: its Monte Carlo standard error, of Hutchinson's

    trace estimates with ``probes`` random vectors; None and zeros: the trace is exact, and the value so to the solver's
    tolerance.
    """

    values: np.ndarray
    error: np.ndarray
    weight: np.ndarray
    probes: int | None

    @property
    def average(self) -> Average:
        """Its mean over data."""
        return average(self.values, self.weight, self.error)


@dataclass(frozen=True)
class DenoisingBound:
    """The ELBO of a diffusion for each datum [N], nats, from ``samples`` times of its chain, and its standard error.

    ``flow``: log p of the probability flow, a model of its own with the same network, of the first thousand data.
    """

    elbo: np.ndarray
    elbo_error: np.ndarray
    weight: np.ndarray
    samples: int
    flow: Density | None = None

    @property
    def elbo_average(self) -> Average:
        """Its mean over data."""
        return average(self.elbo, self.weight, self.elbo_error)

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and what it is, for a table."""
        found = [("ELBO", text(self.elbo_average), "nats per datum, lower bound")]
        if self.flow is not None:
            how = "exact trace" if self.flow.probes is None else f"{self.flow.probes} probes"
            found.append(("probability flow", text(self.flow.average), f"log p by its ODE, {how}"))
        return found

    def as_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        made: dict[str, Any] = {"samples": self.samples, "elbo": plain(self.elbo_average)}
        return made if self.flow is None else made | {"probability_flow": plain(self.flow.average)}


@eqx.filter_jit
def _elbo(model: Any, units: Units | None, block: Datum, rows: Array, key: PRNGKeyArray, samples: int) -> Any:
    def one(datum: Datum, row: Array) -> tuple[Array, Array]:
        standard = datum if units is None else units.standard(datum)
        jacobian = 0.0 if units is None else units.log_jacobian(datum)
        keys = jax.random.split(jax.random.fold_in(key, row), samples)

        def add(sums: Array, key: Array) -> tuple[Array, None]:
            value = Denoising()(model, Noising(), standard, key).value + jacobian
            return sums + jnp.stack([value, value**2]), None

        return tuple(jax.lax.scan(add, jnp.zeros(2), keys)[0] / samples)

    mean, square = jax.vmap(one)(block, rows)
    return mean, jnp.sqrt(jnp.maximum(square - mean**2, 0.0) / max(samples - 1, 1))


def denoising_bound(
    model: Any, data: Any, *, key: PRNGKeyArray, samples: int = 1000, flow: bool = True, progress: bool | None = None
) -> DenoisingBound:
    """The ELBO of a ``Diffusion`` and, with ``flow``, log p of its probability flow: see ``DenoisingBound``.

    Raises TypeError for any other model.
    """
    model, _ = parts(model, None)
    checks.whole("samples", samples)
    checks.random_key(key)
    inner, units = unwrapped(model)
    if not isinstance(inner, Chaining):
        raise TypeError(f"model: expected a veil.Diffusion; got {name_of(model)}")
    found = blocks.as_data(model, data)
    key_bound, key_flow = jax.random.split(key)
    size = int(np.clip(blocks.ENTRIES // max(256, 8 * blocks.size(found)), 1, 4096))
    with Progress(progress, "bound") as bar:
        tick = bar.ticks(-(-blocks.length(found) // size), f"{samples} times a datum")

        def measured(block: blocks.Block) -> Any:
            made = _elbo(inner, units, block.datum, block.rows, key_bound, samples)
            tick()
            return made

        (elbo, error), weight = blocks.gathered(blocks.blocks(found, size, space_of(model)), measured)
    beside = None
    if flow:
        beside = log_density(model, next(iter(found.blocks(FLOWED))), key=key_flow, progress=progress)
    return DenoisingBound(elbo, error, weight, samples, beside)


@eqx.filter_jit
def _density(
    model: Any, units: Units | None, block: Datum, rows: Array, key: PRNGKeyArray | None, probes: int | None, tol: float
) -> Any:
    field = model.field

    def one(datum: Datum, row: Array) -> tuple[Array, Array]:
        standard = datum if units is None else units.standard(datum)
        jacobian = 0.0 if units is None else units.log_jacobian(datum)

        def by(key: PRNGKeyArray | None) -> Array:
            end, log_determinant = transport.solved(field, standard.query, given, tol, to_noise=True, key=key)
            return -0.5 * jnp.sum(end**2 + jnp.log(2.0 * jnp.pi)) + log_determinant + jacobian

        given = field.read(standard.evidence)
        if probes is None:
            return by(None), jnp.zeros(())
        assert key is not None
        values = jax.vmap(by)(jax.random.split(jax.random.fold_in(key, row), probes))
        return jnp.mean(values), jnp.std(values) / jnp.sqrt(jnp.asarray(max(probes - 1, 1), float))

    return jax.vmap(one)(block, rows)


def log_density(
    model: Any,
    data: Any,
    *,
    key: PRNGKeyArray | None = None,
    probes: int | None = None,
    tolerance: float = 1e-5,
    progress: bool | None = None,
) -> Density:
    """log p(y | x) of each datum by the ODE of a ``ContinuousFlow``, or of a ``Diffusion``'s probability flow.

    With ``probes`` (two or more, and a ``key``) the trace is Hutchinson's estimate, unbiased, and the errors are told:
    for events of more than 256 entries eight are taken unless another number is given.

    Raises TypeError for any other model, and for data with missing entries.

    >>> import jax, veil
    >>> data = veil.data.load("faithful")
    >>> fit = veil.fit(veil.Diffusion(veil.MLP((32,))), data, key=jax.random.key(0), steps=20)
    >>> log_density(fit, data).values.shape
    (272,)
    """
    model, _ = parts(model, None)
    inner, units = unwrapped(model)
    if not isinstance(inner, Transporting):
        raise TypeError(f"model: expected a veil.ContinuousFlow or a veil.Diffusion; got {name_of(model)}")
    found = blocks.as_data(model, data)
    size = blocks.size(found)
    if probes is None and size > EXACT:
        probes = 8
    if probes is not None:
        checks.whole("probes", probes)
        if probes < 2:
            raise ValueError("probes: expected 2 or more, so that their error can be told; got 1")
        if key is None:
            raise ValueError("key: the trace is estimated by drawing; give one, such as jax.random.key(0)")
        checks.random_key(key)
    rows = int(np.clip(blocks.ENTRIES // (256 * size * min(size, probes or size)), 1, 1024))
    with Progress(progress, "density") as bar:
        tick = bar.ticks(-(-blocks.length(found) // rows), "the ODE of each datum")

        def measured(block: blocks.Block) -> Any:
            if block.datum.observed is not None:
                raise TypeError("observed: a flow cannot integrate missing entries out; drop the rows that have some")
            made = _density(inner, units, block.datum, block.rows, key, probes, tolerance)
            tick()
            return made

        (values, error), weight = blocks.gathered(blocks.blocks(found, rows, space_of(model)), measured)
    return Density(values, error, weight, probes)
