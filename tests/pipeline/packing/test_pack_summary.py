"""What packing says at its end of many classes."""

from types import SimpleNamespace

from pipeline.packing.pack_summary import _class_counts


def rows(counts):
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [
        SimpleNamespace(rows=[SimpleNamespace(description=SimpleNamespace(class_names=[label])) for label in labels])
    ]


def test_few_classes_are_all_told_and_of_many_the_ends():
    assert _class_counts(rows({"b": 2, "a": 2, "c": 3})) == "c 3, a 2, b 2"
    many = _class_counts(rows({f"k{number:02d}": number for number in range(1, 15)}))
    assert many == "k14 14, k13 13, k12 12, ... (8 more, `python -m pipeline stats` has all), k03 3, k02 2, k01 1"
    assert _class_counts([]) == "none"
