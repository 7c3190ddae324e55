"""The runs of a search's trials: composed and checked for the corners of the space first, then planned one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnexp.config import checks, signature
from cnnexp.config import compose as configs
from cnnexp.config.composer import Composer
from cnnexp.config.flags import Request
from cnnexp.config.hydra_errors import translate
from cnnexp.config.keys import counts, flatten
from cnnexp.config.schema import SWEEP
from cnnexp.config.schema import Search as Node
from cnnexp.config.words import SAMPLERS, as_typed, as_word, full_name, in_order, is_of_search, key_of, replacing
from cnnexp.errors import UserError
from cnnexp.records.names import study_folder
from cnnexp.records.provenance import TYPED, command, folder_flags
from cnnexp.records.run_record import RunRecord
from cnnexp.search.space import Params, as_words, read_space
from cnnexp.search.trials import Refused, Search, Trial, trial_name
from cnnexp.storage import Damaged, Locked
from cnnexp.sweep.expand import expand
from cnnexp.sweep.planning import Composed, varying
from cnnexp.training import dry_run
from cnnexp.training.build import build_data, forget_data
from cnnexp.training.device import Target
from cnnexp.training.plan import Plan
from cnnexp.training.plan import plan as plan_run

OF_A_TRIAL = ("final_test=false", "checkpoint.final=false")
DEFAULT_STUDY = "runs"  # study.name of train.yaml, which a search replaces by its own
GIVEN_BY_RETRAINING = ("seed", "study.name")


class TrialPlanner:
    """Plans the run of a trial from its settings. base: the run without them, composed. target: where trials run."""

    target: Target

    def __init__(self, words: list[str], request: Request, hydra: ConfigLoader):
        """words: prepared. Raises UserError for what a search cannot have."""
        config = configs.load(hydra, words, RunMode.MULTIRUN)
        places = [word for word in words if word.startswith("hydra.")]
        self.compose = Composer(hydra, places)
        self.node = node_of(config)
        self.typed = [word for word in request.overrides if not is_of_search(word)]
        if str(config.study.name) == DEFAULT_STUDY:
            own = f"-{request.search}" if request.search not in SAMPLERS else ""
            self.typed.append(f"study.name=search{own}")
        self.code: dict[str, str] = {}  # the hashes of the user's code as it was first planned
        self.compared_on = set[tuple[str, int]]()  # the validation images of the first trial that is planned: id, label
        check_single(self.words_of([]), plain(config.study), hydra)
        self.base = self.composed([])
        self.search = self.described(request)

    def described(self, request: Request) -> Search:
        """Return the search, as search.json will have it."""
        config = self.base[0]
        if config["validate_on"] != "val":
            raise UserError(
                f"validate_on: given {config['validate_on']} with +search; a search must not see the test images"
            )
        space = read_space(self.node.space)
        typed = [full_key(word) for word in self.typed]
        if taken := [key for key in space if key in typed]:
            raise UserError(f"{taken[0]}: is typed, and in search.space; leave one of them out")
        return Search(
            study_folder(Path(config["outputs"]), config["study"]["name"]),
            str(self.node.sampler),
            space,
            config["monitor"],
            config["keep_epoch"],
            self.node.trials,
            config["seed"],
            command(),
            (*folder_flags(TYPED), *(word for word in self.typed if full_key(word) not in GIVEN_BY_RETRAINING)),
        )

    def words_of(self, overrides: Sequence[str]) -> list[str]:
        """Return the overrides of a run as Hydra reads them."""
        return [configs.readable(word) for word in replacing(in_order([*self.typed, *overrides]))]

    def composed(self, overrides: Sequence[str]) -> Composed:
        """Compose and check the run with these overrides."""
        words = self.words_of([*overrides, *OF_A_TRIAL])
        try:
            config, hydra_node = self.compose(words)
        except (HydraException, OmegaConfBaseException) as error:
            raise translate(error, words) from error
        checks.check(config)
        return config, hydra_node

    def check_space(self) -> None:
        """Compose and check every choice and both ends of all numbers. Raises UserError, naming the key."""

        def compose(params: Params) -> None:
            dry_run.before_data(self.composed(as_words(params))[0])

        self.try_corners(compose)

    def check_with_data(self) -> None:
        """Plan a trial of every choice and both ends of all numbers. Raises UserError, naming the key."""
        self.try_corners(lambda params: self.plan(params, 0))

    def try_corners(self, each: Callable[[Params], object]) -> None:
        """Call a function with the corners of the space: the first values, and each other value in place of one."""
        first = {key: dimension.corners()[0] for key, dimension in self.search.space.items()}
        others = [{**first, key: value} for key, of in self.search.space.items() for value in of.corners()[1:]]
        for params in (first, *others):
            changed = [key for key in params if params[key] != first[key]]
            try:
                each(params)
            except UserError as error:
                if any(str(error).startswith(f"{key}:") for key in self.search.space):
                    raise UserError(f"search.space.{error}") from error
                if changed:
                    raise UserError(f"search.space.{changed[0]}: {as_word(params[changed[0]])}: {error}") from error
                raise

    def plan(self, params: Params, number: int) -> Plan:
        """Plan the run of a trial. Raises UserError for settings that its data does not allow."""
        changes = as_words(params)
        overrides = [*changes, *OF_A_TRIAL, f"study.arm={trial_name(number)}"]
        config, hydra_node = self.composed([*changes, f"study.arm={trial_name(number)}"])
        config["device"]["kind"] = self.target.kind
        config["search"] = {key: asdict(self.node)[key] for key in ("prune", "min_epochs")}
        val = build_data(config).val
        if not len(val):
            raise UserError("+search: trials are compared on validation images; set data.val_fraction above 0")
        images = set(zip(val.ids.tolist(), val.labels.tolist(), strict=True))
        self.compared_on = self.compared_on or images
        if images != self.compared_on:
            raise UserError("it changes the validation images, on which trials are compared; leave it out")
        typed = as_typed([*self.typed, *overrides])
        planned = plan_run(config, typed, changes, command(), dict(hydra_node.runtime.choices), self.target)
        for link in planned.chain():
            self.code = link.facts["user_code"] | self.code
        return planned

    def propose(self, params: Params, number: int) -> Plan:
        """Plan the run of a proposed trial.

        Raises Refused if its settings are at fault; UserError if a file, a disk or the network is, or if the user's
        code has changed: workers may have imported the earlier one.
        """
        try:
            planned = self.plan(params, number)
        except UserError as error:
            if isinstance(error, (OSError, Locked, Damaged)) or isinstance(error.__cause__, OSError):
                raise
            forget_data()
            self.check_with_data()  # what could be planned as the search began
            raise Refused(str(error)) from error
        for name, found in (item for link in planned.chain() for item in link.facts["user_code"].items()):
            if found != self.code[name]:
                fix = "add study.name=NAME for a new search, or undo the change and type the same command"
                raise UserError(f"{name}: has changed since this search began; {fix}")
        return planned

    def again(self, trial: Trial) -> Plan:
        """Plan the run of a recorded trial. Raises UserError if it would be another run now."""
        plan = self.plan(trial.params, trial.number)
        if plan.folder.name == trial.folder.name:
            return plan
        differ = ["the data, the machine's device and threads, or your own code"]
        if (record := RunRecord.read(trial.folder)).info:
            then, now = flatten(record.config()), flatten(plan.config)
            keys = [key for key in {**then, **now} if then.get(key) != now.get(key) and counts(key, "fingerprint")]
            differ = [f"{key} ({then.get(key)} there, {now.get(key)} now)" for key in keys] or differ
        raise UserError(
            f"{trial.folder.parent}: the trials there differ in {differ[0]}; add study.name=NAME for a new search"
        )


def full_key(word: str) -> str:
    """Return the key of an override without short names and without what adds or removes it: "seed" of "++seed=1"."""
    return key_of(full_name(word)).lstrip("+~")


def plain(node: Any) -> dict[str, Any]:
    """Return a node of a config as a dict."""
    found = OmegaConf.to_container(node)
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def node_of(config: Any) -> Node:
    """Return the `search` node of a composed config, checked; its space is not."""
    signature.check_value("search", OmegaConf.to_container(config).get("search"), dict)  # type: ignore[union-attr]
    node = plain(config.search)
    signature.check("search", {key: value for key, value in node.items() if key != "space"}, Node)
    return Node(**{**node, "sampler": node.get("sampler") or "tpe"})


def check_single(words: list[str], study: Mapping[str, Any], hydra: ConfigLoader) -> None:
    """Raise UserError for arms, a grid or several values beside a search: it has one run without its settings."""
    for key in ("arms", "grid"):
        if study.get(key):
            fix = "put what to try in search.space, or leave +search out"
            raise UserError(f"study.{key}: given with +search; a search has trials instead: {fix}")
    if {"arm", "study.arm"} & set(map(full_key, words)):
        raise UserError("name: given with +search, which names its trials itself; study.name=NAME names the search")
    runs = expand(words, {key: value for key, value in study.items() if key not in SWEEP}, hydra)
    for key in sorted(varying(runs)) if len(runs) > 1 else ():
        fix = "put them in search.space"
        if key == "seed":
            fix = "each trial has one seed, and the winner is retrained on new ones: search.retrain=5"
        raise UserError(f"{key}: given several values with +search; {fix}")
