"""What a recorded config may build: cnnexp's builders and torch's networks, and what the user allows."""

import pytest
from hostile import edit_config

import cnnexp
from cnnexp.errors import UserError
from cnnexp.training import allowed as fence

pytest_plugins = ["trained_runs"]


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "torch.hub.load",
        "subprocess.Popen",
        "builtins.eval",
        "cnnexp.storage.remove",
        "cnnexp.models.network.assemble",
        "torch.nn.Linear",  # a Module, but this is not the module that defines it
        "torch.optim.Adam",
    ],
)
def test_recorded_configs_build_nothing_else(copy, name):
    edit_config(copy, "cnnexp.models.convnet.convnet", name)
    with pytest.raises(UserError, match=f"model._target_: {name} is not built from a run directory"):
        cnnexp.load(copy)


def test_the_fence_sees_nested_targets():
    inner = {"_target_": "os.system", "command": "true"}
    for node in (
        {"a": {"b": inner}},
        {"a": [{"b": inner}]},
        {"_target_": "cnnexp.models.convnet.convnet", "blocks": [inner]},
    ):
        with pytest.raises(UserError, match=r"_target_: os.system is not built"):
            fence.check_targets("model", node)
    with pytest.raises(UserError, match=r"model._target_: \['os.system'\] is not built"):
        fence.check_targets("model", {"_target_": ["os.system"]})
    fence.check_targets("model", {"layer": {"_target_": "torch.nn.modules.linear.Linear"}})
    with pytest.raises(
        UserError, match=r"if you trust it, add --allow own_network.OwnNetwork \(in Python: allow=\['own"
    ):
        fence.check_targets("model", {"_target_": "own_network.OwnNetwork"})
    fence.check_targets("model", {"_target_": "own_network.OwnNetwork"}, allow=["own_network.OwnNetwork"])
    fence.check_targets("model", {"_target_": "os.system"}, allow=["os.system"])


def test_all_names_are_said_at_once_as_they_are_typed():
    nodes = {
        "model": {"_target_": "my_net.Net"},
        "data": {"_target_": "my data.Two", "inner": {"_target_": "my_net.Net"}},
    }
    with pytest.raises(UserError, match=r"add --allow my_net.Net --allow 'my data.Two' \(in Python: allow=\["):
        fence.check_nodes(nodes)
    fence.check_nodes(nodes, allow=["my_net.Net", "my data.Two"])


def test_a_person_s_module_is_not_even_imported_unless_allowed(tmp_path, monkeypatch):
    lines = ("from torch import nn", "open(__file__ + '.fired', 'w').close()", "class Net(nn.Module): pass")
    (tmp_path / "payload.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("payload.Net", "torch.nn.payload.Net", "torchvision.models.payload.Net"):
        with pytest.raises(UserError, match="is not built from a run directory"):
            fence.check_targets("model", {"_target_": name})
    assert not (tmp_path / "payload.py.fired").exists()


def test_every_shipped_config_passes_the_fence():
    from omegaconf import OmegaConf

    from cnnexp.config import compose as configs
    from cnnexp.config.schema import GIVEN

    files = [(group, file) for group in GIVEN for file in (configs.folder() / group).glob("*.yaml")]
    nodes = [content.get(group, content) for group, content in ((group, OmegaConf.load(file)) for group, file in files)]
    targets = {node["_target_"] for node in nodes if "_target_" in node}
    shipped = fence.shipped()
    assert targets == frozenset().union(*shipped.values()) and "cnnexp.models.convnet.convnet" in shipped["model"]
