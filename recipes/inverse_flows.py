"""Bishop's inverse problem by flows and a diffusion: how near their densities come to the best there is.

t ~ U(0, 1), x = t + 0.3 sin(2πt) + U(-0.1, 0.1); what was t? (Bishop 1994; 2006, section 5.6.) For some x there are
three answers. No conditional density has a negative log-likelihood below -1.28235 nats a datum, one Gaussian reaches
-0.6554 at best. A mixture has a density in closed form; a normalising flow too; flow matching and diffusion are trained
without any density, and have theirs by the ODE that carries data to noise, exactly (to the solver's tolerance). The
diffusion, as a hierarchical VAE, has an ELBO beside it.

    python recipes/inverse_flows.py --out inverse_flows    # about ten minutes on two cores
    python recipes/inverse_flows.py --quick
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import veil
from veil.evaluation.transport import denoising_bound, log_density
from veil.report import style

FLOOR, ONE_GAUSSIAN = -1.28235, -0.6554

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("inverse_flows"), help="folder for the picture")
parser.add_argument("--models", nargs="+", help="only these models")
parser.add_argument("--steps", type=int, default=20_000, help="of training (default: 20000)")
parser.add_argument("--seeds", type=int, default=1, help="repetitions, with data and weights anew (default: 1)")
parser.add_argument("--quick", action="store_true", help="few steps, data and draws")
arguments = parser.parse_args()
steps, rows, tests, draws = (20, 2000, 20, 20) if arguments.quick else (arguments.steps, 200_000, 4000, 300)


def sample(count: int, seed: int) -> veil.Data:
    """Data: t given x."""
    rng = np.random.default_rng(seed)
    t = rng.random(count)
    x = t + 0.3 * np.sin(2 * np.pi * t) + rng.uniform(-0.1, 0.1, count)
    return veil.Data(t.astype(np.float32), evidence=x.astype(np.float32))


models = {
    "normalising flow": veil.NormalisingFlow(),
    "flow matching": veil.ContinuousFlow(),
    "diffusion": veil.Diffusion(),
}
# of fields, whose targets are noisy
averaged = veil.Optimiser(optax.adam(optax.cosine_decay_schedule(4e-3, steps)), clip=10.0, average=0.999)
chosen = [name for name in models if arguments.models is None or name in arguments.models]
found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in chosen}
made = {}
for seed in range(1 if arguments.quick else arguments.seeds):
    train, test = sample(rows, seed), sample(tests, 1000 + seed)
    for name in chosen:
        begin = time.perf_counter()
        fit = veil.fit(
            models[name],
            train,
            key=jax.random.key(seed),
            steps=steps,
            batch_size=512,
            optimiser=None if name == "normalising flow" else averaged,
            progress=False,
        )
        taken, bound, error = time.perf_counter() - begin, np.nan, np.nan
        if name == "normalising flow":
            values = veil.log_prob(fit, test)
        else:
            values = log_density(fit, test, progress=False).values
        if name == "diffusion":
            elbo = denoising_bound(
                fit, test, key=jax.random.key(1), samples=draws, flow=False, progress=False
            ).elbo_average
            bound, error = -elbo.value, elbo.monte_carlo_error
        found[name].append((-float(np.mean(values)), float(np.std(values) / tests**0.5), bound, error, taken))
        made.setdefault(name, fit)

table = Table(title=f"Negative log-likelihood, nats a datum (floor {FLOOR}, one Gaussian {ONE_GAUSSIAN})")
for column in ("model", "exact", "bound (ELBO)", "training (s)"):
    table.add_column(column, justify="left" if column == "model" else "right")
for name, values in found.items():
    exact = ", ".join(f"{value[0]:.3f} ± {value[1]:.3f}" for value in values)
    bound = ", ".join("" if np.isnan(value[2]) else f"{value[2]:.3f} ± {value[3]:.3f}" for value in values)
    table.add_row(name, exact, bound, f"{np.mean([value[4] for value in values]):.0f}")
Console(width=120).print(table)

arguments.out.mkdir(parents=True, exist_ok=True)
x = np.linspace(-0.05, 1.05, 200, dtype=np.float32)
some = sample(1000, 1)
with style.figure(1 + len(chosen), panel=(2.8, 2.8), sharex=True, sharey=True) as (picture, panels):
    panels[0].plot(some.evidence, some.query, ".", markersize=2)
    style.label(panels[0], x=("x", "1"), y=("t", "1"), title="Data")
    for panel, name in zip(panels[1:], chosen, strict=True):
        seen = np.repeat(x, 5)
        drawn = veil.sample(made[name], 1, key=jax.random.key(2), evidence=seen[:, None]).query
        panel.plot(seen, np.ravel(drawn), ".", markersize=2)
        style.label(panel, x=("x", "1"), y=("t", "1"), title=f"{name[0].upper()}{name[1:]}, draws")
picture.savefig(arguments.out / "inverse_flows.png")
print(arguments.out / "inverse_flows.png")
