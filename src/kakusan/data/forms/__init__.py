"""Forms of examples by name, which is the `kind` of a data set. A new one is a file here and a line in FORMS."""

from __future__ import annotations

from kakusan.registry import Registry

FORMS = Registry(
    "form of data",
    {
        "images": "kakusan.data.forms.images:ImageForm",
        "tables": "kakusan.data.forms.tables:TableForm",
        "series": "kakusan.data.forms.series:SeriesForm",
        "counts": "kakusan.data.forms.counts:CountForm",
    },
)
