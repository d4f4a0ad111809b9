"""Exploration: what is worth seeing, as a functional of a model and of a step, in nats or from counts."""
