"""Every operation of these networks from its formula, in plain tensor arithmetic; `cnnexp ops` holds them to torch's.

A network takes them with `model.impl=im2col`, an optimiser with `optimizer=reference_adam`. Nothing here calls
torch.nn.functional for the thing itself; operations.py does, to compare.
"""

OPERATIONS = (  # what operations.py compares, in its order; here because a wrong name is told without torch
    *("conv", "filter", "max_pool", "affine", "batch_norm", "spatial_batch_norm", "layer_norm"),
    *("dropout", "vanilla_dropout"),
    *("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish", "softplus", "sigmoid", "tanh"),
    *("softmax_cross_entropy", "sgd", "momentum", "rmsprop", "adam"),
)
