"""What is exported, and the names under which the arrays of a query and of evidence go in and come out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from veil import distributions
from veil.data.core import trees
from veil.data.core.trees import Tree
from veil.model import Plate
from veil.posterior import Posterior
from veil.saved.program import ROWS, Port

DATA_UNIT = "the data's"


@dataclass(frozen=True)
class Source:
    """What is exported: the model, its posterior, and data like those it is for (some rows of them)."""

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
            Port(place(name, path), (ROWS, *array.shape[1:]), real(), DATA_UNIT, names[path])
            for path, array in leaves(tree)
        )

    def asked_of(self, arrays: Sequence[Array]) -> Any:
        """The query of the arrays that come in through ``asked``."""
        return filled(self.query, arrays)

    def given_of(self, arrays: Sequence[Array]) -> Any:
        """The evidence of the arrays that come in through ``given``; None without any."""
        return filled(self.evidence, arrays)

    def columns(self, output: str) -> dict[str, tuple[str, ...] | None]:
        """What comes out in the shape of the query: of each array its name and its columns."""
        return {place(output, path): names for path, names in trees.leaves(self.names["query"])}

    @property
    def prior(self) -> Any:
        """p(z | x) of the first datum."""
        return self.model.prior(trees.map(lambda array: jnp.asarray(array[0], jnp.result_type(float)), self.evidence))

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


def place(name: str, path: trees.Path) -> str:
    """What a leaf of a tree is called outside: query/frame."""
    return "/".join((name, *path))


def filled(like: Tree, arrays: Sequence[Array]) -> Any:
    """A tree of these arrays, one for each leaf."""
    if like is None:
        return None
    return trees.nested({path: array for (path, _), array in zip(leaves(like), arrays, strict=True)})


def leaves(tree: Tree) -> list[tuple[trees.Path, Any]]:
    """The leaves in the order of their names, in which they go in and come out."""
    return sorted(trees.leaves(tree), key=lambda pair: pair[0])


def placed(name: str, tree: Tree) -> dict[str, Any]:
    """The leaves of a tree, as they are called outside."""
    return {place(name, path): leaf for path, leaf in trees.leaves(tree)}


def real() -> str:
    return str(jnp.result_type(float))
