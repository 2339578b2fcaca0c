"""Methods by name.  To add one: its file, and a line here."""
from .base import Batch, Method, OptionError, from_mapping
from .cmt import CMT
from .content_style import ContentStyle
from .cumix import CuMix
from .cvae import CVAE
from .devise import DeViSE
from .doodle import Doodle
from .eisnet import EISNet
from .eszsl import ESZSL
from .ocean import OCEAN
from .reference import Chance, Frozen, FrozenCentred, FrozenWhitened
from .sae import SAE
from .sake import SAKE
from .san import SaN
from .sem_pcyc import SEMPCYC
from .siamese import Siamese
from .simple import Simple
from .sketchgcn import SketchGCN
from .snmpnet import SnMpNet
from .stl import STL
from .strad import STRAD
from .xu2019 import Xu2019
from .zsih import ZSIH

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
    # In the spirit of papers of which little more than the abstract is public.
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
