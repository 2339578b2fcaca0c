"""Methods by name.  To add one: its file, and a line here."""

from ucdr_core.methods.base import Batch, Method
from ucdr_core.methods.cmt import CMT
from ucdr_core.methods.content_style import ContentStyle
from ucdr_core.methods.cumix import CuMix
from ucdr_core.methods.cvae import CVAE
from ucdr_core.methods.devise import DeViSE
from ucdr_core.methods.doodle import Doodle
from ucdr_core.methods.eisnet import EISNet
from ucdr_core.methods.eszsl import ESZSL
from ucdr_core.methods.ocean import OCEAN
from ucdr_core.methods.reference import Chance, Frozen, FrozenCentred, FrozenWhitened
from ucdr_core.methods.sae import SAE
from ucdr_core.methods.sake import SAKE
from ucdr_core.methods.san import SaN
from ucdr_core.methods.sem_pcyc import SEMPCYC
from ucdr_core.methods.siamese import Siamese
from ucdr_core.methods.simple import Simple
from ucdr_core.methods.sketchgcn import SketchGCN
from ucdr_core.methods.snmpnet import SnMpNet
from ucdr_core.methods.stl import STL
from ucdr_core.methods.strad import STRAD
from ucdr_core.methods.xu2019 import Xu2019
from ucdr_core.methods.zsih import ZSIH
from ucdr_core.options import OptionError, from_mapping

METHODS: dict[str, type[Method]] = {
    "snmpnet": SnMpNet,
    "doodle": Doodle,
    "stl": STL,
    "strad": STRAD,
    "simple": Simple,
    "eisnet": EISNet,
    "cumix": CuMix,
    "sake": SAKE,
    "sem_pcyc": SEMPCYC,
    "cvae": CVAE,
    "zsih": ZSIH,
    "siamese": Siamese,
    "san": SaN,
    "eszsl": ESZSL,
    "sae": SAE,
    "cmt": CMT,
    "devise": DeViSE,
    # In the spirit of papers of which an abstract is public, or less.
    "xu2019": Xu2019,
    "content_style": ContentStyle,
    "sketchgcn": SketchGCN,
    "ocean": OCEAN,
    # Reference rows.
    "chance": Chance,
    "frozen": Frozen,
    "frozen_centred": FrozenCentred,
    "frozen_whitened": FrozenWhitened,
}

__all__ = ["METHODS", "Batch", "Method", "OptionError", "from_mapping"]
