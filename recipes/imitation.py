"""Behaviour cloning where there are several ways: every policy round the tree and through the slalom.

Scripted drivers (no persons) show how to get past a tree, left or right, 200 times, and through three rows of cylinders
by 24 routes, 96 times. From these demonstrations policies p(action | observation) are learned with squared error, one
Gaussian, a mixture, a conditional VAE, residual codes, a normalising flow, flow matching and diffusion; their latent is
drawn anew for each action (round the tree), for each chunk of actions (slalom), or once for an episode. Each then
drives by itself, and the table says how often it succeeds, by how many ways, and how often it changes its mind.

    python recipes/imitation.py --out imitation               # three repetitions of everything: about half an hour
    python recipes/imitation.py --world tree --policies mdn   # some of it
    python recipes/imitation.py --quick                       # one policy, a few steps
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import veil
from veil.control.choices import Choice
from veil.control.worlds import Slalom, Tree, demonstrate, drives, tree
from veil.report import plots, style

DEMONSTRATIONS = {"tree": 200, "slalom": 96}
AXES = {"tree": ("along the road", "across"), "slalom": ("to the right", "ahead")}
CHUNK = {"horizon": 16}
EPISODES = {"sequences": True}


class Centre(Choice):
    """The mistake of decoding the prior's mean (z = 0) in the place of a draw."""

    def __call__(self, model: Any, observation: Any, key: Any) -> Any:
        latent = veil.distributions.central(model.prior(observation))
        return veil.distributions.central(model.likelihood(latent, observation))


@dataclass
class Policy:
    """A model, what data it learns from, how long, and how it acts."""

    model: Any
    steps: int
    choose: Any = field(default_factory=veil.Sample)
    data: dict[str, Any] = field(default_factory=dict)
    execute: int | None = None


network = veil.MLP((64, 64))
plain, noisy = veil.heads.HomoscedasticGaussian(), veil.heads.DiagonalGaussian()


def mdn(components: int) -> Any:
    return veil.Mixture(veil.Linear(noisy), components, trunk=network)


squared_error = veil.density(veil.Linear(plain), trunk=network)  # its mean is least squares
cvae = veil.ConditionalVAE(2, plain)
codes = veil.VAE(veil.priors.ResidualCodes(levels=2, codes=8), plain)

POLICIES = {
    "tree": {
        "squared error, its mean": Policy(squared_error, 2000, veil.Mean()),
        "one Gaussian": Policy(veil.density(veil.Linear(noisy), trunk=network), 2000),
        "mdn": Policy(mdn(4), 2000, veil.LowNoise()),
        "mdn, a latent an episode": Policy(veil.Episodic(mdn(4)), 1000, veil.LowNoise(), EPISODES),
        "cvae": Policy(cvae, 4000, veil.Likeliest(16)),
        "cvae, decoding z = 0": Policy(cvae, 4000, Centre()),
        "cvae, a latent an episode": Policy(veil.Episodic(cvae), 500, veil.LowNoise(), EPISODES),
        "codes": Policy(codes, 3000, veil.Likeliest(16)),
        "flow": Policy(veil.NormalisingFlow(), 3000, veil.Likeliest(4)),
        "flow matching": Policy(veil.ContinuousFlow(), 2500),
        "diffusion": Policy(veil.Diffusion(), 2500),
    },
    "slalom": {
        "squared error, its mean": Policy(squared_error, 2000, veil.Mean(), CHUNK, 8),
        "mdn": Policy(mdn(8), 2000, veil.LowNoise()),
        "mdn, a latent an episode": Policy(veil.Episodic(mdn(32)), 1000, veil.LowNoise(), EPISODES),
        "cvae": Policy(veil.ConditionalVAE(4, plain), 3000, veil.LowNoise(), CHUNK, 8),
        "codes": Policy(veil.VAE(veil.priors.ResidualCodes(levels=2, codes=16)), 2000, veil.LowNoise(), CHUNK, 8),
        "flow": Policy(veil.NormalisingFlow(), 2000, veil.Sample(), CHUNK | {"repeat": True}, 8),
        "flow matching": Policy(veil.ContinuousFlow(), 6000, veil.Sample(), CHUNK, 4),
        "diffusion": Policy(veil.Diffusion(draws=16), 6000, veil.Coherent(), CHUNK, 4),
    },
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("imitation"), help="folder for the pictures (default: imitation)")
parser.add_argument("--world", choices=list(POLICIES), action="append", help="only this world")
parser.add_argument("--policies", nargs="+", help="only these policies")
parser.add_argument(
    "--seeds", type=int, default=3, help="repetitions: demonstrations, starting weights and drives anew"
)
parser.add_argument("--quick", action="store_true", help="one policy, one repetition, few steps and drives")
arguments = parser.parse_args()


