"""The model card of an exported network: what it is, how to use it, how good it is, and where it may fail.

After Mitchell et al. 2019, "Model Cards for Model Reporting", arXiv 1810.03993.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cnnexp import metrics
from cnnexp.data.licences import LICENCES
from cnnexp.errors import UserError
from cnnexp.export.check import Check
from cnnexp.export.portable import resize_rule, size_of
from cnnexp.export.snippets import snippet
from cnnexp.records import convergence
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.report.analysis.statistics import estimate
from cnnexp.text import listed, markdown, percent, plain, visible
from cnnexp.training import checkpoint
from cnnexp.training.inference import TrainedModel

MAX_CLASSES = 50  # with a row of their own
MIN_SEEDS = 2
RESAMPLES = 1000  # of the test images


def model_card(model: TrainedModel, file: str, form: str, checked: Check | str) -> str:
    """Return the card as Markdown. file: the exported file's name. form: its format. checked: or why it is not."""
    sections = [
        f"# {_safe(model.record.info.get('arm') or 'Model')}",
        _summary(model, file, checked),
        f"## How to use it\n{snippet(model, file, form)}",
        f"## Preprocessing\n{_preprocessing(model, form)}",
        f"## Data\n{_data(model)}",
        f"## Metrics\n{_metrics(model)}",
        f"## Limits\n{_listed(_limits(model))}",
        f"## Training\n{_training(model)}",
    ]
    return "\n\n".join(sections) + "\n"


def _safe(text: object) -> str:
    return markdown(plain(text))


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _summary(model: TrainedModel, file: str, checked: Check | str) -> str:
    info = model.record.info
    network = info.get("model") or {}
    return _listed(
        [
            f"classifies images of {size_of(model.transform)} into {len(model.classes)} classes: "
            + _safe(listed(model.classes, MAX_CLASSES)),
            f"file: `{file}`, weights {_made_when(model)} of run `{plain(model.record.folder.name)}`, "
            f"study {_safe(info.get('study'))}",
            f"parameters: {network.get('parameters', 0):,}; MACs of an image: {network.get('macs', 0):,}",
            f"checked: {checked}",
        ]
    )


def _made_when(model: TrainedModel) -> str:
    """Return "of epoch 3", as the checkpoint says itself; of a state, its name and the number of its steps."""
    content = checkpoint.read(model.weights)
    if "epoch" in content:
        return f"of epoch {plain(content['epoch'])}"
    of_epoch = (model.record.info.get("schedule") or {}).get("steps_per_epoch", "?")
    return f"in `{plain(model.weights.name)}` after {plain(content.get('step'))} steps ({plain(of_epoch)} an epoch)"


def _preprocessing(model: TrainedModel, form: str) -> str:
    inside = (
        "The file holds weights only, so normalise as the code above does."
        if form == "safetensors"
        else "Scaling to [0, 1] and normalisation are inside the file: give pixels as they are, 0 to 255."
    )
    mean, std = (", ".join(f"{v:.6g}" for v in values) for values in (model.transform.mean, model.transform.std))
    rule = resize_rule(model.transform)
    return f"Before the file: {rule}.\n{inside} Mean {mean} and standard deviation {std}, of pixels / 255."


def _data(model: TrainedModel) -> str:
    data: dict[str, Any] = model.record.info.get("data") or {}
    counts = ", ".join(f"{data.get(part, 0):,} {part}" for part in ("train", "val", "test"))
    licence = LICENCES.get(str(data.get("name"))) or "not known to the program; see the source of the images"
    fold = model.record.info.get("fold") or {}
    part = f"; fold {fold.get('fold')} of {fold.get('of')}, counted from 0" if fold else ""
    return _listed(
        [
            f"name: {_safe(data.get('name'))}, fingerprint `{plain(data.get('fingerprint'))}`",
            f"images: {counts}{part}",
            f"licence of the data: {licence}. The licence may bind users of the model too",
        ]
    )


def _stored(model: TrainedModel) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """Return the recorded logits and labels of the test images, which are of the best weights."""
    try:
        stored = model.record.predictions()
    except UserError:
        return None
    if model.weights.name != "best.pt":
        return None
    return (stored["logits"], stored["labels"]) if len(stored["labels"]) else None


