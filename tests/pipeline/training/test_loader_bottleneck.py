"""The sentence about the bottleneck, by numbers."""

from pipeline.training.loader_bottleneck import TimeBreakdown, report_bottleneck

SETTINGS = {"num_workers": 2, "crop_size": 112, "clips_per_video": 1}
PACKED = {"short_side": 256, "fast_decode": True}


def test_the_model_is_where_hardly_anything_waits():
    told = report_bottleneck(TimeBreakdown(100, 3, 80), SETTINGS, PACKED)
    assert told.startswith("the model is the bottleneck: 3 % of the time was waiting for data")


def test_the_loader_is_and_every_change_is_named():
    told = report_bottleneck(TimeBreakdown(100, 60, 190), SETTINGS, PACKED, ranks=1, processors=16)
    assert told.startswith("the loader is the bottleneck: 60 % of the time was waiting for data; ")
    assert "num_workers=5; it is 2" in told  # 190 s of loading in the 40 s that the model takes
    assert "use the 128 rendition (pack --short-side 256 128 into a new folder, resize=128;" in told
    assert "clips_per_video=2; it is 1" in told
    assert "pack the videos again" not in told


def test_no_more_workers_than_processors():
    told = report_bottleneck(
        TimeBreakdown(100, 60, 190), SETTINGS, PACKED | {"short_side": 128}, ranks=4, processors=16
    )
    assert "num_workers=4, as many as there are processors, where 5 would be needed" in told
    assert "rendition" not in told
    assert "workers" not in report_bottleneck(TimeBreakdown(100, 60, 190), SETTINGS, PACKED, ranks=8, processors=16)


def test_videos_that_decode_slowly():
    for encode, why in [({"short_side": 112}, "it was off"), ({"copy": True}, "--copy stored them as they came")]:
        told = report_bottleneck(TimeBreakdown(100, 60, 190), SETTINGS, encode)
        assert (
            f"pack the videos again, to be decoded in half of the time (pack --fast-decode into a new folder; {why})"
            in told
        )


def test_data_of_others_gets_words_alone():
    told = report_bottleneck(TimeBreakdown(10, 5, 0), {}, {})
    assert told.endswith("use more workers, smaller videos or more clips per video")
