"""Learning-based control: each use is a choice of roles and a little glue."""
