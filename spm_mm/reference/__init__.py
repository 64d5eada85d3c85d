"""The equations of the papers, word for word: what the fast forms of the suite are compared with.

Every file swaps methods of our own modules, so weights, names and the network around them are the same.
Attention weights are held as a matrix, nothing is fused, absorbed or recomputed; batched operators
do the work, and no loop runs over windows, heads or tokens. The parity tests hold these forms equal
to the official models, too. ``tools/analysis_tools/benchmark.py --against reference`` times them.
What is not here (convolutions, norms, sums of tokens over their clusters, the neck MTA) runs in our own
code as in the published one.
"""

from spm_mm.reference.base import FORMS, make_reference, reference_form
from spm_mm.registry import import_modules

import_modules(__name__, globals())

__all__ = ['FORMS', 'make_reference', 'reference_form']
