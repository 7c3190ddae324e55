"""A word of another tool is answered with what to type here, before anything is composed."""

import pytest

from cnnexp import cli
from cnnexp.config import compose as configs
from cnnexp.config.habits import KEYS, VALUES, seeds_of
from cnnexp.config.words import choices_of

ANSWERS = {
    "--epochs 5": "type epochs=5",
    "--model.norm=batch": "type model.norm=batch",
    "--gpu": "type device=cuda",
    "--lr=0.1": "type optimizer.lr=0.1",
    "model=resnet50": "type model=torchvision model.name=resnet50",
    "model=vgg16_bn": "type model=torchvision model.name=vgg16_bn",
    "seed=1-3": "type -m seed=1,2,3",
    "slots=cuda:0,cuda:1": "type slots=[cuda:0,cuda:1]",
    "model.dropout=0.5": "type model.dropout.fc=0.5 (or model.dropout.pool=0.5)",
    "early_stopping=5": "type early_stopping.patience=5",
    "lr=0.1": "type optimizer.lr=0.1",
    "batch=64": "type batch_size=64",
    "dataset=cifar10": "type data=cifar10",
    "loss=mse": "unknown choice 'mse'; choose one of cross_entropy, focal",
    "label_smoothing=0.1": "loss.label_smoothing=0.1",
    "num_workers=4": "there are no loader workers",
    "amp=true": "type device.precision=bf16",
    "pretrained=true": "type model=resnet18 model.weights=imagenet",
    "optimizer=SGD": "type optimizer=sgd",
    "scheduler=CosineAnnealingLR": "type scheduler=cosine",
    "data=./photos": "type data=folder data.root=./photos",
    "data=tests": "type data=folder data.root=tests",
    "root=photos": "type data=folder data.root=photos",
    "data.test_fraction=0.1": "no such key with this data; it needs data=cifar10_jpeg or data=csv or data=folder",
    "model.frees=x": "model.frees: no such key (did you mean 'model.freeze' of model=resnet18 or model=timm",
    "scheduler.gama=1": "scheduler.gama: no such key (did you mean 'scheduler.gamma' of scheduler=step?)",
    "optimizer.foo=1": "optimizer.foo: no such key; optimizer has _target_, betas, eps, lr, weight_decay",
    "model.foo=1": "model.foo: no such key; model has _target_, activation, blocks, channels, dropout, fc, fc_layers",
    "model.drop=0.5": "model.drop: no such key (did you mean 'model.dropout'?)",
    "foo=3": "foo: no such key; choose one of accumulate, augmentation, backbone, batch_size",
    "model.freeze=backbone": "no such key with this model; it needs model=resnet18 or model=timm or model=torchvision",
    "scheduler.gamma=0.9": "it needs scheduler=step",
    "data=folder": "data.root: data is not a folder; type data.root=DIR, where your images are",
    "study=ablation": "type +study=ablation",
    "batch_size = 64": "type it without spaces",
    "experiment=example": "type study.name=example (or a study's file, with +study)",
    "trainer=gpu": "type device=cuda",
    "trainer=cpu": "type device=cpu",
    "logger=wandb": "type tracker=wandb (or tensorboard, mlflow)",
    "callbacks=none": "there are no callbacks to name; see early_stopping.patience=5",
    "ckpt_path=x.pt": "type model.weights=x.pt (to go on with a run, type its command again)",
    "model.pretrained=true": "type model.weights=imagenet",
    "data=cifar100": "type data=torchvision data.name=CIFAR100",
    "data=MNIST": "type data=torchvision data.name=MNIST",
    "device.precision=16-mixed": "type device.precision=fp16",
    "scheduler=cosine_annealing": "type scheduler=cosine",
    "scheduler=one_cycle": "type scheduler=onecycle",
    "model.norm batch": "model.norm: cannot be read as key=value; type model.norm=batch",
    "outputs epochs=2": "outputs: cannot be read as key=value; type outputs=VALUE",
    "+foo=1": "foo: unknown key 'foo'; choose one of data, model, augmentation, mix, loss, optimizer",
    "~model": "~model: cannot be left out; type model=CHOICE, one of conv2_norm, conv3_wide",
    "trainer.max_epochs=3": "trainer.max_epochs: given '3'; type epochs=3",
    "trainer.devices=2": "type device.processes=2",
    "trainer.accumulate_grad_batches=2": "type accumulate=2",
    "training.args.learning_rate=0.1": "type optimizer.lr=0.1",
    "data.batch_size=8": "data.batch_size: no such key (did you mean 'batch_size'?)",
    "model.optimizer.lr=0.1": "model.optimizer.lr: no such key (did you mean 'optimizer.lr'?)",
    "scheduler.name=cosine": "scheduler.name: no such key; scheduler has _target_",
    "seed=range(5)": "given '0,1,2,3,4'; to sweep over values, add -m",
    "seed=0,1 --plan": "given '0,1'; to sweep over values, add -m",
    "+study=ablation model.norm=batch": "model.norm: no such key in arms resnet18_frozen_bn, resnet18_unfrozen_bn; "
    "leave them out: +arm=baseline,batchnorm,dropout,augmentation,combined",
    "optimizer.momentum=0.9": "it needs optimizer=momentum or optimizer=reference_momentum or optimizer=ref",
    "study.arms.dropout.model.dropout.fc=0.3": "no such key (did you mean 'model.dropout.fc'?)",
    "name=Hello,": "write the values of a sweep without spaces: a,b; if it is a text, type \"study.arm='Hello,'\"",
    "model=[custom]": "model: given [custom]; allowed: one choice",
    "data=[postcards,textures]": "data: given [postcards,textures]; allowed: one choice",
    "aug=[flip,crop]": "one choice; for several, type its operations: 'augmentation.ops=[{flip:{p:0.5}},{crop:",
    "model=3": "model: given 3; allowed: one of conv2_norm, conv3_wide",
    "optimizer=null": "optimizer: given null; allowed: one of adagrad, adam, ",
    "mix=[a]": "mix: given [a]; allowed: settings by key",
    "augmentation.ops={a:1}": "augmentation.ops: given {a:1}; allowed: a list",
    "optimizer.lr=${": "optimizer.lr: given '${'; a reference to another key is written ${KEY}",
    "study.name=rerun": "study.name: rerun is where `cnnexp rerun` writes; type another, such as study.name=reruns",
    "study.name=": "study.name: given ''; allowed: a name",
    "-m study.name=rerun": "study.name: rerun is where `cnnexp rerun` writes",
    "+study=study/mine.yaml": "+study=study/mine.yaml: no such file",
}


