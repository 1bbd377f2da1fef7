"""The pages in a real browser: no network, a phone's width, dark and bright, readable, moving pictures."""

import numpy as np
import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.dataset_tools.show_page import ShownStage, ShownVideo, draw_clips_page, make_shown_clip
from pipeline.label_tools.review_files import ReviewedVideo, draw_page
from pipeline.label_tools.score_files import ScoreFile, VideoPlace
from pipeline.report.charts import BarChart, bar_charts
from pipeline.report.pictures import preview_of_key
from pipeline.report.rendering import render
from pipeline.report.write_results import write_results
from tests.pipeline.metrics.made_results import made
from tests.pipeline.report.browser import NAMES, browser, find_browser

pytestmark = pytest.mark.skipif(find_browser() is None, reason=f"no browser on this system: none of {', '.join(NAMES)}")

# The least contrast of all text with what is behind it (WCAG 2.1, 1.4.3), colors as the browser computes them.
_CONTRAST = """(() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (color, under) => {
    paint.fillStyle = under ? `rgb(${under})` : '#fff'; paint.fillRect(0, 0, 1, 1);
    paint.fillStyle = color; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { const above = []; for (; e; e = e.parentElement) above.unshift(e);
    return above.reduce((under, one) => rgba(getComputedStyle(one).backgroundColor, under), null); };
  let least = [99, ''];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || e.closest('svg, style') || !e.getClientRects().length) continue;
    const under = behind(e), ink = rgba(getComputedStyle(e).color, under);
    const [a, b] = [light(ink), light(under)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < least[0]) least = [ratio, walker.currentNode.data.trim().slice(0, 40)];
  }
  return least;
})()"""
# The width that is needed, and what needs more than there is, tables that scroll by themselves left out.
_WIDTH = """[document.documentElement.scrollWidth, [...document.querySelectorAll('body *')].filter(
  e => !e.closest('.scroll > *, svg') && e.getBoundingClientRect().right > innerWidth + 1
).map(e => e.outerHTML.slice(0, 80))]"""
# Names of a list of facts that take more than one line.
_BROKEN_NAMES = """[...document.querySelectorAll('dt')].filter(e => {
  const range = document.createRange(); range.selectNodeContents(e); return range.getClientRects().length > 1;
}).map(e => e.innerText)"""
_LOADED = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length"


@pytest.fixture(scope="module")
def page(motion_dataset, tmp_path_factory):
    """The page of a made result on real videos: with pictures, a warning, long names."""
    index = DatasetIndex.open(motion_dataset)
    scored = made(24, 96)
    keys = index.column("key", index.rows("all"))
    names = [
        f"{name} {'and a long name that has to be cut ' * (n % 5 == 0)}" for n, name in enumerate(scored.class_names)
    ]
    overlap = {"videos": 3, "content": 2, "groups": 4, "of": 64}
    scored = scored._replace(
        scores=scored.scores[: len(keys)],
        labels=scored.labels[: len(keys)],
        groups=scored.groups[: len(keys)],
        keys=list(keys),
        class_names=names,
        provenance=scored.provenance | {"overlap": overlap, "checkpoint": "/a/long/path/" * 9},
    )
    folder = tmp_path_factory.mktemp("page")
    write_results(folder, scored, "epoch=99-step=123456789012.ckpt on made, test", {"views": 30}, index)
    return folder / "report.html"


