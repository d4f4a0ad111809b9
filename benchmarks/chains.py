"""Hidden Markov and linear-Gaussian chains: EM, smoothing and best paths, beside dynamax and hmmlearn.

* ``hmm-em-20000-10-4``: an EM iteration of a Gaussian HMM, 20,000 steps of 4 numbers, 10 states with full covariances.
  Bars: twice as fast as dynamax, 20 times as hmmlearn.
* ``hmm-em-ragged``: the same on 100 sequences of 50 to 400 steps; dynamax has no ragged data, so that it gets them
  padded (and learns from the padding: no quality). Bar: 3 times as fast as hmmlearn.
* ``lds-smooth-2000``: log-likelihood and moments of a Kalman smoother, 2000 steps, 4 states, 8 outputs. Bar: 3 times as
  fast as the better of dynamax's sequential and parallel ones.
* ``lds-smooth-batch``: 256 sequences of 100 steps; dynamax's sequential smoother in ``vmap`` (its parallel one, run
  again and again, stands still in batched LAPACK of jaxlib 0.10.2). Bar: 3.
* ``lds-em``: an EM iteration of those. Bar: 3.
* ``viterbi``: the best path of the 20,000 steps.
* ``growth``: milliseconds from 100 to a million steps (``--quick``: ten thousand), with a picture in ``--out``.

An iteration of ours is one of ``veil.fit`` (between calls of its ``record``), dynamax's one jitted ``e_step`` and
``m_step``, hmmlearn's the difference of two fits. All are float32 but hmmlearn, after warm-up, from the same start;
results that differ by more than ``EQUAL`` nats a step end the run. hmmlearn's value is its faster one.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import common
import numpy as np

EQUAL = 2e-3  # nats a step
STATES, SIZE = 10, 4
ITERATIONS = 5  # after which the likelihoods are compared


# -- hidden Markov -----------------------------------------------------------------------------------------------------


class Hidden:
    """A Gaussian HMM that made the data, and a start a little away from it that all begin from."""

    def __init__(self, lengths: list[int], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.lengths = lengths
        means = 2.0 * rng.normal(size=(STATES, SIZE))
        factors = np.eye(SIZE) + 0.3 * rng.normal(size=(STATES, SIZE, SIZE)) / np.sqrt(SIZE)
        move = 0.7 * np.eye(STATES) + 0.3 * rng.dirichlet(np.ones(STATES), STATES)
        cumulative = np.cumsum(move, 1)
        states = []
        for length in lengths:
            state, uniform = int(rng.integers(STATES)), rng.random(length)
            for t in range(length):
                state = min(int(np.searchsorted(cumulative[state], uniform[t])), STATES - 1) if t else state
                states.append(state)
        noise = rng.normal(size=(len(states), SIZE))
        self.rows = (means[states] + np.einsum("nij,nj->ni", factors[states], noise)).astype(np.float32)
        self.lists = np.split(self.rows, np.cumsum(lengths)[:-1])
        self.first = np.full(STATES, 1 / STATES)
        self.move = 0.5 * np.eye(STATES) + 0.5 / STATES
        self.means = means + rng.normal(size=means.shape)
        self.covariances = np.tile(6.0 * np.eye(SIZE), (STATES, 1, 1))

    def ours(self) -> Any:
        import jax.numpy as jnp

        import veil

        number = lambda array: jnp.asarray(array, jnp.float32)  # noqa: E731
        covariance = veil.Full(factor=number(np.linalg.cholesky(self.covariances)))
        return veil.HMM(
            veil.LinearGaussian(covariance, weight=number(self.means[:, :, None])),
            STATES,
            veil.Softmax(False, weight=number(np.log(self.move)[:, :, None])),
            veil.Softmax(False, weight=number(np.log(self.first)[:, None])),
        )

    def dynamax(self) -> tuple[Any, Any, Any]:
        """The model, its parameters and their properties; its priors made flat."""
        import jax.numpy as jnp
        from dynamax.hidden_markov_model import GaussianHMM

        model = GaussianHMM(
            STATES,
            SIZE,
            initial_probs_concentration=1.0001,
            transition_matrix_concentration=1.0001,
            emission_prior_concentration=1e-6,
            emission_prior_scale=1e-6,
        )
        number = lambda array: jnp.asarray(array, jnp.float32)  # noqa: E731
        parameters, properties = model.initialize(
            initial_probs=number(self.first),
            transition_matrix=number(self.move),
            emission_means=number(self.means),
            emission_covariances=number(self.covariances),
        )
        return model, parameters, properties

    def hmmlearn(self, iterations: int, implementation: str) -> Any:
        from hmmlearn.hmm import GaussianHMM

        model = GaussianHMM(
            STATES,
            "full",
            n_iter=iterations,
            tol=-np.inf,
            init_params="",
            min_covar=0.0,
            covars_prior=0.0,
            covars_weight=0.0,
            implementation=implementation,
        )
        model.startprob_, model.transmat_, model.means_ = self.first, self.move, self.means
        model.covars_ = self.covariances
        return model

    def value(self, first: Any, move: Any, means: Any, covariances: Any) -> float:
        """Nats a step of all sequences: the forward recursion in float64, written out."""
        first, move = np.asarray(first, np.float64), np.asarray(move, np.float64)
        rows, seen = self.rows.astype(np.float64), []
        for mean, covariance in zip(np.asarray(means, np.float64), np.asarray(covariances, np.float64), strict=True):
            factor = np.linalg.cholesky(covariance)
            white = np.linalg.solve(factor, (rows - mean).T)
            seen.append(-0.5 * (white**2).sum(0) - np.log(np.diag(factor)).sum() - 0.5 * SIZE * np.log(2 * np.pi))
        logs = np.stack(seen, 1)
        top = logs.max(1)
        scaled, total, begin = np.exp(logs - top[:, None]), top.sum(), 0
        for length in self.lengths:
            belief = first
            for t in range(begin, begin + length):
                joint = (belief @ move if t > begin else first) * scaled[t]
                total += np.log(joint.sum())
                belief = joint / joint.sum()
            begin += length
        return float(total / len(rows))


def fitted(model: Any, data: Any, steps: int, record: Any = None) -> Any:
    """So many iterations of ``veil.fit``, whatever they gain."""
    import jax

    import veil

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return veil.fit(model, data, key=jax.random.key(0), steps=steps, tolerance=1e-30, progress=False, record=record)


def iteration(model: Any, data: Any, steps: int) -> float:
    """Milliseconds of an iteration of ours."""
    calls: list[float] = []
    fitted(model, data, steps, lambda _: calls.append(time.perf_counter()))
    if len(calls) != steps:
        raise RuntimeError(f"ours took {len(calls)} steps of {steps}")
    # steps are recorded when their stretch has ended: the first four, then at least as many again
    ends = [i for i in range(3, steps - 1) if calls[i + 1] - calls[i] > 1e-3] + [steps - 1]
    return 1e3 * (calls[-1] - calls[ends[0]]) / (steps - 1 - ends[0])


def same(case: str, peer: str, difference: float) -> float:
    """The difference in nats a step; RuntimeError if the results are not equal."""
    if not abs(difference) < EQUAL:
        raise RuntimeError(f"{case}: ours and {peer} differ by {difference:.3g} nats a step; this is no comparison")
    return difference


def hidden_em(name: str, hidden: Hidden, options: common.Options) -> common.Case:
    """One EM iteration of everybody."""
    import jax
    import jax.numpy as jnp

    import veil

    data, start = veil.data.episodes(hidden.lists), hidden.ours()
    begin = time.perf_counter()
    fitted(start, data, 1)
    first = time.perf_counter() - begin
    compiled = first - common.seconds(lambda: fitted(start, data, 1))

    model, parameters, properties = hidden.dynamax()
    longest = max(hidden.lengths)
    padded = jnp.stack([jnp.pad(jnp.asarray(part), ((0, longest - len(part)), (0, 0))) for part in hidden.lists])

    @jax.jit
    def em(parameters: Any, state: Any) -> tuple[Any, Any]:
        terms, _ = jax.vmap(partial(model.e_step, parameters))(padded)
        return model.m_step(parameters, properties, terms, state)

    def dynamax(count: int) -> Any:
        now = (parameters, model.initialize_m_step_state(parameters, properties))
        for _ in range(count):
            now = em(*now)
        return jax.block_until_ready(now)[0]

    peer_compiled = common.seconds(lambda: dynamax(1)) - common.seconds(lambda: dynamax(1))

    def hmmlearn(implementation: str) -> float:
        fit = lambda count: hidden.hmmlearn(count, implementation).fit(hidden.rows, hidden.lengths)  # noqa: E731
        return 1e3 * (common.seconds(lambda: fit(3)) - common.seconds(lambda: fit(1))) / 2

    steps = 12  # before rounding ends the fit
    times = common.in_turn(
        {
            "ours": lambda: iteration(start, data, steps),
            "dynamax": lambda: 1e3 * common.seconds(lambda: dynamax(3)) / 3,
            "log": lambda: hmmlearn("log"),
            "scaling": lambda: hmmlearn("scaling"),
        },
        options.repeats or (3 if options.quick else 7),
    )
    mine = fitted(start, data, ITERATIONS).model
    theirs = dynamax(ITERATIONS)
    other = hidden.hmmlearn(ITERATIONS, "log").fit(hidden.rows, hidden.lengths)
    value = hidden.value(
        jax.nn.softmax(mine.initial.weight[:, 0]),
        mine.transition_matrix,
        mine.experts.mean,
        mine.experts.covariance.dense_covariance(),
    )
    values = {
        "dynamax": hidden.value(
            theirs.initial.probs, theirs.transitions.transition_matrix, theirs.emissions.means, theirs.emissions.covs
        ),
        "hmmlearn": hidden.value(other.startprob_, other.transmat_, other.means_, other.covars_),
    }
    faster = min(("log", "scaling"), key=lambda kind: statistics.median(times[kind]))
    peers = {}
    for peer, key in (("dynamax", "dynamax"), ("hmmlearn", faster)):
        ragged = peer == "dynamax" and len(set(hidden.lengths)) > 1
        difference = None if ragged else same(name, peer, value - values[peer])
        peers[peer] = common.Peer(
            common.version(peer), statistics.median(times[key]), common.ratio(times["ours"], times[key]), difference
        )
    details = {
        "hmmlearn, ms": {kind: round(statistics.median(times[kind]), 1) for kind in ("log", "scaling")},
        "hmmlearn's default (log) / ours": round(common.ratio(times["ours"], times["log"]), 1),
        "dynamax compiles, s": round(peer_compiled, 2),
        "peak memory over libraries and data, MB": memory(name),
    }
    return common.Case(name, "one EM iteration", "ms", statistics.median(times["ours"]), compiled, peers, details)


def long_em(options: common.Options) -> common.Case:
    return hidden_em("hmm-em-20000-10-4", Hidden([20_000]), options)


def ragged() -> Hidden:
    return Hidden(np.random.default_rng(5).integers(50, 401, 100).tolist())


def ragged_em(options: common.Options) -> common.Case:
    return hidden_em("hmm-em-ragged", ragged(), options)


# -- linear-Gaussian ---------------------------------------------------------------------------------------------------

LATENT, OUTPUTS = 4, 8


class Linear:
    """A stable linear-Gaussian state-space model and data from it, [N, T, D] float32."""

    def __init__(self, count: int, steps: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        turn = np.linalg.qr(rng.normal(size=(LATENT, LATENT)))[0]
        self.transition = 0.97 * turn
        self.process = 0.3 * np.eye(LATENT)  # factor of Q
        self.emission = rng.normal(size=(OUTPUTS, LATENT))
        self.offset = rng.normal(size=OUTPUTS)
        self.noise = rng.uniform(0.5, 1.5, OUTPUTS)  # standard deviations
        state, rows = rng.normal(size=(count, LATENT)), []
        for _ in range(steps):
            rows.append(state @ self.emission.T + self.offset + self.noise * rng.normal(size=(count, OUTPUTS)))
            state = state @ self.transition.T + 0.3 * rng.normal(size=(count, LATENT))
        self.data = np.stack(rows, 1).astype(np.float32)

    def ours(self) -> Any:
        import jax.numpy as jnp

        import veil

        number = lambda array: jnp.asarray(array, jnp.float32)  # noqa: E731
        return veil.LDS(
            LATENT,
            veil.Diagonal(scale=number(self.noise[None])),
            mean=jnp.zeros(LATENT),
            factor=jnp.eye(LATENT),
            transition=number(self.transition),
            drift=jnp.zeros((LATENT, 1)),
            process=number(self.process),
            emission=number(self.emission),
            offset=number(self.offset),
        )

    def dynamax(self) -> tuple[Any, Any, Any]:
        import jax.numpy as jnp
        from dynamax.linear_gaussian_ssm import LinearGaussianSSM

        number = lambda array: jnp.asarray(array, jnp.float32)  # noqa: E731
        model = LinearGaussianSSM(LATENT, OUTPUTS)
        parameters, properties = model.initialize(
            initial_mean=jnp.zeros(LATENT),
            initial_covariance=jnp.eye(LATENT),
            dynamics_weights=number(self.transition),
            dynamics_bias=jnp.zeros(LATENT),
            dynamics_covariance=number(self.process @ self.process.T),
            emission_weights=number(self.emission),
            emission_bias=number(self.offset),
            emission_covariance=number(np.diag(self.noise**2)),
        )
        return model, parameters, properties


def smoothers(linear: Linear) -> dict[str, Callable[[Any], tuple[Any, Any, Any]]]:
    """Jitted: data [N, T, D] to log-likelihoods [N], smoothed means and covariances (and lag-one moments)."""
    import equinox as eqx
    import jax
    from dynamax.linear_gaussian_ssm import lgssm_smoother, parallel_inference

    import veil

    mine, (_, parameters, _) = linear.ours(), linear.dynamax()

    @eqx.filter_jit
    def ours(model: Any, data: Any) -> Any:
        (mean, covariance, lagged), value = jax.vmap(lambda one: model.expectations(veil.Datum(one)))(data)
        return value, mean, covariance, lagged

    @jax.jit
    def sequential(parameters: Any, data: Any) -> Any:
        found = jax.vmap(lambda one: lgssm_smoother(parameters, one))(data)
        return (
            found.marginal_loglik,
            found.smoothed_means,
            found.smoothed_covariances,
            found.smoothed_cross_covariances,
        )

    @jax.jit
    def parallel(parameters: Any, data: Any) -> Any:
        found = jax.vmap(lambda one: parallel_inference.lgssm_smoother(parameters, one))(data)
        return found.marginal_loglik, found.smoothed_means, found.smoothed_covariances

    return {
        "ours": partial(ours, mine),
        "sequential": partial(sequential, parameters),
        "parallel": partial(parallel, parameters),
    }


def agree(case: str, found: dict[str, Any], steps: int) -> dict[str, float]:
    """Ours minus theirs in nats a step; RuntimeError if likelihoods, means or covariances differ."""
    ours = [np.asarray(part, np.float64) for part in found["ours"]]
    differences = {}
    for peer, theirs in found.items():
        if peer == "ours":
            continue
        differences[peer] = same(case, peer, float(np.mean(ours[0] - np.asarray(theirs[0], np.float64)) / steps))
        for what, mine, other in zip(("means", "covariances"), ours[1:], theirs[1:3], strict=False):
            worst = float(np.max(np.abs(mine - np.asarray(other, np.float64))))
            if worst > 5e-3:
                raise RuntimeError(f"{case}: smoothed {what} of ours and {peer} differ by {worst:.3g}")
    return differences


def smooth(name: str, count: int, steps: int, options: common.Options) -> common.Case:
    """The moments of a smoother."""
    import jax
    import jax.numpy as jnp

    linear = Linear(count, steps)
    data = jnp.asarray(linear.data)
    made = smoothers(linear)
    if count > 1:
        del made["parallel"]
    runs = {peer: partial(lambda run: jax.block_until_ready(run(data)), run) for peer, run in made.items()}
    kinds = [peer for peer in made if peer != "ours"]
    compiled = {}
    for peer, run in runs.items():
        first = common.seconds(run)
        compiled[peer] = first - common.seconds(run)
    measures = {peer: partial(lambda run: 1e3 * common.seconds(run), run) for peer, run in runs.items()}
    times = common.in_turn(measures, options.repeats or (5 if options.quick else 15))
    differences = agree(name, {peer: run() for peer, run in runs.items()}, steps)
    peers = {
        f"dynamax, {kind}": common.Peer(
            common.version("dynamax"),
            statistics.median(times[kind]),
            common.ratio(times["ours"], times[kind]),
            differences[kind],
        )
        for kind in kinds
    }
    details = {
        "dynamax compiles, s": {kind: round(compiled[kind], 2) for kind in kinds},
        "peak memory over libraries and data, MB": memory(name),
    }
    what = "log-likelihood and smoothed moments"
    return common.Case(name, what, "ms", statistics.median(times["ours"]), compiled["ours"], peers, details)


def smooth_long(options: common.Options) -> common.Case:
    return smooth("lds-smooth-2000", 1, 2000, options)


def smooth_batch(options: common.Options) -> common.Case:
    return smooth("lds-smooth-batch", 256, 100, options)


def linear_em(options: common.Options) -> common.Case:
    """One EM iteration on 256 sequences of 100 steps; dynamax learns a full R, and so do we."""
    from dataclasses import replace

    import jax
    import jax.numpy as jnp

    import veil

    linear = Linear(256, 100)
    noise = veil.Full(factor=jnp.asarray(np.diag(linear.noise)[None], jnp.float32))
    start = replace(linear.ours(), noise=noise, transition=jnp.asarray(0.8 * linear.transition, jnp.float32))
    data = veil.data.episodes(list(linear.data))
    begin = time.perf_counter()
    fitted(start, data, 1)
    first = time.perf_counter() - begin
    compiled = first - common.seconds(lambda: fitted(start, data, 1))
    model, parameters, properties = linear.dynamax()
    dynamics = parameters.dynamics._replace(weights=start.transition)
    parameters, emissions = parameters._replace(dynamics=dynamics), jnp.asarray(linear.data)

    @jax.jit
    def em(parameters: Any, state: Any) -> tuple[Any, Any, Any]:
        terms, values = jax.vmap(partial(model.e_step, parameters))(emissions)
        found, state = model.m_step(parameters, properties, terms, state)
        # its covariance of the first state is right for a single sequence only: the outer product lacks 1 / N
        (_, second, count), mean = jax.tree.map(lambda leaf: jnp.sum(leaf, 0), terms[0]), found.initial.mean
        first = found.initial._replace(cov=second / count - jnp.outer(mean, mean))
        return found._replace(initial=first), state, jnp.sum(values)

    def dynamax(count: int) -> tuple[Any, float]:
        now, value = (parameters, model.initialize_m_step_state(parameters, properties)), jnp.zeros(())
        for _ in range(count):
            *now, value = em(*now)
        return jax.block_until_ready(now)[0], float(value) / linear.data[..., 0].size

    peer_compiled = common.seconds(lambda: dynamax(1)) - common.seconds(lambda: dynamax(1))
    times = common.in_turn(
        {
            "ours": lambda: iteration(start, data, 12),
            "dynamax": lambda: 1e3 * common.seconds(lambda: dynamax(3)) / 3,
        },
        options.repeats or (3 if options.quick else 7),
    )
    # the value before the last of six iterations is that of the fifth model
    mine = fitted(start, data, ITERATIONS).model
    value = float(np.mean(veil.log_prob(mine, data))) / linear.data.shape[1]
    difference = same("lds-em", "dynamax", value - dynamax(ITERATIONS + 1)[1])
    peer = common.Peer(
        common.version("dynamax"),
        statistics.median(times["dynamax"]),
        common.ratio(times["ours"], times["dynamax"]),
        difference,
    )
    details = {
        "dynamax compiles, s": round(peer_compiled, 2),
        "peak memory over libraries and data, MB": memory("lds-em"),
    }
    ours = statistics.median(times["ours"])
    return common.Case("lds-em", "one EM iteration", "ms", ours, compiled, {"dynamax": peer}, details)


# -- paths and growth --------------------------------------------------------------------------------------------------


def hidden_runs(hidden: Hidden) -> dict[str, tuple[Any, Any]]:
    """Jitted, data [T, D] each: ours and dynamax's smoother and best path."""
    import equinox as eqx
    import jax
    from dynamax.hidden_markov_model import hmm_posterior_mode, hmm_smoother

    import veil

    mine, (model, parameters, _) = hidden.ours(), hidden.dynamax()
    smoothed = eqx.filter_jit(lambda model, rows: model.marginals(veil.Datum(rows)).log_probabilities)
    best = eqx.filter_jit(lambda model, rows: model.marginals(veil.Datum(rows)).path)

    def theirs(algorithm: Any) -> Any:
        return jax.jit(lambda parameters, rows: algorithm(*model._inference_args(parameters, rows, None)))

    return {
        "ours": (partial(smoothed, mine), partial(best, mine)),
        "dynamax": (partial(theirs(hmm_smoother), parameters), partial(theirs(hmm_posterior_mode), parameters)),
    }


