"""Options of protocols: those of the paper, where none are given."""

import pytest

from pipeline.inference.protocols import PROTOCOLS, apply_protocol

NONE = dict.fromkeys(("num_clips", "clip_step", "whole", "fps", "frame_interval"))


def test_given_options_win_and_replace_those_that_exclude_them():
    assert apply_protocol(None, "evaluate", NONE) == NONE
    assert apply_protocol("i3d", "evaluate", NONE) == NONE | {"fps": 25, "whole": True}
    assert apply_protocol("i3d", "evaluate", NONE | {"fps": 12.5})["fps"] == 12.5
    assert apply_protocol("i3d", "evaluate", NONE | {"num_clips": 3})["whole"] is None
    assert apply_protocol("lrcn", "features", NONE) == NONE | {"fps": 30, "clip_step": 8}
    assert apply_protocol("lrcn", "features", NONE | {"frame_interval": 2})["fps"] is None


def test_an_unknown_protocol_is_named():
    with pytest.raises(ValueError, match="protocol='tsn': must be one of lrcn, c3d, i3d, 10x3"):
        apply_protocol("tsn", "evaluate", NONE)
    assert set(PROTOCOLS["10x3"].evaluate) == {"num_clips", "num_crops", "average"}
