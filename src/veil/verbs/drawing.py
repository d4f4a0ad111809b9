"""Draws of the posterior in the groups that ArviZ knows: for its plots, summaries and comparisons."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from veil.data import Data
from veil.data.core import trees
from veil.model import Datum, Model, OfSequences, Plate, Stepwise, blocks, checks
from veil.posterior import Posterior
from veil.posterior.arguments import known_to, parts
from veil.posterior.choice import chosen
from veil.verbs.inference import infer


def draws(
    model: Any, data: Any, *, key: PRNGKeyArray, samples: int = 100, posterior: Posterior | None = None
) -> dict[str, dict[str, Any]]:
    """Independent draws of p(z | y, x) as ``arviz.from_dict`` takes them; ArviZ is not needed for this.

    ``posterior``: ``z`` [1, S, N, ...] (chain, draw, datum; of sequences [1, S, N, T, ...], whole paths; of a latent
    that all data share [1, S, ...]); ``observed_data``: ``y``; ``constant_data``: ``x``, if there is evidence;
    ``coords`` and ``dims``. A latent, query or evidence that is a tree is a variable for each leaf: ``y_frame``.

    Arguments:
        model: a ``Fit``, or a fitted model, with its ``posterior`` where none is known in closed form.

    Raises:
        TypeError, ValueError: as ``veil.infer``.

    >>> import jax, veil
    >>> geyser = veil.data.load("faithful")
    >>> fit = veil.fit(veil.Mixture(components=2), geyser, key=jax.random.key(0))
    >>> found = draws(fit, geyser, samples=5, key=jax.random.key(1))
    >>> found["posterior"]["z"].shape, found["dims"]["z"]
    ((1, 5, 272), ['datum'])
    """
    model, posterior = parts(model, posterior)
    data = data if isinstance(data, Data) else Data(data)
    checks.whole("samples", samples)
    checks.random_key(key)
    checks.shapes(model, data)
    steps = ["step"] if isinstance(model, OfSequences) else []
    where = ["datum", *steps] if isinstance(model, Stepwise) else ["datum"]
    if isinstance(model, Stepwise):
        drawn = infer(model, data, posterior=posterior, paths=samples, key=key).paths
    else:
        used = chosen(model, posterior)
        shared = isinstance(model, Plate)
        some = (data[:1] if shared else known_to(used, data)).numbered()
        drawn = blocks.map_blocks(_draws, model, some, used, jax.random.split(key, samples))
        if shared:
            drawn, where = jax.tree.map(lambda leaf: leaf[0], drawn), []
    axis = 0 if isinstance(model, Plate) else 1
    found: dict[str, Any] = {"posterior": {}, "observed_data": {}, "constant_data": {}, "coords": {}, "dims": {}}
    groups = (("posterior", "z", drawn, where), ("observed_data", "y", data.query, ["datum", *steps]))
    for group, letter, tree, axes in (*groups, ("constant_data", "x", data.evidence, ["datum", *steps])):
        for path, leaf in _leaves(tree):
            name, array = "_".join((letter, *path)), np.asarray(leaf)
            if group == "posterior":
                array = np.moveaxis(array, axis, 0)[None]
            found[group][name] = array
            own = array.ndim - len(axes) - 2 * (group == "posterior")
            found["dims"][name] = [*axes, *(f"{name}_{i}" for i in range(own))]
    for letter, names, tree in (("y", data.query_names, data.query), ("x", data.evidence_names, data.evidence)):
        if tree is not None and not trees.is_tree(tree) and tree.ndim == 2 + len(steps):
            found["coords"][f"{letter}_0"] = list(names)
    return found


def inference_data(model: Any, data: Any, **options: Any) -> Any:
    """``draws`` as ArviZ's own object: an ``InferenceData``, or what the installed version makes of them.

    Raises ModuleNotFoundError, with the command, where ArviZ is not installed.
    """
    try:
        import arviz
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("InferenceData needs ArviZ: pip install arviz; veil.draws needs nothing") from error
    found = draws(model, data, **options)
    how = {name: found.pop(name) for name in ("coords", "dims")}
    groups = {name: group for name, group in found.items() if group}
    if int(arviz.__version__.partition(".")[0]) >= 1:  # takes the groups in one dictionary
        return arviz.from_dict(groups, **how)
    return arviz.from_dict(**groups, **how)


@eqx.filter_jit
def _draws(model: Model, block: Datum, posterior: Posterior, keys: Any) -> Any:
    """Draws of every datum, leaves [N, S, ...]; each has keys of its own."""

    def one(datum: Datum) -> Any:
        q, index = posterior(model, datum), datum.index
        assert index is not None
        return jax.vmap(lambda key: q.sample(jax.random.fold_in(key, index)))(keys)

    return jax.vmap(one)(block)


def _leaves(tree: Any) -> list[tuple[tuple[str, ...], Any]]:
    """Of a tree of any kind, named by the keys or numbers that lead to them."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(tuple(jax.tree_util.keystr((part,), simple=True) for part in path), leaf) for path, leaf in found]
