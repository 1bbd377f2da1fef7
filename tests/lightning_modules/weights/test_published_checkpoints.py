"""What the table of published checkpoints says of clips and pixels: what each publisher trained or tested on."""

import pytest

from lightning_modules import FrameClassifier
from lightning_modules.weights.published_checkpoints import PUBLISHED

I3D = {"num_frames": 64, "fps": 25.0, "resize": 256, "crop_size": 224}  # of its paper, section 2.5
C3D = {"num_frames": 16, "fps": None, "resize": [128, 171], "crop_size": 112}  # of its paper, section 3.1
ROWS = {row.name: row for row in PUBLISHED}
CLIPS = {
    **dict.fromkeys(("i3d-kinetics400-rgb", "i3d-kinetics400-rgb-piergiaj", "i3d-kinetics400-flow-piergiaj"), I3D),
    **dict.fromkeys(("c3d-sports1m", "c3d-sports1m-mmaction"), C3D),
}


@pytest.mark.parametrize("name", sorted(ROWS.keys() - {"googlenet-imagenet"}))  # which nobody's clips are known of
def test_published_weights_get_the_clips_that_they_were_made_with(name):
    expected = CLIPS.get(name)
    if expected is None:  # networks of frames, as their encoder says
        own = FrameClassifier.clip_settings_of({"encoder": "mobilenet_v2"} | ROWS[name].init_args)
        expected = {"num_frames": 1, "fps": None} | own
    common = {"frame_interval": 1, "short_videos": "loop", "still": False}
    assert ROWS[name].clip_settings == expected | common


def test_pixels_of_c3d_are_not_scaled_and_those_of_mmaction_are_centered():
    for name, mean in (("c3d-sports1m", [0, 0, 0]), ("c3d-sports1m-mmaction", [104, 117, 128])):
        found = ROWS[name].init_args
        assert [255 * one for one in found["mean"]] == pytest.approx(mean)
        assert [255 * one for one in found["std"]] == pytest.approx([1, 1, 1])
    assert ROWS["i3d-kinetics400-flow-piergiaj"].init_args == {"in_channels": 2}
