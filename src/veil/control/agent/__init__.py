"""Agents: they act, keep what they saw, learn a model of it, and act better in what they imagine."""
