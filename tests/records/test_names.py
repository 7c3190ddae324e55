"""Folders of studies: readable in every script, and never shared by two names."""

import unicodedata
from pathlib import Path

import pytest

from cnnexp.records.names import arm_folder, arm_labels, distinct_slug, run_folder, slug, study_folder

NAMES = ["猫", "犬", "a b", "a-b", "a/b", "a  b", "a?b", "-a", "a", ".a", "über", "uber", "ü ber", "x" * 90, "x" * 91]


def test_no_two_names_share_a_folder():
    folders = {name: run_folder(Path("out"), name, "arm", 0, "f" * 10).parent for name in NAMES}
    assert len(set(folders.values())) == len(NAMES)
    assert all(folder.parent == Path("out") for folder in folders.values())


@pytest.mark.parametrize("name", ["猫", "über", "ablation", "a--b", "हिन्दी", "x_1.5"])
def test_names_that_a_folder_can_have_are_kept(name):
    assert distinct_slug(name) == slug(name) == name


def test_the_two_spellings_of_an_accent_are_one_name():
    assert distinct_slug(unicodedata.normalize("NFD", "é")) == distinct_slug(unicodedata.normalize("NFC", "é")) == "é"


@pytest.mark.parametrize("name", ["猫" * 200, "a" * 1000, "é" * 100, "../../etc", "/", "", "\ud800"])
def test_every_name_fits_a_file_system(name):
    found = distinct_slug(name)
    assert len(found.encode()) <= 100 and "/" not in found and found.strip(".") == found != ""


@pytest.mark.parametrize(
    ("arm", "folder"),
    [
        ("optimizer.lr=0.01,model.norm=none", "lr_0.01-norm_none"),
        ("augmentation=full,optimizer.weight_decay=1e-4", "aug_full-wd_1e-4"),
        ("model.name=a,data.name=b", "model.name_a-data.name_b"),
        ("augmentation.ops=[{crop: 4},flip]", "ops_crop-4-flip"),
        ("model.weights='outputs/x/y z'", "weights_y-z"),
        ("+preset=small", "preset_small"),
        ("model._target_=my_net.MyNet,model.width=8", "model_my_net.MyNet-width_8"),
        ("my run (2), it's new", "my-run-2-it-s-new"),
        ("baseline", "baseline"),
        ("猫=犬", "猫-犬"),
    ],
)
def test_the_folder_of_an_arm_needs_no_quotes_and_says_only_what_it_sets(arm, folder):
    assert arm_folder(arm) == folder


def test_the_folder_of_a_long_arm_is_cut_between_settings():
    settings = [f"model.setting{n}=value{n}" for n in range(20)]
    assert arm_folder(",".join(settings)) == "setting0_value0-setting1_value1-setting2_value2-and-17-more"
    photos = "data=folder,data.root=/my/photos,data.size=64,data.on_corrupt=skip,augmentation=full,epochs=40"
    assert arm_folder(photos).startswith("aug_full-epochs_40-data_folder-"), "what a long name keeps"
    assert len(arm_folder("x" * 500).encode()) <= 60


def test_studies_that_differ_only_in_case_have_folders_that_differ_in_more(tmp_path):
    names = ["norm", "Norm", "NORM", "über", "ÜBER"]
    for order in (names, names[::-1]):  # each name keeps the folder that it had first
        folders = {}
        for name in order:
            folders[name] = study_folder(tmp_path, name)
            folders[name].mkdir(exist_ok=True)
        assert len({folder.name.casefold() for folder in folders.values()}) == len(names)
        assert folders["norm"].name == "norm" and len(list(tmp_path.iterdir())) == len(names)


@pytest.mark.parametrize(
    ("arms", "labels"),
    [
        (
            [
                "optimizer.lr=0.003,optimizer.weight_decay=1e-4,epochs=2",
                "optimizer.lr=0.01,optimizer.weight_decay=0,epochs=2",
            ],
            ["lr=0.003 wd=1e-4", "lr=0.01 wd=0"],
        ),
        (["epochs=2", "epochs=2,model.norm=batch"], ["epochs=2", "norm=batch"]),
        (["default", "model.norm=none", "my run"], ["default", "norm=none", "my run"]),
        (["model.name=a,data.name=b", "model.name=b,data.name=b"], ["model.name=a", "model.name=b"]),
        (["baseline"], ["baseline"]),
        ([], []),
    ],
)
def test_a_label_says_only_what_differs(arms, labels):
    assert arm_labels(arms, [[]] * len(arms)) == labels


def test_settings_that_an_arm_with_a_name_shares_are_left_out_too():
    arms = ["epochs=2,model.norm=batch", "wide"]
    assert arm_labels(arms, [["epochs=2", "model.norm=batch"], ["epochs=2", "model.width=9"]]) == ["norm=batch", "wide"]
    assert arm_labels(arms, [["epochs=2", "model.norm=batch"], []]) == ["epochs=2 norm=batch", "wide"]
