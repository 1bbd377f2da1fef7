"""`read_annotations`: reads an annotation list in any format into `VideoRecord`s.

Whether the videos exist is not checked, except for class folders and for names without a video suffix: `pack` opens
every file anyway, and reports missing ones.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

from datamodules.annotations.list_format import OPTIONS_OF_ALL_FORMATS, ListFormat, ListOptions, ListSource
from datamodules.annotations.records import Annotations, PathLike, as_list
from datamodules.annotations.tables import AnnotationError
from datamodules.annotations.video_files import has_video_suffix
from datamodules.list_formats.formats import FORMATS, AnnotationFormat, detect_format
from datamodules.list_formats.segments_or_kinetics import choose_format, is_readable_as_both
from datamodules.video.image_folder import is_image_folder


def read_annotations(
    format: AnnotationFormat,
    annotations: PathLike | Sequence[PathLike] | None = None,
    videos: PathLike | None = None,
    split: str | None = None,
    classes: PathLike | None = None,
    options: ListOptions | None = None,
) -> Annotations:
    """Read an annotation list in any of the formats.

    Args:
        format: name of the format (`datamodules.list_formats.formats.FORMATS`), or `auto`: `folders` without a list,
            otherwise detected from the first list's columns, name or keys; a table that could be a Kinetics list or one
            of segments by the files that are there, which a note says.
        annotations: file or files; for official lists also their folder; for `folders` and `files` None.
        videos: folder of the videos; None: the folder of the (first) list.
        split: the split of all videos that the list gives none; one that gives another is refused.
        classes: label map of `mmaction` with one class name per line; the other formats ignore it.
        options: how the list is read; None: as by default.

    Raises:
        AnnotationError: the list is invalid (see the readers), or the arguments do not fit the format.
    """
    lists = [] if annotations is None else [Path(path) for path in as_list(annotations)]
    if format not in get_args(AnnotationFormat):
        raise AnnotationError(f"format={format!r}: must be {', '.join(get_args(AnnotationFormat))}")
    form, notes = _detect(lists, videos) if format == "auto" else (FORMATS[format], ())
    options = ListOptions() if options is None else options
    _check_options(form, split, options)
    if form.name in ("folders", "files"):
        if lists and videos is not None:
            raise AnnotationError(
                f"annotations={_join_paths(lists)}: format {form.name} reads no list; leave annotations out"
            )
        if not lists and videos is None:
            raise AnnotationError("annotations and videos are both missing: name a list, a folder of videos, or both")
        return form.read(ListSource([], Path(videos) if videos is not None else lists[0], split, None, options))
    if not lists:
        raise AnnotationError(f"annotations is missing: format {form.name} needs the list's file")
    if form.single_file and len(lists) > 1:
        raise AnnotationError(
            f"annotations={_join_paths(lists)}: format {form.name} takes one file; join them into one"
        )
    root = _videos_root(lists[0], videos)
    listed = form.read(ListSource(lists, root, split, None if classes is None else Path(classes), options))
    listed = replace(listed, notes=(*notes, *listed.notes))
    return _with_frame_rate(listed, options.frames_per_second)


def read_segments(
    format: AnnotationFormat,
    annotations: PathLike | Sequence[PathLike] | None,
    videos: PathLike | None,
    split: str | None,
    classes: PathLike | None,
    options: ListOptions,
) -> Annotations:
    """`read_annotations` with each labelled segment as a record of its own, also in formats that unite those of a file.

    Raises:
        AnnotationError: as `read_annotations`; or `trimmed` is false.
    """
    if options.trimmed is False:
        raise AnnotationError("trimmed=False: a timeline has the times of all labels; leave it out")
    lists = [] if annotations is None else [Path(path) for path in as_list(annotations)]
    form = _detect(lists, videos)[0] if format == "auto" else FORMATS[format]
    if "trimmed" in form.options:
        options = replace(options, trimmed=True)
    return read_annotations(format, annotations, videos, split, classes, options)


def _videos_root(path: Path, videos: PathLike | None) -> Path:
    return (path if path.is_dir() else path.parent) if videos is None else Path(videos)


def _detect(lists: Sequence[Path], videos: PathLike | None) -> tuple[ListFormat, tuple[str, ...]]:
    """The format of the first list, and a sentence where its files decided between two."""
    form = detect_format(lists[0]) if lists else FORMATS["folders"]
    if form.name != "kinetics" or not is_readable_as_both(lists[0]):
        return form, ()
    choice = choose_format(lists[0], _videos_root(lists[0], videos))
    return FORMATS[choice.name], (choice.note,)


def _with_frame_rate(listed: Annotations, frames_per_second: float | None) -> Annotations:
    """Gives folders of images a frame rate where the list gave none.

    Raises:
        AnnotationError: there are such folders, and no rate is given: it is part of what a dataset is made of, so it
            cannot be given later.
    """
    folders = [
        number
        for number, record in enumerate(listed.records)
        if record.frames_per_second is None
        and (frames_per_second is not None or not has_video_suffix(record.path))
        and os.path.isdir(record.path)  # noqa: PTH112, faster than Path
    ]
    if frames_per_second is None:
        paths = [path for path in (listed.records[number].path for number in folders) if is_image_folder(path)]
        if paths:
            count = f" ({len(paths)} such folders)" if len(paths) > 1 else ""
            raise AnnotationError(
                f"{paths[0]}: is a folder of images without a frame rate{count}; give --frames-per-second, or fill the "
                "list's column fps"
            )
        return listed
    records = list(listed.records)
    for number in folders:
        records[number] = replace(records[number], frames_per_second=frames_per_second)
    return replace(listed, records=records)


def _check_options(form: ListFormat, split: str | None, options: ListOptions) -> None:
    """Refuses an option that the format does not have."""
    if split is not None and "split" not in form.options:
        raise AnnotationError(f"split={split!r}: the folds of {form.name} give each video's split; leave split out")
    for field in fields(ListOptions):
        value = getattr(options, field.name)
        if value != field.default and field.name not in form.options | OPTIONS_OF_ALL_FORMATS:
            having = ", ".join(one.name for one in FORMATS.values() if field.name in one.options)
            raise AnnotationError(
                f"{field.name}={value}: format {form.name} has no such option (these have it: {having}); leave it out"
            )


def _join_paths(paths: Iterable[PathLike]) -> str:
    return ", ".join(os.fspath(path) for path in paths)
