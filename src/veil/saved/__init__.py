"""Models, fits, runs and exported programs on disk."""
