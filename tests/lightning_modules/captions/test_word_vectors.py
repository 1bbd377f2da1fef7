"""Word vectors of GloVe and word2vec: in the embedding, frozen, tied, in checkpoints; and what is wrong with a file."""

import pytest
import torch
from pytorch_lightning import Trainer

from lightning_modules import VideoNetwork
from lightning_modules.captions.caption_decoder import WordDecoder
from lightning_modules.captions.word_vectors import read_word_vectors
from tests.lightning_modules.layers.recurrence_equations import run_equations
from tests.lightning_modules.networks.test_video_captioner import QUIET, bars, loader, small

GLOVE = "the 1.5 -2 3e-1\n. . . 7 7 7\nbar 4 5 6\nbar 0 0 0\nThe 9 9 9\n"


def write(folder, text):
    (folder / "vectors.txt").write_text(text, encoding="utf-8")
    return folder / "vectors.txt"


@pytest.mark.parametrize("header", ["", "5 3\n"])
def test_a_line_is_a_word_and_its_numbers(header, tmp_path):
    """Of words that occur twice the first counts; words with blanks are no words of a caption."""
    found = read_word_vectors(write(tmp_path, header + GLOVE), ["a", "bar", "the"], 3)
    assert found.numbers.tolist() == [1, 2]
    torch.testing.assert_close(found.vectors, torch.tensor([[4.0, 5, 6], [1.5, -2, 0.3]]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the 1 2\nbar 1 2\n", "its vectors have 2 numbers, and embedding_size=3; set embedding_size: 2"),
        ("2 4\nthe 1 2 3 4\n", "its vectors have 4 numbers, and embedding_size=3; set embedding_size: 4"),
        ("the 1 2 3\nbar 1 2\n", "line 2 is not a word and 3 numbers"),
        ("the 1 2 3\nbar 1 2 3 4\n", "line 2 is not a word and 3 numbers"),
        ("the 1 2 3\nbar 1 x 3\n", "line 2 is not a word and 3 numbers"),
        ("the 1 2 3\nbar 1 nan 3\n", "line 2 is not a word and 3 numbers"),
        ("the 1 2 3\nbar 1 inf 3\n", "line 2 is not a word and 3 numbers"),
        ("", "line 1 is not a word and 3 numbers"),
        ("3 3\nthe 1 2 3\nbar 1 2 3\n", "its first line says 3 words, and it has 2: was it copied whole"),
        ("dog 1 2 3\n", "has a vector of none of the 2 words of the vocabulary, such as 'the', 'bar'"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(text, message, tmp_path):
    with pytest.raises(ValueError, match=r"embedding_weights=.*vectors\.txt: ") as caught:
        read_word_vectors(write(tmp_path, text), ["the", "bar"], 3)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="embedding_weights=nowhere: there is no such file"):
        begin(small(embedding_weights="nowhere"), tmp_path)


def begin(model, folder):
    """Runs `setup` as a trainer that begins to fit does."""
    model.trainer = Trainer(**QUIET, default_root_dir=folder)
    model.setup("fit")
    return model.decoder.embedding.weight


def test_words_without_a_vector_keep_their_random_start_and_are_told(tmp_path, caplog):
    path = write(tmp_path, GLOVE)
    random = small(embedding_size=3).decoder.embedding.weight
    model = small(embedding_size=3, embedding_weights=str(path))
    assert model.vocabulary.tokens == ["bar", "a", "falls", "rises", "slowly", "the"]  # numbered from 3
    with caplog.at_level("INFO", logger="pytorch_lightning"):  # which `evaluate` quietens in this process
        weight = begin(model, tmp_path)
    torch.testing.assert_close(weight[[3, 8]], torch.tensor([[4.0, 5, 6], [1.5, -2, 0.3]]))
    assert torch.equal(weight[[0, 1, 2, 4, 5, 6, 7]], random[[0, 1, 2, 4, 5, 6, 7]])
    assert "vectors of 2 of 6 words; 66.7 % start from random vectors: 'a', 'falls', 'rises', 'slowly'" in caplog.text


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_vectors_are_trained_or_frozen_and_a_checkpoint_has_them_without_the_file(tied, frozen, tmp_path):
    path = write(tmp_path, GLOVE)
    settings = {"embedding_size": 3, "embedding_weights": str(path), "freeze_embedding": frozen, "tie_embedding": tied}
    model = small(**settings, learning_rate=0.1)
    trainer = Trainer(**QUIET, max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(model, loader(1))
    weight = model.decoder.embedding.weight
    assert torch.equal(weight[3], torch.tensor([4.0, 5, 6])) == frozen
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    path.unlink()
    loaded = VideoNetwork.load(tmp_path / "last.ckpt")
    assert torch.equal(loaded.decoder.embedding.weight, weight)
    assert loaded.predict_step(bars(2), 0)["captions"] == model.eval().predict_step(bars(2), 0)["captions"]
    resumed = small(**settings, learning_rate=0.1)
    resumed.resumes = True  # as `fit` sets it
    more = Trainer(**QUIET, max_epochs=1, default_root_dir=tmp_path)  # there is nothing left to do
    more.fit(resumed, loader(1), ckpt_path=str(tmp_path / "last.ckpt"), weights_only=True)
    assert torch.equal(resumed.decoder.embedding.weight, weight)


def test_a_random_embedding_that_is_frozen_is_told(tmp_path):
    with pytest.warns(UserWarning, match="freeze_embedding=true without weights"):
        assert not begin(small(freeze_embedding=True), tmp_path).requires_grad


def test_a_tied_output_is_the_embedding_transposed():
    """E (P (h_t, vector) + p) + b, with the matrix E that the words before were read with."""
    torch.manual_seed(0)
    decoder = WordDecoder(7, 4, 5, num_layers=3, dropout=0.5, tie_embedding=True).double().eval()
    assert WordDecoder(500, 16, 5, 1, 0.5, tie_embedding=True).embedding.weight.std().item() == pytest.approx(
        0.25, rel=0.05
    )  # 1 / sqrt(E), so that logits do not grow with E
    torch.nn.init.normal_(decoder.word_bias)
    state = tuple(torch.randn(3, 1, 5, dtype=torch.float64) for _ in range(2))
    seen = torch.randn(1, 5, dtype=torch.float64)
    words = torch.tensor([[0, 3, 5]])
    logits, _ = decoder(words, state, seen)
    matrix = decoder.embedding.weight
    x = torch.cat([matrix[words[0]], seen.expand(3, -1)], dim=1)
    hidden = run_equations("lstm", decoder.cells, x, 3, begin=[part[:, 0] for part in state]).states
    both = torch.cat([hidden, seen.expand(3, -1)], dim=1)
    expected = (both @ decoder.output.weight.T + decoder.output.bias) @ matrix.T + decoder.word_bias
    torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-12)
    assert [tuple(one.shape) for one in decoder.parameters() if 7 in one.shape] == [(7,), (7, 4)]  # no second matrix
    logits.square().sum().backward()
    assert (matrix.grad.abs().amax(1) > 0).all()  # words that were not read learn by the output