@pytest.mark.parametrize("typed", ANSWERS)
def test_what_to_type_is_said(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *typed.split()]) == 2
    error = capsys.readouterr().err
    assert ANSWERS[typed] in error and error.count("\n") == 1


def test_a_space_in_a_key_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "batch size=3"]) == 2
    assert capsys.readouterr().err == "cnnexp: batch size=3: cannot be read as key=value; a key has no spaces\n"


def test_a_range_of_seeds_is_a_list() -> None:
    assert seeds_of("seed=range(5)") == "seed=0,1,2,3,4"
    assert seeds_of("seed=range(2, 8, 3)") == "seed=2,5"
    for other in ("seed=range(1000000000)", "seed=range()", "seed=range(1,2,0)", "lr=range(3)", "seed=3"):
        assert seeds_of(other) == other


def test_no_answer_is_wrong() -> None:
    composed = configs.resolve(configs.compose(["optimizer=momentum", "model=resnet18"]))
    composed["data"] |= configs.resolve(configs.compose(["data=folder"]))["data"]
    composed["model"] |= configs.resolve(configs.compose(["model=custom"]))["model"] | {"name": ""}
    composed["name"] = ""  # of a run; read as study.arm
    groups = choices_of()
    for text in [*KEYS.values(), *(text for _, _, text in VALUES)]:
        for word in (word for word in text.replace("(or ", "").split() if "=" in word and word[0] != "-"):
            key, _, value = word.partition("=")
            node = composed
            for part in key.split("."):
                assert part in node, f"{text}: there is no {key}"
                node = node[part]
            value = value.strip("(),;")
            assert key not in groups or value in ("{}", *groups[key]), text
