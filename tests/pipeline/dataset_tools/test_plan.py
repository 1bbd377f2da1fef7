"""`plan` says what training does."""

import re

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.sampling.epoch_plan import TrainPlan
from pipeline.__main__ import main


def test_plan_names_what_each_rank_reads(motion_dataset, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = ["plan", "--data", str(motion_dataset), "--ranks", "3", "--epoch", "2", "--batch-size", "4"]
    assert main([*words, "--consumed", "12"]) == 0
    printed = capsys.readouterr().out
    assert "3 steps of 3 x 4 videos; 12 consumed before, 27 read, 1 left out" in printed
    index = DatasetIndex.open(motion_dataset)
    rows = index.rows("train")
    for rank in range(3):
        batches = list(TrainPlan(40, 4, 3).batches(2, rank, 12))
        keys = [[index.entry(int(rows[sample])).key for sample in batch] for batch in (batches[0], batches[-1])]
        [line] = [line for line in printed.splitlines() if re.match(rf"│ {rank} ", line)]
        assert keys[0][0] in line
        assert keys[0][-1] in line
        assert keys[1][0] in line
        assert re.search(r"│ 9 ", line)


def test_plan_lists_the_batches_of_a_rank(motion_dataset, capsys):
    assert main(["plan", str(motion_dataset), "--ranks", "3", "--epoch", "2", "--batch-size", "4", "--rank", "1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    index = DatasetIndex.open(motion_dataset)
    rows = index.rows("train")
    batches = TrainPlan(40, 4, 3).batches(2, 1)
    keys = [[index.entry(int(rows[sample])).key for sample in batch] for batch in batches]
    assert lines == [[str(step), *keys_of_step] for step, keys_of_step in enumerate(keys)]


def test_impossible_plans_are_one_sentence(motion_dataset, capsys):
    for words, message in (
        (["--consumed", "41"], "consumed=41"),
        (["--split", "tset"], "tset"),
        (["--ranks", "0"], "ranks=0: must be at least 1"),
        (["--ranks", "64"], "too few"),
        (["--ranks", "2", "--rank", "2"], "rank=2: there are ranks 0 to 1"),
    ):
        assert main(["plan", "--data", str(motion_dataset), *words]) == 2
        assert message in capsys.readouterr().err
