"""The first contract: a model p(y, z | x) of one datum, what it can do beyond that, and what a datum is."""

from veil.model.abilities import (
    ClosedForm,
    Enumerable,
    Guided,
    OfSequences,
    Plate,
    Rescalable,
    SecondOrder,
    Sized,
    Startable,
    Tractable,
)
from veil.model.contract import Model
from veil.model.datum import Datum, frozen
from veil.model.members import Members, NewMember, SameMember
from veil.model.per_episode import PerEpisode
from veil.model.stepwise import Stepwise

__all__ = [
    "ClosedForm",
    "Datum",
    "Enumerable",
    "Guided",
    "Members",
    "Model",
    "NewMember",
    "OfSequences",
    "PerEpisode",
    "Plate",
    "Rescalable",
    "SameMember",
    "SecondOrder",
    "Sized",
    "Startable",
    "Stepwise",
    "Tractable",
    "frozen",
]
