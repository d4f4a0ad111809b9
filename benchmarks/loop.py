"""What the loop costs: ``veil.fit`` beside the bare compiled step, and the time from nothing to the first step.

* ``overhead``: milliseconds a step of ``veil.fit`` on a small variational autoencoder (64-32-32-2 and back, digits,
  batch 64), with metrics to a JSON lines file, the progress bar and a checkpoint every 30 s, beside ``bare-step``: the
  learner's own compiled step, nothing around it, and beside the same model written by hand in JAX (no framework, no
  checks, no records): each called from a Python loop, and in one compiled scan of 256.
* ``start-up``: seconds from starting Python to the end of the first training step, of the same model in NumPyro's SVI
  and PyTorch Lightning; ``start-up-warm``: with the compilation cache filled by a run before.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

BATCH, HIDDEN, LATENT, RATE = 64, 32, 2, 1e-3


def digits() -> np.ndarray:
    """8x8 digits from 0 to 1 [1797, 64]."""
    import veil

    return np.asarray(
        veil.data.load("digits", query=[f"pixel{i}" for i in range(64)], evidence=()).query / 16, np.float32
    )


def optimiser() -> Any:
    """Clipping and Adam, as one writes them by hand."""
    import optax

    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(RATE))


# -- overhead ----------------------------------------------------------------------------------------------------------


class Bare:
    """The step by hand: parameters in a dictionary, the ELBO in a few lines, one compiled function."""

    def __init__(self, data: np.ndarray) -> None:
        import jax
        import jax.numpy as jnp
        import optax

        self.data, self.rng, tool = jnp.asarray(data), np.random.default_rng(0), optimiser()
        sizes = {"e1": (64, HIDDEN), "e2": (HIDDEN, HIDDEN), "e3": (HIDDEN, 2 * LATENT)}
        sizes |= {"d1": (LATENT, HIDDEN), "d2": (HIDDEN, HIDDEN), "d3": (HIDDEN, 128)}
        keys = jax.random.split(jax.random.key(0), len(sizes))
        weights = {
            name: jax.random.uniform(key, size, minval=-1, maxval=1) * (6 / sum(size)) ** 0.5
            for (name, size), key in zip(sizes.items(), keys, strict=True)
        }
        parameters = {name: (weight, jnp.zeros(weight.shape[1])) for name, weight in weights.items()}
        self.state = parameters, tool.init(parameters)

        def layer(parameters: Any, name: str, x: Any) -> Any:
            weight, bias = parameters[name]
            return x @ weight + bias

        def loss(parameters: Any, y: Any, key: Any) -> Any:
            h = jnp.tanh(layer(parameters, "e2", jnp.tanh(layer(parameters, "e1", y))))
            mean, log_scale = jnp.split(layer(parameters, "e3", h), 2, -1)
            scale = jnp.exp(log_scale)
            z = mean + scale * jax.random.normal(key, mean.shape)
            h = jnp.tanh(layer(parameters, "d2", jnp.tanh(layer(parameters, "d1", z))))
            centre, log_noise = jnp.split(layer(parameters, "d3", h), 2, -1)
            noise = jnp.exp(log_noise) + 1e-2
            fit = -0.5 * jnp.sum(((y - centre) / noise) ** 2 + 2 * jnp.log(noise) + jnp.log(2 * jnp.pi), -1)
            kl = 0.5 * jnp.sum(mean**2 + scale**2 - 1 - 2 * log_scale, -1)
            return -jnp.mean(fit - kl)

        def step(state: Any, rows: Any, key: Any) -> Any:
            value, gradient = jax.value_and_grad(loss)(state[0], self.data[rows], key)
            updates, memory = tool.update(gradient, state[1], state[0])
            return (optax.apply_updates(state[0], updates), memory), value

        self.step = jax.jit(step, donate_argnums=0)
        keyed = lambda state, part: step(state, *part)  # noqa: E731
        self.scan = jax.jit(lambda state, plan, keys: jax.lax.scan(keyed, state, (plan, keys)), donate_argnums=0)
        self.key = jax.random.key(1)
        self.split = jax.random.split
        self.value = float("nan")


class Own:
    """The step of veil's learner for the same model, compiled, with nothing around it."""

    def __init__(self, model: Any, data: np.ndarray) -> None:
        import equinox as eqx
        import jax
        import jax.numpy as jnp

        import veil
        from veil.learning.choices import clipped_adam
        from veil.learning.gradient import Gradient
        from veil.posterior.choice import usual

        whole = veil.Datum(jnp.asarray(data), weight=jnp.ones(len(data)))
        key_model, key_posterior, self.key = jax.random.split(jax.random.key(0), 3)
        model = model.initialise(whole, None, key_model)
        example = jax.tree.map(lambda leaf: leaf[0], whole)
        learner = Gradient(veil.ELBO(), clipped_adam(RATE))  # as veil.fit has it
        pair = model, usual(model).initialise(model, example, 1, key_posterior)
        batch = jax.tree.map(lambda leaf: leaf[:BATCH], whole)
        state, fixed = eqx.partition(learner.init(pair, batch), eqx.is_array)
        total = jnp.asarray(float(len(data)))

        def step(state: Any, rows: Any, key: Any) -> Any:
            state, batch = eqx.combine(state, fixed), jax.tree.map(lambda leaf: leaf[rows], whole)
            state, info = learner.update(state, learner.accumulate(state, batch, key), total)
            return eqx.filter(state, eqx.is_array), info.value

        keyed = lambda state, part: step(state, *part)  # noqa: E731
        self.step = jax.jit(step)
        self.scan = jax.jit(lambda state, plan, keys: jax.lax.scan(keyed, state, (plan, keys)))
        self.state, self.data, self.rng, self.split = state, data, np.random.default_rng(0), jax.random.split
        self.value = float("nan")


