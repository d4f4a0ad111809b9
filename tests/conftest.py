"""The strict session: annotations are executed, rank promotion raises, warnings are errors (see pyproject.toml)."""

import ctypes
import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Most of the tests' time is compilation, of functions that run once: less than half of it without the last passes, with
# the older and plainer emitters of loops, and with each module in one piece (the test processes are parallel already).
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

import jax
import jaxtyping
import pytest
from jax import Array

jaxtyping.install_import_hook("veil", "annotations.check")

jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS") or "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_include_full_tracebacks_in_locations", False)  # for readers of HLO; a twentieth of the time
# jax_numpy_dtype_promotion stays "standard": under "strict" optax.adam (float ** int32 in its bias correction) and
# numpyro's Bernoulli.log_prob (bool with float32) raise inside the libraries.

# Tracing makes millions of small objects that live long: looking through all of them for garbage at Python's usual pace
# is a tenth of the tests' time.
gc.freeze()
gc.set_threshold(200_000, 20, 20)

COMPILED = "/jax/core/compile/backend_compile_duration"
MEMORY_LIMIT = 2 * 2**30  # bytes of resident memory above which compiled functions are dropped between modules


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled functions from one session to the next, under .pytest_cache (`pytest --cache-clear` drops them).

    In the environment too, for the processes that tests start: many run the same program.
    """
    if hasattr(config, "cache"):
        kept = {"compilation_cache_dir": str(config.cache.mkdir("jax"))}
        kept |= {"persistent_cache_min_compile_time_secs": 0.05, "persistent_cache_min_entry_size_bytes": -1}
        for name, value in kept.items():
            jax.config.update(f"jax_{name}", value)
            os.environ[f"JAX_{name.upper()}"] = str(value)


def resident_memory() -> float:
    """Bytes of this process in memory; infinite where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else float("inf")


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    yield
    if resident_memory() > MEMORY_LIMIT:
        jax.clear_caches()
        gc.collect()
        if hasattr(ctypes.CDLL(None), "malloc_trim"):  # glibc keeps what is freed, and the limit would stay exceeded
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def key() -> Array:
    return jax.random.key(0)


@pytest.fixture
def x64() -> Iterator[None]:
    """The test runs in float64."""
    with jax.enable_x64(True):
        yield


class Compilations(list[str]):
    """Names of the functions compiled since the start of the test or the last `clear()`: "jit(step)", ...

    A function found in the persistent cache counts as compiled, so the count does not depend on earlier sessions.
    Operations outside jit compile too, under their own names; `of("step")` counts one function.
    """

    def of(self, name: str) -> int:
        return self.count(f"jit({name})")


@pytest.fixture
def compilations() -> Iterator[Compilations]:
    names = Compilations()

    def listen(event: str, duration: float, *, fun_name: str = "?", **_: object) -> None:
        if event == COMPILED:
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)
