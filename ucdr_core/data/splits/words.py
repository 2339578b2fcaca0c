"""Words that stand for a class in the place of its name, each table with who chose it.

A class that is in no table stands for itself: its vector is the mean of the words of its name (`methods.semantics`).
"""

from __future__ import annotations

# Written as one word, which GloVe 6B does not know.  The words behind CuMix's vectors of DomainNet are not public.
OURS = {"bottlecap": "bottle cap", "tablelamp": "table lamp"}
SOURCE_OF_OURS = "this book: the two words that the name is made of"

# What mvp18/UCDR, the code of SnMpNet, looks up where GloVe 6B lacks the name of the folder as one word.  Of
# TU-Berlin's list these are the ones that we know.
_SKETCHY = {
    "alarm_clock": "clock",
    "car_(sedan)": "sedan",
    "hermit_crab": "crab",
    "hot_air_balloon": "balloon",
    "jack_o_lantern": "lantern",
    "pickup_truck": "truck",
    "sea_turtle": "turtle",
    "teddy_bear": "teddybears",
    "wading_bird": "waders",
    "wine_bottle": "bottle",
}
_TUBERLIN = {
    "beer_mug": "mug",
    "hot_dog": "hotdog",
    "human_skeleton": "skeleton",
    "ice_cream_cone": "ice-cream",
    "power_outlet": "switchboard",
    "race_car": "race-car",
    "santa_claus": "santa",
    "tennis_racket": "racket",
}
AUTHORS = {"sketchy": _SKETCHY, "tuberlin": _SKETCHY | _TUBERLIN}  # by data set, as splits are named after it
SOURCE_OF_AUTHORS = "mvp18/UCDR, the script that made glove300.pkl"


def of_authors(split_name: str, classes) -> dict[str, str]:
    """Class -> word that the authors looked up, for those of the classes of a split that they replaced.

    Where that word is another class of the split the two would have one vector, which `semantics.class_vectors`
    refuses: they keep their names here (crab and hermit crab, turtle and sea turtle, mug and beer mug).
    """
    table, classes = AUTHORS.get(split_name.partition("_")[0], {}), set(classes)
    return {name: word for name, word in table.items() if name in classes and word not in classes}
