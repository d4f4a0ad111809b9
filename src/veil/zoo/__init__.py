"""Ready models: one family a file."""
