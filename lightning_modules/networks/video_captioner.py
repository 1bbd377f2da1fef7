"""Video captioner: one LSTM encodes a video's frames, another generates a sentence.

After LRCN (Donahue et al.: "Long-term Recurrent Convolutional Networks for Visual Recognition and Description", CVPR
2015, section 5) and S2VT (Venugopalan, Rohrbach, Donahue, Mooney, Darrell, Saenko: "Sequence to Sequence - Video to
Text", ICCV 2015). S2VT has one stack of LSTMs for frames and words. Here each has its own LSTM: the decoder starts from
the encoder's last state, and receives a vector of the video at every step.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torchmetrics import Metric

from datamodules.batch import ClipBatch
from datamodules.device_transfer import move_to_device
from lightning_modules.captions.batch_captions import captions_of, draw_captions
from lightning_modules.captions.caption_decoder import WordDecoder
from lightning_modules.captions.caption_metrics import CaptionMetrics
from lightning_modules.captions.caption_search import State, beam_search, sample_sequences
from lightning_modules.captions.teacher_forcing import teacher_forcing
from lightning_modules.captions.vocabulary import BEGIN, END, UNKNOWN, Units, Vocabulary
from lightning_modules.captions.word_vectors import load_word_vectors
from lightning_modules.layers.recurrent import Recurrence, TemporalPooling
from lightning_modules.networks.frame_sequence import FrameSequenceNetwork
from lightning_modules.tasks.random_seed import seed_of


class VideoDescriber(FrameSequenceNetwork):
    """Generates captions of videos; trained to predict each word from the words before it (teacher forcing).

    Each clip is trained on one of its video's captions, a different one in each epoch if there are several; a video
    without captions has its class name. For validation, test and prediction the states of a video's views are averaged,
    and beam search finds the most probable caption. Logged: `{split}/loss`, mean cross entropy per word;
    `{split}/bleu4`, over the corpus, with all captions of a video as references (0 if no caption has four words);
    `{split}/exact_match`, fraction of videos whose caption equals a reference. Both compare captions as the vocabulary
    writes them, words in lower case without punctuation.

    Endpoints: frames (N, T, D), the 2D network's features of every frame; hidden (N, T, H), the encoder's state after
    every frame; state (N, H), the clip's vector.

    Args:
        vocabulary: the words, or characters, that can be generated, saved in checkpoints; default: those of the
            training captions of the trainer's data module.
        training_captions: captions that the vocabulary is built from, if the data module has none.
        units: `words`, in lower case, or `characters`.
        min_count: minimum number of occurrences of a word in the vocabulary; others are trained on as one unknown
            word, which is never generated.
        max_length: maximum number of words, or characters, of a caption; longer ones are cut in training.
        beam_size: number of sequences that beam search keeps; 1 is greedy.
        hidden_size: H, size of the encoder's and the decoder's state; S2VT uses 1000.
        embedding_size: size of a word embedding; S2VT uses 500.
        embedding_weights: text file of GloVe or word2vec, whose vectors the embedding of the vocabulary's words starts
            from; words that it lacks start from random vectors, and their share is told; ignored when a run resumes.
        freeze_embedding: freeze the word embedding, also the random vectors in it.
        tie_embedding: make the output layer the transposed embedding matrix, after a projection to `embedding_size`.
        num_layers: number of stacked layers, in the encoder and in the decoder.
        readout: vector of the video that the decoder receives at every step: the encoder's `last` state, or the `mean`
            of its states after every frame; the decoder starts from the last state in both cases.
        dropout: dropout probability of embeddings and before the output layer.
        **kwargs: arguments of `FrameSequenceNetwork`.

    Raises:
        ValueError: an empty vocabulary or one with duplicates, or an argument out of range.
    """

    feature_layer = "state"

    def __init__(
        self,
        vocabulary: list[str] | None = None,
        training_captions: list[str] | None = None,
        units: Units = "words",
        min_count: int = 1,
        max_length: int = 20,
        beam_size: int = 3,
        hidden_size: int = 256,
        embedding_size: int = 128,
        embedding_weights: str | None = None,
        freeze_embedding: bool = False,
        tie_embedding: bool = False,
        num_layers: int = 1,
        readout: Literal["last", "mean"] = "mean",
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("max_length", max_length), ("beam_size", beam_size)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.max_length = max_length
        self.beam_size = beam_size
        self.stages.add_module("hidden", Recurrence(self.frame_size, hidden_size, "lstm", num_layers))
        self.stages.add_module("state", TemporalPooling(readout))
        self.stages.add_module("words", nn.Identity())
        self._units: Units = units
        self._min_count = min_count
        self._make_decoder = partial(
            WordDecoder,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            dropout=dropout,
            tie_embedding=tie_embedding,
        )
        self._embedding_weights = embedding_weights
        self._freeze_embedding = freeze_embedding
        self._vocabulary: Vocabulary | None = None
        if vocabulary is not None:
            self._set_vocabulary(Vocabulary(vocabulary, units))
        elif training_captions is not None:
            self._set_vocabulary(Vocabulary.from_captions(training_captions, units, min_count))
        self.metrics = nn.ModuleDict({f"{split}_metrics": CaptionMetrics() for split in ("val", "test")})

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary; raises ValueError if it is not known yet."""
        if self._vocabulary is None:
            raise ValueError("vocabulary=None: give it, or training_captions, or train on data that has captions")
        return self._vocabulary

    def _set_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Sets the vocabulary and creates a decoder for it, with untrained weights."""
        self._vocabulary = vocabulary
        self.hparams.update(vocabulary=vocabulary.tokens, units=vocabulary.units, training_captions=None)
        self.stages.words = self._make_decoder(len(vocabulary))

    def setup(self, stage: str) -> None:
        """Builds the vocabulary from the captions of the training split, unless it was given; loads word vectors."""
        captions = getattr(getattr(self.trainer, "datamodule", None), "training_captions", None)
        if self._vocabulary is None and captions is not None:
            self._set_vocabulary(Vocabulary.from_captions(captions, self._units, self._min_count))
        super().setup(stage)
        if stage == TrainerFn.FITTING:
            self._set_up_embedding()

    def _set_up_embedding(self) -> None:
        """Loads the word vectors, unless the run resumes, and freezes the embedding, as the arguments ask."""
        if self._embedding_weights is not None and not self.resumes:
            rank_zero_info(load_word_vectors(Path(self._embedding_weights), self.decoder.embedding, self.vocabulary))
        if self._freeze_embedding:
            if self._embedding_weights is None and self.initial_weights is None and not self.resumes:
                rank_zero_warn("freeze_embedding=true without weights: the embedding stays as random as it is now")
            self.decoder.embedding.requires_grad_(False)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the vocabulary of the checkpoint, whatever the dataset's captions are.

        Raises:
            ValueError: a resumed training has another vocabulary.
        """
        super().on_load_checkpoint(checkpoint)
        arguments = checkpoint["classifier"]["init_args"]
        vocabulary, units = arguments["vocabulary"], arguments["units"]
        if self._vocabulary is not None and (vocabulary, units) == (self._vocabulary.tokens, self._vocabulary.units):
            return
        if self._vocabulary is not None and self._trainer is not None and self.trainer.training:
            raise ValueError(
                f"the checkpoint knows {len(vocabulary)} {units}, and the captions of this dataset have "
                f"{len(self.vocabulary.tokens)}: resume on the same data"
            )
        self._set_vocabulary(Vocabulary(vocabulary, units))

    @property
    def endpoints_available(self) -> tuple[str, ...]:
        """Names of the stages up to the state."""
        return tuple(name for name in super().endpoints_available if name != "words")

    @property
    def decoder(self) -> WordDecoder:
        """The caption decoder."""
        return cast(WordDecoder, self.stages.words)

    # From clips to captions.

    def clip_states(self, x: Tensor) -> State:
        """The decoder's initial states for clips, float (N, C, T, H, W).

        Returns:
            The encoder's last hidden and cell state, each (layers, N, H), and the clips' vectors, (1, N, H).
        """
        hidden, (last, cell) = cast(Recurrence, self.stages.hidden).cells(self.frame_features(x))
        pooled: Tensor = cast(TemporalPooling, self.stages.state)(hidden)
        return last, cell, pooled[None]

    def video_states(self, batch: ClipBatch) -> State:
        """The states of the videos of a batch, averaged over their views: as `clip_states`, with B in place of N."""
        views = batch.views_per_video

        def average(part: Tensor) -> Tensor:
            sums = part.new_zeros((part.shape[0], batch.num_videos, part.shape[2]))
            return sums.index_add_(1, batch.video_index, part) / views[:, None]

        return tuple(average(part) for part in self.clip_states(self.normalize(batch)))

    def generate(self, states: State, beam_size: int | None = None) -> tuple[list[str], Tensor]:
        """The most probable captions that beam search finds.

        Args:
            states: states of B videos, from `video_states`.
            beam_size: number of sequences kept; default: the network's `beam_size`.

        Returns:
            The B captions, and their log-probabilities, float32 (B,).
        """
        count = states[0].shape[1]
        if count == 0:
            return [], self.mean.new_zeros(0)
        size = self.beam_size if beam_size is None else beam_size
        best = beam_search(self._next_words, states, count, BEGIN, END, size, self.max_length)
        return self.vocabulary.decode_all(best.words), best.scores

    def sample(
        self, states: State, temperature: float, generators: Sequence[torch.Generator]
    ) -> tuple[list[str], Tensor]:
        """Captions whose words are drawn at random, as `sample_sequences` does.

        Args:
            states: as in `generate`.
            temperature: above 0; 1 draws with the network's probabilities, near 0 the likeliest words win.
            generators: B generators on the CPU, one for each video.

        Returns:
            As `generate`; the log-probabilities are those at temperature 1.
        """
        drawn = sample_sequences(self._next_words, states, BEGIN, END, temperature, generators, self.max_length)
        return self.vocabulary.decode_all(drawn.words), drawn.scores

    def _next_words(self, last: Tensor, state: State) -> tuple[Tensor, State]:
        """The `DecoderStep` of this network; the beginning and the unknown word are never generated."""
        logits, after = self.decoder(last[:, None], state[:-1], state[-1][0])
        log_probabilities = logits[:, 0].float().log_softmax(dim=1)
        for forbidden in (BEGIN, UNKNOWN):
            log_probabilities[:, forbidden].fill_(-torch.inf)
        return log_probabilities, (*after, state[-1])

    def word_losses(self, states: State, captions: Sequence[str]) -> Tensor:
        """Cross entropy of every word of captions and of their end, given the correct words before: float32 (words,).

        Args:
            states: states of M videos or clips.
            captions: M captions, one for each.
        """
        encoded = [self.vocabulary.encode(caption) for caption in captions]
        target = teacher_forcing(encoded, self.max_length).to(self.mean.device)
        logits, _ = self.decoder(target.inputs, states[:-1], states[-1][0])
        return F.cross_entropy(
            logits.flatten(0, 1).index_select(0, target.places).float(), target.words, reduction="none"
        )

    # Training and evaluation.

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Mean cross entropy of the words of one caption per clip."""
        if batch.num_videos == 0:
            return self.zero_loss(batch, lambda x: self.word_losses(self.clip_states(x), [""]))
        chosen = draw_captions(batch, seed_of(self.seed_key(batch_idx)))
        loss = self.word_losses(self.clip_states(self.normalize(batch)), chosen).mean()
        self.log_loss(loss, len(chosen))
        return loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the metrics of the validation split."""
        self._evaluate(batch, "val")

    def test_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """Updates the metrics of the test split; returns the caption of each video."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """The keys of a batch's videos, their captions and the captions' log-probabilities."""
        captions, scores = self.generate(self.video_states(batch)) if batch.num_videos else ([], self.mean.new_zeros(0))
        return {"keys": batch.keys, "rows": batch.rows, "captions": captions, "scores": scores}

    def _evaluate(self, batch: ClipBatch, split: Literal["val", "test"]) -> dict[str, Any]:
        metrics = cast(CaptionMetrics, self.metrics[f"{split}_metrics"])
        captions: list[str] = []
        if batch.num_videos > 0:
            references = captions_of(batch)
            captions, _ = self.generate(states := self.video_states(batch))
            videos = [video for video, of_video in enumerate(references) for _ in of_video]
            video_index = move_to_device(torch.tensor(videos), self.mean.device)
            losses = self.word_losses(
                tuple(part.index_select(1, video_index) for part in states), list(chain.from_iterable(references))
            )
            metrics.update_captions(captions, references, self.vocabulary.units, losses)
        for name, metric in metrics.items():
            self.log(f"{split}/{name}", cast(Metric, metric), prog_bar=True, batch_size=batch.num_videos)
        return {"keys": batch.keys, "rows": batch.rows, "captions": captions}
