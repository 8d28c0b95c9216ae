"""Per-photo gradients of our convolution, whatever its order in memory.

Opacus' own sampler for convolutions unfolds images by their strides as if channels came first in
memory, and silently takes the wrong numbers where they come last. This one multiplies the patches
that the convolution itself would see, photo by photo.
"""

from __future__ import annotations

from torch import Tensor, nn

from facemorph_core.models.convolution import Conv2d, unfold


def of_each_photo(
    layer: Conv2d, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """The gradients (B, *parameter) of ``layer`` given its input and its output's gradient.

    ``activations`` holds the input (B, C, H, W); ``backprops`` is (B, C', H', W').
    """
    images, (count, out) = activations[0], backprops.shape[:2]
    side, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
    patches, _ = unfold(images, side, stride, padding)
    products = backprops.flatten(2) @ patches.view(count, -1, patches.shape[1])
    weight = products.view(count, out, side, side, -1).permute(0, 1, 4, 2, 3).contiguous()
    assert layer.bias is not None
    return {layer.weight: weight, layer.bias: backprops.sum(dim=(2, 3))}  # type: ignore[dict-item]