def viterbi(options: common.Options) -> common.Case:
    """The best path of the long sequence."""
    import jax
    import jax.numpy as jnp

    hidden = Hidden([20_000])
    rows = jnp.asarray(hidden.rows)
    runs = {
        peer: partial(lambda run: jax.block_until_ready(run(rows)), run[1]) for peer, run in hidden_runs(hidden).items()
    }
    model = hidden.hmmlearn(1, "log")
    model.n_features = SIZE
    runs["hmmlearn"] = lambda: model.decode(hidden.rows)[1]
    compiled = {}
    for peer, run in runs.items():
        first = common.seconds(run)
        compiled[peer] = first - common.seconds(run)
    measures = {peer: partial(lambda run: 1e3 * common.seconds(run), run) for peer, run in runs.items()}
    times = common.in_turn(measures, options.repeats or (5 if options.quick else 15))
    paths = {peer: np.asarray(run()) for peer, run in runs.items()}
    # hmmlearn counts in float64; float32 rounds, and dynamax adds up scores of the whole sequence
    wrong = {peer: float(np.mean(path != paths["hmmlearn"])) for peer, path in paths.items()}
    if wrong["ours"] > 1e-3:
        raise RuntimeError(f"viterbi: {wrong['ours']:.2%} of our steps differ from hmmlearn's in float64")
    peers = {}
    for peer in ("dynamax", "hmmlearn"):
        median, ratio = statistics.median(times[peer]), common.ratio(times["ours"], times[peer])
        peers[peer] = common.Peer(common.version(peer), median, ratio, wrong["ours"] - wrong[peer])
    details: dict[str, Any] = {
        "quality": "the share of steps that differ from hmmlearn's path in float64",
        "share of steps, float32": {peer: wrong[peer] for peer in ("ours", "dynamax")},
        "dynamax compiles, s": round(compiled["dynamax"], 2),
    }
    ours = statistics.median(times["ours"])
    return common.Case("viterbi", "the best of 20,000 steps", "ms", ours, compiled["ours"], peers, details)