def _plan(bare: "Bare | Own", steps: int) -> np.ndarray:
    epochs = -(-steps * BATCH // len(bare.data))
    order = np.concatenate([bare.rng.permutation(len(bare.data)) for _ in range(epochs)])
    return order[: steps * BATCH].reshape(steps, BATCH).astype(np.int32)


def looped(bare: "Bare | Own", steps: int) -> float:
    """Seconds a step, each of them called from Python."""
    bare.key, key = bare.split(bare.key)
    begin = time.perf_counter()
    for rows, each in zip(_plan(bare, steps), bare.split(key, steps), strict=True):
        bare.state, value = bare.step(bare.state, rows, each)
    bare.value = float(value)
    return (time.perf_counter() - begin) / steps


def scanned(bare: "Bare | Own", steps: int) -> float:
    """Seconds a step of a compiled scan over 256 of them."""
    begin = time.perf_counter()
    for _ in range(steps // 256):
        bare.key, key = bare.split(bare.key)
        bare.state, values = bare.scan(bare.state, _plan(bare, 256), bare.split(key, 256))
    bare.value = float(values.mean())
    return (time.perf_counter() - begin) / (steps // 256 * 256)


class Timed:
    """A record that writes JSON lines and notes when each stretch of steps came."""

    def __init__(self, path: Path) -> None:
        import veil

        self.lines, self.marks = veil.JsonLines(path), []
        self.value = float("nan")

    def __call__(self, line: dict[str, Any]) -> None:
        self.lines(line)
        self.marks.append(time.perf_counter())
        self.value = line["value"]

    def per_step(self, skip: int) -> float:
        """Seconds a step behind the first ``skip``, by which all is compiled."""
        return (self.marks[-1] - self.marks[skip]) / (len(self.marks) - 1 - skip)


def overhead(options: common.Options) -> common.Case:
    """``veil.fit`` beside the bare step."""
    import jax

    import veil
    from veil.learning.choices import clipped_adam

    data = digits()
    model = veil.VAE(LATENT, veil.heads.DiagonalGaussian(), veil.MLP((HIDDEN, HIDDEN)))
    bare, own, tool = Bare(data), Own(model, data), clipped_adam(RATE)
    for each in (bare, own):
        looped(each, 300), scanned(each, 512)
    steps = int((3 if options.quick else 35) / scanned(own, 2048))
    short = steps // 5  # of the bare ones, which have no beginning to get over
    last: list[float] = []

    def ours(every: float, progress: bool | None) -> float:
        with tempfile.TemporaryDirectory() as folder:
            record = Timed(Path(folder) / "metrics.jsonl")
            veil.fit(
                model,
                data,
                key=jax.random.key(len(last)),
                steps=steps,
                batch_size=BATCH,
                optimiser=tool,
                record=record,
                progress=progress,
                checkpoints=veil.Checkpoints(Path(folder) / "checkpoints", every=every),
            )
            last.append(record.value)
            return record.per_step(steps // 10)

    measures = {
        "ours": lambda: ours(1.0 if options.quick else 30.0, True),
        "own step, looped": lambda: looped(own, short),
        "own step, scanned": lambda: scanned(own, short),
        "by hand, looped": lambda: looped(bare, short),
        "by hand, scanned": lambda: scanned(bare, short),
    }
    found = common.in_turn(measures, options.repeats or (1 if options.quick else 3))
    middle = lambda name: statistics.median(found[name])  # noqa: E731
    peers = {
        f"bare-step ({name})": common.Peer(
            common.version("jax"), middle(name) * 1e3, common.ratio(found["ours"], found[name]), None
        )
        for name in list(measures)[1:]
    }
    details = {
        "overhead over its own step": ", ".join(
            f"{100 * (middle('ours') / middle(f'own step, {how}') - 1):.1f} % ({how})" for how in ("looped", "scanned")
        ),
        "spread of ours": f"{min(found['ours']) * 1e3:.3g} to {max(found['ours']) * 1e3:.3g} ms; {steps} steps each",
        "peak memory": f"{common.peak_memory():.0f} MB",
    }
    return common.Case("overhead", "training step", "ms", middle("ours") * 1e3, None, peers, details)


# -- from nothing to the first step ------------------------------------------------------------------------------------

OURS = """
import json, sys, time
import common, jax, numpy as np
if sys.argv[1]:
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import veil
class Done(Exception): pass
def record(line): raise Done
data = np.random.default_rng(0).normal(size=(1797, 64)).astype(np.float32)
model = veil.VAE(2, veil.heads.DiagonalGaussian(), veil.MLP((32, 32)))
try:
    veil.fit(model, data, key=jax.random.key(0), steps=1000, batch_size=64, record=record)
except Done:
    print(json.dumps({}), flush=True)
"""

NUMPYRO = """
import json, sys
import common, jax, numpy as np
if sys.argv[1]:
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import jax.numpy as jnp, numpyro, numpyro.distributions as dist
from jax.example_libraries import stax
from numpyro.infer import SVI, TraceMeanField_ELBO
layers = [stax.Dense(32), stax.Tanh, stax.Dense(32), stax.Tanh]
two = lambda size: [stax.FanOut(2), stax.parallel(stax.Dense(size), stax.serial(stax.Dense(size), stax.Exp))]
encoder, decoder = stax.serial(*layers, *two(2)), stax.serial(*layers, *two(64))
def model(batch):
    decode = numpyro.module("decoder", decoder, (64, 2))
    with numpyro.plate("batch", len(batch)):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
        numpyro.sample("x", dist.Normal(*decode(z)).to_event(1), obs=batch)
def guide(batch):
    encode = numpyro.module("encoder", encoder, (64, 64))
    with numpyro.plate("batch", len(batch)):
        numpyro.sample("z", dist.Normal(*encode(batch)).to_event(1))
data = np.random.default_rng(0).normal(size=(1797, 64)).astype(np.float32)
svi = SVI(model, guide, numpyro.optim.Adam(1e-3), TraceMeanField_ELBO())
state = svi.init(jax.random.key(0), data[:64])
state, loss = jax.jit(svi.update)(state, data[:64])
float(loss)
print(json.dumps({}), flush=True)
"""

LIGHTNING = """
import json, logging, os, tempfile, warnings
import common, numpy as np, torch
warnings.filterwarnings("ignore")
torch.set_num_threads(common.PINNED)
import lightning
from torch import nn
for name in ("lightning", "lightning.pytorch"): logging.getLogger(name).setLevel(logging.ERROR)
net = lambda a, b: nn.Sequential(nn.Linear(a, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2 * b))
class VAE(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = net(64, 2), net(2, 64)
    def training_step(self, batch, _):
        (y,) = batch
        mean, log_scale = self.encoder(y).chunk(2, -1)
        q = torch.distributions.Normal(mean, log_scale.exp())
        centre, log_noise = self.decoder(q.rsample()).chunk(2, -1)
        fit = torch.distributions.Normal(centre, log_noise.exp()).log_prob(y).sum(-1)
        kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(-1)
        return (kl - fit).mean()
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)
data = torch.tensor(np.random.default_rng(0).normal(size=(1797, 64)).astype(np.float32))
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), 64, shuffle=True)
quiet = dict(enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, logger=False)
lightning.Trainer(max_steps=1, accelerator="cpu", default_root_dir=tempfile.mkdtemp(), **quiet).fit(VAE(), loader)
print(json.dumps({}), flush=True)
"""


def start_up(warm: bool, options: common.Options) -> common.Case:
    """Seconds from starting Python to the end of the first step."""
    repeats = options.repeats or (1 if options.quick else 5)
    with tempfile.TemporaryDirectory() as folder:
        caches = {name: str(Path(folder) / name) if warm else "" for name in ("ours", "NumPyro", "Lightning")}
        sources = {"ours": OURS, "NumPyro": NUMPYRO, "Lightning": LIGHTNING}
        if warm:
            for name, source in sources.items():
                common.python(source, caches[name])
        measures = {
            name: (lambda source=source, name=name: common.python(source, caches[name])[0])
            for name, source in sources.items()
        }
        found = common.in_turn(measures, repeats)
    packages = {"NumPyro": "numpyro", "Lightning": "lightning"}
    peers = {
        name: common.Peer(
            common.version(package), statistics.median(found[name]), common.ratio(found["ours"], found[name])
        )
        for name, package in packages.items()
    }
    case = "start-up-warm" if warm else "start-up"
    return common.Case(case, "start of Python to the first step", "s", statistics.median(found["ours"]), None, peers)


CASES = {
    "overhead": overhead,
    "start-up": lambda options: start_up(False, options),
    "start-up-warm": lambda options: start_up(True, options),
}

if __name__ == "__main__":
    common.main("loop", __doc__, CASES, quick=("overhead", "start-up"))
