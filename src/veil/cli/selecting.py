"""``veil fit --select``: several models, one call, one table."""

from typing import Any

from veil.cli.program import Refusal

FILE = "selection.json"
WORDS = {"bic": "bic", "aic": "aic", "held-out": "held_out"}


def candidates(entry: Any, given: dict[str, Any], select: str) -> dict[str, dict[str, Any]]:
    """The options of each candidate, by its name: its number, and the covariance if there are several."""
    chosen = counted(entry)
    if chosen in given:
        raise Refusal(f"--{chosen} and --select exclude each other")
    covariances = [word.strip() for word in given["covariance"].split(",")] if "covariance" in given else [None]
    found = {}
    for covariance in covariances:
        for count in numbers(select):
            value: Any = count if chosen == "components" else str(count)
            options = {**given, chosen: value, **({} if covariance is None else {"covariance": covariance})}
            found[str(count) if len(covariances) == 1 else f"{count} {covariance}"] = options
    return found


def counted(entry: Any) -> str:
    """The option that --select chooses numbers for: components, which are an hmm's states, or latent dimensions."""
    from veil.model import Tractable

    for option in ("components", "latent"):
        if option in entry.options:
            if not isinstance(entry.build({}), Tractable):
                raise Refusal(
                    f"--select compares exact likelihoods, and of {entry.name} there are only bounds: fit each number "
                    "and compare what veil evaluate says of other data"
                )
            return option
    raise Refusal(f"--select chooses a number of components, states or latent dimensions; {entry.name} has none")


def heading(entry: Any) -> str:
    """What the numbers are of, for people."""
    if counted(entry) == "latent":
        return "dimensions"
    from veil.model import Stepwise

    return "states" if isinstance(entry.build({}), Stepwise) else "components"


def numbers(text: str) -> list[int]:
    """Numbers of components, states or dimensions from text: 1-8, or 2,4,8, or both.

    >>> numbers("1-3,8")
    [1, 2, 3, 8]
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) <= 10_000):
            raise Refusal(f"--select: expected numbers such as 1-8 or 2,4,8; got {text!r}")
        found += range(int(first), int(last) + 1)
    return sorted(set(found))


def choose(
    models: dict[str, Any], data: Any, criterion: str | None, held_out: float | None, options: dict[str, Any]
) -> Any:
    """Fit all, keep the best."""
    from veil.data.core.columns import suggestion
    from veil.verbs.selection import select

    word = criterion or "bic"
    if word not in WORDS:
        raise Refusal(f"--criterion: there is no {word!r}; {suggestion(word, list(WORDS))}")
    if held_out is not None and word != "held-out":
        raise Refusal("--held-out: with --select it goes with --criterion held-out")
    chosen: Any = WORDS[word]
    return select(models, data, criterion=chosen, held_out=0.2 if held_out is None else held_out, **options)


def metrics(selection: Any) -> list[dict[str, Any]]:
    """A line for each step of each candidate."""
    return [
        {"candidate": name, "step": step, "value": value}
        for name, fitted in selection.fits.items()
        for step, value in enumerate(fitted.history.value)
    ]


def record(selection: Any) -> dict[str, Any]:
    """What selection.json holds."""
    return {
        "best": selection.best,
        "criterion": selection.criterion,
        "candidates": [
            {"name": name, "score": score, **selection.evaluations[name].as_dict()}
            for name, score in selection.scores.items()
        ],
    }


def show(selection: Any, heading: str) -> None:
    """The table, best first; ``heading`` says what the candidates' names are."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"chosen by {selection.criterion.replace('_', '-')}", box=None, title_justify="left")
    for column in ("", heading, "score", "log-likelihood", "parameters", "steps"):
        table.add_column(column, justify="left" if column == heading else "right")
    for name, score in sorted(selection.scores.items(), key=lambda pair: pair[1]):
        result, steps = selection.evaluations[name], selection.fits[name].status.steps
        mark = "*" if name == selection.best else ""
        numbers_ = f"{score:.3f}", f"{result.log_likelihood:.3f}", str(result.parameters), str(steps)
        table.add_row(mark, name, *numbers_)
    Console().print(table)
