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


def test_a_balanced_epoch_by_class(unbalanced_dataset, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = ["plan", str(unbalanced_dataset), "--ranks", "2", "--batch-size", "4", "--class-balance", "balanced"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "16 videos, dataset of 2 shards; epoch 0, seed 0, shuffle global, class balance balanced" in printed
    assert "2 steps of 2 x 4 videos; 0 consumed before, 16 read, 0 left out" in printed
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    drawn = {row[0]: [int(row[1]), int(row[2])] for row in cells if row[0] in ("often", "seldom", "once")}
    assert [drawn[name][0] for name in ("often", "seldom", "once")] == [11, 4, 1]
    assert sum(draws for _, draws in drawn.values()) == 16
    assert all(draws in (5, 6) for _, draws in drawn.values())
    read = min(drawn["often"][1], 11) + 4 + 1  # the first epoch begins the first pass of every class
    assert f"{read} of the 16 videos are read, some several times, by class:" in printed
    assert main([*words, "--shuffle", "shards"]) == 2
    assert "class_balance='balanced', shuffle='shards'" in capsys.readouterr().err
