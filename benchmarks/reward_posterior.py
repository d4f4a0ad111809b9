"""A posterior over rewards beside NUTS: one reward of a random MDP of 16 states, shared by all decisions.

For each of many simulated problems the weights w ~ N(0, I) of four features of states are drawn, and a person who acts
soft-optimally for wᵀφ is watched. ``veil.BayesianIntent`` has a Gaussian posterior of the weights, independent
(mean-field) or with a full covariance; numpyro's NUTS samples the exact posterior of the same likelihood. The table has
the differences of the means from NUTS' (and from its own error), the ratio of standard deviations, and how many 90 %
intervals hold the true weight.
"""

import functools
import time
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import veil
from veil.control.worlds.finite import people, random_problem
from veil.posterior import Shared

FEATURES, EPISODES, LENGTH = 4, 20, 25
Z90 = 1.6448536269514722
POSTERIORS = {"mean-field": Shared(), "full-covariance": Shared(veil.heads.FullGaussian(1e-6))}


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


def run(options: common.Options) -> list[dict[str, Any]]:
    """What every problem gave: seconds, errors and coverage by posterior."""
    problems, steps, samples = (2, 60, 100) if options.quick else (100, 1500, 2000)
    rows = []
    for number in range(problems):
        model, truth, data = problem(number)
        row: dict[str, Any] = {}
        for name, posterior in POSTERIORS.items():
            begin = time.process_time()
            mean, spread = approximate(model, data, posterior, steps)
            row[name] = {"s": time.process_time() - begin, "mean": mean, "sd": spread}
        if number < max(1, problems // 10):
            begin = time.process_time()
            mean, spread, error = sampled(model, data, samples)
            row["nuts"] = {"s": time.process_time() - begin, "mean": mean, "sd": spread, "error": error}
        rows.append(row | {"truth": truth})
    return rows


def case(name: str, options: common.Options) -> common.Case:
    """One posterior beside NUTS."""
    rows = found(options)
    beside = [row for row in rows if "nuts" in row]
    held = {
        key: np.concatenate([np.abs(row["truth"] - row[key]["mean"]) < Z90 * row[key]["sd"] for row in some])
        for key, some in ((name, rows), ("nuts", beside))
    }
    away = np.concatenate([np.abs(row[name]["mean"] - row["nuts"]["mean"]) for row in beside])
    wide = np.concatenate([row[name]["sd"] / row["nuts"]["sd"] for row in beside])
    ours, nuts = (float(np.median([row[key]["s"] for row in some])) for key, some in ((name, rows), ("nuts", beside)))
    details = {
        "90 % intervals that hold the truth": {
            key: f"{100 * each.mean():.1f} % of {len(each)}" for key, each in held.items()
        },
        "distance of means from NUTS'": {"mean": round(float(away.mean()), 4), "most": round(float(away.max()), 4)},
        "standard deviation over NUTS'": round(float(wide.mean()), 3),
        "standard error of NUTS' means, most": round(max(float(np.max(row["nuts"]["error"])) for row in beside), 4),
    }
    peer = common.Peer(common.version("numpyro"), nuts, nuts / ours)
    return common.Case(name, "a posterior over rewards", "CPU s", ours, None, {"NUTS": peer}, details)


@functools.cache
def found(options: common.Options) -> list[dict[str, Any]]:
    jax.config.update("jax_enable_x64", True)
    return run(options)


CASES: dict[str, common.Function] = {
    "mean-field": lambda options: case("mean-field", options),
    "full-covariance": lambda options: case("full-covariance", options),
}

if __name__ == "__main__":
    common.main("reward_posterior", __doc__, CASES, tuple(CASES))
