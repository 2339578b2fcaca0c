"""Methods by name.  To add one: its file, and a line here."""
from .base import Batch, Method, OptionError, from_mapping
from .cumix import CuMix
from .eisnet import EISNet
from .reference import Chance, Frozen, FrozenCentred
from .snmpnet import SnMpNet

METHODS: dict[str, type[Method]] = {
    "snmpnet": SnMpNet,
    "eisnet": EISNet,
    "cumix": CuMix,
    "chance": Chance,
    "frozen": Frozen,
    "frozen_centred": FrozenCentred,
}

__all__ = ["METHODS", "Batch", "Method", "OptionError", "from_mapping"]
