"""HTML report of a run, computed only from the run directory."""

import logging

# hides matplotlib's advice about its cache, which it prints if there is no home folder
logging.getLogger("matplotlib").setLevel(logging.ERROR)
