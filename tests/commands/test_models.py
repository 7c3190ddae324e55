"""`cnnexp models`: the networks by name, as torchvision and timm state them."""

import json
import re

import pytest
import torchvision


def test_it_states_what_torchvision_does(cnnexp):
    code, printed, _ = cnnexp("models", "resnet1", "--json")
    found = {(e["library"], e["name"]): e for e in json.loads(printed)}
    entry = found["torchvision", "resnet18"]
    assert code == 0 and entry["input"] == [3, 224, 224]
    assert entry["parameters"] == sum(p.numel() for p in torchvision.models.resnet18().parameters())
    assert all("resnet1" in name for _, name in found)


def test_a_form_and_a_word_choose_names(cnnexp):
    printed = cnnexp("models", "vgg1?")[1]
    assert re.findall(r"^torchvision +(\w+)", printed, re.MULTILINE) == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert "133 M" in printed  # of VGG-11, Simonyan & Zisserman 2014, table 2


def test_timms_are_counted_without_their_weights(cnnexp):
    timm = pytest.importorskip("timm")
    (entry,) = json.loads(cnnexp("models", "test_resnet", "--json")[1])
    assert (entry["library"], entry["input"]) == ("timm", [3, 160, 160])
    assert entry["parameters"] == sum(p.numel() for p in timm.create_model("test_resnet").parameters())
    (tagged,) = json.loads(cnnexp("models", "resnet18.a1_in1k", "--json")[1])
    assert tagged["name"] == "resnet18.a1_in1k"


def test_an_unknown_name_gets_a_guess(cnnexp):
    code, _, error = cnnexp("models", "resnet81")
    assert code == 2 and error.startswith("cnnexp: no network is called 'resnet81' (did you mean 'resnet")
    assert cnnexp("models", "conv3")[2].endswith("; as configs there are model=conv3_wide; cnnexp models lists all\n")
    assert cnnexp("models", "nosuch")[2] == "cnnexp: no network is called 'nosuch'; cnnexp models lists all\n"
