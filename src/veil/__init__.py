"""veil: latent variable models and amortized variational inference in JAX, for learning-based control."""

import lazy_loader

# The public names are those of __init__.pyi; each is imported when it is first asked for, so that commands start
# without JAX.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
