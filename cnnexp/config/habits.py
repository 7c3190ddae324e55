"""Words that people type out of habit, from other tools or in a hurry, and what to type here instead.

In the tables `{}` is the value that was given. A text with a space is an explanation, any other is what to type.
"""

import os
import re
from dataclasses import fields

from cnnexp.config.schema import RunConfig
from cnnexp.errors import UserError

NO_WORKERS = "there are no loader workers: images are decoded once; leave it out"
RESUMES = "is not needed; the same command continues where it stopped"
BF16, ON_GPU = "device.precision=bf16", "device=cuda"
PRETRAINED = "model=resnet18 model.weights=imagenet"
CALLBACKS = "there are no callbacks to name; see early_stopping.patience=5, ema.decay=0.99, checkpoint.every=1ep"
PUBLIC_SETS = ["MNIST", "FashionMNIST", "CIFAR100", "SVHN", "STL10", "Flowers102", "Food101", "EuroSAT"]

# Keys and flags that do not exist.
KEYS = {
    **dict.fromkeys(("lr", "learning_rate", "learning-rate", "lr0", "base_lr"), "optimizer.lr={}"),
    **dict.fromkeys(("wd", "weight_decay", "weight-decay"), "optimizer.weight_decay={}"),
    "momentum": "optimizer=momentum optimizer.momentum={}",
    **dict.fromkeys(("opt", "optim"), "optimizer={}"),
    **dict.fromkeys(("b", "bs", "batch", "batchsize", "batch-size", "train_batch_size"), "batch_size={}"),
    **dict.fromkeys(("e", "ep", "epoch", "n_epochs", "num_epochs", "max_epochs", "nepochs"), "epochs={}"),
    **dict.fromkeys(("steps", "max_steps", "iterations"), "epochs={}st"),
    **dict.fromkeys(("devices", "num_devices"), "device.processes={}"),
    **dict.fromkeys(("dataset", "data_set"), "data={}"),
    **dict.fromkeys(("data_dir", "data-dir", "data_path", "data_root", "root"), "data=folder data.root={}"),
    **dict.fromkeys(
        ("imgsz", "img_size", "image_size", "img-size", "image-size", "resolution", "size"), "data.size={}"
    ),
    **dict.fromkeys(("arch", "net", "network", "backbone_name"), "model={}"),
    **dict.fromkeys(("criterion", "loss_fn"), "loss={}"),
    **dict.fromkeys(("label_smoothing", "smoothing", "label-smoothing"), "loss.label_smoothing={}"),
    **dict.fromkeys(("class_weights", "class_weight"), "loss.class_weights={}"),
    **dict.fromkeys(("mixup", "mixup_alpha"), "mix.mixup={}"),
    **dict.fromkeys(("cutmix", "cutmix_alpha"), "mix.cutmix={}"),
    **dict.fromkeys(("ema_decay", "model_ema", "ema"), "ema.decay={}"),
    **dict.fromkeys(("accumulate_grad_batches", "accumulation_steps", "grad_accum"), "accumulate={}"),
    **dict.fromkeys(("num_workers", "workers", "num-workers", "j", "pin_memory", "data.num_workers"), NO_WORKERS),
    **dict.fromkeys(("amp", "fp16", "bf16", "mixed_precision", "half", "precision"), BF16),
    **dict.fromkeys(("pretrained", "weights"), PRETRAINED),
    "model.pretrained": "model.weights=imagenet",
    **dict.fromkeys(("gpu", "gpus", "cuda", "use_cuda"), ON_GPU),
    **dict.fromkeys(("no-cuda", "no_cuda", "cpu"), "device=cpu"),
    **dict.fromkeys(("patience", "early-stopping"), "early_stopping.patience={}"),
    "dropout": "model.dropout.fc={}",
    **dict.fromkeys(("norm", "batch_norm", "batchnorm"), "model.norm=batch"),
    **dict.fromkeys(("seeds", "random_state", "random-seed", "manual_seed"), "seed={}"),
    **dict.fromkeys(("o", "out", "output", "output_dir", "output-dir", "save_dir", "log_dir"), "outputs={}"),
    **dict.fromkeys(("exp_name", "project", "task_name"), "study.name={}"),
    "experiment": "study.name={} (or a study's file, with +study)",
    **dict.fromkeys(("logger", "loggers"), "tracker=wandb (or tensorboard, mlflow)"),
    **dict.fromkeys(("callback", "callbacks"), CALLBACKS),
    **dict.fromkeys(("name", "run_name", "run-name"), "name={}"),
    **dict.fromkeys(("resume", "resume_from", "checkpoint_path"), RESUMES),
    **dict.fromkeys(("ckpt", "ckpt_path"), "model.weights={} (to go on with a run, type its command again)"),
    **dict.fromkeys(("clip", "grad_clip", "gradient_clip_val", "max_norm"), "clip_norm={}"),
    **dict.fromkeys(("sched", "lr_scheduler"), "scheduler={}"),
    **dict.fromkeys(("transform", "transforms", "augment"), "augmentation={}"),
    **dict.fromkeys(("val_split", "validation_split"), "data.val_fraction={}"),
    **dict.fromkeys(("multi-run", "sweep"), "-m"),
    "dry-run": "--plan",
}

