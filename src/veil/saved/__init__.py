"""Models, runs and exported programs on disk."""
