"""HTML report of a run, made from its directory alone."""

import logging

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # without a home it advises where to keep its cache
