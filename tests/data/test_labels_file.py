"""A CSV of paths and labels: with the care of folders, and the line of each mistake."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from image_folders import picture, settings

from cnnexp.data import decode, digests
from cnnexp.errors import UserError
from cnnexp.storage import StorageError
from cnnexp.training.build import forget_data, make


@pytest.fixture
def photos(tmp_path):
    for i in range(40):
        (tmp_path / "img").mkdir(exist_ok=True)
        picture(i, size=(20, 12)).save(tmp_path / "img" / f"{i}.png")
    return tmp_path


def load(folder, text, **changes):
    (folder / "labels.csv").write_text(text, newline="")
    forget_data()
    return make(
        "data", settings("csv", file=str(folder / "labels.csv"), **({"size": 8, "val_fraction": 0.2} | changes))
    )


def lines(*more, count=40, columns="path,label", end="\n"):
    return end.join([columns, *(f"img/{i}.png,{'cat' if i % 2 else 'dog'}" for i in range(count)), *more]) + end


def test_without_splits_it_is_divided_as_a_flat_folder(photos):
    data = load(photos, lines())
    assert data.classes == ["cat", "dog"] and data.image == (3, 8, 8) and data.name == "csv"
    assert all(len(split) for split in data.splits().values()) and sum(map(len, data.splits().values())) == 40
    for split in data.splits().values():
        numbers = [int(name.removeprefix("img/").removesuffix(".png")) for name in split.ids]
        assert [data.classes[label] for label in split.labels] == ["cat" if n % 2 else "dog" for n in numbers]
    fewer = load(photos, lines(count=30))  # files that go move no other
    assert set(fewer.test.ids) == {name for name in data.test.ids if int(name[4:-4]) < 30}


def test_uneven_numbers_of_test_images_name_the_column_that_states_a_split(photos):
    notes = [load(photos, lines(), split_seed=seed).notes for seed in range(5)]
    said = next(note for found in notes for note in found if "images are for the test" in note)
    assert said.endswith("data.split_seed=1 draws others, a column split with train and test is a split of your own")


def test_with_splits_they_are_its_own(photos):
    rows = [f"img/{i}.png,{i % 2},{('train', 'Train', 'validation', 'test')[i % 4]}" for i in range(40)]
    rows = [row.replace(",1,", ",b,").replace(",0,", ",a,") for row in rows]
    data = load(photos, "path,label,split\n" + "\n".join(rows) + "\n")
    assert [len(split) for split in data.splits().values()] == [20, 10, 10]
    assert {int(name[4:-4]) % 4 for name in data.test.ids} == {3}
    alone = load(photos, ("path,label,split\n" + "\n".join(rows) + "\n").replace(",test", ",train"))
    assert len(alone.test) == 10 and {int(name[4:-4]) % 4 for name in alone.test.ids} == {2}  # val/ alone is the test
    note = "the test images are those of split val, because there is no split test; "
    assert alone.notes == [f"{note}the validation images are taken from split train"]
    again = load(photos, (photos / "labels.csv").read_text(), test_fraction=0.5)
    assert "data.test_fraction=0.5 has no effect: split val is used as test" in again.notes


@pytest.mark.parametrize("title", ["subset", " Set "])
def test_a_column_that_looks_like_splits_is_refused_until_it_is_read_or_not(photos, title):
    parts = ("train", "train", "Validation", "testing")
    rows = "".join(f"img/{i}.png,{i % 2},{parts[i // 2 % 4]}\n" for i in range(40))
    text = f"path,label,{title}\n" + rows.replace(",1,", ",b,").replace(",0,", ",a,")
    columns = {"path": "path", "label": "label", "split": "split", "group": None}
    name = title.strip()
    with pytest.raises(UserError) as caught:
        load(photos, text)
    assert f"labels.csv: column '{name}' looks like splits (train, val, test): " in str(caught.value)
    fix = f"type data.columns.split={name} to use them, data.columns.split=null to draw others"
    assert str(caught.value).endswith(fix) and "\n" not in str(caught.value)
    given = load(photos, text, columns=columns | {"split": name})
    assert [len(split) for split in given.splits().values()] == [20, 10, 10]
    drawn = load(photos, text, columns=columns | {"split": None})
    for other in (
        text.replace("testing\n", "field\n"),
        text.replace("Validation", "train").replace("testing", "train"),
    ):
        assert set(load(photos, other).test.ids) == set(drawn.test.ids)
    beside = (
        text.replace(f"label,{title}", f"label,{title},split").replace("\n", ",train\n").replace("split,train", "split")
    )
    with pytest.raises(UserError, match="its splits are train; train is needed"):  # the column split is read
        load(photos, beside)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators_line_ends_marks_and_columns_are_read(photos, mark):
    text = lines(end="\r\n", columns=" Label , id,PATH").replace("img/", "")
    rows = [row.split(",") for row in text.strip().split("\r\n")[1:]]
    table = "\r\n".join([f" Label {mark} id{mark}PATH", *(f"{label}{mark}7{mark} {path}" for path, label in rows)])
    data = load(photos, "\ufeff" + table + "\r\n\r\n", root=str(photos / "img"))
    assert data.classes == ["cat", "dog"] and sum(map(len, data.splits().values())) == 40


def test_numbers_are_sorted_as_numbers(photos):
    text = "path,label\n" + "".join(f"img/{i}.png,{8 + i % 4}\n" for i in range(40))
    assert load(photos, text).classes == ["8", "9", "10", "11"]


@pytest.mark.parametrize(
    ("other", "alike"), [("Cat", True), ("c_at", True), ("cats", False), ("Dog1", False), ("1", False)]
)
def test_classes_that_are_named_nearly_alike_are_noted(photos, other, alike):
    rows = [f"img/{n}.png,{('cat', 'dog', '-1', other)[n % 4]}" for n in range(40)]
    noted = [note for note in load(photos, "\n".join(["path,label", *rows])).notes if "nearly alike" in note]
    assert len(noted) == alike and all(f"'{other}'" in note for note in noted)


def test_a_text_of_several_lines_is_read(photos):
    rows = [f'img/{i}.png,{i % 2},"seen from above,\nat night"' for i in range(40)]
    assert sum(map(len, load(photos, "path,label,note\n" + "\n".join(rows)).splits().values())) == 40


def test_quoted_names_and_repeated_lines(photos):
    picture(50, size=(20, 12)).save(photos / "img" / "a, b.png")
    data = load(photos, lines('"img/a, b.png",cat', "./img/1.png,cat"))
    ids = np.concatenate([split.ids for split in data.splits().values()])
    assert "img/a, b.png" in ids and len(ids) == 41
    assert any("1 line of labels.csv left out, which repeat another" in note for note in data.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"first line names no column 'path'; it is empty"),
        ("file,label\n", r"names no column 'path'; there are file, label"),
        ("path,labels\n", r"names no column 'label'; there are path, labels \(did you mean 'labels'\?\)"),
        ("path,label\n", r"has no rows below its first line"),
        ("path,label,Label\nimg/1.png,cat,dog\n", r"names column 'label' more than once"),
        ("path,label\nimg/1.png,cat, small\n", r"line 2: has more columns than the first line; put .* in quotes"),
        ("p\0a\0t\0h\0,\0l\0a\0b\0e\0l\0\n\0", r"labels.csv is not UTF-8 text; save it as CSV UTF-8"),
        (lines("img/99.png,cat"), r"labels.csv: line 42: there is no file .*img/99.png; data.root=DIR"),
        (lines("img\\99.png,cat"), r"line 42: there is no file .*; write / instead of \\, data.root=DIR"),
        (lines("img/1.png,dog"), r"line 42: img/1.png is in line 3 too, with another label, split or group"),
        (lines("img/1.png,"), r"line 42: given path 'img/1.png', label ''; both are needed"),
        (lines("img/1.png,c\x07t"), r"line 42: given path 'img/1.png', label 'c\\x07t'"),
        (
            lines('img/1.png,"odd', "img/2.png,cat", 'img/3.png,"odd'),
            r"line 42: cannot be read as CSV \(.*close each quote",
        ),
        (lines('img/1.png,"odd', "img/2.png,cat"), r"line 42: cannot be read as CSV \(unexpected end of data\)"),
        (
            lines('img/1.png,"odd', 'img/2.png,cat"'),
            r"line 42: a quote that begins there goes on to line 43; close it there",
        ),
        (
            'path,label,size\nimg/1.png,cat,"5\nimg/2.png,dog,6\nimg/3.png,dog,7"\n',
            r"line 2: a quote that begins there goes on to line 4; close it there",
        ),
        (lines(columns='path,"label'), r"line 1: cannot be read as CSV"),
        ("path,label\nimg/1.png,cat\nimg/2.png,cat\n", r"has one label, 'cat'; at least two"),
        (
            "path,label,split\nimg/1.png,a,train\nimg/2.png,b,tset\n",
            r"line 3: split: given 'tset'; allowed: train, val",
        ),
        ("path,label,split\nimg/1.png,a,train\nimg/2.png,b,\n", r"line 3: split: given ''; allowed"),
        (
            "path,label,split\nimg/1.png,a,train\nimg/2.png,b,train\n",
            r"its splits are train; train is needed, and test",
        ),
        ("path,label,split\nimg/1.png,a,train\nimg/2.png,b,test\n", r"label 'b' has no training image"),
    ],
)
def test_mistakes_are_one_line_with_their_place(photos, text, message):
    with pytest.raises(UserError, match=message) as caught:
        load(photos, text)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"data.file: .*none.csv cannot be read \(No such file"):
        make("data", settings("csv", file=str(tmp_path / "none.csv")))


def test_a_table_in_another_encoding_or_without_an_end_is_one_line(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("path,label\nimg/1.png,caf\u00e9\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"data.file: .*labels.csv is not UTF-8 text; save it as CSV UTF-8"):
        make("data", settings("csv", file=str(file)))
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match=r"data.file: .*labels.csv is not a regular file; save the table as one"):
        make("data", settings("csv", file=str(file)))


def test_a_tilde_is_the_home_folder(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    data = load(photos, lines().replace("img/", "~/img/"))
    assert sum(map(len, data.splits().values())) == 40


def test_missing_and_damaged_files_are_skipped_and_counted_when_asked(photos):
    (photos / "img" / "3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"3.png: cannot be read"):
        load(photos, lines())
    data = load(photos, lines("img/99.png,cat"), on_corrupt="skip")
    assert data.skipped == ["img/3.png"] and sum(map(len, data.splits().values())) == 39
    assert any("1 file of labels.csv left out, which are not there: img/99.png" in note for note in data.notes)


@pytest.mark.parametrize("step", ["digest", "decode"])
def test_an_image_that_cannot_be_read_just_now_is_neither_left_out_nor_remembered(photos, monkeypatch, step):
    """Otherwise a disk that fails once changes the data for good, in the cache."""
    really = {"digest": digests.hashlib.file_digest, "decode": decode.Image.open}[step]

    def fail(file, *rest, **more):
        if Path(file.name).name == "3.png":
            raise OSError(errno.EIO, "Input/output error")
        return really(file, *rest, **more)

    monkeypatch.setattr(*{"digest": (digests.hashlib, "file_digest"), "decode": (decode.Image, "open")}[step], fail)
    with pytest.raises(StorageError, match=r"3.png: cannot be read \(Input/output error\); the disk or the network"):
        load(photos, lines(), on_corrupt="skip")
    monkeypatch.undo()
    data = load(photos, lines(), on_corrupt="skip")
    assert data.skipped == [] and sum(map(len, data.splits().values())) == 40
