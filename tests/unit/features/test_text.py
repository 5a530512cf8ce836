from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.errors import UserError
from recsys_spark.features.subwords import WordPiece
from recsys_spark.features.text import Vocabulary, item_texts, stop_list, words


def test_words_are_runs_of_letters_and_digits_in_one_case_and_one_form() -> None:
    assert words("Crème BRÛLÉE, 2x200g!") == ["crème", "brûlée", "2x200g"]
    assert words("Cre\u0300me ﬁlter Ⅳ") == ["crème", "filter", "iv"]  # composed; ligature and numeral taken apart
    assert words("STRASSE straße") == ["strasse", "strasse"]
    assert words("a_b-c/d") == ["a", "b", "c", "d"]


def test_a_letter_keeps_its_marks_and_an_ideograph_is_a_word() -> None:
    assert words("हिन्दी किताब") == ["हिन्दी", "किताब"]
    assert words("红茶 tea包", min_length=2) == ["红", "茶", "tea", "包"]


def test_short_endless_and_stop_words_are_left_out() -> None:
    assert words("a tea for the " + "x" * 65, min_length=2, stop_words=stop_list(["the", "for"])) == ["tea"]


def test_stop_words_are_normalised_like_tokens() -> None:
    given = ["The", "STRASSE", "\uff46\uff4f\uff52"]  # the last in fullwidth letters
    assert words("THE tea for the Straße", stop_words=stop_list(given)) == ["tea"]


def test_a_title_that_is_only_the_id_says_nothing() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "item_id": ["SKU1", "SKU2"],
            "title": ["SKU1", "Tea"],
            "description": [None, "green"],
            "category": ["hot", None],
            "brand": [None, "Acme"],
        }
    )
    assert item_texts(batch) == ["hot", "Tea green Acme"]


def test_ids_are_0_for_padding_1_for_unknown_and_then_in_the_order_of_the_vocabulary() -> None:
    vocabulary = Vocabulary(("tea", "green"), np.array([3, 1]), documents=3)
    tokens = vocabulary.encode([["green", "tea", "pot"], [], ["tea"]])
    assert tokens.ids.tolist() == [3, 2, 1, 2]
    assert tokens.padded(2).tolist() == [[3, 2], [0, 0], [2, 0]]
    assert vocabulary.size == 4


# The examples are those of tokenization_test.py in google-research/bert.
BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ",")


def test_wordpiece_cuts_words_into_the_longest_pieces() -> None:
    tokenizer = WordPiece(BERT)
    assert tokenizer.tokenize("") == []
    assert tokenizer.tokenize("unwanted running") == ["un", "##want", "##ed", "runn", "##ing"]
    assert tokenizer.tokenize("unwantedX running") == ["[UNK]", "runn", "##ing"]
    assert tokenizer.tokenize("UNwant\u00e9d,running") == ["un", "##want", "##ed", ",", "runn", "##ing"]


def test_basic_tokenisation_is_berts() -> None:
    signs = ("hello", "HeLLo", "!", "how", "are", "you", "?", "ah", "博", "推", "zz", "hällo", "hallo")
    uncased = WordPiece(BERT + signs)
    assert uncased.tokenize(" \tHeLLo!how  \n Are yoU?  ") == ["hello", "!", "how", "are", "you", "?"]
    assert uncased.tokenize("ah\u535a\u63a8zz") == ["ah", "博", "推", "zz"]
    assert uncased.tokenize("Hällo") == ["hallo"]
    assert uncased.tokenize("hel\u200blo\x00\ufffd") == ["hello"]
    cased = WordPiece(BERT + signs, lowercase=False, strip_accents=False)
    assert cased.tokenize("HeLLo hällo") == ["HeLLo", "hällo"]


def test_input_ids_stand_between_cls_and_sep_and_are_cut_and_padded_to_one_length() -> None:
    assert WordPiece(BERT).encode(["wanted", "want want want want", ""], 5).tolist() == [
        [2, 4, 6, 3, 0],
        [2, 4, 4, 4, 3],
        [2, 3, 0, 0, 0],
    ]


def test_both_files_of_a_hugging_face_folder_give_the_same_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(BERT) + "\n")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = WordPiece.from_folder(tmp_path)
    assert cased == WordPiece(BERT, lowercase=False, strip_accents=False)
    model = {"type": "WordPiece", "vocab": {piece: place for place, piece in enumerate(BERT)}}
    normalizer = {"type": "BertNormalizer", "lowercase": False, "strip_accents": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model, "normalizer": normalizer}))
    assert WordPiece.from_folder(tmp_path) == cased
    assert WordPiece.from_json(json.loads(json.dumps(cased.to_json()))) == cased


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("nothing.txt", "", "has no tokenizer.json and no vocab.txt"),
        ("vocab.txt", "the\n", r"lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
        ("tokenizer.json", "{", "cannot be read"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', "not BERT's WordPiece"),
    ],
)
def test_a_folder_without_berts_tokenizer_is_refused(tmp_path: Path, file: str, content: str, said: str) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=said):
        WordPiece.from_folder(tmp_path)
