"""veil: latent variable models and amortized variational inference in JAX, for learning-based control."""

from typing import Any

import lazy_loader

from veil.host.garbage import uncollected

# The public names are those of __init__.pyi; each is imported when it is first asked for, so that commands start
# without JAX.
_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    with uncollected():
        return _import(name)
