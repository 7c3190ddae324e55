"""What a config file may say to Hydra: nothing that would have no effect. Imports no torch."""

from collections.abc import Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cnnexp.config.words import folder, key_of, no_use
from cnnexp.errors import UserError

NOW = "${now:%Y-%m-%d}/${now:%H-%M-%S}"
WITHOUT_EFFECT: dict[str, Any] = {  # settings of Hydra's, with its defaults; a config file that sets another is refused
    "run": {"dir": f"outputs/{NOW}"},
    "sweep": {"dir": f"multirun/{NOW}", "subdir": "${hydra.job.num}"},
    "job.env_set": {},
    "job.env_copy": [],
    "callbacks": {},
    "output_subdir": ".hydra",
    "verbose": False,
    "job.name": "app",
    "job.config.override_dirname": {"kv_sep": "=", "item_sep": ",", "exclude_keys": []},
    "job_logging.root": {"level": "INFO", "handlers": ["console", "file"]},
    "job_logging.disable_existing_loggers": False,
    **dict.fromkeys(("mode", "job.chdir", "sweeper.params", "sweeper.max_batch_size")),
    **{
        f"runtime.choices.hydra/{group}": "default"
        for group in ("job_logging", "hydra_logging", "help", "output", "env")
    },
}


def check_node(node: DictConfig, words: Sequence[str]) -> None:
    """Raise UserError for a setting of Hydra's, in a config file, that has no effect here.

    node: the `hydra` node of a composed config. words: the overrides, which were checked as they were typed.
    """
    for kind in ("launcher", "sweeper"):
        if node[kind]._target_ != f"hydra._internal.core_plugins.basic_{kind}.Basic{kind.title()}":
            raise no_use(f"hydra/{kind}", "in a config file")
    given: Any = OmegaConf.to_container(node)
    for key, default in WITHOUT_EFFECT.items():
        changed = reduce(getitem, key.split("."), given) != default
        if changed and f"hydra.{key}" not in (key_of(word).lstrip("+") for word in words):
            raise no_use(f"hydra.{key}".replace("hydra.runtime.choices.", ""), "in a config file")


def check_names(node: DictConfig) -> None:
    """Raise UserError for a chosen file in a folder of the user's if this package has one of that name.

    Hydra reads the package's. node: of a composed config.
    """
    chosen = [f"{group}/{choice}.yaml" for group, choice in node.runtime.choices.items()]
    for place in (Path(source.path) for source in node.runtime.config_sources if source.schema == "file"):
        for name in ("train.yaml", *chosen):
            ours, other = folder() / name, place / name
            if other.is_file() and ours.is_file() and other.read_bytes() != ours.read_bytes():
                raise UserError(f"{other}: is not read, because cnnexp has its own {name}; rename your file")
