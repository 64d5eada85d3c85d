"""SG-Former (OliverRensu/SG-Former)."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from spm_mm.attention import HybridScaleAttention, LocallyEnhancedAttention, SelfGuidedAttention
from spm_mm.backbones import SGFormer
from spm_mm.backbones.sg_former import REGIONS
from spm_mm.converters.base import Classifier
from tests.parity.twins.base import Outputs, Twin, mount, official_code

KINDS = {
    'plain': lambda dim, heads, sr: LocallyEnhancedAttention(dim, heads),
    'hybrid': lambda dim, heads, sr: HybridScaleAttention(dim, heads, (sr, 1)),
    'guided': lambda dim, heads, sr: SelfGuidedAttention(
        dim, heads, {8: REGIONS[0], 4: REGIONS[1], 2: REGIONS[2]}[sr]
    ),
}


@official_code(
    'sgformer',
    families=('sgformer',),
    fixtures=(
        *(f'sgformer_{size}' for size in ('s', 's_448', 'm', 'b')),
        *(f'sg_attn_{kind}_sr{sr}' for kind in ('hybrid', 'guided') for sr in (8, 4, 2)),
        'sg_attn_plain',
    ),
)
def make_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    if callable_name == 'Attention':
        part = KINDS[config['kind']](config['dim'], config['num_heads'], config['sr_ratio'])

        def run_part(x: Tensor, significance: Tensor | None = None) -> Outputs:
            out, received = part(x, significance)
            outputs = {'out_map': out.permute(0, 3, 1, 2)}
            return outputs if received is None else outputs | {'significance': received[:, None]}

        module = mount({'backbone.stages.0.blocks.0.attn': part})
        return Twin(module, run_part, {'': 'block1.0.attn.'})
    arch = {'s': 'small', 'm': 'medium', 'b': 'base'}[callable_name[-1]]
    backbone = SGFormer(arch, out_type='avg_featmap', img_size=config['img_size'])
    model = Classifier.of(backbone, state_dict)
    return Twin(model, lambda x: run(model, x))


def run(model: Classifier, x: Tensor) -> Outputs:
    """Return logits, the normed maps of all stages and the significance that the first blocks find.

    Where an image has as many tokens as the position table, but on another grid, the official code
    adds the table in flat order and leaves out the border that fills no merging patch. So does this
    function.
    """
    outputs: Outputs = {}

    def keep(name: str, place: int, unsqueeze: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, out: tuple) -> None:
            outputs[name] = out[place][:, None] if unsqueeze else out[place].permute(0, 3, 1, 2)

        return hook

    stages = model.backbone.stages
    handles = [
        s.register_forward_hook(keep(f'stage{i}', 0, False)) for i, s in enumerate(stages, 1)
    ]
    handles += [
        s.blocks[0].register_forward_hook(keep(f'significance{i}', 1, True))
        for i, s in enumerate(stages[:-1], 1)
    ]
    position = stages[0].position
    table, grid = position.table.data, tuple(-(-side // 4) for side in x.shape[2:])
    if math.prod(grid) == table[0, ..., 0].numel():
        position.table.data = table.view(1, *grid, -1)
    scales = [module for module in model.modules() if hasattr(module, 'keep_border')]
    for module in scales:
        module.keep_border = grid == table.shape[1:3]
    outputs['logits'] = model(x)
    position.table.data = table
    for handle in handles:
        handle.remove()
    return outputs
