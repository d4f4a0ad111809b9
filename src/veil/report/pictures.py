"""What can be drawn of a fit and its data, each picture with a caption: reports and ``veil.plot`` show the same."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

import veil
from veil import distributions
from veil.data import Data
from veil.data.core import trees
from veil.data.core.checks import leaf_names
from veil.model.batching import as_datum, there
from veil.posterior.arguments import known_to, parts
from veil.posterior.choice import chosen
from veil.report import forecasts, plots, style
from veil.report.page import Picture, Pictures

DRAWN = 3000  # rows that are drawn
STEPS = 300  # of a sequence
SHOWN = 10  # images side by side
FUTURES = 100
UNIT = "unit of the data"
Z = "prior's coordinates"


def plot(fit: Any, data: Any = None) -> Pictures:
    """Draw a fit and its data, as ``veil report`` does: figures by name, each with a caption; a notebook shows them.

    With data that is, as the model allows, ``density``, ``conditional``, ``predictions``, ``predictive``, ``latent``,
    ``draws``, ``images`` (data, reconstructions, draws) or ``forecast``; of a ``Fit`` also its ``history``. Each is a
    ``Picture`` with a matplotlib ``figure``, a ``caption`` and ``save(folder)``. A ``Forecast`` is drawn by
    ``veil.report.forecasts.chart`` and ``film``.

    Arguments:
        fit: a ``Fit``, or a fitted model with an exact posterior.
        data: of the kind that was fitted; large data are drawn in part.

    Raises:
        TypeError, ValueError: not a fitted model, or data of another shape.
        ModuleNotFoundError: matplotlib is not installed.

    >>> import jax, veil
    >>> geyser = veil.data.load("faithful")
    >>> pictures = plot(veil.fit(veil.Mixture(components=2), geyser, key=jax.random.key(0)), geyser)
    >>> list(pictures), pictures["density"].figure.axes[0].get_xlabel()
    (['history', 'density'], 'eruptions (unit of the data)')
    """
    shown = []
    if isinstance(fit, veil.Fit) and len(fit.history) > 1:
        shown.append(history(fit.history.value, fit.history.held_out, unit=fit.history.unit))
    if data is not None:
        given = data if isinstance(data, Data) else Data(data)
        veil.model.checks.shapes(parts(fit, None)[0], given)
        shown += pictures(fit, given)[0]
    return Pictures((picture.name, picture) for picture in shown)


def history(
    value: np.ndarray,
    held_out: np.ndarray,
    steps: np.ndarray | None = None,
    unit: str = "nats per datum",
    warm_up: int = 0,
) -> Picture:
    """The objective at each step, and on held-out data; while a KL's weight climbs it is not one objective."""
    with style.figure(panel=(6.2, 3.4)) as (picture, (panel,)):
        plots.history(panel, value, held_out, steps=steps, unit=unit, warm_up=warm_up)
    caption = "The objective at each step, larger is better."
    if warm_up:
        caption += " In the shaded steps the weight of the KL climbs: the objective changes, and falls with it."
    return Picture(picture, caption, "history")


def pictures(fit: Any, data: Data) -> tuple[list[Picture], list[str]]:
    """What can be drawn of this model and these data, and notes on what cannot."""
    model, posterior = parts(fit, None)
    data = known_to(posterior, data)
    if len(data) > DRAWN:
        data = data[np.sort(np.random.default_rng(0).permutation(len(data))[:DRAWN])]
    if isinstance(model, veil.Plate):
        return _weights(model, posterior, data), []
    if isinstance(model, veil.Stepwise):
        return _sequences(fit, data)
    if isinstance(model, veil.PerEpisode):
        if isinstance(model, veil.Tractable):
            return [], ["There is no picture of whole episodes yet; veil.infer gives the latent of each."]
        return _latent(model, posterior, data), []
    if data.observed is not None:
        data = data[np.all(_rows(data.observed), axis=1)]
        if len(data) < 2:
            return [], ["No row is complete, so none is drawn."]
    images = [path for path, leaf in trees.leaves(data.query) if leaf.ndim > 2]
    if not isinstance(model, veil.Tractable) or isinstance(model, veil.FactorAnalysis):
        pairs = [] if images else _draws(model, data)
        return [*_images(model, posterior, data, images), *_latent(model, posterior, data), *pairs], []
    size = 0 if images or trees.is_tree(data.query) else data.query.shape[1]
    if data.evidence is None and 0 < size <= 6:
        return _density(model, data), []
    if data.evidence is not None and size == 1:
        return (_conditional(model, data), []) if len(data.evidence_names) == 1 else _predictions(model, data)
    found = _images(model, posterior, data, images)
    return found, [] if found else ["There is no picture for data of this shape yet."]


