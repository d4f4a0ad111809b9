"""What the data say of a model: categories, the shapes of images, the parts of a query that is a dictionary."""

from typing import Any

from veil.cli.program import Refusal
from veil.cli.words import by_part, halvings
from veil.data import Data
from veil.data.core import trees

IMAGES = ("pyramid", "convolutional")  # networks for images, whose shapes the data say


def with_shapes(entry: Any, options: dict[str, Any], decoder: str | None, data: Any) -> dict[str, Any]:
    """What the data say of a model: how many categories there are, the shapes of images, the parts of a dictionary."""
    query = data.query if isinstance(data, Data) else None
    if not trees.is_tree(data.query_shape):
        return _with_image(entry, _with_counted(options, query), decoder, data.query_shape, query)
    names = {"/".join(path): shape for path, shape in trees.leaves(data.query_shape)}
    if "head" not in entry.options:
        raise Refusal(
            f"{entry.name} is a model of arrays, and the query has the parts {', '.join(names)}: choose with --query, "
            "or use a model with a --head, such as vae or rssm"
        )
    values = {} if query is None else {"/".join(path): leaf for path, leaf in trees.leaves(query)}
    heads = _of_parts("head", options.get("head"), names)
    all_one = options.get("decoder") == "network"
    nets = dict.fromkeys(names, "network") if all_one else _of_parts("decoder", decoder, data.query_shape)
    chosen = {}
    for name, shape in names.items():
        word = nets.get(name)
        given = {"head": heads[name]} if name in heads else {}
        given |= {} if word in (None, *IMAGES) else {"decoder": word}
        given = _with_counted(given, values.get(name))
        chosen[name] = _with_image(entry, given, word, shape, values.get(name))
    made = {name: part.get("decoder", "network") for name, part in chosen.items() if name in data.query_shape}
    options = {**options, "head": ",".join(f"{name}={part.get('head', 'gaussian')}" for name, part in chosen.items())}
    if set(made.values()) <= {"network"}:  # one network for all parts
        return options
    made = {name: made.get(name, "network") for name in data.query_shape}
    return {**options, "decoder": ",".join(f"{name}={word}" for name, word in made.items())}


def _of_parts(option: str, words: str | None, parts: Any) -> dict[str, str]:
    """The word of each part of a query that is a dictionary, of those that have one."""
    if words is None:
        return {}
    if "=" not in words:
        example = ",".join(f"{name}={words}" for name in list(parts)[:1])
        raise Refusal(f"--{option}: the query has the parts {', '.join(parts)}; say of which, as in {example}")
    found = by_part(option, words)
    unknown = [name for name in found if name not in parts]
    if unknown:
        raise Refusal(f"--{option}: the query has no {unknown[0]!r}; its parts are {', '.join(parts)}")
    return found


def _with_counted(options: dict[str, Any], values: Any) -> dict[str, Any]:
    """Where the data are in memory, categories are counted, 0, 1, ..., the largest value; and what rows add up to."""
    head = options.get("head")
    if head not in ("categorical", "multinomial"):
        return options
    if values is None:
        what = "how many categories a stream has" if head == "categorical" else "what the rows of a stream add up to"
        raise Refusal(f"--head {head}: say {what}, as in --head {head}:3")
    number = (
        max(2, int(values.max()) + 1)
        if head == "categorical"
        else max(1, int(values.reshape(-1, values.shape[-1])[0].sum()))
    )
    return {**options, "head": f"{head}:{number}"}


def _with_image(entry: Any, options: dict[str, Any], decoder: str | None, shape: Any, values: Any) -> dict[str, Any]:
    """The shape of the data's images for the image networks; these are the default where they can halve the images.

    So is a likelihood for 8-bit images where all values are from 0 to 1: pixels that never change are no density.
    """
    if "decoder" not in entry.options or "decoder" in options:
        return options
    shape = shape[1:]
    fits = len(shape) == 3 and halvings(*shape[:2]) > 0
    if decoder is None and not fits:
        return options
    if len(shape) != 3:
        raise Refusal(f"--decoder {decoder}: it makes images [H, W, C]; a step of the data has the shape {list(shape)}")
    if not fits:
        raise Refusal(
            f"--decoder {decoder}: it halves images, and {shape[0]} x {shape[1]} pixels cannot be halved; pad or crop "
            "them, or use --decoder network"
        )
    options = {**options, "decoder": f"{decoder or 'pyramid'}:{'x'.join(map(str, shape))}"}
    shares = values is not None and values.min() >= 0 and values.max() <= 1
    return {"head": "discretised-logistic:256:0:1", **options} if shares and "covariance" not in options else options
