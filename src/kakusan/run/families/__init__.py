"""Model families by name. A new family is a file here and a line in FAMILIES."""

from __future__ import annotations

from kakusan.registry import Registry

FAMILIES = Registry(
    "model family",
    {
        "diffusion": "kakusan.run.families.diffusion:DiffusionFamily",
        "diffusers": "kakusan.run.families.diffusers:DiffusersFamily",
        "vae": "kakusan.run.families.vae:VAEFamily",
        "hierarchy": "kakusan.run.families.hierarchy:HierarchyFamily",
        "learned-noise": "kakusan.run.families.learned_noise:LearnedNoiseFamily",
        "conv-vae": "kakusan.run.families.conv:ConvVAEFamily",
        "conv-hierarchy": "kakusan.run.families.conv:ConvHierarchyFamily",
        "table-vae": "kakusan.run.families.tables:TableFamily",
        "table-diffusion": "kakusan.run.families.values:TableDiffusionFamily",
        "series": "kakusan.run.families.values:SeriesFamily",
        "dirichlet": "kakusan.run.families.dirichlet:DirichletFamily",
    },
)
