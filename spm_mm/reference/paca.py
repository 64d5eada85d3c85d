"""PaCa: attention to clusters (Eq. 1 to 5)."""

from torch import Tensor

from spm_mm.attention import PatchToClusterAttention
from spm_mm.reference.base import reference_form
from spm_mm.reference.pvt import attend


@reference_form(PatchToClusterAttention)
def patch_to_cluster(
    module: PatchToClusterAttention, x: Tensor, assignment: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    b, h, w, c = x.shape
    tokens = context = x.flatten(1, 2)
    if not module.num_clusters:
        assignment = None
    else:
        if module.clustering is not None:
            logits = module.clustering(x)
            assignment = logits.flatten(1, 2).softmax(dim=1).transpose(1, 2)
        context = module.cluster_norm(assignment @ tokens)
    q, k, v = (
        layer(t).unflatten(-1, (module.num_heads, -1)).transpose(1, 2)
        for layer, t in ((module.q, tokens), (module.k, context), (module.v, context))
    )
    out = attend(q, k, v)
    return module.proj(out.transpose(1, 2).reshape(b, h, w, c)), assignment
