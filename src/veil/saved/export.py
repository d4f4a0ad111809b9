"""``veil.export``: a fitted model's encoder, decoder or policy as a program that runs without veil."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from veil import distributions
from veil.data import Data, Stream
from veil.data.core import trees
from veil.data.core.checks import leaf_names
from veil.evaluation.moments import mean_and_variance
from veil.host.files import write_atomically
from veil.model import Datum, Model, Plate, Sized, Stepwise, checks
from veil.model.contract import as_floats
from veil.posterior import Posterior
from veil.posterior.arguments import parts
from veil.posterior.base import per_datum
from veil.posterior.choice import chosen as choose
from veil.saved import program as exported
from veil.saved.program import ROWS, Export, Port
from veil.saved.source import DATA_UNIT, Source, place, placed, real

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
CHECKED = (1, 7)  # rows in each call that is compared with the model
SEED = 2**31  # one that does not fit into int32
LATENT_UNIT, CHANCE, WHOLE = "none", "probability", "whole numbers"


@dataclass(frozen=True)
class Program:
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
        return jax.vmap(self.row)(*rows, jax.vmap(_key, (None, 0))(seed, jnp.arange(rows[0].shape[0])))


def _key(seed: Array, row: Array) -> PRNGKeyArray:
    return jax.random.fold_in(jax.random.key(seed), row)


def _chooses(prior: Any) -> bool:
    """Whether the latent is one choice among components."""
    return distributions.enumerable(prior) and not isinstance(prior, distributions.Codes)


def encoder(source: Source) -> Program:
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

        return Program(responsibilities, inputs, {"responsibilities": (CHANCE, None)})
    if isinstance(prior, distributions.Codes):

        def codes(*arrays: Array) -> dict[str, Array]:
            return {"probabilities": mean_and_variance(q(arrays), jax.random.key(0))[0]}

        return Program(codes, inputs, {"probabilities": (CHANCE, None)})

    def moments(*arrays: Array) -> dict[str, Array]:
        mean, variance = mean_and_variance(q(arrays), jax.random.key(0))
        return {"mean": mean, "scale": jnp.sqrt(variance)}

    return Program(moments, inputs, {"mean": (LATENT_UNIT, None), "scale": (LATENT_UNIT, None)})


def decoder(source: Source) -> Program:
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
    return Program(decode, (latent, *source.given), outputs)


def _said(y: Any, path: trees.Path) -> dict[str, Array]:
    """The mean of each array of y, of categories their probabilities, as it is called outside."""
    if isinstance(y, distributions.Joint):
        parts = [_said(part, (*path, name)) for name, part in y.parts.items()]
        return {name: array for part in parts for name, array in part.items()}
    chances = distributions.probabilities(y)
    if chances is None:
        return placed(place("mean", path), distributions.moments(y)[0])
    return placed(place("probabilities", path), chances)


def policy(source: Source, deterministic: bool) -> Program:
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

    def about(x: Any) -> Any:
        """What the latent is drawn from: a latent that all data share is known from those that were seen."""
        if not shared:
            return model.prior(x)
        assert source.posterior is not None
        return source.posterior(model, Datum(jnp.zeros(0), x))

    def act(*arrays: Array) -> dict[str, Array]:
        x, key = source.given_of(arrays[:-1]), arrays[-1]
        if not shared:
            return placed("action", model.sample(key, x)[1])
        key_latent, key_query = jax.random.split(key)
        return placed("action", as_floats(model.likelihood(about(x).sample(key_latent), x).sample(key_query)))

    def act_centrally(*arrays: Array) -> dict[str, Array]:
        x = source.given_of(arrays)
        return placed("action", as_floats(distributions.central(model.likelihood(distributions.central(about(x)), x))))

    outputs = {name: (DATA_UNIT, columns) for name, columns in source.columns("action").items()}
    if deterministic:
        return Program(act_centrally, source.given, outputs)
    return Program(act, (*source.given, Port("seed", (), "uint32", WHOLE)), outputs, draws=True)


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

    Of a query or evidence that is a dictionary each array goes in and comes out by its own name: ``query/frame``,
    ``mean/frame``. Everything is in the user's units and in JAX's present precision, evidence only where the model has it, and N any
    number from one. Of a Bayesian network the policy draws weights from the posterior anew for each row. Missing
    entries are not supported. The function is written only if, read back, it agrees with the model on rows of ``data``
    to within rounding: the differences are in the JSON file.

    Arguments:
        model: a fitted model, or a ``Fit``.
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
    model, posterior = parts(model, posterior)
    file, jax_export = _free(Path(path)), exported.library()
    if what not in ("encoder", "decoder", "policy"):
        raise ValueError(f"what: expected encoder, decoder or policy; got {what!r}")
    if deterministic and what != "policy":
        raise ValueError(f"deterministic: only a policy draws; the {what} never does: leave it out")
    here, chosen = jax_export.default_export_platform(), tuple(platforms)
    if not set(chosen) <= set(PLATFORMS) or len(set(chosen)) < len(chosen):
        raise ValueError(f"platforms: expected some of {', '.join(PLATFORMS)}, each once; got {', '.join(chosen)}")
    if here not in chosen:
        raise ValueError(f"platforms: expected {here} among them, where the function is compared with the model")
    source = _source(model, posterior, data)
    made = policy(source, deterministic) if what == "policy" else {"encoder": encoder, "decoder": decoder}[what](source)
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
    program = exported.program(content, made.inputs, outputs, file)
    record = {
        "format": exported.FORMAT,
        "version": exported.VERSION,
        "what": what,
        "deterministic": deterministic,
        "model": name or type(model).__name__,
        "inputs": [_plain(port) for port in made.inputs],
        "outputs": [_plain(port) for port in outputs],
        "platforms": list(chosen),
        "sha256": exported.digest(content),
        "versions": {library: version(library) for library in ("veil", "jax")},
    }
    result = Export(file, what, made.inputs, outputs, record, program)
    record["parity"] = parity(result, made, source)
    write_atomically(file, content)
    write_atomically(exported.beside(file), (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
    return result


def parity(found: Export, made: Program, source: Source) -> dict[str, Any]:
    """How far an exported function is from the model, asked datum by datum, in calls of several numbers of rows.

    Raises ValueError where that is more than rounding.
    """
    row, rows, seed = eqx.filter_jit(made.row), max(CHECKED), np.uint32(SEED)
    arrays: dict[str, Any] = {**placed("query", source.query), **placed("evidence", source.evidence)}
    taken = [port for port in made.inputs if port.name != "seed"]
    if taken[0].name in ("latent", "component"):
        arrays[taken[0].name] = _latents(source, rows)
    given = [np.asarray(arrays[port.name]).astype(port.dtype) for port in taken]
    extra = [(_key(jnp.asarray(seed), jnp.asarray(n)),) if made.draws else () for n in range(rows)]
    singles = [row(*(jnp.asarray(array[n]) for array in given), *extra[n]) for n in range(rows)]
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
    sequences = isinstance(model, Stepwise)
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
    for each in (path, exported.beside(path)):
        if each.is_dir():
            raise ValueError(f"path: {each} is a directory")
    return path


def _plain(port: Port) -> dict[str, Any]:
    """A port as JSON, without what it does not say."""
    return {name: value for name, value in asdict(port).items() if value is not None}
