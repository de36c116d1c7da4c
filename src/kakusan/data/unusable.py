"""Why a file is not taken as a picture."""

from __future__ import annotations


class Unusable(Exception):
    """A file that is no usable picture; the message is its reason, to stand behind the file's name."""
