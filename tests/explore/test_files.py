"""Where images come from: the head of their config, and their files."""

from image_folders import folder, picture, tree

from cnnexp.explore import files


def test_images_before_resizing_are_described(tmp_path):
    root = tree(tmp_path / "tree")
    picture(5, size=(30, 20), mode="L").save(root / "train/cat/wide.png")
    found = files.find(folder(root))
    assert found is not None and (found.count, found.sample) == (21, 21)
    assert (found.widths, found.heights) == ((12, 12, 30), (10, 10, 20))
    assert found.kinds == {"PNG, RGB": 20, "PNG, L": 1}
    assert found.bytes == sum(file.stat().st_size for file in root.rglob("*.png"))
    data = folder(root)
    (root / "train/cat/0.png").unlink()
    assert files.find(data) is None


def test_the_head_of_a_config_says_where_the_images_are_from(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "# @package _global_\n# Ten cats: all mine\n"
        "# From: my camera, CC0\n#       and a friend's   Look: there\n# Run: x\na: 1\n# No"
    )
    assert files.header(file) == {"about": "Ten cats: all mine", "from": "my camera, CC0 and a friend's", "run": "x"}
    assert files.header(None) == {}
