"""veil: latent variable models and amortized variational inference in JAX, for learning-based control."""

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the public names: each is imported when it is first asked for, so that commands start without JAX
    from veil.checkpoint import load, register, save
    from veil.condition import condition
    from veil.control.policy import Policy
    from veil.covariance import Diagonal, Full, Spherical, Tied
    from veil.data import Data, Stream
    from veil.data import load as load_data
    from veil.evaluate.likelihood import Evaluation, evaluate, log_prob
    from veil.experts import Linear, LinearGaussian
    from veil.fit import Fit, fit
    from veil.gates import Softmax
    from veil.model import Datum, Model
    from veil.nets import MLP
    from veil.objective import ExpectedLogLikelihood, Marginal
    from veil.posterior import Exact
    from veil.predict import infer, predict, sample
    from veil.select import select
    from veil.start import KMeans, RandomResponsibilities, RandomRows
    from veil.zoo.mixture import Mixture, density

_PUBLIC = {
    alias.asname or alias.name: (str(node.module), alias.name)
    for node in ast.walk(ast.parse(Path(__file__).read_text("utf-8")))
    if isinstance(node, ast.ImportFrom) and str(node.module).startswith("veil.")
    for alias in node.names
}
__all__ = sorted(_PUBLIC)


class _Package(ModuleType):
    """Imports the public names, and modules such as ``veil.heads``, when they are first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name in _PUBLIC:
            module, attribute = _PUBLIC[name]
            value = getattr(importlib.import_module(module), attribute)
        elif not name.startswith("_") and importlib.util.find_spec(f"{self.__name__}.{name}"):
            value = importlib.import_module(f"{self.__name__}.{name}")
        else:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the module veil.fit does not hide the function veil.fit.
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            ModuleType.__setattr__(self, name, value)

    def __dir__(self) -> list[str]:
        return [*(name for name in self.__dict__ if name.startswith("__")), *__all__]


sys.modules[__name__].__class__ = _Package
