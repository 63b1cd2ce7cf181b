"""F7: what is told of a stage before it is made, and of the machine that is to make it."""

from typing import NamedTuple

from synthetic_rm.memory import Memory

WORLD = ("environment",)
LABELLED = (*WORLD, "comparisons")
POOL = (*WORLD, "policy", "best_of_n")
PROXIES = (*LABELLED, "proxy")
SCORED = (*PROXIES, "policy", "best_of_n")
OPTIMIZED = (*SCORED, "rl")


class Machine(NamedTuple):
    """What the stages of a run share."""

    memory: int
    """bytes of one device"""
    programs: int = 1
    """that run side by side on a device"""
    rows: int = 1024
    """most rows that go through a network together on a device, see `scoring.rows_at_once`"""
    batch: int = 1
    """devices that share every batch"""
    model: int = 1
    """devices that share every network's parameters"""


class Stage(NamedTuple):
    """One stage of a run."""

    name: str
    flops: int
    """in matrix products"""
    memory: Memory
    """of one device, the world's models apart"""
    advice: str
    """settings that make it smaller"""
    depends: tuple[str, ...]
    """groups of settings that determine it: points of a study in which they are the same share it"""
    resident: int = 0
    """bytes of the world's models on each device meanwhile"""
    rows: int = 0
    """rows of a batch that go through a network in training together, on one device; 0: nothing is trained"""

    def hours(self, rate: float) -> float:
        """At a sustained rate of all devices together, in operations per second."""
        return self.flops / rate / 3600
