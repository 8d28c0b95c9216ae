r"""A convolution whose training on small grids is a matrix product.

On a CPU with AMX the library's gradient of the weights is slow where a grid is small and the
channels are many: at 4x4 and 512 channels in bfloat16 it takes five times as long as the product
of unfolded patches with the gradient, which is the same sum. On others (measured: AVX-512) the
library is the faster one. There, and wherever no gradient is wanted, this is `torch.nn.Conv2d`
and nothing else.

References:
    | High Performance Convolutional Neural Networks for Document Processing (Chellapilla et al.,
    | 2006): convolution as unfolding and a matrix product
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

LARGEST_GRID = 8  # side of the output up to which the product is the faster way
FEWEST_CHANNELS = 64  # below it the patches are too narrow to pay


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`: square kernel and stride, half padding, same parameters and values."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        if not self._pays(input):
            return super().forward(input)
        stride, padding = self.stride[0], int(self.padding[0])
        return _Unfolded.apply(input, self.weight, self.bias, stride, padding)

    def _pays(self, input: Tensor) -> bool:
        grid = -(-input.shape[2] // self.stride[0])
        return (
            torch.is_grad_enabled()
            and input.device.type == "cpu"
            and has_tiles()
            and torch.is_autocast_enabled("cpu")
            and input.is_contiguous(memory_format=torch.channels_last)
            and grid <= LARGEST_GRID
            and self.in_channels >= FEWEST_CHANNELS
        )


@cache
def has_tiles() -> bool:
    """Whether this CPU multiplies bfloat16 in tiles (AMX)."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # not in every torch we allow
    return bool(capabilities is not None and capabilities().get("amx_bf16"))


class _Unfolded(torch.autograd.Function):
    """Patches (B*H*W, k*k*C) times kernels (k*k*C, C'), in bfloat16 as autocast would."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
    ) -> Tensor:
        side = weight.shape[2]
        kernels = weight.permute(0, 2, 3, 1).reshape(len(weight), -1).bfloat16()
        patches, grid = unfold(images.bfloat16(), side, stride, padding)
        ctx.save_for_backward(patches, kernels)
        ctx.shape, ctx.side, ctx.stride, ctx.padding = images.shape, side, stride, padding
        made = torch.addmm(bias.bfloat16(), patches, kernels.T)
        return made.view(len(images), *grid, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        patches, kernels = ctx.saved_tensors
        flat = gradient.permute(0, 2, 3, 1).reshape(-1, len(kernels))
        channels, side = ctx.shape[1], ctx.side
        products = flat.T.contiguous() @ patches  # twice as fast as without the copy
        to_weight = products.view(-1, side, side, channels).permute(0, 3, 1, 2)
        to_images = fold(flat @ kernels, ctx.shape, side, ctx.stride, ctx.padding)
        return to_images, to_weight, flat.float().sum(dim=0), None, None


def unfold(
    images: Float[Tensor, "b c h w"], side: int, stride: int, padding: int
) -> tuple[Float[Tensor, "n p"], tuple[int, int]]:
    """The patch under each place of a kernel, channels innermost, and the (h, w) of the places."""
    last = images.permute(0, 2, 3, 1)
    if padding:
        last = nn.functional.pad(last, (0, 0, padding, padding, padding, padding))
    b, h, w, c = last.shape
    grid = (h - side) // stride + 1, (w - side) // stride + 1
    sb, sh, sw, sc = last.stride()
    windows = last.as_strided((b, *grid, side, side, c), (sb, sh * stride, sw * stride, sh, sw, sc))
    return windows.reshape(-1, side * side * c), grid


def fold(
    patches: Float[Tensor, "n p"], shape: torch.Size, side: int, stride: int, padding: int
) -> Float[Tensor, "b c h w"]:
    """The sum of overlapping patches, back in images of ``shape``: the transpose of `unfold`."""
    b, c, h, w = shape
    rows, columns = (h + 2 * padding - side) // stride + 1, (w + 2 * padding - side) // stride + 1
    parts = patches.view(b, rows, columns, side, side, c)
    total = patches.new_zeros((b, h + 2 * padding, w + 2 * padding, c), dtype=torch.float32)
    for i in range(side):
        for j in range(side):
            total[:, i : i + stride * rows : stride, j : j + stride * columns : stride] += parts[
                :, :, :, i, j
            ]
    inside = total[:, padding : padding + h, padding : padding + w]
    return inside.to(patches.dtype).permute(0, 3, 1, 2)
