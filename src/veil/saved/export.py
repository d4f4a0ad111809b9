"""``veil.export``: a fitted model's encoder, decoder or policy as a program that runs without veil."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from veil import distributions
from veil.data import Data, Stream
from veil.data.core import trees
from veil.data.core.checks import leaf_names
from veil.host.files import write_atomically
from veil.model import Model, OfSequences, checks
from veil.model.abilities import name_of
from veil.posterior import Posterior
from veil.posterior.arguments import parts
from veil.saved import program
from veil.saved.functions import FUNCTIONS, Decides, Rowwise, Source, decision, placed, row_key
from veil.saved.program import ROWS, Export, Port

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
CHECKED = (1, 7)  # rows in each call that is compared with the model
SEED = 2**31  # one that does not fit into int32


def export(
    model: Any,
    path: str | os.PathLike[str],
    *,
    what: str,
    data: Any,
    posterior: Posterior | None = None,
    deterministic: bool = False,
    platforms: Sequence[str] = ("cpu",),
    name: str | None = None,
) -> Export:
    """Write a fitted model's encoder, decoder or policy into the file ``path`` as StableHLO, and JSON beside it.

    | what | in | out |
    |---|---|---|
    | encoder | query [N, ·], evidence [N, ·] | ``responsibilities`` [N, K] of components; ``probabilities`` [N, L, C] of codes; ``mean`` and ``scale`` [N, L] of any other latent |
    | decoder | component [N] or latent [N, ·], evidence | ``mean`` of p(y \\| x, z) [N, ·]; ``probabilities`` [N, ·, C] of categories |
    | policy | evidence, seed (one uint32) | ``action`` [N, ·], a draw of p(y \\| x) |
    | policy, ``deterministic`` | evidence | ``action``: the mean of p(y \\| x, z), or the most probable category, at the most probable component or at the latent's mean |

    Of a ``veil.Policy`` the policy's own ``decide`` is written: evidence as in its data, with its last observations, and
    a seed; out comes the environment's ``action`` as the policy chooses it, of chunks all their actions [N, H, ·]. How
    many of them are executed is the caller's part.

    Of a query or evidence that is a dictionary each array goes in and comes out by its own name: ``query/frame``,
    ``mean/frame``. Everything is in the user's units and in JAX's present precision, evidence only where the model has it, and N any
    number from one. Of a Bayesian network the policy draws weights from the posterior anew for each row. Missing
    entries are not supported. The function is written only if, read back, it agrees with the model on rows of ``data``
    to within rounding: the differences are in the JSON file.

    Arguments:
        model: a fitted model, or a ``Fit``; or a ``veil.Policy``.
        what: "encoder", "decoder" or "policy".
        data: data like those of the fit: they give the shapes, the names, and rows to compare on.
        posterior: of a model whose posterior has no closed form; the ``Fit`` has it.
        platforms: "cpu", "cuda", "rocm", "tpu": those it will run on, this one among them.
        name: the model's name in the JSON file; default: its class.

    Raises:
        ValueError: the model has no such part, data of other shapes, an unknown word, a folder that does not exist, or
            a function that does not agree with the model.
        ModuleNotFoundError: flatbuffers is not installed (``pip install 'veil[export]'``).

    >>> import jax, tempfile, veil
    >>> faithful = veil.data.load("faithful")
    >>> result = veil.fit(veil.Mixture(components=2), faithful, key=jax.random.key(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     encode = export(result, folder + "/encoder.stablehlo", what="encoder", data=faithful)
    >>> encode([[3.6, 79.0]])["responsibilities"].shape
    (1, 2)
    """  # noqa: E501
    actor = model if isinstance(model, Decides) else None
    model, posterior = parts(model if actor is None else actor.model, posterior)
    file, jax_export = _free(Path(path)), program.library()
    if what not in FUNCTIONS:
        raise ValueError(f"what: expected encoder, decoder or policy; got {what!r}")
    if deterministic and what != "policy":
        raise ValueError(f"deterministic: only a policy draws; the {what} never does: leave it out")
    if actor is not None and (what != "policy" or deterministic):
        raise ValueError("model: a policy is exported with what='policy', and draws as its own `choose` says")
    here, chosen = jax_export.default_export_platform(), tuple(platforms)
    if not set(chosen) <= set(PLATFORMS) or len(set(chosen)) < len(chosen):
        raise ValueError(f"platforms: expected some of {', '.join(PLATFORMS)}, each once; got {', '.join(chosen)}")
    if here not in chosen:
        raise ValueError(f"platforms: expected {here} among them, where the function is compared with the model")
    source = _source(model, posterior, data)
    if actor is not None:
        made = decision(source, actor)
    else:
        made = FUNCTIONS[what](source, **({"deterministic": True} if deterministic else {}))
    with distributions.unchecked():
        (rows,) = jax_export.symbolic_shape(ROWS)
        shapes = [tuple(rows if size == ROWS else size for size in port.shape) for port in made.inputs]
        specifications = [
            jax.ShapeDtypeStruct(*pair) for pair in zip(shapes, (p.dtype for p in made.inputs), strict=True)
        ]
        traced = jax_export.export(jax.jit(made.batched, keep_unused=True), platforms=chosen)(*specifications)
    content = bytes(traced.serialize())
    avals = jax.tree.unflatten(traced.out_tree, traced.out_avals)
    outputs = tuple(
        Port(one, (ROWS, *aval.shape[1:]), str(aval.dtype), *made.outputs[one]) for one, aval in avals.items()
    )
    run = program.compiled(content, made.inputs, outputs, file)
    record = {
        "format": program.FORMAT,
        "version": program.VERSION,
        "what": what,
        "deterministic": deterministic,
        "model": name or name_of(model),
        "inputs": [_plain(port) for port in made.inputs],
        "outputs": [_plain(port) for port in outputs],
        "platforms": list(chosen),
        "sha256": program.digest(content),
        "versions": {library: version(library) for library in ("veil", "jax")},
    }
    result = Export(file, what, made.inputs, outputs, record, run)
    record["parity"] = parity(result, made, source)
    write_atomically(file, content)
    write_atomically(program.beside(file), (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
    return result


def parity(found: Export, made: Rowwise, source: Source) -> dict[str, Any]:
    """How far an exported function is from the model, asked datum by datum, in calls of several numbers of rows.

    Raises ValueError where that is more than rounding.
    """
    row, rows, seed = eqx.filter_jit(made.row), max(CHECKED), np.uint32(SEED)
    arrays: dict[str, Any] = {**placed("query", source.query), **placed("evidence", source.evidence)}
    taken = [port for port in made.inputs if port.name != "seed"]
    if taken[0].name in ("latent", "component"):
        arrays[taken[0].name] = _latents(source, rows)
    given = [np.asarray(arrays[port.name]).astype(port.dtype) for port in taken]
    extra = [(row_key(*jax.device_put((seed, np.asarray(n)))),) if made.draws else () for n in range(rows)]
    singles = [row(*jax.device_put([array[n] for array in given]), *extra[n]) for n in range(rows)]
    expected = {name: np.stack([np.asarray(single[name]) for single in singles]) for name in singles[0]}
    size = max(float(np.max(np.abs(values), initial=0.0)) for values in expected.values())
    worst = 0.0
    for count in CHECKED:
        answer = found(*(array[:count] for array in given), *((seed,) if made.draws else ()))
        for name, values in expected.items():
            difference = np.abs(np.asarray(answer[name], np.float64) - values[:count].astype(np.float64))
            worst = float(np.max(difference, initial=worst))
    allowed = 10.0 * float(jnp.finfo(jnp.result_type(float)).eps) ** 0.75 * size
    if not worst <= allowed:  # NaN is refused, too
        raise ValueError(
            f"the exported {found.what} differs from the model by {worst:.3g}, and rounding explains {allowed:.3g}: "
            f"nothing was written"
        )
    return {"rows": list(CHECKED), "largest_difference": worst, "allowed_difference": allowed}


def _latents(source: Source, rows: int) -> np.ndarray:
    """A draw of the prior for each row."""
    draw = eqx.filter_jit(lambda x, key: source.model.prior(x).sample(key))
    evidence = trees.map(lambda array: jnp.asarray(array, jnp.result_type(float)), source.evidence)
    each = [trees.map(lambda array: array[n], evidence) for n in range(rows)]  # noqa: B023
    return np.stack([np.asarray(draw(x, jax.random.key(n))) for n, x in enumerate(each)])


def _source(model: Model, posterior: Posterior | None, data: Any) -> Source:
    given = data if isinstance(data, Data | Stream) else Data(data)
    checks.shapes(model, given)
    block = next(iter(given.blocks(max(CHECKED))))
    places = np.arange(max(CHECKED)) % len(block)  # few data are used more than once
    query, evidence = (
        trees.map(lambda array: np.asarray(array)[places], tree) for tree in (block.query, block.evidence)
    )
    sequences = isinstance(model, OfSequences)
    names = {
        "query": leaf_names(given.query_names, query, "query", "y", sequences),
        "evidence": None,
    }
    if evidence is not None:
        names["evidence"] = leaf_names(given.evidence_names, evidence, "evidence", "x", sequences)
    return Source(model, posterior, query, evidence, names)


def _free(path: Path) -> Path:
    if not path.parent.is_dir():
        raise ValueError(f"path: the folder {path.parent} does not exist; create it first")
    for each in (path, program.beside(path)):
        if each.is_dir():
            raise ValueError(f"path: {each} is a directory")
    return path


def _plain(port: Port) -> dict[str, Any]:
    """A port as JSON, without what it does not say."""
    return {name: value for name, value in asdict(port).items() if value is not None}