def accuracy_interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy (Wilson 1927): about other images of the same source."""
    found = stats.binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)


def _with_interval(right: int, count: int) -> str:
    low, high = accuracy_interval(right, count)
    return f"{percent(right / count)} [{percent(low)}, {percent(high)}]"


def _metrics(model: TrainedModel) -> str:
    stored = _stored(model)
    if stored is None:
        return "None: the run has no predictions of its test images by these weights."
    logits, labels = stored
    right, losses = logits.argmax(1) == labels, -metrics.log_softmax(logits)[np.arange(len(labels)), labels]
    half = stats.norm.ppf(0.975) * losses.std(ddof=1) / np.sqrt(len(losses)) if len(losses) > 1 else np.nan
    rows = [
        ("test accuracy", _with_interval(int(right.sum()), len(labels))),
        ("test loss (nats)", f"{losses.mean():.4f} [{losses.mean() - half:.4f}, {losses.mean() + half:.4f}]"),
    ]
    rows += [*_of_classes(logits.argmax(1), labels, len(model.classes)), *_of_seeds(model.record)]
    table = ["| metric | value, 95 % interval |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]
    classes = ["| class | test images | accuracy, 95 % interval |", "| --- | --- | --- |"]
    for number, title in enumerate(model.classes[:MAX_CLASSES]):
        of_class = labels == number
        if of_class.any():
            count = int(of_class.sum())
            classes.append(f"| {_safe(title)} | {count:,} | {_with_interval(int(right[of_class].sum()), count)} |")
    about = "Intervals are about other images of the same source; those over seeds, about training again."
    return "\n".join([f"Of {len(labels):,} test images. {about}", "", *table, "", *classes])


def _of_classes(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> list[tuple[str, str]]:
    """Return means over the classes; intervals from a bootstrap over the test images (Efron & Tibshirani 1993)."""
    generator, names = np.random.default_rng(0), {"f1": "macro F1", "recall": "balanced accuracy"}
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1 + RESAMPLES):
        chosen = generator.integers(0, len(labels), len(labels)) if number else np.arange(len(labels))
        scores = metrics.by_class(predicted[chosen], labels[chosen], classes)
        present = np.unique(labels[chosen])
        found["f1"].append(float(np.nanmean(scores["f1"])))
        found["recall"].append(float(scores["recall"][present].mean()))
    rows = []
    for name, (value, *others) in found.items():
        low, high = np.quantile(others, (0.025, 0.975))
        interval = f" [{percent(low)}, {percent(high)}]" if low < high else ""  # all images are right, or none
        rows.append((names[name], percent(value) + interval))
    return rows


def _of_seeds(record: RunRecord) -> list[tuple[str, str]]:
    """Return the mean accuracy of the runs that differ from this one in their seed only, if there are several."""
    same = [run for run in find_runs(record.folder.parent) if run.info.get("fingerprint") == record.info["fingerprint"]]
    found = {
        run.info.get("seed"): value
        for run in same
        if run.status == "done" and isinstance(value := (run.info.get("result") or {}).get("test_accuracy"), float)
    }
    if len(found) < MIN_SEEDS:
        return []
    mean = estimate([float(value) for value in found.values()])
    interval = f"({mean.all_equal})" if mean.all_equal else f"[{percent(mean.low)}, {percent(mean.high)}]"
    return [(f"test accuracy, mean of {mean.n} seeds", f"{percent(mean.mean)} {interval}")]


def _limits(model: TrainedModel) -> list[str]:
    """Return what a user has to know before relying on the network."""
    info, stored = model.record.info, _stored(model)
    found = ["It names one of its classes for every image, also for one that shows none of them."]
    found.append("Its test images are from the source of its training images; on others it may be less accurate.")
    if stored is not None:
        logits, labels = stored
        confidence = metrics.probability_scores(logits, labels)[0]
        accuracy = float((logits.argmax(1) == labels).mean())
        found.append(
            f"It gives the named class {percent(confidence.mean())} on average, and {percent(accuracy)} are right."
        )
        found += _least_accurate(logits, labels, model.classes)
    copies = (info.get("data") or {}).get("test_in_train")
    found += [f"{copies:,} of its test images are training images too, so its accuracy is too high."] if copies else []
    skipped = (info.get("data") or {}).get("skipped")
    found += [f"{skipped:,} damaged images were left out."] if skipped else []
    if info.get("status") == "done" and (note := convergence.sentence(model.record)):
        found.append(f"The run was {note}.")
    if (precision := (info.get("device") or {}).get("precision")) not in (None, "fp32"):
        found.append(f"It was trained and tested in {precision}; the file computes in float32.")
    return found


def _least_accurate(logits: NDArray[np.float32], labels: NDArray[np.int64], classes: list[str]) -> list[str]:
    """Name the classes whose interval lies below the accuracy of all images, the lowest first."""
    confusion = metrics.confusion(logits.argmax(1), labels, len(classes))
    counts, right = confusion.sum(1), confusion.diagonal()
    low = [
        (int(r) / int(n), f"{_safe(title)} {_with_interval(int(r), int(n))}")
        for title, r, n in zip(classes, right, counts, strict=True)
        if n and accuracy_interval(int(r), int(n))[1] < right.sum() / counts.sum()
    ]
    return [f"It is less accurate than on average on {', '.join(text for _, text in sorted(low))}."] if low else []


def _training(model: TrainedModel) -> str:
    info = model.record.info
    code, environment = info.get("code") or {}, info.get("environment") or {}
    device = info.get("device") or {}
    versions = f"cnnexp {code.get('version')}, commit {code.get('commit')}, torch {environment.get('torch')}"
    config = visible((model.record.folder / "config.yaml").read_text(encoding="utf-8"), lines=True).replace("```", "")
    return (
        f"Seed {plain(info.get('seed'))}; {plain(versions)}; {plain(device.get('name'))}, {device.get('precision')}. "
        f"To train it again:\n```\n{plain(info.get('repeat'))}\n```\nThe complete config:\n"
        f"```yaml\n{config}```"
    )
