"""What is exported of a model: its encoder, decoder or policy as a function of ONE datum's arrays."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from veil import distributions
from veil.data.core import trees
from veil.data.core.trees import Tree
from veil.data.recorded.views import named
from veil.evaluation.moments import mean_and_variance
from veil.model import Datum, Plate, Sized
from veil.model.abilities import name_of
from veil.model.contract import as_floats
from veil.posterior import Posterior
from veil.posterior.base import per_datum
from veil.posterior.choice import chosen as choose
from veil.saved.program import ROWS, Port
from veil.verbs.prediction import Known

LATENT_UNIT, DATA_UNIT, CHANCE, WHOLE = "none", "the data's", "probability", "whole numbers"
ACTION_UNIT = "the environment's"


class Decides(eqx.Module):
    """What acts by a model, and has its own way to choose: a policy."""

    model: eqx.AbstractVar[Any]

    @abstractmethod
    def decide(self, evidence: Any, key: PRNGKeyArray) -> Any:
        """The action, or the chunk of actions, of an environment for the model's evidence."""


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
    return jax.random.fold_in(jax.random.key(seed), row)


@dataclass(frozen=True)
class Source:
    """What is exported: the model, its posterior, and data like those it is for (``CHECKED`` rows at most)."""

    model: Any
    posterior: Posterior | None
    query: Tree
    evidence: Tree
    names: dict[str, Tree]

    @property
    def asked(self) -> tuple[Port, ...]:
        """The query: a port, or one for each array of a dictionary."""
        return self._ports("query", self.query)

    @property
    def given(self) -> tuple[Port, ...]:
        """The evidence, if there is any."""
        return self._ports("evidence", self.evidence)

    def _ports(self, name: str, tree: Tree) -> tuple[Port, ...]:
        names = dict(trees.leaves(self.names[name]))
        return tuple(
            Port(_place(name, path), (ROWS, *array.shape[1:]), real(), DATA_UNIT, names[path])
            for path, array in _leaves(tree)
        )

    def asked_of(self, arrays: Sequence[Array]) -> Any:
        """The query of the arrays that come in through ``asked``."""
        return _filled(self.query, arrays)

    def given_of(self, arrays: Sequence[Array]) -> Any:
        """The evidence of the arrays that come in through ``given``; None without any."""
        return _filled(self.evidence, arrays)

    def columns(self, output: str) -> dict[str, tuple[str, ...] | None]:
        """What comes out in the shape of the query: of each array its name and its columns."""
        return {_place(output, path): names for path, names in trees.leaves(self.names["query"])}

    @property
    def prior(self) -> Any:
        """p(z | x) of the first datum."""
        return self.model.prior(trees.map(lambda array: jnp.asarray(array[0], jnp.result_type(float)), self.evidence))

    def latent(self, what: str) -> Any:
        """The prior of a latent that each datum has. Raises ValueError for a model without one."""
        name, prior = name_of(self.model), self.prior
        if isinstance(self.model, Plate):
            raise ValueError(
                f"what: the latent of a {name} is its weights, which all data share: there is no {what}; "
                "export its policy"
            )
        if isinstance(prior, distributions.Empty):
            instead = "export its policy" if self.evidence is not None else "veil.sample draws from it"
            raise ValueError(f"what: this {name} has no latent and so no {what}; {instead}")
        return prior


def _place(name: str, path: trees.Path) -> str:
    """What a leaf of a tree is called outside: query/frame."""
    return "/".join((name, *path))


def _leaves(tree: Tree) -> list[tuple[trees.Path, Any]]:
    """The leaves in the order of their names, in which they go in and come out."""
    return sorted(trees.leaves(tree), key=lambda pair: pair[0])


def _filled(like: Tree, arrays: Sequence[Array]) -> Any:
    """A tree of these arrays, one for each leaf."""
    if like is None:
        return None
    return trees.nested({path: array for (path, _), array in zip(_leaves(like), arrays, strict=True)})


def placed(name: str, tree: Tree) -> dict[str, Any]:
    """The leaves of a tree, as they are called outside."""
    return {_place(name, path): leaf for path, leaf in trees.leaves(tree)}


def real() -> str:
    return str(jnp.result_type(float))


def _chooses(prior: Any) -> bool:
    """Whether the latent is one choice among components."""
    return distributions.enumerable(prior) and distributions.event_shape(prior) == ()


