"""What a terminal shows of a data set."""

from image_folders import array_data

from cnnexp.explore import facts, tables


def test_a_terminal_shows_the_first_of_many_classes():
    found = facts.gather(array_data([f"class {k:02}" for k in range(50)], [2] * 50), None)
    lines = tables.as_text(found).splitlines()
    assert [line.split()[:4] for line in lines if line.startswith("class 39")] == [["class", "39", "2", "1"]]
    assert "(the first 40 classes; --json lists the other 10)" in lines and "class 40" not in "".join(lines)
    assert ["all", "100", "50"] in [line.split() for line in lines], "the last row counts all classes"