LIMIT = 20.0  # seconds that a measure may take before longer sequences are left out


def growth(options: common.Options) -> list[common.Case]:
    """Milliseconds against the number of steps."""
    import jax
    import jax.numpy as jnp

    lengths = [10**power for power in range(2, 5 if options.quick else 7)]
    hidden, linear = Hidden([lengths[-1]]), Linear(1, lengths[-1])
    chains = hidden_runs(hidden)
    kalman = smoothers(linear)
    rows, outputs = jnp.asarray(hidden.rows), jnp.asarray(linear.data)
    families = {
        "hmm smoother": {peer: partial(lambda run, n: run(rows[:n]), run[0]) for peer, run in chains.items()},
        "viterbi": {peer: partial(lambda run, n: run(rows[:n]), run[1]) for peer, run in chains.items()},
        "kalman smoother": {
            "ours": lambda n: kalman["ours"](outputs[:, :n]),
            "dynamax, sequential": lambda n: kalman["sequential"](outputs[:, :n]),
        },
    }
    found: dict[str, dict[str, dict[int, float]]] = {}
    for family, runs in families.items():
        found[family] = {peer: {} for peer in runs}
        for peer, run in runs.items():
            for count in lengths:
                once = partial(lambda run, n: jax.block_until_ready(run(n)), run, count)
                if common.seconds(once) > LIMIT:
                    break
                repeats = options.repeats or 3
                found[family][peer][count] = 1e3 * statistics.median(common.seconds(once) for _ in range(repeats))
    if options.out is not None:
        drawn(found, options.out / "chains-growth.png")
    cases = []
    for family, runs in found.items():
        table = {
            peer: {f"{count:,}": round(value, 2) for count, value in times.items()} for peer, times in runs.items()
        }
        most = max(runs["ours"])
        peers = {
            peer: common.Peer(common.version("dynamax"), times[most], times[most] / runs["ours"][most])
            for peer, times in runs.items()
            if peer != "ours" and most in times
        }
        what = f"{family}, {most:,} steps"
        cases.append(common.Case("growth", what, "ms", runs["ours"][most], None, peers, table))
    return cases


