"""Captions said by a network: vocabulary, teacher forcing, beam search, learning by heart, checkpoints."""

import gc
import itertools
from collections import Counter

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_modules import VideoDescriber, VideoNetwork
from lightning_modules.captions.caption_search import beam_search
from lightning_modules.captions.teacher_forcing import teacher_forcing
from lightning_modules.captions.vocabulary import BEGIN, END, UNKNOWN, Vocabulary, normalize_caption
from tests.lightning_modules.clip_batches import moving_bars

CAPTIONS = ["A bar falls, slowly.", "the bar rises"]
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def bars(num_videos=8, clips_per_video=1):
    batch = moving_bars(num_videos, clips_per_video)
    return batch._replace(captions=[[CAPTIONS[label]] for label in batch.labels.tolist()])


def small(**settings):
    torch.manual_seed(0)
    arguments = {"training_captions": CAPTIONS, "channels": (8, 16), "hidden_size": 24, "embedding_size": 8}
    return VideoDescriber(**arguments | {"dropout": 0.0, "max_length": 8} | settings)


class Captioned(torch.utils.data.Dataset):
    """The same batch of eight bars, again and again."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, number):
        if number >= self.length:
            raise IndexError
        return bars()


def loader(length):
    return torch.utils.data.DataLoader(Captioned(length), batch_size=None)


class Share(torch.utils.data.Dataset):
    """The first five of the eight bars on the first of two ranks, the other three on the second; all on one alone.

    The first has a caption that nobody says.
    """

    def __len__(self):
        return 1

    def __getitem__(self, number):
        if number > 0:
            raise IndexError
        batch, ranks = bars(), torch.distributed
        alone = not ranks.is_initialized() or ranks.get_world_size() == 1
        kept = torch.arange(8) if alone else [torch.arange(5), torch.arange(5, 8)][ranks.get_rank()]
        return batch._replace(
            clips=batch.clips[kept],
            video_index=torch.arange(len(kept)),
            labels=batch.labels[kept],
            keys=[batch.keys[number] for number in kept],
            rows=batch.rows[kept],
            clip_times=batch.clip_times[kept],
            captions=[batch.captions[number] if number else ["nothing of the kind"] for number in kept.tolist()],
        )


class TestVocabulary:
    def test_words_by_count_then_alphabet(self):
        words = Vocabulary.from_captions(["The cat sat.", "the dog, the cat"])
        assert words.tokens == ["the", "cat", "dog", "sat"]
        assert words.encode("The dog sat!") == [3, 5, 6]
        assert words.decode([BEGIN, 3, 5, END, 4]) == words.decode([0, 3, 5, 1, 4]) == "the dog"  # as in checkpoints

    def test_rare_words_are_unknown(self):
        words = Vocabulary.from_captions(["a b", "a c"], min_count=2)
        assert words.tokens == ["a"]
        assert words.encode("a b") == [3, UNKNOWN]
        assert words.decode([3, UNKNOWN]) == "a <unknown>"
        with pytest.raises(ValueError, match="min_count=3: none of 3 different words"):
            Vocabulary.from_captions(["a b", "a c"], min_count=3)

    def test_characters_come_back_as_they_were(self):
        caption = "Öl, 2 l"
        words = Vocabulary.from_captions([caption], "characters")
        assert words.decode(words.encode(caption)) == caption == normalize_caption(caption, "characters")


class Table(torch.nn.Module):
    """Log-probabilities of a word after the one or two before it, drawn at random: a network small enough to search."""

    def __init__(self, size, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.rows = (2 * torch.randn(3, size, size, size, generator=generator)).log_softmax(-1)

    def step(self, last, state):
        before, search = state[0][0].long(), state[1][0].long()
        return self.rows[search, before, last], (last[None].float(), state[1])

    def score(self, search, words, begin=0):
        total, before, last = 0.0, begin, begin
        for word in words:
            total += self.rows[search, before, last, word].item()
            before, last = last, word
        return total


def every_sequence(size, end, max_length):
    """All sequences up to their first end, or cut at `max_length`."""
    others = [word for word in range(size) if word != end]
    for length in range(max_length):
        yield from ((*words, end) for words in itertools.product(others, repeat=length))
    yield from itertools.product(others, repeat=max_length)


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_is_an_exhaustive_search(seed):
    size, end, max_length = 3, 1, 4
    table = Table(size, seed)
    state = (torch.zeros(1, 3), torch.arange(3.0)[None])
    found = beam_search(table.step, state, 3, 0, end, beam_size=size**max_length, max_length=max_length)
    for search in range(3):
        best = max(every_sequence(size, end, max_length), key=lambda words: table.score(search, words))
        said = found.words[search].tolist()
        assert tuple(said[: said.index(end) + 1] if end in said else said) == best
        assert found.scores[search].item() == pytest.approx(table.score(search, best), abs=1e-5)
        assert end not in said or set(said[said.index(end) :]) == {end}  # nothing is said after the end


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_greedy_and_a_wider_one_no_worse(seed):
    size, end, max_length = 5, 1, 6
    table = Table(size, seed)
    state = (torch.zeros(1, 3), torch.arange(3.0)[None])
    narrow = beam_search(table.step, state, 3, 0, end, 1, max_length)
    wide = beam_search(table.step, state, 3, 0, end, 5**6, max_length)
    for search in range(3):
        words, before, last = [], 0, 0
        while len(words) < max_length and end not in words:
            words.append(table.rows[search, before, last].argmax().item())
            before, last = last, words[-1]
        assert narrow.words[search].tolist()[: len(words)] == words
        assert narrow.scores[search].item() == pytest.approx(table.score(search, words), abs=1e-5)
    assert (wide.scores >= narrow.scores - 1e-5).all()


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("max_length", [1, 2, 4, 12])
def test_asking_late_whether_all_have_ended_finds_the_same_sequences(beam_size, max_length):
    """The flag is then read of the word before, of which there is none at first."""
    lengths = set()
    for seed in range(12):
        table, state = Table(4, seed), (torch.zeros(1, 3), torch.arange(3.0)[None])
        soon, late = (
            beam_search(table.step, state, 3, 0, 1, beam_size, max_length, late=is_late) for is_late in (False, True)
        )
        assert torch.equal(soon.words, late.words)
        assert torch.equal(soon.scores, late.scores)
        lengths.add(soon.words.shape[1])
    assert len(lengths) > 1 or max_length < 12


def test_teacher_forcing_by_hand():
    """Each word is asked for after the ones before it; after a caption's end nothing is."""
    forced = teacher_forcing([[3, 4, 5], [4], [UNKNOWN]], 8)
    assert forced.inputs.tolist() == [[BEGIN, 3, 4, 5], [BEGIN, 4, END, END], [BEGIN, UNKNOWN, END, END]]
    assert forced.words.tolist() == [3, 4, 5, END, 4, END, UNKNOWN, END]
    assert forced.places.tolist() == [0, 1, 2, 3, 4, 5, 8, 9]
    cut = teacher_forcing([[3, 4, 5]], 3)
    assert cut.inputs.tolist() == [[BEGIN, 3, 4]]
    assert cut.words.tolist() == [3, 4, END]  # cut, so that the end can be said within max_length


