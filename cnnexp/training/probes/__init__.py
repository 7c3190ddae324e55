"""What happens inside a network while it trains. Probes only look: the weights are the same to the last bit without.

    weights.py   one training step: gradients, and how far it moved the weights
    passes.py    a clean pass over the validation split: activations, dead units, drift of batch norm
    watch.py     when to look, and the rows in probes.jsonl

Where features are computed once (features.py), only the head trains, and probes see the head alone.
"""

OF_A_STEP = ("gradients", "updates")
OF_A_PASS = ("activations", "dead_units", "batch_norm")
PROBES = (*OF_A_STEP, *OF_A_PASS)
