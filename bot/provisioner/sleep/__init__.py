"""What sleep is made of: the memory of a container, the room that the machine has, and the gate before a wake."""

from bot.provisioner.sleep.admission import NotWanted, WakeAdmission
from bot.provisioner.sleep.memory import ContainerMemory, MemoryUnreachable, MemoryUse, Reclaimed
from bot.provisioner.sleep.pressure import AWAKE_BYTES, Verdict, can_hold, may_wake, must_free
from bot.provisioner.sleep.room import Room, read_room

__all__ = [
    "AWAKE_BYTES",
    "ContainerMemory",
    "MemoryUnreachable",
    "MemoryUse",
    "NotWanted",
    "Reclaimed",
    "Room",
    "Verdict",
    "WakeAdmission",
    "can_hold",
    "may_wake",
    "must_free",
    "read_room",
]
