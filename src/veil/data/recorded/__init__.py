"""Recordings of episodes in environments."""