class HostReads(TorchFunctionMode):
    """Counts calls that read values on the host."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__"):
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))


class Reads(TorchDispatchMode):
    """Counts what would wait for a GPU: values read on the host, masks, and copies from the host to another device."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "unique"):
            self.calls[name] += 1
        masks = [arg for arg in args[1] if arg is not None and arg.dtype == torch.bool] if name == "index" else []
        if masks:
            self.calls["mask"] += 1
        found = func(*args, **(kwargs or {}))
        is_on_host = any(isinstance(arg, torch.Tensor) and arg.device.type == "cpu" for arg in args)
        if isinstance(found, torch.Tensor) and found.is_meta and is_on_host:
            self.calls["copy"] += 1
        return found


def test_captions_go_to_the_device_in_three_copies_however_many_they_are():
    captions = [[3, 4, 5], [4], [UNKNOWN], [5] * 9] * 4
    with Reads() as reads:
        moved = teacher_forcing(captions, 8).to(torch.device("meta"))
    assert [part.device.type for part in moved] == ["meta"] * 3
    assert reads.calls == {"copy": 3}


def test_a_training_step_reads_no_value_and_makes_no_mask():
    model, batch = small(), bars(4, clips_per_video=2)
    batch = batch._replace(videos_of_clips=batch.video_index.tolist())
    with Reads() as reads, HostReads() as host_reads:
        model.training_step(batch, 0).backward()
    assert reads.calls == host_reads.calls == {}


def test_the_loss_is_that_of_saying_the_words_one_by_one():
    model = small().eval()
    batch = bars(2)
    with torch.no_grad():
        states = model.video_states(batch)
        losses = model.word_losses(states, [CAPTIONS[0], CAPTIONS[1]])
        alone = []
        for video, caption in enumerate(CAPTIONS):
            state = tuple(part[:, video : video + 1] for part in states)
            lstm, last = state[:-1], BEGIN
            for word in [*model.vocabulary.encode(caption), END]:
                logits, lstm = model.decoder(torch.tensor([[last]]), lstm, state[-1][0])
                alone.append(-logits[0, 0].log_softmax(0)[word])
                last = word
    torch.testing.assert_close(losses, torch.stack(alone))


