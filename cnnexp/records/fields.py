"""What a run directory contains. Imports no torch.

    outputs/<study>/study.json                       the runs that the study's present configs call for
    outputs/<study>/<arm>-s<seed>-<fingerprint>/
        config.yaml        the resolved config
        run.json           status, command, code, environment, device, data, model, seconds, result: FIELDS
        metrics.jsonl      a row per epoch and split, and step rows on request: ROW
        probes.jsonl       a row per look, layer and probe, if the run has probes: PROBE_ROWS
        train.log          what the run printed, with the traceback of a failure
        hash_chain.jsonl   a row of hashes per training step, on request: training/hash_chain.py
        predictions.npz    logits (N, K) float32, labels (N,) int64, ids (N,) str: the test split, in its order
        checkpoints/       last.pt and previous.pt while it runs; best.pt, and final.pt where more epochs can follow

run.json and every row contain a checksum; run.json of a finished run contains those of the other files. Readers check
them. Accuracies are fractions in [0, 1]; times are seconds; percentages exist only in reports.
"""

from cnnexp.claims.metrics import SCORES

STATUSES = ("running", "done", "failed", "oom", "diverged", "interrupted", "skipped")
FINAL = ("done", "diverged")  # the same command does not make such a run again
LAST, PREVIOUS = "last.pt", "previous.pt"
FINAL_STATE = "final.pt"  # last.pt of a finished run, where a longer run could go on from it
RESUME_FILES = (LAST, PREVIOUS, "best-*.pt")  # in checkpoints/; a finished run needs none of them
METRICS, HASH_CHAIN, PROBES = "metrics.jsonl", "hash_chain.jsonl", "probes.jsonl"
RESULT_FILES = ("config.yaml", METRICS, "predictions.npz", HASH_CHAIN, PROBES)
TIMING = ("seconds", "images_per_second")  # columns of a row that differ from run to run
ROW = ("kind", "epoch", "step", "split", "loss", "accuracy", *SCORES, "learning_rate", *TIMING)
PROBE_ROWS = {  # kind: its columns, after epoch, step, kind, layer, type (the class of the module)
    "gradient": "norm; numbers, zeros, not_finite, first, counts: a histogram, see probes/magnitudes.py",
    "update": "ratio: |change| / |weights| of the step, null if the weights were 0; weight_norm",
    "activation": "after: the layer with weights before it, in the same block; mean, std; a histogram, as of gradients",
    "dead_units": "after; units, dead: how many units there are, and how many are zero for the validation split",
    "batch_norm": "mean_shift, variance_ratio: see probes/passes.py",
}
FIELDS: dict[str, tuple[type, str]] = {  # of run.json; a run that has not come so far, or does not use it, lacks some
    "status": (str, "one of STATUSES"),
    "study": (str, "the study's name"),
    "arm": (str, "the arm's name"),
    "seed": (int, ""),
    "fingerprint": (str, "hash of everything that can change a number, except the seed"),
    "fold": (dict, "of cross-validation: fold, of: their number, group: the fingerprint that all folds share"),
    "changes": (list, "what the arm changes, as overrides"),
    "command": (str, "what was typed"),
    "repeat": (str, "a command that makes this run alone"),
    "code": (dict, "version, commit, digest"),
    "earlier": (list, "of {code, environment}: other versions that made a part of a resumed run"),
    "user_code": (dict, "{module or file: hash} of the user's code that a `_target_` names"),
    "environment": (dict, "python, torch, torchvision, platform, host"),
    "device": (dict, "kind, name, precision, threads; of a CPU: instructions, processor, and the variables that choose "
    "its kernels; fp32_layers: layers kept in fp32 when bf16 is on; compile"),
    "data": (dict, "name, fingerprint, classes, image: [C, H, W], mean, std: C floats each, of pixels / 255; "
    "split or validation: a hash of what was drawn by the names of files; "
    "train, val, test: numbers of images; test_in_train, val_in_train: those that are training images too; "
    "contradictory: those that equal one of another class; skipped; files: the folder that ids are paths from, null "
    "if images are no files; prepare_seconds"),
    "model": (dict, "parameters, trainable_parameters, macs; weights: the name of those that it starts from, or none"),
    "schedule": (dict, "steps_per_epoch, total_steps, epochs"),
    "protocol": (dict, "validate_on, keep_epoch, monitor"),
    "features": (str, "of a frozen backbone: computed once, or why not"),
    "seconds": (dict, "prepare, features, train, evaluate, checkpoint, total; probes, hash_chain, compile: if used"),
    "result": (dict, "best_epoch, epochs, {val, test, train}_{accuracy, loss}, images_per_second, peak_memory_mib, "
    "stopped: completed | early | pruned; shift_consistency: with shift_pixels. No test_* with final_test=false"),
    "files": (dict, "{name: CRC-32 in 8 hexadecimal digits} of the other files of a run that is done"),
    "upstream": (dict, "run, folder, epochs: of the shorter run whose final state this run went on from"),
    "error": (dict, "type, message; step, samples: of the batch whose loss was not finite"),
    "started": (str, "ISO 8601, UTC"),
    "finished": (str, "ISO 8601, UTC"),
    "resumed": (int, "how often the run continued from a checkpoint"),
}  # fmt: skip
