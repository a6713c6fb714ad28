"""A release: a model package goes to storage and by rings to the devices, watched, and back where it is worse."""

from retrain.release.board import Board, Trouble
from retrain.release.plan import Device, Place, Plan, Ring, ring
from retrain.release.releasing import Released, release
from retrain.release.rollingback import RolledBack, rollback

__all__ = [
    "Board",
    "Device",
    "Place",
    "Plan",
    "Released",
    "Ring",
    "RolledBack",
    "Trouble",
    "release",
    "ring",
    "rollback",
]