def _rows(tree: Any) -> np.ndarray:
    """All numbers of each datum, [N, numbers]."""
    return np.concatenate([leaf.reshape(len(leaf), -1) for _, leaf in trees.leaves(tree)], 1)


# -- latents -----------------------------------------------------------------------------------------------------------


def _latent(model: Any, posterior: Any, data: Data) -> list[Picture]:
    """Where the data lie in the latent; of codes, how often each value is used."""
    found = veil.infer(model, data, posterior=posterior)
    with style.figure(panel=(4.4, 4.0)) as (picture, (panel,)):
        if found.mean.ndim == 3:
            image = panel.imshow(found.mean.mean(0), cmap="Blues", vmin=0, aspect="auto")
            panel.grid(False)
            style.label(panel, x=("value", "number"), y=("code", "number"))
            style.whole(panel)
            style.colour_scale(picture, panel, image, ("used by", "share of the data"))
            caption = "How often each value of each code is used: the average of its probability over the data."
            return [Picture(picture, caption, "latent")]
        means = found.mean.reshape(len(data), -1)
        use = np.argsort(-means.var(0))[:2]
        if len(use) == 1:
            panel.hist(means[:, 0], bins=40, color=style.BLUE)
            style.label(panel, x=("posterior mean of z", Z), y=("data", "count"))
        else:
            plots.points(panel, means[:, use], color=style.BLUE)
            first, second = ((f"posterior mean of z, entry {i}", Z) for i in use)
            style.label(panel, x=first, y=second)
    most = ", in the two entries that vary most" if means.shape[1] > 2 else ""
    return [Picture(picture, f"The latent of each datum ({found.kind} posterior){most}.", "latent")]


def _draws(model: Any, data: Data) -> list[Picture]:
    """The data beside draws from the model, in two entries."""
    flat = _rows(data.query)
    if data.evidence is not None or flat.shape[1] < 2:
        return []
    drawn = _rows(veil.sample(model, min(len(data), 1000), key=jax.random.key(0)).query)
    axes = np.argsort(-flat.var(0))[:2]
    named = len(data.query_names) == flat.shape[1]
    first, second = (data.query_names[i] if named else f"entry {i}" for i in axes)
    with style.figure(2, panel=(4.0, 3.6), sharex=True, sharey=True) as (picture, panels):
        for panel, points, title in zip(panels, (flat, drawn), ("data", "drawn from the model"), strict=True):
            plots.points(panel, points[:, axes], color=style.BLUE)
            style.label(panel, x=(first, UNIT), y=(second, UNIT), title=title)
    most = " in the two entries that vary most" if flat.shape[1] > 2 else ""
    return [Picture(picture, f"The data, and draws from the model,{most}.".replace(",.", "."), "draws")]


def _weights(model: Any, posterior: Any, data: Data) -> list[Picture]:
    if data.evidence is None:
        return []
    x, y = _rows(data.evidence), _rows(data.query)
    if x.shape[1] != 1 or y.shape[1] != 1:
        return []
    low, high = plots.bounds(x, 0.2)
    grid = np.linspace(low, high, 200)[:, None]
    guess = veil.predict(model, grid, posterior=posterior, key=jax.random.key(0))
    mean, spread = _rows(guess.mean).ravel(), _rows(guess.standard_deviation).ravel()
    with style.figure(panel=(6.2, 4.0)) as (picture, (panel,)):
        panel.fill_between(grid.ravel(), mean - 2 * spread, mean + 2 * spread, color=style.BLUE, alpha=0.2, lw=0)
        panel.plot(grid.ravel(), mean, color=style.BLUE)
        plots.points(panel, np.concatenate([x, y], 1), color=style.GREY)
        style.label(panel, x=(data.evidence_names[0], UNIT), y=(data.query_names[0], UNIT))
    return [Picture(picture, "Mean and two standard deviations of p(y|x), weights and noise together.", "predictive")]


