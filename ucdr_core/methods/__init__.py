"""Methods by name.  To add one: its file, and a line here."""
from .base import Batch, Method, OptionError, from_mapping
from .cumix import CuMix
from .doodle import Doodle
from .eisnet import EISNet
from .reference import Chance, Frozen, FrozenCentred
from .simple import Simple
from .snmpnet import SnMpNet
from .stl import STL
from .strad import STRAD

METHODS: dict[str, type[Method]] = {
    "snmpnet": SnMpNet,
    "doodle": Doodle,
    "stl": STL,
    "strad": STRAD,
    "simple": Simple,
    "eisnet": EISNet,
    "cumix": CuMix,
    "chance": Chance,
    "frozen": Frozen,
    "frozen_centred": FrozenCentred,
}

__all__ = ["METHODS", "Batch", "Method", "OptionError", "from_mapping"]
