"""The page of clips: what is on it is what a run sees, and nothing on it breaks it."""

import base64
import io
from html.parser import HTMLParser

import av
import numpy as np
import pytest
import yaml
from pytorch_lightning import Callback

from datamodules.batch import Window
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.encoding.transcoding import encode_frames
from pipeline.__main__ import main
from pipeline.dataset_tools.show import describe_window
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from pipeline.training.lightning_cli import build


class Page(HTMLParser):
    """Headings, paragraphs and pictures of a page; every tag that was opened."""

    def __init__(self, path):
        super().__init__()
        self.found = {"h2": [], "h3": [], "p": [], "small": []}
        self.images, self.tags, self.open = [], set(), None
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.open = tag
        if tag in self.found:
            self.found[tag].append("")
        if tag == "img":
            kind, _, data = dict(attributes)["src"].partition(",")
            assert kind == "data:image/jpeg;base64"
            self.images.append(base64.b64decode(data))

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open in self.found:
            self.found[self.open][-1] += data

    def clips(self):
        return [line for line in self.found["p"] if line.startswith("clip ")]


def picture(jpeg: bytes) -> np.ndarray:
    with av.open(io.BytesIO(jpeg)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def write_config(folder, root, **data):
    settings = {"root": str(root), "batch_size": 3, "num_frames": 4, "crop_size": 32, "num_workers": 1, **data}
    content = {
        "seed_everything": 3,
        "model": {"class_path": "CNNLSTM", "init_args": {"channels": [4], "hidden_size": 4}},
        "data": {"class_path": "ShardedVideoDataModule", "init_args": settings},
        "trainer": {"accelerator": "gpu", "devices": 8, "logger": False},  # not what this machine has: not needed
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


AUGMENTED = {
    "flip_probability": 0.5,
    "sided_classes": "keep",
    "rand_augment": {"num_ops": 2, "magnitude": 6},
    "color_jitter": {"probability": 1.0},
}


def test_the_page_has_the_clips_that_training_sees(motion_dataset, tmp_path, capsys):
    config = write_config(tmp_path, motion_dataset, **AUGMENTED)
    out = tmp_path / "new" / "page.html"
    assert main(["show", "--config", config, "--out", str(out), "--stage=train", "--num-videos", "6"]) == 0
    assert f"wrote {out}: 6 videos" in capsys.readouterr().out
    page = Page(out)
    seen = []

    class Keep(Callback):
        def on_train_batch_start(self, trainer, module, batch, number):
            seen.append(batch)

    trainer = ["accelerator=cpu", "devices=1", "max_epochs=1", "limit_train_batches=2", "limit_val_batches=0"]
    trainer += ["enable_progress_bar=false", "enable_model_summary=false", "enable_checkpointing=false"]
    trainer += [f"default_root_dir={tmp_path}"]
    cli = build(["--config", config, *(f"--trainer.{setting}" for setting in trainer)])
    cli.trainer.callbacks.append(Keep())
    cli.trainer.fit(cli.model, cli.datamodule)
    assert page.found["h3"] == [cli.datamodule.class_names[int(n)] for batch in seen for n in batch.labels]
    assert page.found["small"][1:] == [key for batch in seen for key in batch.keys]
    frames = np.concatenate([batch.clips.flatten(0, 1).numpy() for batch in seen]).astype(int)
    pictures = np.stack([picture(jpeg) for jpeg in page.images]).astype(int)
    assert pictures.shape == frames.shape == (24, 32, 32, 3)
    assert np.abs(pictures - frames).mean() < 2  # JPEG
    words = [cli.datamodule.augmentation.describe(seed) for batch in seen for seed in batch.seeds]
    for line, window, steps in zip(page.clips(), [w for batch in seen for w in batch.windows], words, strict=True):
        assert line.endswith("; ".join([describe_window(window, (32, 32)), *steps]))
        assert len(steps) == 2 + 4


def test_all_stages_by_default_and_their_views(motion_dataset, tmp_path, capsys):
    config = write_config(tmp_path, motion_dataset, flip_probability=0.0, num_clips=2, num_crops=3)
    out = tmp_path / "page.html"
    assert main(["show", "--config", config, "--out", str(out), "--num-videos=1", "--num-views=2", "--epoch=1"]) == 0
    page = Page(out)
    assert page.found["h2"] == ["train", "val", "test", "predict"]
    assert page.found["small"][0] == "split train, epoch 1"
    clips = page.clips()
    assert len(clips) == 1 + 1 + 2 + 2
    assert clips[2].startswith("clip 1, crop 1 of 3, 0.00 to 0.16 s: 32 x 32 at row 8, column 0 of 48 x 64")
    assert clips[3].startswith("clip 2, crop 3 of 3, 0.80 to 0.96 s: 32 x 32 at row 8, column 32 of 48 x 64")
    assert "and 4 more views" in page.found["p"]
    assert len(page.images) == 6 * 4
    for word in ("http:", "https:", "<script", "url("):
        assert word not in page.text
    assert "prefers-color-scheme: dark" in page.text
    assert 'name="viewport"' in page.text


def test_names_from_the_data_cannot_break_the_page(tmp_path, capsys):
    label = "<b>bold & <script>alert(1)"
    video = encode_frames([np.full((32, 48, 3), 90, np.uint8)] * 10, fps=10.0)
    for name in ("one", "two"):
        (tmp_path / f"{name}.mp4").write_bytes(video)
    (tmp_path / "list.csv").write_text(f"path,label,split\none.mp4,{label},train\ntwo.mp4,{label},train\n")
    pack(PackOptions(tmp_path / "shards", [tmp_path / "list.csv"], tmp_path, processes=1))
    out = tmp_path / "page.html"
    config = write_config(tmp_path, tmp_path / "shards", segments=True)
    assert main(["show", "--config", config, "--out", str(out)]) == 0
    page = Page(out)
    assert page.found["h3"] == [label] * 2
    assert not page.tags & {"b", "script"}
    printed = capsys.readouterr().out
    assert "test is not shown: " in printed
    assert "predict is not shown: " in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "CONFIG"], "out"),
        (["--config", "nowhere.yaml", "--out", "OUT"], "nowhere.yaml"),
        (["--config", "CONFIG", "--out", "OUT", "--stage", "training"], "training"),
        (["--config", "CONFIG", "--out", "OUT", "--num-videos", "0"], "num_videos=0: must be at least 1"),
        (["--config", "CONFIG", "--out", "OUT", "--epoch", "-1"], "epoch=-1: must be at least 0"),
        (
            ["--config", "CONFIG", "--out", "OUT", "--data.init_args.root", "nowhere"],
            "nowhere: there is no such folder",
        ),
        (["--config", "CONFIG", "--out", "OUT", "--data.init_args.test_split=x", "--stage=test"], "'x'"),
        (["--config", "CONFIG", "--out", "OUT", "--data.init_args.val_split=null", "--stage=val"], "val_split=null"),
        (["--config", "CONFIG", "--out", "OUT", "--data.init_args.flip_probability=0.5"], "mirroring would turn"),
        (["--config", "CONFIG", "--out", "OUT", "--data.init_args.rand_augment.magnitude=11"], "magnitude=11"),
    ],
)
def test_bad_input_is_one_sentence_and_no_page(motion_dataset, tmp_path, capsys, words, message):
    config = write_config(tmp_path, motion_dataset, flip_probability=0.0)
    out = tmp_path / "page.html"
    assert main(["show", *({"CONFIG": config, "OUT": str(out)}.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not out.exists()


def test_windows_in_words():
    assert (
        describe_window(Window(128, 171, 8, 20, 112, 112), (112, 112)) == "112 x 112 at row 8, column 20 of 128 x 171"
    )
    resized = describe_window(Window(128, 171, 8, 20, 50, 60, True), (112, 112))
    assert resized == "50 x 60 at row 8, column 20 of 128 x 171, resized to 112 x 112, mirrored"
    assert describe_window(Window(112, 112, 0, 0, 112, 112), (112, 112)) == "all of 112 x 112"


def test_the_page_has_the_splits_of_a_split_file(motion_dataset, tmp_path, capsys):
    config = write_config(tmp_path, motion_dataset)
    index, chosen = DatasetIndex.open(motion_dataset), tmp_path / "mine.csv"
    keys, trained = index.column("key", range(len(index))), index.rows("train")[:4]
    splits = ["test" if row in trained else "train" for row in range(len(index))]
    chosen.write_text("\n".join(["key,split", *(f"{key},{split}" for key, split in zip(keys, splits, strict=True))]))
    out = tmp_path / "page.html"
    words = ["--config", config, "--out", str(out), "--stage", "test", "--num-videos", "4", "--split-file", str(chosen)]
    assert main(["show", *words]) == 0
    assert sorted(Page(out).found["small"][1:]) == sorted(keys[row] for row in trained)
    assert main(["show", "--config", config, "--out", str(out), "--split-file", "absent"]) == 2
    assert "split_file=absent: there is no" in capsys.readouterr().err