def changes(driven: Any) -> np.ndarray:
    """Of each drive towards the tree whether it steers to one side and then to the other.

    A side is the one whose driver would do most nearly the same, from where this one reacts up to beside the tree.
    """
    world, key = driven.world, jax.random.key(0)
    sides = [tree.Demonstrator(world, side, wobble=0.0) for side in (1.0, -1.0)]
    wanted = [jax.vmap(jax.vmap(lambda s, one=one: one(s, key)))(jnp.asarray(driven.states)) for one in sides]
    apart = [np.abs(np.asarray(each)[..., 0] - driven.actions[..., 0]) for each in wanted]
    ahead = world.tree - driven.states[..., 0]
    counts = (ahead > 2.0) & (ahead <= sides[0].reaction) & (np.arange(ahead.shape[1])[None] < driven.lengths[:, None])
    left = apart[0] < apart[1]
    return np.any(left & counts, 1) & np.any(~left & counts, 1)


def learned(policy: Policy, shown: Any, key: Any) -> tuple[Any, float]:
    """The fit and its seconds."""
    data = shown.recording("imitation").data("action", "observation", **policy.data)
    begin = time.perf_counter()
    fit = veil.fit(policy.model, data, key=key, steps=20 if arguments.quick else policy.steps, progress=False)
    return fit, time.perf_counter() - begin


def figures(driven: Any, seconds: float) -> dict[str, float]:
    """What the table has, of one policy in one repetition."""
    row = {"fails (%)": 100 * (1 - driven.rate()[0]), "entropy": driven.entropy()[0], "training (s)": seconds}
    if isinstance(driven.world, Tree):
        good = driven.success
        row["left (%)"] = 100 * driven.outcome[good].mean() if good.any() else np.nan
        row["changes sides (%)"] = 100 * changes(driven).mean()
    return row


def shown_as(values: list[float]) -> str:
    """Mean, and the least and the greatest over repetitions."""
    some = [value for value in values if np.isfinite(value)]
    if not some:
        return "none"
    digits = 2 if max(np.abs(some)) <= 1 else 1
    least, most = f"{min(some):.{digits}f}", f"{max(some):.{digits}f}"
    return f"{np.mean(some):.{digits}f}" + (f" ({least} to {most})" if len(some) > 1 else "")


arguments.out.mkdir(parents=True, exist_ok=True)
console = Console(width=130)
for name in arguments.world or POLICIES:
    world, count = {"tree": (Tree(), 1000), "slalom": (Slalom(), 300)}[name]
    chosen = arguments.policies or (("mdn",) if arguments.quick else tuple(POLICIES[name]))
    chosen = [each for each in POLICIES[name] if each in chosen]
    rows: dict[str, list[dict[str, float]]] = {each: [] for each in chosen}
    pictures: dict[str, Any] = {}
    for seed in range(1 if arguments.quick else arguments.seeds):
        key_shown, key_fit, key_drive = jax.random.split(jax.random.key(seed), 3)
        shown = demonstrate(world, DEMONSTRATIONS[name], key_shown)
        pictures.setdefault("demonstrations", shown)
        fits: dict[int, Any] = {}  # of one model by several choices
        for each in chosen:
            policy = POLICIES[name][each]
            if id(policy.model) not in fits:
                fits[id(policy.model)] = learned(policy, shown, key_fit)
            fit, seconds = fits[id(policy.model)]
            actor = veil.Policy(fit, policy.choose, execute=policy.execute)
            driven = drives(world, actor, 50 if arguments.quick else count, key_drive)
            rows[each].append(figures(driven, seconds))
            pictures.setdefault(each, driven)
            console.print(name, seed, each, {k: round(float(v), 3) for k, v in rows[each][-1].items()}, style="dim")
    columns = list(next(iter(rows.values()))[0])
    table = Table(
        title=f"{name}: {count} drives after {DEMONSTRATIONS[name]} demonstrations, mean (range) over repetitions"
    )
    table.add_column("policy")
    for column in columns:
        table.add_column(column, justify="right")
    for each, found in rows.items():
        table.add_row(each, *(shown_as([row[column] for row in found]) for column in columns))
    console.print(table)
    wide, panel = (2, (4.6, 2.4)) if name == "tree" else (4, (2.6, 3.0))
    named = list(pictures.items())
    with style.figure(wide, -(-len(named) // wide), panel=panel, sharex=True, sharey=True) as (picture, panels):
        for panel, (title, driven) in zip(panels, named, strict=False):
            plots.drives(panel, world, driven)
            unit = "m" if name == "tree" else "gaps"
            style.label(panel, x=(*AXES[name][:1], unit), y=(*AXES[name][1:], unit), title=title[0].upper() + title[1:])
        for panel in panels[len(named) :]:
            panel.remove()
    picture.savefig(arguments.out / f"{name}.png")
    console.print(arguments.out / f"{name}.png")
