"""Choices beside statsmodels: coefficients and standard errors of conditional and multinomial logit, in one run.

Simulated choices. Ours is ``veil.fit`` of a ``ConditionalLogit`` and ``veil.standard_errors``, whole calls, after a
first one, whose surplus is the compilation; theirs is ``fit(method="newton")``, which has the errors with it.
``quality_difference`` is in nats, of the log-likelihood of all choices; the details have the largest differences of
coefficients and of errors, relative.
"""

import warnings
from collections.abc import Callable
from typing import Any

import common
import jax
import numpy as np

import veil

Answer = tuple[np.ndarray, np.ndarray, float]


def conditional(choices: int, alternatives: int, attributes: int) -> tuple[Callable[[], Answer], Callable[[], Answer]]:
    """Ours and theirs, of attributes of alternatives."""
    from statsmodels.discrete.conditional_models import ConditionalLogit

    rng = np.random.default_rng(0)
    table = rng.normal(size=(choices, alternatives, attributes))
    chosen = (table @ rng.normal(size=attributes) + rng.gumbel(size=(choices, alternatives))).argmax(1)
    model, data = veil.ConditionalLogit(attributes=attributes), veil.Data(chosen, {"attributes": table})
    taken = (np.arange(alternatives) == chosen[:, None]).ravel().astype(float)
    peer = ConditionalLogit(taken, table.reshape(-1, attributes), groups=np.repeat(np.arange(choices), alternatives))
    return lambda: fitted(model, data, "weights"), lambda: theirs(peer)


def multinomial(choices: int, alternatives: int, numbers: int) -> tuple[Callable[[], Answer], Callable[[], Answer]]:
    """Ours and theirs, of what is known of who chooses."""
    from statsmodels.api import MNLogit

    rng = np.random.default_rng(1)
    chooser = rng.normal(size=(choices, numbers))
    worth = chooser @ rng.normal(size=(numbers, alternatives)) + rng.gumbel(size=(choices, alternatives))
    chosen = worth.argmax(1)
    model = veil.ConditionalLogit(alternatives=alternatives, chooser=numbers)
    data = veil.Data(chosen, {"chooser": chooser})
    peer = MNLogit(chosen, np.column_stack([np.ones(choices), chooser]))
    return lambda: fitted(model, data, "constants"), lambda: theirs(peer)


def fitted(model: Any, data: veil.Data, name: str) -> Answer:
    """Coefficients, standard errors and the log-likelihood of all choices."""
    fit = veil.fit(model, data, key=jax.random.key(0), progress=False)
    errors = veil.standard_errors(fit, data)
    found = [np.asarray(vars(each)[name][0]).ravel() for each in (fit.model, errors)]
    return found[0], found[1], float(fit.history.value[-1]) * len(data)


def theirs(peer: Any) -> Answer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a Hessian that it inverts another way
        result = peer.fit(method="newton", disp=False)
    return *(np.asarray(each).T.ravel() for each in (result.params, result.bse)), float(result.llf)


def case(name: str, made: Any, sizes: tuple[int, int, int], options: common.Options) -> common.Case:
    jax.config.update("jax_enable_x64", True)
    ours, peer = made(sizes[0] // 10 if options.quick else sizes[0], *sizes[1:])
    first = common.seconds(ours)
    times = common.in_turn(
        {"ours": lambda: common.seconds(ours), "statsmodels": lambda: common.seconds(peer)}, options.repeats or 3
    )
    one, other = ours(), peer()
    far = [float(np.max(np.abs(a - b) / np.abs(b))) for a, b in zip(one[:2], other[:2], strict=True)]
    details = {"relative difference of coefficients": f"{far[0]:.1e}", "of standard errors": f"{far[1]:.1e}"}
    best = {who: float(np.median(each)) for who, each in times.items()}
    figure = common.Peer(
        common.version("statsmodels"),
        best["statsmodels"],
        common.ratio(times["ours"], times["statsmodels"]),
        one[2] - other[2],
    )
    return common.Case(
        name, "coefficients and errors", "s", best["ours"], first - best["ours"], {"statsmodels": figure}, details
    )


CASES: dict[str, common.Function] = {
    "conditional-4000-5-6": lambda options: case("conditional-4000-5-6", conditional, (4_000, 5, 6), options),
    "multinomial-100000-4-10": lambda options: case("multinomial-100000-4-10", multinomial, (100_000, 4, 10), options),
}

if __name__ == "__main__":
    common.main("logit", __doc__, CASES, tuple(CASES))
