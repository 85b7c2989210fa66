"""Segue: runs a convolution and the operators that follow it as one fused program.

    fast = segue.optimize(model, example_input)

The drop-in takes the place of the model: the same results, weights and gradients.
"""

import torch  # noqa: F401  its threads are looked for below

from ._core import NotApplicable, SegueError, share_threads
from ._core import version as __version__
from .dropin import optimize
from .explain import Explanation, explain
from .precision import use_precision
from .prepare import SegueWarning

share_threads()

__all__ = [
    "Explanation",
    "NotApplicable",
    "SegueError",
    "SegueWarning",
    "__version__",
    "explain",
    "optimize",
    "use_precision",
]