@pytest.fixture(scope="module")
def clips_page(tmp_path_factory):
    """The page of `show` for a made clip with long names."""
    frames = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    clip = make_shown_clip("clip 1", frames, range(20), np.arange(20) / 25, (0.0, 0.8), ["all of 32 x 48"] * 9)
    stage = ShownStage("train", "split train", [ShownVideo("a_long_key" * 20, "a long label " * 9, [clip], 2)])
    origin = {"name": "made", "identity": "0123456789abcdef" * 4, "family": "0123456789abcdef" * 4}
    path = tmp_path_factory.mktemp("clips") / "show.html"
    path.write_text(draw_clips_page("made: clips", origin, {"random_resized_crop": "None"}, [stage]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def dataset_page(tmp_path_factory):
    """The page of `stats` for made counts."""
    charts = [BarChart("videos a class", [f"class {n}" for n in range(30)], list(range(30, 0, -1)))]
    charts += [BarChart("durations", ["0 to 1 s", "1 to 2 s"], [3, 0], [0, 1, 2])]
    path = tmp_path_factory.mktemp("dataset") / "stats.html"
    path.write_text(render("dataset.html", title="made", charts=bar_charts(charts)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def review_page(motion_dataset, tmp_path_factory):
    """The page of `review` for two made results with long names: one video with a preview, one without."""
    index, classes = DatasetIndex.open(motion_dataset), [f"class {n} {'of a long name ' * 5}" for n in range(3)]
    about = {"checkpoint": "/a/long/path/" * 9, "checkpoint_sha256": "0123456789abcdef" * 4}
    rows = np.array([[0.5, 0.4, 0.1], [0.1, 0.5, 0.4]], np.float32)
    keys = [index.entry(0).key, "a_long_key" * 20]
    file = ScoreFile("results/one", keys, rows, classes, "single_label", about, None, None)
    place = VideoPlace("a/long/path/" * 9, 1.0, 2.5)
    figures = {"margin": 0.1, "disagreement": 0.25}
    videos = [ReviewedVideo(n, key, place, figures, ["x"] * n) for n, key in enumerate(keys)]
    previews = [preview_of_key(index, key, {}) for key in keys]
    path = tmp_path_factory.mktemp("review") / "review.html"
    files = [file, file._replace(name="results/two")]
    path.write_text(draw_page(videos, previews, files, ["2 of 5 videos"], 0.5), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def window():
    with browser() as one:
        yield one


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_reads_well(page, window, width, dark):
    window.open(page, width, dark=dark)
    assert window.requests == [page.as_uri()]
    assert window.run(_WIDTH) == [width, []]
    ratio, text = window.run(_CONTRAST)
    assert ratio >= 4.5, text
    assert window.run(_LOADED) == 12
    corner = "getComputedStyle(document.querySelector('.confusion thead td')).backgroundColor"
    assert window.run(corner) == "rgba(0, 0, 0, 0)", "the corner counts nothing"
    background = window.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(18, 22, 28)" if dark else "rgb(251, 250, 247)")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("name", "images"), [("clips_page", 16), ("dataset_page", 0), ("review_page", 1)])
def test_pages_of_datasets_read_well(name, images, window, width, dark, request):
    path = request.getfixturevalue(name)
    window.open(path, width, dark=dark)
    assert window.requests == [path.as_uri()]
    assert window.run(_WIDTH) == [width, []]
    ratio, text = window.run(_CONTRAST)
    assert ratio >= 4.5, text
    assert window.run(_LOADED) == images
    ink = "getComputedStyle(document.querySelector('svg .ink') ?? document.body).fill"
    assert name != "dataset_page" or window.run(ink) == ("rgb(233, 237, 242)" if dark else "rgb(28, 36, 48)")
    window.run("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    assert window.run(_BROKEN_NAMES) == []


def test_who_wants_no_motion_gets_stills(page, window):
    window.open(page, 390)
    moving = window.run("document.images[0].currentSrc.length")
    window.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    window.call("Page.reload")
    window.wait("document.images.length && document.images[0].complete && document.readyState === 'complete'")
    assert window.run("matchMedia('(prefers-reduced-motion: reduce)').matches")
    assert 0 < window.run("document.images[0].currentSrc.length") < moving / 3


def test_pictures_and_drawings_are_told_in_words(page, window):
    window.open(page, 1200)
    assert window.run("[...document.images].every(i => i.alt.includes('taken for'))")
    assert window.run("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))")
    assert "Not held out" in window.run("document.querySelector('[role=note]').innerText")
    assert window.run("document.documentElement.lang") == "en"
    # Scrollable tables can be reached by the keyboard.
    assert window.run("[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)")


def test_a_page_that_asks_for_anything_would_be_noticed(page, window, tmp_path):
    """The test of the test: with the policy taken out, a picture from elsewhere is a request; with it, it is none."""
    html = page.read_text(encoding="utf-8")
    leak = html.replace("<main>", '<main><img alt="x" src="http://127.0.0.1:9/x.png">')
    (tmp_path / "leak.html").write_text(leak.replace("Content-Security-Policy", "none"), encoding="utf-8")
    window.open(tmp_path / "leak.html", 390)
    assert "http://127.0.0.1:9/x.png" in window.requests
