"""Inverse reinforcement learning beside ``imitation`` (MCEIRL): soft values, visits, and the likelihood's gradient.

What is timed is one gradient of the log-likelihood of demonstrations in the reward of states: soft values and policy
backwards, visits forwards. ``imitation`` does it by ``mce_partition_fh`` and ``mce_occupancy_measures`` in numpy;
both in float64. Its occupancies are compared at discount 1, the state after the last decision left out, where they
are right; ``quality`` is the largest difference. ``gradient`` holds both against finite differences of the
log-likelihood: theirs counts one state beyond the last decision, and plans without the discount. ``grid-100`` is ours
alone: a reward of eight features on a grid of 100 x 100, horizon 200, fitted until the features expected are those
demonstrated.

The peer pins old packages, so it has an environment of its own (without it the cases say so and give ours alone):

    python3 -m venv .venv-imitation
    .venv-imitation/bin/pip install -r benchmarks/requirements-imitation.txt -c constraints.txt -e .
    .venv-imitation/bin/python benchmarks/inverse_rl.py
"""

import statistics
import sys
import tempfile
import time
from typing import Any

import common
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import veil
from veil.control import MDP, DenseTransitions, SparseTransitions, solve
from veil.control.worlds.finite import simulate
from veil.control.worlds.grid import grid
from veil.maths import soft
from veil.parts.decisions import expected_reward, soft_values, visits

HORIZONS = {"random-16": 20, "dense-400": 50, "sparse-400": 50}


def world(case: str, discount: float = 1.0) -> MDP:
    """The problem of a case, with a reward of states."""
    rng, horizon = np.random.default_rng(0), HORIZONS[case]
    states = 16 if case == "random-16" else 400
    given: dict[str, Any] = {"reward": rng.normal(size=states), "horizon": horizon, "discount": discount}
    if case == "sparse-400":
        problem = grid("\n".join(["." * 20] * 20), slip=0.2).problem
        return problem.altered(**given)
    chances = rng.dirichlet(np.ones(states), (states, 4))
    return MDP(DenseTransitions(chances), **given)


def matrix(problem: MDP) -> np.ndarray:
    """p(s' | s, a) [S, A, S], whatever it is made of."""
    if isinstance(problem.transitions, DenseTransitions):
        return np.asarray(problem.transitions.chances)
    moves = problem.transitions
    assert isinstance(moves, SparseTransitions)
    dense = np.zeros((problem.states, problem.actions, problem.states))
    state, action, _ = np.indices(moves.next.shape)
    np.add.at(dense, (state, action, np.asarray(moves.next)), np.asarray(moves.probabilities))
    return dense


def peer(problem: MDP) -> Any:
    """The environment of ``imitation``, or None where it is not installed."""
    try:
        from seals.base_envs import TabularModelMDP
    except ModuleNotFoundError:
        return None
    return TabularModelMDP(
        transition_matrix=matrix(problem),
        reward_matrix=np.asarray(problem.reward),
        horizon=problem.horizon,
        initial_state_dist=np.asarray(problem.start),
    )


@eqx.filter_jit
def occupied(problem: MDP, reward: Any) -> Any:
    """How often each state is decided in, [H, S]."""
    _, scores = soft_values(problem, expected_reward(problem.transitions, reward))
    return visits(problem, soft.log_policy(scores, 1.0)).sum(-1)


def step(case: str) -> Any:
    """The case that times one gradient."""

    def run(options: common.Options) -> common.Case:
        with jax.enable_x64(True):
            problem = world(case)
            reward = jnp.asarray(problem.reward)
            begin = time.perf_counter()
            ours = np.asarray(occupied(problem, reward))
            first = time.perf_counter() - begin
            many = 20 if case == "random-16" else 5

            def mine() -> None:
                for _ in range(many):
                    occupied(problem, reward).block_until_ready()

            measures, found = (
                {"veil": lambda: common.seconds(mine) / many},
                common.Case(
                    case, f"values and visits, {problem.states} states, horizon {problem.horizon}", "ms", 0.0, first
                ),
            )
            env = peer(problem)
            if env is not None:
                from imitation.algorithms.mce_irl import mce_occupancy_measures

                measures["imitation"] = lambda: common.seconds(lambda: mce_occupancy_measures(env))
                theirs = mce_occupancy_measures(env)[0][:-1]
            times = common.in_turn(measures, options.repeats or (3 if options.quick else 7))
            found.ours = 1e3 * statistics.median(times["veil"])
            if env is not None:
                found.peers["imitation"] = common.Peer(
                    common.version("imitation"),
                    1e3 * statistics.median(times["imitation"]),
                    common.ratio(times["veil"], times["imitation"]),
                    float(np.abs(ours - theirs).max()),
                )
            else:
                found.details["peer"] = "imitation is not installed here"
            return found

    return run


