"""What models are made of: networks, heads, priors, gates, experts, covariances, dynamics."""

import lazy_loader

MODULES = "covariance dynamics experts flows gates heads images joint nets priors start"
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, MODULES.split())
