"""Exchange with other programs: formats for exporting a model, and imports of other models.

A new export format is a file here and a line in EXPORTS. Importing this package does not import torch.
"""

from __future__ import annotations

from kakusan.registry import Registry

EXPORTS = Registry(
    "export format",
    {
        "safetensors": "kakusan.exchange.safetensors:SafetensorsFile",
        "diffusers": "kakusan.exchange.diffusers_export:DiffusersFolder",
        "onnx": "kakusan.exchange.onnx:ONNXFile",
        "html": "kakusan.exchange.html.export:HTMLPage",
    },
)