def gradient(options: common.Options) -> common.Case:
    """Both gradients of the log-likelihood of demonstrations beside finite differences, at discounts 1 and .9."""
    details: dict[str, Any] = {}
    worst = 0.0
    with jax.enable_x64(True):
        for discount in (1.0, 0.9):
            problem = world("random-16", discount).altered(horizon=5)
            shown = simulate(solve(problem), jax.random.key(0), 50)
            state = shown.evidence["state"][..., 0].astype(int)
            action = shown.query[..., 0].astype(int)
            weights = discount ** np.arange(5)

            def log_likelihood(reward: Any, problem=problem, state=state, action=action, weights=weights) -> Any:
                scores = soft_values(problem, expected_reward(problem.transitions, reward))[1]
                logs = soft.log_policy(scores, 1.0)[np.arange(5), state, action]
                return jnp.mean(jnp.sum(weights * logs, -1))  # the discounted causal likelihood, whose gradient is
                # that of discounted visits (Ziebart 2010; Gleave & Toyer 2022, theorem 3.2)

            at = jnp.zeros(problem.states)
            ours = np.asarray(jax.grad(log_likelihood)(at))
            small = 1e-5
            eye = np.eye(problem.states)
            truth = np.array(
                [float(log_likelihood(at + small * e) - log_likelihood(at - small * e)) / (2 * small) for e in eye]
            )
            worst = max(worst, float(np.abs(ours - truth).max()))
            largest = int(np.argmax(np.abs(truth)))
            details[f"discount {discount:g}: finite differences, state {largest}"] = f"{truth[largest]:.4f}"
            details[f"discount {discount:g}: veil"] = f"{ours[largest]:.4f}"
            env = peer(problem)
            if env is None:
                continue
            theirs = theirs_at(env, problem, shown, discount)
            details[f"discount {discount:g}: imitation"] = (
                f"{theirs[largest]:.4f}; off by {np.abs(theirs - truth).max():.4f} at most"
            )
    return common.Case("gradient", "error of the gradient, against finite differences", "", worst, details=details)


def theirs_at(env: Any, problem: MDP, shown: veil.Data, discount: float) -> np.ndarray:
    """The gradient that MCEIRL follows from a reward of zero, from its own accounts of demonstrations and visits."""
    from imitation.algorithms.mce_irl import MCEIRL
    from imitation.data.types import Trajectory
    from imitation.rewards.reward_nets import BasicRewardNet

    states = shown.evidence["state"][..., 0].astype(int)
    actions = shown.query[..., 0].astype(int)
    rng = np.random.default_rng(0)
    dense = matrix(problem)
    last = [rng.choice(problem.states, p=dense[s, a]) for s, a in zip(states[:, -1], actions[:, -1], strict=True)]
    tracks = [
        Trajectory(obs=np.append(s, end), acts=a, infos=None, terminal=True)
        for s, a, end in zip(states, actions, last, strict=True)
    ]
    net = BasicRewardNet(env.observation_space, env.action_space, use_action=False)
    learner = MCEIRL(tracks, env, net, rng, discount=discount)
    from imitation.algorithms.mce_irl import mce_occupancy_measures

    _, visited = mce_occupancy_measures(env, reward=np.zeros(problem.states), discount=discount)  # as in _train_step
    return np.asarray(learner.demo_state_om) - visited


GRID_FIT = """
import json, sys, time
import common
import jax
import numpy as np
import veil
from inverse_rl import land
from veil.control import LinearReward

with jax.enable_x64(True):
    world, features, _ = land(int(sys.argv[2]), int(sys.argv[3]))
    with np.load(sys.argv[1]) as file:
        data = veil.Data(query=file["action"], evidence=file["decision"])
    model = veil.Intent(world.problem, LinearReward(features))
    before, begin = common.peak_memory(), time.perf_counter()
    fit = veil.fit(model, data, key=jax.random.key(0), progress=False)
    taken = time.perf_counter() - begin
print(json.dumps({
    "seconds": taken, "reason": fit.status.reason, "steps": fit.status.steps, "peak": common.peak_memory(),
    "before": before, "residual": float(fit.history.metrics["gradient"][-1]),
    "weights": np.asarray(fit.model.reward.weights[0]).tolist(),
}))
"""


def land(side: int, horizon: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """A grid whose ground is of eight kinds here and there, which kind each place is, and what each is worth."""
    rng = np.random.default_rng(0)
    cells = rng.choice(list(".abcdefgh"), size=(side, side), p=[0.6] + [0.05] * 8)
    world = grid("\n".join(map("".join, cells)), slip=0.1, stay=True, discount=1.0, horizon=horizon)
    return world, world.features("abcdefgh"), rng.normal(size=8)


def large(options: common.Options) -> common.Case:
    """A reward of eight features on a large grid, fitted in a process of its own, whose memory is measured."""
    side, horizon = (30, 60) if options.quick else (100, 200)
    with jax.enable_x64(True), tempfile.TemporaryDirectory() as folder:
        world, features, worth = land(side, horizon)
        walks = simulate(solve(world.problem.rewarded(features @ worth)), jax.random.key(0), 50)
        rows = veil.data.steps(walks)
        decision = np.concatenate([rows.evidence["state"], rows.evidence["step"]], -1)
        np.savez(f"{folder}/walks.npz", action=rows.query, decision=decision)
        found = [
            common.python(GRID_FIT, f"{folder}/walks.npz", str(side), str(horizon))[1]
            for _ in range(options.repeats or 1)
        ]
    seconds = [each["seconds"] for each in found]
    last = found[-1]
    off = np.abs(np.array(last["weights"]) - worth).max()
    return common.Case(
        "grid-100",
        f"fit, {side} x {side}, horizon {horizon}, {len(rows)} decisions, compilation included",
        "s",
        statistics.median(seconds),
        details={
            "ended": f"{last['reason']} after {last['steps']} evaluations",
            "residual": f"{last['residual']:.2g}, the largest difference of features seen and expected, a decision",
            "peak memory": f"{last['peak']:.0f} MB, of which {last['before']:.0f} before the fit",
            "weights": f"off by {off:.3f} at most",
        },
    )


def main(argv: Any = None) -> dict[str, Any]:
    cases = {name: step(name) for name in HORIZONS} | {"gradient": gradient, "grid-100": large}
    return common.main("inverse_rl", __doc__ or "", cases, ["random-16", "gradient"], argv)


if __name__ == "__main__":
    main(sys.argv[1:])
