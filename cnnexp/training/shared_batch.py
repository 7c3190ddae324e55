"""Training on a batch by several processes: each passes its rows through the network, and all get all logits.

The numbers are those of one process up to rounding. What is random in a pass is drawn for the complete batch, of which
each process takes its rows. Batch norm uses the statistics of the complete batch (`device.sync_bn`). The loss is
computed from all logits by every process, so it may be any function of a batch.
"""

from collections.abc import Callable, Set
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cnnexp.rng import fold, seed_device
from cnnexp.training.loop import TrainState
from cnnexp.training.ranks import Ranks

DROPOUTS = {  # the dimensions of the mask that are those of the input
    functional.dropout: None,
    functional.dropout1d: 2,
    functional.dropout2d: 2,
    functional.dropout3d: 2,
}
FILL = (Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_, Tensor.exponential_)
LIKE = {torch.rand_like: Tensor.uniform_, torch.randn_like: Tensor.normal_}


class SharedBatch:
    """Called with the images (N, ...) of a batch, or of a part of it, in training; returns their logits (N, K)."""

    def __init__(self, state: TrainState, ranks: Ranks, seed: int, sync_bn: bool, images: Tensor):
        """images: of a batch, to see which parameters are used. All processes call this at the same time."""
        self.state, self.ranks, self.seed, self.sync_bn = state, ranks, seed, sync_bn
        self.device, self.step = images.device, -1
        self.generator = torch.Generator(self.device)
        self.kept = {id(tensor) for tensor in (*state.learner.parameters(), *state.learner.buffers())}
        self.parallel: nn.Module = state.learner
        options: dict[str, Any] = {"find_unused_parameters": self._unused(images) or bool(state.unfrozen)}
        options[_BUFFERS] = not sync_bn or _has_other_buffers(state.learner)
        self.parallel = nn.parallel.DistributedDataParallel(state.learner, **options)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of all images; this process computes those of its rows."""
        if self.step != self.state.step:
            self.step = self.state.step
            self.generator.manual_seed(fold(self.seed, "dropout", self.step))
            seed_device(self.device, fold(self.seed, "dropout", self.step, "process", self.ranks.rank))
        rows = self.ranks.rows(len(images))
        with CompleteBatch(self.ranks, len(images), self.generator, self.sync_bn, self.kept):
            logits = self.parallel(images[rows])
        return cast(Tensor, AllRows.apply(logits, len(images), self.ranks))

    def _unused(self, images: Tensor) -> bool:
        """Tell whether the loss leaves out parameters that learn: then torch has to look for them at every step."""
        learner = self.state.learner
        kept = {name: buffer.clone() for name, buffer in learner.named_buffers()}
        learner.train()
        self(images).float().sum().backward()  # type: ignore[no-untyped-call]
        unused = any(p.grad is None for p in learner.parameters() if p.requires_grad)
        self.state.optimizer.zero_grad(set_to_none=True)
        for name, buffer in learner.named_buffers():
            buffer.copy_(kept[name])
        self.step = -1
        return unused


_BUFFERS = next(  # torch 2.15 has renamed it
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in nn.parallel.DistributedDataParallel.__init__.__code__.co_varnames
)


def _has_other_buffers(learner: nn.Module) -> bool:
    """Tell whether a network has buffers besides those of batch norms, which process 0 has to send at every step."""
    norms = (nn.modules.batchnorm._BatchNorm,)
    return any(next(m.buffers(recurse=False), None) is not None for m in learner.modules() if not isinstance(m, norms))


class AllRows(torch.autograd.Function):
    """The rows of all processes. Backward: the gradient of the own ones, times the number of processes.

    That is the gradient of the loss; DistributedDataParallel takes the mean of the processes, which are to be added.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, size: int, ranks: Ranks) -> Tensor:
        """Return (size, ...) from the own rows (n, ...)."""
        ctx.ranks = ranks
        result = own.new_zeros(size, *own.shape[1:])
        result[ranks.rows(size)] = own
        return ranks.complete(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the own rows."""
        return gradients[0][ctx.ranks.rows(len(gradients[0]))] * ctx.ranks.count, None, None


class SumOfAll(torch.autograd.Function):
    """The sum of a tensor over the processes, as in the forward so in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        """Return the sum."""
        ctx.ranks = ranks
        return ranks.sum(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the sum of the gradients."""
        return ctx.ranks.sum(gradients[0]), None


class CompleteBatch(TorchFunctionMode):
    """While the block runs, draws and batch norms are of the complete batch, of which tensors here hold some rows.

    A draw for a parameter or buffer is the same in all processes. Another one whose first dimension is a multiple of
    the number of own rows is one for each image. Any other draw is made by each process for itself.
    """

    def __init__(self, ranks: Ranks, size: int, generator: torch.Generator, sync_bn: bool, kept: Set[int]):
        """kept: the ids of parameters and buffers."""
        super().__init__()
        self.kept = kept
        self.ranks, self.size, self.generator, self.sync_bn = ranks, size, generator, sync_bn
        rows = ranks.rows(size)
        self.first, self.own = rows.start, rows.stop - rows.start

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call one of torch's functions, or what replaces it."""
        kwargs = kwargs or {}
        if func is functional.batch_norm and self.sync_bn:
            return self.batch_norm(func, *args, **kwargs)
        if func in DROPOUTS:
            return self.dropout(func, *args, **kwargs)
        if func in LIKE and args and self.is_shared(args[0]) and not kwargs:
            return self.drawn(args[0], LIKE[func])
        if func in FILL and self.is_shared(args[0]) and not isinstance((*args, None)[1], Tensor):
            return args[0].copy_(self.drawn(args[0], func, *args[1:], **kwargs))
        return func(*args, **kwargs)

    def is_shared(self, x: Tensor) -> bool:
        """Tell whether a tensor is a parameter or buffer, or its first dimension the images, or parts of them."""
        return id(x) in self.kept or (x.ndim > 0 and len(x) > 0 and len(x) % self.own == 0)

    def drawn(self, like: Tensor, fill: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Draw a tensor for the complete batch, in the memory layout of `like`; return the own rows."""
        if id(like) in self.kept:
            return fill(torch.empty_like(like, requires_grad=False), *args, generator=self.generator, **kwargs)
        each = len(like) // self.own
        channels_last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        shape = (self.size * each, *like.shape[1:])
        complete = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
        fill(complete, *args, generator=self.generator, **kwargs)
        return complete[self.first * each : (self.first + self.own) * each]

    def dropout(self, func: Any, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """Drop numbers, or channels, as torch does."""
        if not training or p in (0.0, 1.0) or not self.is_shared(input):
            return cast(Tensor, func(input, p, training, inplace))
        ndim = DROPOUTS[func]
        like = (
            input
            if ndim is None or id(input) in self.kept
            else input.new_empty(*input.shape[:ndim], *[1] * (input.ndim - ndim))
        )
        mask = self.drawn(like, Tensor.bernoulli_, 1 - p).div_(1 - p)
        return input.mul_(mask) if inplace else input * mask

    def batch_norm(
        self,
        func: Any,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Normalise by the statistics of all processes, and follow them in the running ones.

        torch's SyncBatchNorm refuses a CPU. The means and variances are combined in float64, where nothing is lost.
        """
        if not training:
            return cast(Tensor, func(input, running_mean, running_var, weight, bias, training, momentum, eps))
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        shape, dims = [1, -1, *[1] * (x.ndim - 2)], [d for d in range(x.ndim) if d != 1]
        own = x.numel() // x.shape[1]
        each = own // len(x)
        count = each * self.size * (len(x) // self.own)
        if count == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
        variance, mean = (t.double() for t in torch.var_mean(x, dims, correction=0))
        parts = torch.stack([own * mean, own * (variance + mean * mean)])
        mean, square = SumOfAll.apply(parts, self.ranks) / count
        variance = (square - mean * mean).clamp_min(0)
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
        scale = (variance + eps).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        result: Tensor = x * scale.to(x.dtype).view(shape) + shift.to(x.dtype).view(shape)
        return result.to(input.dtype)
