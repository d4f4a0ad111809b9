"""Honest evaluation: what a number is, exact or a bound, and its error."""