def test_rare_words_are_not_learnt_where_that_is_asked_for():
    assert small(min_count=2).vocabulary.tokens == ["bar"]
    assert small().vocabulary.tokens == ["bar", "a", "falls", "rises", "slowly", "the"]


def test_unknown_words_are_never_said():
    model = small(vocabulary=["a"]).eval()
    with torch.no_grad():
        model.decoder.output.bias[UNKNOWN] = 100.0
        model.decoder.output.bias[BEGIN] = 100.0
        captions, _ = model.generate(model.video_states(bars(2)))
    assert all(set(caption.split()) <= {"a"} for caption in captions)


def test_captions_are_learnt_by_heart_and_travel_in_the_checkpoint(tmp_path):
    model = small(optimizer="adamw", learning_rate=0.01, weight_decay=0.0)
    trainer = Trainer(**QUIET, max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(model, loader(60))
    [metrics] = trainer.test(model, loader(1), verbose=False)
    assert metrics["test/exact_match"] == 1.0
    assert metrics["test/bleu4"] == pytest.approx(1.0)  # `a bar falls slowly` has one run of four words
    assert metrics["test/loss"] < 0.3
    [told] = trainer.predict(model, loader(1))
    assert told["captions"][:2] == ["a bar falls slowly", "the bar rises"]

    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = VideoNetwork.load(tmp_path / "last.ckpt")
    assert isinstance(loaded, VideoDescriber)
    assert loaded.vocabulary.tokens == model.vocabulary.tokens == ["bar", "a", "falls", "rises", "slowly", "the"]
    assert loaded.predict_step(bars(), 0)["captions"] == told["captions"]
    other = small(training_captions=["something else", "else"])
    [metrics] = trainer.test(other, loader(1), ckpt_path=str(tmp_path / "last.ckpt"), verbose=False)
    assert metrics["test/exact_match"] == 1.0
    with pytest.raises(ValueError, match="knows 6 words, and the captions of this dataset have 2"):
        Trainer(**QUIET, max_epochs=2, default_root_dir=tmp_path).fit(
            small(training_captions=["something else"]), loader(1), ckpt_path=str(tmp_path / "last.ckpt")
        )


class ReleaseWrapper(Callback):
    """Finished gloo processes may abort at exit where a wrapped model outlives the process group."""

    def teardown(self, trainer, pl_module, stage):
        if trainer.world_size > 1:
            trainer.strategy.model = None
            gc.collect()


@pytest.mark.slow
def test_two_ranks_judge_captions_as_one_does(tmp_path):
    model = small(optimizer="adamw", learning_rate=0.01, weight_decay=0.0)
    settings = QUIET | {"default_root_dir": tmp_path, "use_distributed_sampler": False}
    settings |= {"callbacks": [ReleaseWrapper()]}
    Trainer(**settings, max_epochs=1).fit(model, loader(45))
    judged = [
        Trainer(**settings, **ranks).test(model, torch.utils.data.DataLoader(Share(), batch_size=None), verbose=False)
        for ranks in ({}, {"strategy": "ddp_spawn", "devices": 2})
    ]
    assert judged[1][0] == pytest.approx(judged[0][0], abs=1e-5)
    assert 0.0 < judged[0][0]["test/bleu4"] < 1.0


def test_views_are_averaged_and_empty_batches_pass():
    model = small().eval()
    batch = bars(3, clips_per_video=2)._replace(video_index=torch.tensor([2, 0, 1, 2, 0, 2]))
    states = model.clip_states(model.normalize(batch))
    for part, from_clips_of_videos in zip(states, model.video_states(batch), strict=True):
        expected = [part[:, [1, 4]].mean(1), part[:, 2], part[:, [0, 3, 5]].mean(1)]
        torch.testing.assert_close(from_clips_of_videos, torch.stack(expected, dim=1))
    empty = batch._replace(clips=batch.clips[:0], video_index=batch.video_index[:0], keys=[], captions=[])
    model.log = lambda *args, **kwargs: None
    assert model.predict_step(empty, 0)["captions"] == []
    model.validation_step(empty, 0)
    model.training_step(empty, 0).backward()
    assert all(not parameter.grad.any() for parameter in model.parameters())


def test_every_parameter_gets_a_gradient_and_one_of_several_captions_is_drawn():
    model = small()
    model.log = lambda *args, **kwargs: None
    model.training_step(bars(4), 0).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    batch = bars(1)._replace(captions=[CAPTIONS])
    losses = {round(model.training_step(batch, number).item(), 5) for number in range(12)}
    assert len(losses) == 2  # either caption, keyed by the number of the batch
    assert model.training_step(batch, 3).item() == model.training_step(batch, 3).item()


def test_a_batch_without_captions_says_what_to_set():
    with pytest.raises(ValueError, match=r"data\.init_args\.captions=false"):
        small().training_step(moving_bars(2), 0)
