"""Class vectors: the rule for names, the readers on small files, and what they refuse."""

import numpy as np
import pytest

from ucdr_core.data import DataError
from ucdr_core.methods import semantics


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
        ("x.bin", b"2 4\nab 123", "ends in the middle"),
        ("x.txt", b"cat 1 two\n", "no readable .txt"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        semantics.class_vectors(["cat"], tmp_path / name)


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
