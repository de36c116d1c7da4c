"""Our classic U-Net as a UNet2DModel of diffusers: the same function, with the same weights under other names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kakusan.nets.classic import Attention, Block, ClassicUNet
from kakusan.nets.time import SinusoidalTime, sinusoids
from kakusan.run.families.diffusers import UNetSettings


def as_unet(net: nn.Module, event_shape: tuple[int, ...], depth: int) -> tuple[UNetSettings, dict[str, Tensor]] | None:
    """Return settings and weights of the UNet2DModel that equals this network; None if there is none.

    The sinusoids of t = 1..T are stored as a table with one row per step. diffusers counts steps from 0, and two ways to
    compute sinusoids in float32 differ by 1e-4 at large t.

    Args:
        net: A denoiser.
        event_shape: (C, H, W).
        depth: T.
    """
    if not isinstance(net, ClassicUNet) or not isinstance(net.time, SinusoidalTime):
        return None  # a learned table of t, and clusters, enter at other places than the embeddings of diffusers
    blocks: Any = [*net.down, *net.middle, *net.up]
    widths = [block.width for block in blocks[: len(net.down) : net.blocks]]
    frequencies = net.time.first.weight.shape[1]
    heads = {(block.attention.head_width, block.width) for block in blocks if _attends(block)}
    one_head, sizes = all(head == width for head, width in heads), {head for head, _ in heads}
    if any(net.folding.padding) or net.folding.gate or frequencies != widths[0] or not (one_head or len(sizes) == 1):
        return None
    channels, height, width = event_shape
    down = ["AttnDownBlock2D" if _attends(block) else "DownBlock2D" for block in blocks[: len(net.down) : net.blocks]]
    settings = UNetSettings(
        sample_size=(height, width),
        in_channels=channels,
        out_channels=channels,
        time_embedding_type="learned",
        num_train_timesteps=depth,
        down_block_types=tuple(down),  # type: ignore[arg-type]
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),  # type: ignore[arg-type]
        block_out_channels=tuple(widths),
        layers_per_block=net.blocks,
        attention_head_dim=None if one_head else sizes.pop(),
        norm_num_groups=net.norm.num_groups,
        add_attention=_attends(net.middle[0]),
    )
    return settings, _weights(net, sinusoids(torch.arange(1, depth + 1), frequencies))


def _attends(block: Any) -> bool:
    return isinstance(block.attention, Attention)


def _weights(net: ClassicUNet, rows: Tensor) -> dict[str, Tensor]:
    """Return our weights under the names of UNet2DModel; `rows` are the embeddings of the steps."""
    time: Any = net.time
    weights = {"time_proj.weight": rows}
    plain: dict[str, Any] = {
        "conv_in": net.first,
        "time_embedding.linear_1": time.first,
        "time_embedding.linear_2": time.second,
        "conv_norm_out": net.norm,
        "conv_out": net.last,
    }
    shifts = zip(net.shifts.weight.split(net.shift_widths), net.shifts.bias.split(net.shift_widths))
    rooms: Any = (("down_blocks", net.down), ("mid_block", net.middle), ("up_blocks", net.up))
    per_level = {"down_blocks": net.blocks, "up_blocks": net.blocks + 1}
    for room, parts in rooms:
        for index, block in enumerate(parts):
            level, number = divmod(index, per_level[room]) if room in per_level else (None, index)
            place = room if level is None else f"{room}.{level}"
            plain |= _block(f"{place}.resnets.{number}", block)
            if _attends(block):
                weights |= _attention(f"{place}.attentions.{number}", block.attention)
            weight, bias = next(shifts)
            weights[f"{place}.resnets.{number}.time_emb_proj.weight"] = weight
            weights[f"{place}.resnets.{number}.time_emb_proj.bias"] = bias
    plain |= {f"down_blocks.{level}.downsamplers.0.conv": conv for level, conv in enumerate(net.shrink)}
    plain |= {f"up_blocks.{level}.upsamplers.0.conv": conv for level, conv in enumerate(net.enlarge)}
    for name, layer in plain.items():
        weights |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return {name: tensor.detach().contiguous() for name, tensor in weights.items()}


def _block(place: str, block: Block) -> dict[str, nn.Module]:
    layers = {f"{place}.{name}": getattr(block, name) for name in ("norm1", "conv1", "norm2", "conv2")}
    return layers | ({f"{place}.conv_shortcut": block.shortcut} if isinstance(block.shortcut, nn.Conv2d) else {})


def _attention(place: str, attention: Attention) -> dict[str, Tensor]:
    weights = {f"{place}.group_norm.weight": attention.norm.weight, f"{place}.group_norm.bias": attention.norm.bias}
    joined = attention.queries_keys_values
    for name, weight, bias in zip(("to_q", "to_k", "to_v"), joined.weight.chunk(3), joined.bias.chunk(3)):
        weights |= {f"{place}.{name}.weight": weight, f"{place}.{name}.bias": bias}
    out = attention.out
    return weights | {f"{place}.to_out.0.weight": out.weight, f"{place}.to_out.0.bias": out.bias}
