"""`python -m pipeline review`: the videos to label next, as a list and a page with previews."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.annotations.skipped_files import count_noun
from datamodules.options import Options
from datamodules.storage.atomic_write import write_folder_atomically
from datamodules.storage.plain_text import printable
from lightning_modules.tasks.label_task import refuse_other_task
from pipeline.cli.terminal import print_text
from pipeline.inference.output_paths import refuse_other_files
from pipeline.label_tools.distinct_videos import choose_distinct
from pipeline.label_tools.predicted_videos import MULTI_LABEL_THRESHOLD
from pipeline.label_tools.review_files import LIST_NAME, PAGE_NAME, ReviewedVideo, draw_page, write_list
from pipeline.label_tools.review_order import review_order
from pipeline.label_tools.score_files import ScoreFile, VideoPlace, locate_videos, open_index, read_score_file
from pipeline.label_tools.video_pools import FilePool, PackedPool, VideoPool
from pipeline.metrics.scored_videos import refuse_other_classes


@dataclass(frozen=True)
class ReviewOptions(Options):
    """Options of `review`.

    Attributes:
        results: one result, or two on the same videos: folders that `evaluate`, `linear` or `fuse` wrote, or files of
            `classify --out`.
        out: folder to write: videos.csv and review.html.
        number: number of videos to list.
        data: the packed dataset that was scored; its index has paths and frame hashes. For files of `classify --out`
            it is known.
        videos: folder of the files that `classify --out` read. Default: where they were.
        threshold: for several labels a video: probability from which on a class counts as a label.
        keep_duplicates: list videos that show the same as one before them too, and compare none.
        overwrite: replace a folder that this verb wrote.
    """

    results: list[str]
    out: Path
    number: int = 50
    data: Path | None = None
    videos: Path | None = None
    threshold: float = MULTI_LABEL_THRESHOLD
    keep_duplicates: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Raises ValueError for values out of range, or another number of results than one or two."""
        self.require_at_least(1, "number")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}: must be from 0 to 1")
        if len(self.results) not in (1, 2):
            raise ValueError(f"results={self.results}: give one result, or two to compare")


def review(options: ReviewOptions) -> None:
    """List the videos to label next: the least certain or, of two results, the most disputed ones.

    Certainty is the margin between the two best classes or, with several labels, of the nearest probability from the
    threshold. Two results are compared by the Jensen-Shannon divergence of their probabilities; videos with different
    answers come first. Videos that show the same as one before them are left out. The list has an empty column for the
    labels, after which `pack` reads it.

    Args:
        options: the results and the number of videos.

    Raises:
        FileNotFoundError: a result, or the files that were classified, do not exist.
        ValueError: the results are of different videos, tasks or classes, or their videos cannot be found.
    """
    refuse_other_files(options.out, {LIST_NAME, PAGE_NAME}, options.overwrite)
    files = align_files([read_score_file(Path(path)) for path in options.results])
    pool, places = _open_pool(files, options)
    order, figures = review_order(files, options.threshold)
    if not order:
        raise ValueError(f"{files[0].name}: has no video with scores, so there is none to list")
    numbers = {files[0].keys[number]: number for number in order}
    chosen: dict[str, list[str]]
    if options.keep_duplicates:
        chosen = {key: [] for key in list(numbers)[: options.number]}
    else:
        chosen = choose_distinct(list(numbers), options.number, pool.fingerprints)
    videos = [
        ReviewedVideo(numbers[key], key, places[numbers[key]], figures[numbers[key]], near_duplicates)
        for key, near_duplicates in chosen.items()
    ]
    facts = _describe(files, len(order), videos)
    page = draw_page(videos, pool.previews(list(chosen)), files, facts, options.threshold)
    with write_folder_atomically(options.out) as folder:
        (folder / LIST_NAME).write_text(write_list(videos, files, options.threshold), encoding="utf-8", newline="")
        (folder / PAGE_NAME).write_text(page, encoding="utf-8")
    print_text(f"wrote {options.out / LIST_NAME} and {options.out / PAGE_NAME}: {', '.join(facts)}")


def align_files(files: Sequence[ScoreFile]) -> list[ScoreFile]:
    """The results with their videos in the order of the first.

    Raises:
        ValueError: tasks, classes or videos differ.
    """
    first, aligned = files[0], []
    for file in files:
        refuse_other_task(first.name, first.task, file.name, file.task, "review takes results of one task")
        refuse_other_classes(first.class_names, file.class_names, first.name, file.name)
        rows = {key: number for number, key in enumerate(file.keys)}
        unshared = sorted(rows.keys() ^ set(first.keys))
        if unshared:
            raise ValueError(
                f"{first.name} and {file.name} are of different videos: {len(unshared)} are in one of them alone, "
                f"first {printable(unshared[0])}; score the same videos with both"
            )
        order = [rows[key] for key in first.keys]
        aligned.append(file._replace(keys=first.keys, scores=np.asarray(file.scores)[order], places=first.places))
    return aligned


def _open_pool(files: Sequence[ScoreFile], options: ReviewOptions) -> tuple[VideoPool, list[VideoPlace]]:
    """The videos, and where each is."""
    first = files[0]
    index = open_index(options.data, *files)
    if index is not None:
        return PackedPool(index, first.provenance), locate_videos(first, index)
    if first.folder is None:
        raise ValueError(
            f"{first.name}: name the packed dataset that was scored (--data), whose index has paths and frame hashes"
        )
    places = locate_videos(first, None)
    paths = {key: place.path for key, place in zip(first.keys, places, strict=True)}
    return FilePool(options.videos or first.folder, paths), places


def _describe(files: Sequence[ScoreFile], num_scored: int, videos: Sequence[ReviewedVideo]) -> list[str]:
    """Phrases on the videos of a review."""
    left_out = sum(len(video.near_duplicates) for video in videos)
    without = len(files[0].keys) - num_scored
    facts = [f"{len(videos)} of {count_noun(num_scored, 'video')}"]
    facts += [f"{count_noun(left_out, 'near duplicate')} left out"] if left_out else []
    facts += [f"{count_noun(without, 'video')} without scores left out"] if without else []
    return facts
