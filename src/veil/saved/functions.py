"""What is exported of a model: its encoder, decoder or policy as a function of ONE datum's arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil import distributions
from veil.evaluation.moments import mean_and_variance
from veil.model import Datum, Plate, Sized
from veil.posterior import Posterior
from veil.posterior.base import per_datum
from veil.posterior.choice import chosen as choose
from veil.saved.program import ROWS, Port

LATENT_UNIT, DATA_UNIT, CHANCE, WHOLE = "none", "the data's", "probability", "whole numbers"


@dataclass(frozen=True)
class Rowwise:
    """A function of ONE datum's arrays (and a key, if it draws), and what goes in and comes out."""

    row: Callable[..., dict[str, Array]]
    inputs: tuple[Port, ...]
    outputs: dict[str, tuple[str, tuple[str, ...] | None]]  # of each its unit, and its columns
    draws: bool = False

    def batched(self, *arrays: Array) -> dict[str, Array]:
        """Of any number of rows. Row n draws with the seed's key and n folded in, whatever the other rows are."""
        if not self.draws:
            return jax.vmap(self.row)(*arrays)
        *rows, seed = arrays
        return jax.vmap(self.row)(*rows, jax.vmap(row_key, (None, 0))(seed, jnp.arange(rows[0].shape[0])))


def row_key(seed: Array, row: Array) -> PRNGKeyArray:
    """The key that a row draws with."""
    return jax.random.fold_in(jax.random.key(seed), row)


@dataclass(frozen=True)
class Source:
    """What is exported: the model, its posterior, and data like those it is for (a few rows)."""

    model: Any
    posterior: Posterior | None
    query: np.ndarray
    evidence: np.ndarray | None
    names: dict[str, tuple[str, ...] | None]

    def port(self, name: str) -> Port:
        """The query or the evidence as an input."""
        array = self.query if name == "query" else self.evidence
        assert array is not None
        return Port(name, (ROWS, *array.shape[1:]), real(), DATA_UNIT, self.names[name])

    @property
    def given(self) -> tuple[Port, ...]:
        """The evidence, if there is any."""
        return () if self.evidence is None else (self.port("evidence"),)

    @property
    def prior(self) -> Any:
        """p(z | x) of the first datum."""
        return self.model.prior(
            None if self.evidence is None else jnp.asarray(self.evidence[0], jnp.result_type(float))
        )

    def latent(self, what: str) -> Any:
        """The prior of a latent that each datum has. Raises ValueError for a model without one."""
        name, prior = type(self.model).__name__, self.prior
        if isinstance(self.model, Plate):
            raise ValueError(
                f"what: the latent of a {name} is its weights, which all data share: there is no {what}; "
                "export its policy"
            )
        if isinstance(prior, distributions.Empty):
            instead = "export its policy" if self.evidence is not None else "veil.sample draws from it"
            raise ValueError(f"what: this {name} has no latent and so no {what}; {instead}")
        return prior


def real() -> str:
    """The type of numbers, in JAX's present precision."""
    return str(jnp.result_type(float))


def _chooses(prior: Any) -> bool:
    """Whether the latent is one choice among components."""
    return distributions.enumerable(prior) and not isinstance(prior, distributions.Codes)


def encoder(source: Source) -> Rowwise:
    """(query[, evidence]) -> responsibilities of components; probabilities of codes; mean and scale of others."""
    prior, model, posterior = source.latent("encoder"), source.model, source.posterior
    inputs = (source.port("query"), *source.given)
    chosen = choose(model, posterior)
    if per_datum(chosen) is not None:
        raise ValueError(
            "posterior: it has one row for each datum of the fit and no encoder for others; fit with veil.Amortized()"
        )

    def q(y: Array, x: Array | None) -> Any:
        return chosen(model, Datum(y, x))

    if _chooses(prior):

        def responsibilities(y: Array, x: Array | None = None) -> dict[str, Array]:
            return {"responsibilities": mean_and_variance(q(y, x), jax.random.key(0))[0]}

        return Rowwise(responsibilities, inputs, {"responsibilities": (CHANCE, None)})
    if isinstance(prior, distributions.Codes):

        def codes(y: Array, x: Array | None = None) -> dict[str, Array]:
            return {"probabilities": mean_and_variance(q(y, x), jax.random.key(0))[0]}

        return Rowwise(codes, inputs, {"probabilities": (CHANCE, None)})

    def moments(y: Array, x: Array | None = None) -> dict[str, Array]:
        mean, variance = mean_and_variance(q(y, x), jax.random.key(0))
        return {"mean": mean, "scale": jnp.sqrt(variance)}

    return Rowwise(moments, inputs, {"mean": (LATENT_UNIT, None), "scale": (LATENT_UNIT, None)})


def decoder(source: Source) -> Rowwise:
    """(component or latent[, evidence]) -> mean of p(y | x, z); of categories their probabilities."""
    prior, model = source.latent("decoder"), source.model
    if _chooses(prior):
        latent = Port("component", (ROWS,), "int32", WHOLE, below=len(distributions.support(prior)))
    else:
        latent = Port("latent", (ROWS, *distributions.event_shape(prior)), real(), LATENT_UNIT)

    def decode(z: Array, x: Array | None = None) -> dict[str, Array]:
        likelihood = model.likelihood(z, x)
        chances = distributions.probabilities(likelihood)
        return {"mean": distributions.moments(likelihood)[0]} if chances is None else {"probabilities": chances}

    outputs = {"mean": (DATA_UNIT, source.names["query"]), "probabilities": (CHANCE, source.names["query"])}
    return Rowwise(decode, (latent, *source.given), outputs)


def policy(source: Source, deterministic: bool = False) -> Rowwise:
    """(evidence, seed) -> a draw of p(y | x); or (evidence) -> the centre of p(y | x, z) at the centre of z."""
    model = source.model
    if source.evidence is None or (isinstance(model, Sized) and model.sizes.inputs == 0):
        raise ValueError(
            f"what: a policy is p(action | observation), and this {type(model).__name__} has no evidence; "
            "fit a model of p(y | x), or export the decoder"
        )
    shared = isinstance(model, Plate)
    if shared and source.posterior is None:
        raise ValueError("posterior: the weights of this model are in its posterior; give the Fit, or .posterior")

    def about(x: Array) -> Any:
        """What the latent is drawn from: a latent that all data share is known from those that were seen."""
        if not shared:
            return model.prior(x)
        assert source.posterior is not None
        return source.posterior(model, Datum(jnp.zeros(0), x))

    def act(x: Array, key: PRNGKeyArray) -> dict[str, Array]:
        if not shared:
            return {"action": model.sample(key, x)[1]}
        key_latent, key_query = jax.random.split(key)
        drawn = model.likelihood(about(x).sample(key_latent), x).sample(key_query)
        return {"action": drawn.astype(jnp.result_type(float))}

    def act_centrally(x: Array) -> dict[str, Array]:
        action = distributions.central(model.likelihood(distributions.central(about(x)), x))
        return {"action": action.astype(jnp.result_type(float))}

    outputs = {"action": (DATA_UNIT, source.names["query"])}
    if deterministic:
        return Rowwise(act_centrally, source.given, outputs)
    return Rowwise(act, (*source.given, Port("seed", (), "uint32", WHOLE)), outputs, draws=True)


FUNCTIONS: dict[str, Callable[..., Rowwise]] = {"encoder": encoder, "decoder": decoder, "policy": policy}
