"""Where the bound loses: the family of posteriors, or the network that chooses among them?

One VAE on handwritten digits, its decoder then held fixed. log p(y) - ELBO splits into what the best member of the
family still misses (approximation) and what the encoder misses of that member (amortization; Cremer et al. 2018).
Encoders of several sizes, families and refinements are trained for the same decoder.

    python recipes/amortization_gap.py --out amortization_gap    # about five minutes on two cores
    python recipes/amortization_gap.py --quick
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil import objective
from veil.evaluation.gap import gap
from veil.learning.choices import default_optimiser
from veil.parts import heads
from veil.report import style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("amortization_gap"), help="folder for the picture")
parser.add_argument("--quick", action="store_true", help="fewer steps, data and encoders")
arguments = parser.parse_args()
steps, rows, latent = (100, 20, 2) if arguments.quick else (4000, 100, 8)
key = jax.random.key(0)

digits = veil.data.load("digits", query=[f"pixel{i}" for i in range(64)], evidence=()).query
pixels = (digits[np.random.default_rng(0).permutation(len(digits))] >= 8).astype(np.float32)
train, test = veil.Data(pixels[:1500]), veil.Data(pixels[1500 : 1500 + rows])

net = veil.MLP((64, 64), "silu")
decoder = veil.fit(
    veil.VAE(latent, heads.Bernoulli(), net),
    train,
    key=key,
    objective=veil.ELBO(kl=objective.Annealed(steps // 2)),
    optimiser=default_optimiser(steps, 3e-3),
    steps=steps,
).model

encoders = {
    "linear": veil.Amortized(veil.nets.Identity()),
    "8 units": veil.Amortized(veil.MLP((8,), "silu")),
    "64-64 units": veil.Amortized(net),
    "64-64, full covariance": veil.Amortized(net, heads.FullGaussian()),
}
if arguments.quick:
    encoders = {name: encoders[name] for name in ("linear", "64-64 units")}
fitted = {
    name: veil.fit(decoder, train, key=key, posterior=posterior, fixed=True, steps=steps).posterior
    for name, posterior in encoders.items()
}
for refinement in (3,) if arguments.quick else (1, 5, 20):
    fitted[f"64-64, {refinement} refining"] = veil.Refined(fitted["64-64 units"], refinement)

console = Console()
table = Table(title="log p(y) - ELBO on held-out digits, nats per image, standard errors over images")
for column in ("posterior", "approximation", "amortization", "total"):
    table.add_column(column, justify="left" if column == "posterior" else "right")
parts = {}
for name, posterior in fitted.items():
    family = heads.FullGaussian() if "full" in name else heads.DiagonalGaussian()
    options = {"samples": 100, "steps": 50} if arguments.quick else {"samples": 2000}
    found = gap(decoder, posterior, test, key=key, family=family, **options)
    parts[name] = found.approximation.value, found.amortization.value
    table.add_row(name, str(found.approximation), str(found.amortization), str(found.total))
console.print(table)

names = list(parts)
arguments.out.mkdir(parents=True, exist_ok=True)
with style.figure(panel=(6.4, 3.6)) as (picture, (panel,)):
    approximation, amortization = np.array(list(parts.values())).T
    places = np.arange(len(names))
    panel.barh(places, approximation, color=style.BLUE, label="approximation: the family")
    panel.barh(places, amortization, left=approximation, color=style.ORANGE, label="amortization: the network")
    panel.set_yticks(places, names)
    panel.invert_yaxis()
    style.label(panel, x=("log p(y) − ELBO", "nats per image"), y=("posterior", "encoder"))
    style.legend(panel)
    picture.savefig(arguments.out / "gap.png")
console.print(f"picture: {arguments.out / 'gap.png'}")
