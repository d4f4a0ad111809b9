"""What models are made of: networks, attention, heads, priors, gates, experts, covariances, dynamics."""

import lazy_loader

# Each is imported when it is first asked for, also by its public name, such as veil.heads.
MODULES = "attention covariance dynamics experts flows gates heads images joint nets priors start"
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=MODULES.split())
