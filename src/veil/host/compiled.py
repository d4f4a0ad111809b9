"""Compiled functions kept from one process to the next."""

import hashlib
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

MOST = 2**30  # bytes; the least recently used go first
SECONDS = 0.1  # that compilation takes of what is kept


def keep_compiled() -> None:
    """Have JAX keep what it compiles in the user's cache folder; to be called before JAX is imported.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder, and ``JAX_ENABLE_COMPILATION_CACHE=false`` keeps nothing.
    Where the folder cannot be made, nothing is kept.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or "jax" in sys.modules:
        return
    folder = _caches() / "veil" / f"compiled-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(SECONDS))
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MOST))


def _caches() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _processor() -> str:
    """A digest of what this processor can do: a home may be shared by machines, and code made for one stop another."""
    able = f"{platform.machine()} {platform.processor()}"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        able += next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return hashlib.sha256(able.encode()).hexdigest()[:12]
