"""A posterior over rewards beside NUTS: one reward of a random MDP of 16 states, shared by all decisions.

For each of many simulated problems the weights w ~ N(0, I) of four features of states are drawn, and a person who acts
soft-optimally for wᵀφ is watched. ``veil.BayesianIntent`` has a Gaussian posterior of the weights, independent
(mean-field) or with a full covariance; numpyro's NUTS samples the exact posterior of the same likelihood. The table has
the differences of the means from NUTS' (and from its own error), the ratio of standard deviations, and how many 90 %
intervals hold the true weight.

    python benchmarks/reward_posterior.py                # 100 problems, NUTS on the first 10: about 15 minutes
    python benchmarks/reward_posterior.py --problems 3 --nuts 1
"""

import argparse
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import veil
from veil.control.worlds.finite import people, random_problem
from veil.posterior import Shared

FEATURES, EPISODES, LENGTH = 4, 20, 25
Z90 = 1.6448536269514722
POSTERIORS = {"mean-field": Shared(), "full covariance": Shared(veil.heads.FullGaussian(1e-6))}


def problem(seed: int) -> tuple[Any, np.ndarray, veil.Data]:
    """A model, the true weights, and every pair of state and action with how often it was seen."""
    key_world, key_features, key_weights, key_walks = jax.random.split(jax.random.key(seed), 4)
    world = random_problem(key_world, reward=None)
    features = jax.random.normal(key_features, (world.states, FEATURES))
    weights = jax.random.normal(key_weights, (FEATURES,))
    person = veil.Intent(world, veil.control.LinearReward(features, weights=weights[None]))
    _, walks = people(person, key_walks, EPISODES, steps=LENGTH)
    pairs = np.stack([walks.evidence[..., 0].ravel(), walks.query[..., 0].ravel()], -1)
    count = np.zeros((world.states, world.actions))
    np.add.at(count, tuple(pairs.T.astype(int)), 1.0)
    state, action = np.indices(count.shape).reshape(2, -1, 1).astype(float)  # all pairs: one shape, one compilation
    data = veil.Data(query=action, evidence=state, weight=count.ravel())
    return veil.BayesianIntent(world, features), np.asarray(weights), data


def approximate(model: Any, data: veil.Data, posterior: Any, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of q(w)."""
    fit = veil.fit(
        model,
        data,
        key=jax.random.key(0),
        steps=steps,
        posterior=posterior,
        objective=veil.ELBO(veil.objective.StickingTheLanding(), samples=8),
        optimiser=optax.adam(optax.cosine_decay_schedule(3e-2, steps)),
        batch_size=len(data),
    )
    q = fit.posterior(fit.model, veil.Datum(data.query[0]))
    return np.asarray(q.mean), np.sqrt(np.asarray(q.variance))


@functools.cache
def sampler(samples: int) -> Any:
    """NUTS on the exact likelihood, two chains; compiled once."""
    import numpyro
    from numpyro.distributions import Normal
    from numpyro.infer import MCMC, NUTS

    def given(model: Any, count: Any) -> None:
        weights = numpyro.sample("w", Normal(jnp.zeros(FEATURES), model.scale).to_event(1))
        numpyro.factor("seen", jnp.sum(count * model.log_policy(weights)))

    return MCMC(
        NUTS(given),
        num_warmup=500,
        num_samples=samples,
        num_chains=2,
        chain_method="sequential",
        progress_bar=False,
        jit_model_args=True,
    )


def sampled(model: Any, data: veil.Data, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation and the mean's Monte Carlo error."""
    from numpyro.diagnostics import effective_sample_size

    chain = sampler(samples)
    chain.run(jax.random.key(1), model, jnp.asarray(data.weight).reshape(model.problem.states, model.problem.actions))
    drawn = np.asarray(chain.get_samples(group_by_chain=True)["w"], np.float64)
    spread = drawn.reshape(-1, FEATURES).std(0)
    return drawn.reshape(-1, FEATURES).mean(0), spread, spread / np.sqrt(effective_sample_size(drawn))


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--nuts", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    cpu = {name: 0.0 for name in (*POSTERIORS, "nuts")}
    held: dict[str, list[np.ndarray]] = {name: [] for name in cpu}
    away: dict[str, list[np.ndarray]] = {name: [] for name in POSTERIORS}
    ratio: dict[str, list[np.ndarray]] = {name: [] for name in POSTERIORS}
    errors, spreads = [], []
    for number in range(options.problems):
        model, truth, data = problem(options.seed + number)
        found = {}
        for name, posterior in POSTERIORS.items():
            begin = time.process_time()
            found[name] = mean, spread = approximate(model, data, posterior, options.steps)
            cpu[name] += (time.process_time() - begin) / options.problems
            held[name].append(np.abs(truth - mean) < Z90 * spread)
        if number < options.nuts:
            begin = time.process_time()
            mean, spread, error = sampled(model, data, options.samples)
            cpu["nuts"] += (time.process_time() - begin) / options.nuts
            held["nuts"].append(np.abs(truth - mean) < Z90 * spread)
            errors.append(error)
            spreads.append(spread)
            for name, (center, width) in found.items():
                away[name].append(np.abs(center - mean))
                ratio[name].append(width / spread)
        if number % 10 == 9:
            print(f"{number + 1} problems", flush=True)
    if errors:
        worst = np.max(errors)
        print(f"NUTS: standard deviation {np.mean(spreads):.3f}; the error of its means at most {worst:.4f}")
    for name in (*POSTERIORS, "nuts"):
        inside = np.concatenate(held[name]) if held[name] else np.zeros(0)
        line = f"{name}: {cpu[name]:.1f} CPU s a problem"
        if len(inside):
            line += f", 90 % intervals hold {100 * inside.mean():.1f} % of {len(inside)}"
        if name in POSTERIORS and away[name]:
            gap, wide = np.concatenate(away[name]), np.concatenate(ratio[name])
            line += f", means off by {gap.mean():.4f} (at most {gap.max():.4f}), sd x {wide.mean():.3f}"
        print(line)


if __name__ == "__main__":
    main()
