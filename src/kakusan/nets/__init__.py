"""Networks, which are independent of probability models.

Any module that follows the protocol `Denoiser` can be used as a denoiser. A built-in one is a file with a subclass of
`ImageDenoiser` and a line in `NETWORKS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kakusan.registry import Registry, lazy_names

if TYPE_CHECKING:
    from kakusan.nets.base import Denoiser, ImageDenoiser
    from kakusan.nets.classic import ClassicUNet
    from kakusan.nets.conv import ConvDecoder, ConvEncoder
    from kakusan.nets.convnext import ConvNeXt
    from kakusan.nets.cosine import CosineMLP
    from kakusan.nets.mlp import MLP, GaussianMLP
    from kakusan.nets.series import SeriesNet
    from kakusan.nets.table import LinearPlusMLP
    from kakusan.nets.table_denoiser import TableNet
    from kakusan.nets.transformer import Transformer
    from kakusan.nets.unet import UNet

NETWORKS = Registry(
    "network",
    {
        "unet": "kakusan.nets.unet:UNet",
        "convnext": "kakusan.nets.convnext:ConvNeXt",
        "transformer": "kakusan.nets.transformer:Transformer",
        "cosine": "kakusan.nets.cosine:CosineMLP",
        "classic": "kakusan.nets.classic:ClassicUNet",
    },
)

_HOMES = {
    "UNet": "unet",
    "ClassicUNet": "classic",
    "Transformer": "transformer",
    "ConvNeXt": "convnext",
    "CosineMLP": "cosine",
    "MLP": "mlp",
    "GaussianMLP": "mlp",
    "Denoiser": "base",
    "ConvDecoder": "conv",
    "ConvEncoder": "conv",
    "ImageDenoiser": "base",
    "LinearPlusMLP": "table",
    "SeriesNet": "series",
    "TableNet": "table_denoiser",
}
__all__ = [
    "MLP",
    "NETWORKS",
    "ClassicUNet",
    "ConvDecoder",
    "ConvEncoder",
    "ConvNeXt",
    "CosineMLP",
    "Denoiser",
    "GaussianMLP",
    "ImageDenoiser",
    "LinearPlusMLP",
    "SeriesNet",
    "TableNet",
    "Transformer",
    "UNet",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