# -- images and sequences ----------------------------------------------------------------------------------------------


@eqx.filter_jit
def _again(model: Any, posterior: Any, block: Any, keys: Any) -> Any:
    """E[y | x, z] at a draw of each datum's posterior."""

    def one(datum: Any, key: Any) -> Any:
        latent = posterior(model, datum).sample(key)
        return distributions.moments(model.likelihood(latent, datum.evidence))[0]

    return jax.vmap(one)(block, keys)


def _images(model: Any, posterior: Any, data: Data, paths: Sequence[trees.Path]) -> list[Picture]:
    """Of a model of images a row of data, a row of what is made of their latents again, a row of draws."""
    if not paths:
        return []
    posterior = chosen(model, posterior)
    some = data[np.arange(min(SHOWN, len(data)))]
    again = _again(model, posterior, as_datum(some), jax.random.split(jax.random.key(0), len(some)))
    given = {} if data.evidence is None else {"evidence": some.evidence}
    drawn = veil.sample(model, 1 if given else len(some), key=jax.random.key(1), **given).query
    if given:
        drawn = trees.map(lambda leaf: leaf[:, 0], drawn)
    rows = {"data": _leaf(some.query, paths[0]), "made again": _leaf(again, paths[0]), "drawn": _leaf(drawn, paths[0])}
    caption = "Above images of the data, in the middle the mean of each given a draw of its latent, below draws"
    return [_strip(rows, f"{caption}{' given the same evidence' if given else ''}.", "images")]


def _strip(rows: dict[str, np.ndarray], caption: str, name: str) -> Picture:
    """Named rows of images [N, H, W] or [N, H, W, C], in the range of the first."""
    low, high = (float(edge(rows[next(iter(rows))])) for edge in (np.nanmin, np.nanmax))
    pictures = np.clip((np.concatenate(list(rows.values())) - low) / ((high - low) or 1.0), 0, 1)
    columns, (height, width) = len(pictures) // len(rows), pictures.shape[1:3]
    if pictures.ndim == 4:
        pictures = pictures[..., :3] if pictures.shape[3] > 2 else pictures[..., 0]
    size = 8.0 / columns
    with style.figure(panel=(8.8, 0.7 + size * len(rows) * height / width)) as (picture, (panel,)):
        plots.tiles(panel, pictures, columns, tuple(rows), cmap="gray")
        style.label(panel, x=(f"each image {width} wide", "pixels"), y=(f"{height} high", "pixels"))
    return Picture(picture, caption, name)


def _sequences(fit: Any, data: Data) -> tuple[list[Picture], list[str]]:
    """The longest sequences: what was seen of them, and a forecast of their last third beside what came."""
    lengths = there(data).sum(1)
    longest = np.argsort(-lengths, kind="stable")[:2]
    steps = min(int(lengths[longest].min()), STEPS)
    if steps < 3:
        return [], ["The sequences are too short to be drawn."]
    after = steps - steps // 3
    some = data[np.sort(longest)]
    kept = {name: tree for name, tree in some.fields().items() if name in ("query", "evidence", "observed", "reset")}
    kept = trees.map(lambda leaf: leaf[:, :steps], kept)
    part = Data(**kept, query_names=some.query_names, evidence_names=some.evidence_names)
    ahead = veil.forecast(fit, part, steps - after, FUTURES, key=jax.random.key(0), after=after)
    leaves = trees.leaves(part.query)
    numbers = [path for path, leaf in leaves if leaf.ndim == 3]
    found = []
    if numbers:
        names = [name for path in numbers for name in _names(part, path)]
        past = [query[:after] for query in forecasts.picked(_seen(part), *numbers)]
        found.append(forecasts.fans(past, forecasts.part(ahead, *numbers), names))
    for path in [path for path, leaf in leaves if leaf.ndim > 3][:1]:
        look = np.unique(np.linspace(0, steps - after - 1, SHOWN).astype(int))
        rows = {"came": _leaf(ahead.truth, path)[0, look], "expected": _leaf(ahead.mean, path)[0, look]}
        words = ", ".join(str(step + 1) for step in look)
        caption = (
            f"{words} steps ahead, after {after} steps were seen: above what came, below the mean of the forecast."
        )
        found.append(_strip(rows, caption, "images"))
    return found, []


