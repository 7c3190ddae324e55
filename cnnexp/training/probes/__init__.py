"""Probes: measurements inside a network while it trains. They change no bit of its weights.

    weights.py   one training step: gradients, and relative size of the weights' change
    passes.py    a pass over the validation split in eval mode: activations, dead units, drift of batch norm
    watch.py     when to look, and the rows in probes.jsonl

If features are computed once (features.py), only the head trains, and probes see the head alone.
"""

OF_A_STEP = ("gradients", "updates")
OF_A_PASS = ("activations", "dead_units", "batch_norm")
PROBES = (*OF_A_STEP, *OF_A_PASS)
