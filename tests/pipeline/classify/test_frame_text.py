"""Names of any script on frames: in a font that has them, else visibly replaced, and said."""

import numpy as np
import pytest

from pipeline.classify import frame_text
from pipeline.classify.annotate_video import draw_scores
from pipeline.classify.frame_text import describe_missing, drawable_texts

PRIVATE = "\U000f0000"  # of Unicode's private use, in no font
NAMES = ["run & jump", "caf\u00e9", "\u0436\u0438\u0442\u044c", f"{PRIVATE * 2} a"]


def test_a_name_is_drawn_in_a_font_that_has_its_letters():
    plain, latin, cyrillic, private = drawable_texts(NAMES)
    assert plain == ("run & jump", None, "")
    if latin.font is None:
        pytest.skip("no font on this machine has the letter e with an accent")
    assert latin == ("caf\u00e9", latin.font, "")
    assert cyrillic.missing == ""
    assert private.text == "?? a"
    assert describe_missing([plain, latin, cyrillic]) == ""
    assert describe_missing([plain, private]).startswith(
        "1 of 2 names have characters that no font on this machine has"
    )


def test_without_further_fonts_accents_are_left_out_and_others_are_question_marks(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")  # no fontconfig
    monkeypatch.setattr(frame_text, "_MAC_FONT", "no font of this name.ttf")
    shown = [drawn.text for drawn in drawable_texts([*NAMES, "cafe\u0301", "a\u200db", "new\nline"])]
    assert shown == ["run & jump", "cafe", "????", "?? a", "cafe", "ab", "new\\nline"]


def test_scores_are_drawn_with_the_name_or_the_number_of_their_class():
    labels = drawable_texts(["run", f"{PRIVATE}a", "class 1"])
    panels = [draw_scores((320, 240), row, labels) for row in np.eye(3, dtype=np.float32)]
    assert panels[0].size == (320, 2 * 39)
    run, replaced, number = (np.asarray(panel)[:30, :, :3].astype(int) for panel in panels)  # their first lines
    assert (run.min(axis=2) > 128).sum() > 50, "white letters"
    assert np.array_equal(replaced, number), "half of the name cannot be drawn"
    assert not np.array_equal(run, number)
    assert (run[26, :, 2] == 178).sum() == 320 - 2 * 6, "a bar over all of the width for a probability of 1"