def drawn(found: dict[str, dict[str, dict[int, float]]], path: Any) -> None:
    """Time against steps, a panel for each family."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(4.2 * len(found), 3.6), sharey=True, layout="constrained")
    for axis, (family, runs) in zip(axes, found.items(), strict=True):
        for peer, times in runs.items():
            axis.loglog(list(times), list(times.values()), marker="o", label=peer)
        axis.set_title(family)
        axis.set_xlabel("steps")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    axes[0].set_ylabel("milliseconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"chains: wrote {path}", file=sys.stderr)


MEMORY = """
import json, sys
import common
import jax, jax.numpy as jnp
import chains, veil
case = sys.argv[1]
if case.startswith("hmm"):
    hidden = chains.Hidden([20_000]) if "20000" in case else chains.ragged()
    data, start = veil.data.episodes(hidden.lists), hidden.ours()
    run = lambda: chains.fitted(start, data, 4)
else:
    linear = chains.Linear(1, 2000) if "2000" in case else chains.Linear(256, 100)
    if case == "lds-em":
        data = veil.data.episodes(list(linear.data))
        run = lambda: chains.fitted(linear.ours(), data, 4)
    else:
        rows, smoother = jnp.asarray(linear.data), chains.smoothers(linear)["ours"]
        run = lambda: jax.block_until_ready(smoother(rows))
before = common.peak_memory()
run()
print(json.dumps({"peak": common.peak_memory() - before}))
"""


def memory(case: str) -> int:
    """Peak memory of ours, compilation included, over that of the process with data and libraries, in MB."""
    return round(common.python(MEMORY, case)[1]["peak"])


if __name__ == "__main__":
    common.main(
        "chains",
        __doc__,
        {
            "hmm-em-20000-10-4": long_em,
            "hmm-em-ragged": ragged_em,
            "lds-smooth-2000": smooth_long,
            "lds-smooth-batch": smooth_batch,
            "lds-em": linear_em,
            "viterbi": viterbi,
            "growth": growth,
        },
        ["hmm-em-20000-10-4", "lds-smooth-2000", "lds-smooth-batch"],
    )
