"""Grad-CAM: where in an image a network's answer comes from (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2).

Written here because it is the sum below: captum's LayerGradCam gives the same numbers (tests), but needs the layer by
name and a layer that is called once, which ReLUs of residual networks are not. pytorch-grad-cam brings OpenCV.
"""

from typing import Any

import torch
from torch import Tensor, nn

from cnnexp.errors import UserError


def grad_cam(model: nn.Module, images: Tensor, classes: Tensor) -> tuple[Tensor, str]:
    """Return maps (N, h, w) in [0, 1] of what speaks for a class in each image, and the layer that they are of.

    images: (N, C, H, W), normalised. classes: (N,), whose logits are explained. The layer is the last one, in the order
    of computation, with maps as large as the output of the last convolution that is larger than one pixel. A map
    is 0 where nothing speaks for the class. Raises UserError if the network has no such convolution.
    """
    outputs: list[tuple[str, bool, Any]] = []
    hooks = [
        module.register_forward_hook(lambda m, _, out, name=name: outputs.append((name, isinstance(m, nn.Conv2d), out)))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.enable_grad():
            logits = model.eval()(images.detach().requires_grad_(True))
    finally:
        for hook in hooks:
            hook.remove()
    maps = [
        (n, conv, out) for n, conv, out in outputs if isinstance(out, Tensor) and out.ndim == 4 and out.requires_grad
    ]
    sizes = [out.shape[2:] for _, conv, out in maps if conv and out.shape[2:].numel() > 1]
    if not sizes:
        raise UserError("the network has no convolution whose output is larger than one pixel, so it has no Grad-CAM")
    name, _, last = next(found for found in reversed(maps) if found[2].shape[2:] == sizes[-1])
    chosen = logits.gather(1, classes.to(logits.device).view(-1, 1)).sum()
    (gradient,) = torch.autograd.grad(chosen, last)
    heat = (gradient.mean((2, 3), keepdim=True) * last).sum(1).relu().detach().float()
    return heat / heat.amax((1, 2), keepdim=True).clamp_min(torch.finfo(heat.dtype).tiny), name


def first_filters(model: nn.Module) -> tuple[Tensor, str]:
    """Return the weights (out, C, h, w) of the first convolution, and its name. Raises UserError without one."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach().float().cpu(), name
    raise UserError("the network has no convolution, so it has no filters to show")
