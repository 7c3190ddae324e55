"""The operations of the networks, written from their formulas in tensor arithmetic; `cnnexp ops` compares with torch.

A network uses them with `model.impl=im2col`, training with `optimizer=reference_adam`. Only catalogue.py calls torch's
own functions, for the comparison.
"""

OPERATIONS = (  # the keys of catalogue(), in its order; here, so that a wrong name is an error before torch is imported
    *("conv", "filter", "max_pool", "affine", "batch_norm", "spatial_batch_norm", "layer_norm"),
    *("dropout", "vanilla_dropout"),
    *("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish", "softplus", "sigmoid", "tanh"),
    *("softmax_cross_entropy", "sgd", "momentum", "rmsprop", "adam"),
)
