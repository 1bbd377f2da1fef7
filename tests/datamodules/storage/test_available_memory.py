"""A video whose clips do not fit into memory together is refused in a sentence, before anything is decoded."""

import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.clip_reader import ClipReader, ReadFailure
from datamodules.sampling.batch_sampler import Request
from datamodules.sampling.clip_sampling import ClipSampler, ClipShape
from datamodules.storage.available_memory import available_memory
from datamodules.transforms.clip_transforms import EvalTransform


def test_memory_that_is_left():
    assert 2**24 < available_memory() < 2**50


def test_clips_that_do_not_fit_are_a_sentence(motion_dataset):
    index = DatasetIndex.open(motion_dataset)
    rows = np.arange(2)
    for num_clips, message in ((2, None), (200_000, "take fewer clips (num_clips), a larger clip_step")):
        sampler = ClipSampler(ClipShape(16), "uniform", num_clips)
        reader = ClipReader(index, rows, sampler, EvalTransform(512, None), "pyav", 0, True, 512)
        outcome = reader[Request(rows[:1], 0)]
        if message is None:
            assert not isinstance(outcome, ReadFailure)
            assert outcome.clips.shape[:2] == (2, 16)
        else:
            assert isinstance(outcome, ReadFailure)  # although videos that do not decode are left out
            assert outcome.error is ValueError
            assert f"video {index.entry(0).key} in " in outcome.message
            assert "its 200000 clips of 16 frames take 7031.2 GB" in outcome.message
            assert message in outcome.message
