"""The first contract: a model p(y, z | x) of one datum, and what a datum is."""

from veil.model.contract import Datum, Model, frozen

__all__ = ["Datum", "Model", "frozen"]
