"""Data in memory: arrays, roles, episodes, windows."""