def _pick(tree: Any, path: trees.Path) -> Any:
    return dict(trees.leaves(tree))[path]


def _leaf(tree: Any, path: trees.Path) -> np.ndarray:
    return np.asarray(_pick(tree, path))


def _seen(data: Data) -> Any:
    """The query, NaN where it is missing."""
    if data.observed is None:
        return data.query
    return trees.map(lambda leaf, known: np.where(known, leaf, np.nan), data.query, data.observed)


def _names(data: Data, path: trees.Path) -> Sequence[str]:
    """The names of one array's columns."""
    return tuple(_pick(leaf_names(data.query_names, data.query, "query", "y", True), path))


# -- densities ---------------------------------------------------------------------------------------------------------


def _density(model: Any, data: Data) -> list[Picture]:
    values, names = data.query, data.query_names
    if values.shape[1] == 1:
        with style.figure(panel=(6.2, 3.4)) as (picture, (panel,)):
            plots.densities(panel, {"model": model}, values[:, 0])
            style.label(panel, x=(names[0], UNIT), y=("density", f"1 / {UNIT}"))
        return [Picture(picture, f"The fitted density of {names[0]} over a histogram of the data.", "density")]
    pairs = [(0, 1)] if values.shape[1] == 2 else [(0, 1), (0, 2), (1, 2)]
    components = model.sizes.values if isinstance(model, veil.model.Sized) else 0
    try:
        joint = [veil.condition(model, query=pair) for pair in pairs]
    except TypeError:  # not Gaussian: the plane itself can be drawn, planes through it not
        joint, pairs = ([model], [(0, 1)]) if values.shape[1] == 2 else ([], [])
    if not pairs:
        return []
    certain = veil.infer(model, data).probabilities if components > 1 else None
    with style.figure(len(pairs), panel=(4.2, 3.6)) as (picture, panels):
        for panel, (i, j), marginal in zip(panels, pairs, joint, strict=True):
            plots.contours(panel, marginal, values[:, [i, j]])
            if certain is not None:
                plots.responsibilities(panel, values[:, [i, j]], certain)
            style.label(panel, x=(names[i], UNIT), y=(names[j], UNIT))
    caption = "The fitted density: contours hold 25, 50, 75 and 95 % of it."
    caption += " Each datum has the colour of the component responsible for it." if certain is not None else ""
    return [Picture(picture, caption, "density")]


def _conditional(model: Any, data: Data) -> list[Picture]:
    (given,), (name,) = data.evidence_names, data.query_names
    with style.figure(panel=(6.2, 4.0)) as (picture, (panel,)):
        image = plots.conditional(panel, model, np.concatenate([_rows(data.evidence), _rows(data.query)], 1))
        style.label(panel, x=(given, UNIT), y=(name, UNIT))
        style.colour_scale(picture, panel, image, ("density", f"1 / {UNIT}"))
    caption = f"The density of {name} given {given}, darker where larger, and the data."
    return [Picture(picture, caption, "conditional")]


def _predictions(model: Any, data: Data) -> tuple[list[Picture], list[str]]:
    try:
        guess = veil.predict(model, data.evidence).mean.reshape(-1)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return [], ["This model's predictions have no mean to draw."]
    seen, name = data.query.reshape(-1), data.query_names[0]
    with style.figure(panel=(4.4, 4.0)) as (picture, (panel,)):
        plots.points(panel, np.stack([guess, seen], 1), color=style.BLUE)
        ends = plots.bounds(np.concatenate([guess, seen]))
        panel.plot(ends, ends, color=style.GREY, linewidth=1)
        style.label(panel, x=(f"predicted {name}, mean", UNIT), y=(f"observed {name}", UNIT))
    return [Picture(picture, "Predicted means against what was observed; on the line they agree.", "predictions")], []
