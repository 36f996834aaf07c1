"""The lexical half: 200 numbers whatever the corpus, fitted on the given texts and holding none of their words."""

from __future__ import annotations

import io
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import TruncatedSVD

from pcc_pipeline.errors import FeatureError
from pcc_pipeline.features import lexical as lexical_half
from pcc_pipeline.features.lexical import (
    LEXICAL_WIDTH,
    fit_lexical,
    fit_transform_lexical,
    hashed_terms,
    lexical_vectors,
)

FEW = ["please delete my account", "stop the newsletters", "send me my data", "where is my parcel"]


def pickled(model: Any) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def texts(sample_rows: pd.DataFrame) -> list[str]:
    return sample_rows["text"].tolist()


def test_the_width_is_200_and_filled_where_the_corpus_is_large(texts: list[str]) -> None:
    vectors = lexical_vectors(fit_lexical(texts), texts)
    assert (vectors.shape, vectors.dtype) == ((len(texts), LEXICAL_WIDTH), np.float32)
    assert np.isfinite(vectors).all()
    assert (vectors.std(axis=0) > 0).all()


def test_the_vectors_of_a_fit_are_those_of_a_later_transform(texts: list[str]) -> None:
    some = [*texts[:300], texts[0]]
    lexical, vectors = fit_transform_lexical(some, seed=3)
    np.testing.assert_array_equal(vectors, lexical_vectors(lexical, some))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_small_corpus_is_filled_up_with_zeros(n: int) -> None:
    vectors = lexical_vectors(fit_lexical(FEW[:n]), [*FEW, "words never seen"])
    assert vectors.shape == (5, LEXICAL_WIDTH)
    assert (vectors[:, :n] != 0).any()
    assert (vectors[:, n:] == 0).all()


def test_fewer_components_leave_zeros_behind_them(texts: list[str]) -> None:
    vectors = lexical_vectors(fit_lexical(texts, components=7), texts)
    assert (vectors[:, :7].std(axis=0) > 0).all()
    assert (vectors[:, 7:] == 0).all()


def test_the_same_texts_and_seed_give_the_same_numbers(texts: list[str]) -> None:
    first, second = (lexical_vectors(fit_lexical(texts[:300], seed=3), texts[300:400]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_it_learns_from_the_given_texts_only(texts: list[str]) -> None:
    """Transforming other texts changes nothing of what was learned."""
    lexical = fit_lexical(texts[:300])
    before = pickled(lexical)
    lexical_vectors(lexical, texts[300:])
    assert pickled(lexical) == before
    other = fit_lexical(texts[:299])
    assert not np.allclose(lexical_vectors(lexical, FEW), lexical_vectors(other, FEW))


def test_a_text_has_the_same_numbers_whatever_stands_beside_it(texts: list[str]) -> None:
    lexical = fit_lexical(texts[:300])
    alone = np.vstack([lexical_vectors(lexical, [text]) for text in texts[300:310]])
    np.testing.assert_allclose(lexical_vectors(lexical, texts[300:310] * 2), np.vstack([alone, alone]), atol=1e-6)


@pytest.mark.parametrize("analyzer", ["word", "char_wb", "char"])
def test_a_fitted_half_holds_no_word_of_its_texts(analyzer: str) -> None:
    planted = "Zanzibarkowski"
    texts = [*FEW, f"I am {planted} and want my data", f"{planted} again"]
    content = pickled(fit_lexical(texts, analyzer=analyzer, ngram_range=(1, 3)))
    for word in (planted, planted.lower(), "newsletters", "parcel"):
        assert word.encode() not in content
        assert word.encode("utf-16-le") not in content


def test_it_loads_without_this_package(texts: list[str]) -> None:
    """The downstream system has scikit-learn alone."""
    assert b"pcc_pipeline" not in pickled(fit_lexical(texts[:100]))


@pytest.mark.parametrize("alike", [["one text"] * 5, ["", " ", ""], ["one"]])
def test_texts_that_are_all_alike_are_told(alike: list[str]) -> None:
    with pytest.raises(FeatureError, match="training texts are all alike"):
        fit_lexical(alike)


def test_repeated_texts_weigh_as_often_as_they_stand() -> None:
    """Each different text is hashed once, but the fit is that of all rows."""
    once, thrice = fit_lexical(FEW), fit_lexical([*FEW, FEW[0], FEW[0]])
    assert not np.allclose(once["tfidf"].idf_, thrice["tfidf"].idf_)


def test_no_texts_give_no_vectors() -> None:
    assert lexical_vectors(fit_lexical(FEW), []).shape == (0, LEXICAL_WIDTH)


def test_settings_reach_the_vectoriser() -> None:
    lexical = fit_lexical(FEW, analyzer="word", ngram_range=(1, 2), n_features=512, sublinear_tf=False)
    hashing = lexical["hashing"]
    assert (hashing.analyzer, hashing.ngram_range, hashing.n_features) == ("word", (1, 2), 512)
    assert lexical["tfidf"].sublinear_tf is False


def test_terms_that_are_known_give_what_the_texts_give(texts: list[str]) -> None:
    options = {"ngram_range": (3, 4), "n_features": 4096, "sublinear_tf": True}
    terms = hashed_terms(texts, **options)
    first = fit_transform_lexical(texts[:200], **options)
    again = fit_transform_lexical(texts[:200], **options, terms=terms[:200])
    np.testing.assert_array_equal(first[1], again[1])
    by_texts, by_terms = (lexical_vectors(first[0], texts[200:], known) for known in (None, terms[200:]))
    np.testing.assert_array_equal(by_texts, by_terms)


def test_of_few_rows_the_svd_is_exact(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    some, components = texts[:150], 40
    exact = fit_lexical(some, components=components)
    weights = exact[:-1].transform(some)
    theirs = TruncatedSVD(components, algorithm="arpack", random_state=0).fit(weights)
    np.testing.assert_allclose(exact["svd"].singular_values_, theirs.singular_values_, rtol=1e-6)
    np.testing.assert_allclose(exact["svd"].explained_variance_, theirs.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(exact["svd"].explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-4)
    # Where two of its numbers are all but equally great, rounding decides the sign.
    first, second = exact["svd"].components_[:components], theirs.components_
    np.testing.assert_allclose(np.abs((first * second).sum(axis=1))[:10], 1, atol=1e-4)
    assert set(vars(exact["svd"])) == set(vars(theirs))
    monkeypatch.setattr(lexical_half, "_FEW_ROWS", 0)
    sketched = fit_lexical(some, components=components)
    assert exact["svd"].explained_variance_ratio_.sum() >= sketched["svd"].explained_variance_ratio_.sum() - 1e-6


@pytest.mark.parametrize("times", [60, 600])
def test_rows_that_repeat_one_another_have_no_more_dimensions_than_texts(times: int) -> None:
    lexical, vectors = fit_transform_lexical(FEW * times)
    assert (np.abs(vectors[:, :4]).max(axis=0) > 0).all()
    assert (vectors[:, 4:] == 0).all()
    assert np.isfinite(vectors).all()
    # Nor has a text that is none of them.
    assert (lexical_vectors(lexical, ["another text of " + FEW[0] + " and " + FEW[1]])[:, 4:] == 0).all()