# Values of keys that do exist: (key, pattern of the complete value, what to type).
VALUES = [
    ("model.dropout", r"[\d.]+", "model.dropout.fc={} (or model.dropout.pool={})"),
    ("early_stopping", r"\d+", "early_stopping.patience={}"),
    ("early_stopping", r"(?i)true", "early_stopping.patience=5"),
    ("checkpoint", r"[\w.]+", "checkpoint.every={}"),
    ("backbone", r"[^{]+", "backbone.weights={}"),
    ("model.weights", r"(?i)default|true|imagenet1k\w*", "model.weights=imagenet"),
    ("model.freeze", r"(?i)true", "model.freeze=backbone"),
    ("model", r"(?:wide_)?(?:resnet|resnext)\d+\w*|(?:alex|google|mnas|shuffle|squeeze|regnet|mobile|dense)"
     r"\w*|(?:efficient|conv)ne\w+|inception\w*|vgg\d+\w*|(?:max)?vit_\w+|swin_\w+", "model=torchvision model.name={}"),
    ("device", r"(?i)gpu|cuda:\d+|\d+", "device=cuda (or device.kind=cuda:1)"),
    ("data", r"(?i)imagefolder", "data=folder data.root=DIR"),
    ("data", r"[./~].*", "data=folder data.root={}"),
    *(("data", f"(?i){name}", f"data=torchvision data.name={name}") for name in (*PUBLIC_SETS, "OxfordIIITPet")),
    ("trainer", r"(?i)gpu|ddp\w*", ON_GPU),
    ("trainer", r"(?i)cpu|mps", "device={}"),
    ("device.precision", r"16(?:-mixed|-true)?", "device.precision=fp16"),
    ("device.precision", r"bf16-(?:mixed|true)", BF16),
    ("device.precision", r"32(?:-true)?", "device.precision=fp32"),
    ("scheduler", r"(?i)cosine_?annealing\w*|cosine_?lr", "scheduler=cosine"),
    ("scheduler", r"(?i)one_?cycle\w*", "scheduler=onecycle"),
    ("scheduler", r"(?i)reducelronplateau|reduce\w*", "scheduler=plateau"),
    ("scheduler", r"(?i)(?:multi_?)?step_?lr", "scheduler=step"),
    ("slots", r"[\w:*]+(?:,[\w:*]+)+", "slots=[{}]"),
]  # fmt: skip
SEED_LIST = r"(\d+)\s*(?:-|:|\.\.)\s*(\d+)"
MOST_SEEDS = 1000
REAL = {field.name for field in fields(RunConfig)}


def check_flag(word: str, following: str) -> None:
    """Raise UserError for a flag that is a setting: it says what to type. following: the next word, "" if none."""
    name, equals, value = word.partition("=")
    key = name.lstrip("-")
    if not equals and following and not following.startswith("-") and "=" not in following:
        value = following
    if key in KEYS:
        raise instead(name, KEYS[key], value)
    plain = key.replace("-", "_")
    if plain.split(".")[0] in REAL:
        check_value(plain, value, known=set())
        raise UserError(f"{name}: settings have no dashes; type {plain}={value or 'VALUE'}")


def check_override(word: str, choices: dict[str, list[str]]) -> None:
    """Raise UserError for a setting that exists under another name, or takes its value in another form.

    choices: the files of each group.
    """
    key, equals, value = word.lstrip("+~").partition("=")
    if key in KEYS and equals and key not in REAL:
        raise instead(key, KEYS[key], value)
    if word.startswith("+"):
        return
    if key == "study" and value:
        raise UserError(f"study: given '{value}'; type +study={value}, with the plus")
    check_value(key, value, set(choices.get(key, ())))


def check_value(key: str, value: str, known: set[str]) -> None:
    """Raise UserError for a value in another tool's form. known: the choices of a group, which are right."""
    if key == "seed" and (ends := re.fullmatch(SEED_LIST, value)):
        first, last = int(ends[1]), int(ends[2])
        listed = ",".join(map(str, range(first, last + 1))) if last - first < 12 else f"range({first},{last + 1})"
        raise UserError(f"seed: given '{value}'; for several seeds type -m seed={listed}")
    if value in known:
        return
    same = [choice for choice in known if choice == value.lower()]
    if same:
        raise UserError(f"{key}: given '{value}'; type {key}={same[0]}")
    if key == "data" and os.path.isdir(value):  # noqa: PTH112 (Path.is_dir raises for a long text)
        raise instead(key, "data=folder data.root={}", value)
    for name, pattern, text in VALUES:
        if key == name and re.fullmatch(pattern, value):
            raise instead(key, text, value)


def instead(given: str, text: str, value: str) -> UserError:
    """Return the error that says what to type for `given`."""
    typed = text.replace("{}", value or "VALUE")
    explains = " " in text and "=" not in text.split(" ")[0]
    shown = f" '{value}'" if value and "{}" in text else ""
    return UserError(f"{given}:{' given' + shown + ';' if shown else ''} {typed if explains else f'type {typed}'}")


def seeds_of(word: str) -> str:
    """Return `seed=range(5)` as `seed=0,1,2,3,4`; any other word, or a range that is too long, as it is."""
    found = re.fullmatch(r"seed=range\(([\d,\s]+)\)", word)
    bounds = [int(number) for number in found[1].split(",") if number.strip()] if found else []
    if not 1 <= len(bounds) <= 3 or (len(bounds) == 3 and bounds[2] == 0):
        return word
    seeds = range(*bounds)
    return f"seed={','.join(map(str, seeds))}" if 0 < len(seeds) <= MOST_SEEDS else word