def encoder(source: Source) -> Rowwise:
    """(query[, evidence]) -> responsibilities of components; probabilities of codes; mean and scale of others."""
    prior, model, posterior = source.latent("encoder"), source.model, source.posterior
    inputs, asked = (*source.asked, *source.given), len(source.asked)
    chosen = choose(model, posterior)
    if per_datum(chosen) is not None:
        raise ValueError(
            "posterior: it has one row for each datum of the fit and no encoder for others; fit with veil.Amortized()"
        )

    def q(arrays: tuple[Array, ...]) -> Any:
        return chosen(model, Datum(source.asked_of(arrays[:asked]), source.given_of(arrays[asked:])))

    if _chooses(prior):

        def responsibilities(*arrays: Array) -> dict[str, Array]:
            return {"responsibilities": mean_and_variance(q(arrays), jax.random.key(0))[0]}

        return Rowwise(responsibilities, inputs, {"responsibilities": (CHANCE, None)})
    if isinstance(prior, distributions.Codes | distributions.ChainedCodes):

        def codes(*arrays: Array) -> dict[str, Array]:
            return {"probabilities": mean_and_variance(q(arrays), jax.random.key(0))[0]}

        return Rowwise(codes, inputs, {"probabilities": (CHANCE, None)})

    def moments(*arrays: Array) -> dict[str, Array]:
        mean, variance = mean_and_variance(q(arrays), jax.random.key(0))
        return {"mean": mean, "scale": jnp.sqrt(variance)}

    return Rowwise(moments, inputs, {"mean": (LATENT_UNIT, None), "scale": (LATENT_UNIT, None)})


def decoder(source: Source) -> Rowwise:
    """(component or latent[, evidence]) -> mean of p(y | x, z); of categories their probabilities."""
    prior, model = source.latent("decoder"), source.model
    if _chooses(prior):
        latent = Port("component", (ROWS,), "int32", WHOLE, below=len(distributions.support(prior)))
    else:
        latent = Port("latent", (ROWS, *distributions.event_shape(prior)), real(), LATENT_UNIT)

    def decode(z: Array, *arrays: Array) -> dict[str, Array]:
        return _said(model.likelihood(z, source.given_of(arrays)), ())

    outputs = {
        name: (unit, columns)
        for what, unit in (("mean", DATA_UNIT), ("probabilities", CHANCE))
        for name, columns in source.columns(what).items()
    }
    return Rowwise(decode, (latent, *source.given), outputs)


def _said(y: Any, path: trees.Path) -> dict[str, Array]:
    """The mean of each array of y, of categories their probabilities, as it is called outside."""
    if isinstance(y, distributions.Joint):
        parts = [_said(part, (*path, name)) for name, part in y.parts.items()]
        return {name: array for part in parts for name, array in part.items()}
    chances = distributions.probabilities(y)
    if chances is None:
        return placed(_place("mean", path), distributions.moments(y)[0])
    return placed(_place("probabilities", path), chances)


def policy(source: Source, deterministic: bool = False) -> Rowwise:
    """(evidence, seed) -> a draw of p(y | x); or (evidence) -> the centre of p(y | x, z) at the centre of z."""
    model = source.model
    if source.evidence is None or (isinstance(model, Sized) and model.sizes.inputs == 0):
        raise ValueError(
            f"what: a policy is p(action | observation), and this {name_of(model)} has no evidence; "
            "fit a model of p(y | x), or export the decoder"
        )
    if isinstance(model, Plate):
        if source.posterior is None:
            raise ValueError("posterior: the weights of this model are in its posterior; give the Fit, or .posterior")
        model = Known(model, source.posterior)

    def act(*arrays: Array) -> dict[str, Array]:
        x, key = source.given_of(arrays[:-1]), arrays[-1]
        return placed("action", model.sample(key, x)[1])

    def act_centrally(*arrays: Array) -> dict[str, Array]:
        x = source.given_of(arrays)
        z = distributions.central(model.prior(x))
        return placed("action", as_floats(distributions.central(model.likelihood(z, x))))

    outputs = {name: (DATA_UNIT, columns) for name, columns in source.columns("action").items()}
    if deterministic:
        return Rowwise(act_centrally, source.given, outputs)
    return Rowwise(act, (*source.given, Port("seed", (), "uint32", WHOLE)), outputs, draws=True)


def decision(source: Source, actor: Decides) -> Rowwise:
    """(evidence, seed) -> what the actor decides."""

    def act(*arrays: Array) -> dict[str, Array]:
        found = named(actor.decide(source.given_of(arrays[:-1]), arrays[-1]), "")
        return {_place("action", (name,) if name else ()): _narrow(leaf) for name, leaf in found}

    first = [jnp.asarray(array[0], port.dtype) for port, (_, array) in _both(source)]
    names = jax.eval_shape(act, *first, jax.random.key(0))
    outputs: dict[str, tuple[str, tuple[str, ...] | None]] = {name: (ACTION_UNIT, None) for name in names}
    return Rowwise(act, (*source.given, Port("seed", (), "uint32", WHOLE)), outputs, draws=True)


def _both(source: Source) -> Any:
    return zip(source.given, _leaves(source.evidence), strict=True)


def _narrow(leaf: Array) -> Array:
    """Choices as the format has them."""
    return leaf.astype(jnp.int32) if jnp.issubdtype(leaf.dtype, jnp.integer) else leaf


FUNCTIONS: dict[str, Callable[..., Rowwise]] = {"encoder": encoder, "decoder": decoder, "policy": policy}
