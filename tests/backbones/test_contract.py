"""What every backbone must do, with every merging, over all that is registered."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.registry import MODELS, registered
from tests import testing

GRID = testing.pairs()
KEYS = Path(__file__).parent / 'state_dict_keys.json'


@pytest.mark.parametrize(('backbone', 'merging'), GRID)
class TestGrid:
    def test_shapes(self, backbone: str, merging: str) -> None:
        testing.check_shapes(testing.build_tiny(backbone, merging))

    def test_gradients(self, backbone: str, merging: str) -> None:
        testing.check_gradients(testing.build_tiny(backbone, merging))

    def test_checkpointing(self, backbone: str, merging: str) -> None:
        testing.check_checkpointing(testing.tiny_config(backbone, merging), with_cp=True)

    def test_build_twice(self, backbone: str, merging: str) -> None:
        testing.check_build_twice(testing.tiny_config(backbone, merging))

    def test_round_trip(self, backbone: str, merging: str) -> None:
        testing.check_round_trip(testing.tiny_config(backbone, merging))


@pytest.mark.parametrize('size', [(33, 47), (200, 333)], ids=str)
@pytest.mark.parametrize('backbone', testing.backbones())
def test_odd_images_train(backbone: str, size: tuple[int, int]) -> None:
    """A quarter of 800 x 1333, whose maps no window, patch or rate divides."""
    testing.check_gradients(testing.build_tiny(backbone), size=size)


@pytest.mark.slow
@pytest.mark.parametrize('size', [(800, 1333), (1333, 800)], ids=str)
@pytest.mark.parametrize(
    ('backbone', 'merging'),
    [*((b, None) for b in testing.backbones()), ('PVT', 'StepwiseMerging')],
)
def test_large_images_train(backbone: str, merging: str | None, size: tuple[int, int]) -> None:
    testing.check_gradients(testing.build_tiny(backbone, merging), size=size)


@pytest.mark.parametrize('backbone', testing.backbones())
class TestBackbone:
    def test_checkpointing_of_activations(self, backbone: str) -> None:
        testing.check_checkpointing(testing.tiny_config(backbone), with_cp='mlp')

    def test_out_types_get_gradients(self, backbone: str) -> None:
        for out_type in registered(HierarchicalBackbone)[backbone].out_types:
            model = testing.build_tiny(backbone, out_type=out_type)
            testing.check_gradients(model)

    def test_mixed_precision(self, backbone: str) -> None:
        testing.check_bfloat16(testing.build_tiny(backbone))
        testing.check_gradients(testing.build_tiny(backbone), mixed=True)

    @pytest.mark.slow
    def test_mixed_precision_stays_finite(self, backbone: str) -> None:
        testing.check_bfloat16_training(testing.build_tiny(backbone, out_type='avg_featmap'))

    def test_early_exit_builds_no_later_stage(self, backbone: str) -> None:
        model = testing.build_tiny(backbone, out_indices=(0, 2))
        testing.check_shapes(model)
        testing.check_gradients(model)
        assert len(model.stages) == 3

    def test_frozen_stages(self, backbone: str) -> None:
        model = testing.build_tiny(backbone, frozen_stages=2).train()
        for name, parameter in model.named_parameters():
            frozen = name.startswith(
                ('stem.', 'stages.0.', 'stages.1.', 'mergings.0.', 'norms.0.', 'norms.1.')
            )
            assert parameter.requires_grad != frozen, name
        assert not model.stages[1].training
        assert model.stages[2].training

    def test_norm_eval(self, backbone: str) -> None:
        model = testing.build_tiny(backbone, 'StepwiseMerging', norm_eval=True).train()
        assert model.training
        assert not model.mergings[0].aggregation.norm.training

    def test_layer_depth_rises(self, backbone: str) -> None:
        model = testing.build_tiny(backbone)
        depths = {
            name: model.get_layer_depth(f'b.{name}', 'b.') for name, _ in model.named_parameters()
        }
        assert {last for _, last in depths.values()} == {sum(model.depths) + 2}
        # The last layer is that of the norms, in families that have them on their outputs.
        found = {depth for depth, _ in depths.values()} - {sum(model.depths) + 1}
        assert found == set(range(sum(model.depths) + 1))
        assert model.get_layer_depth('head.fc.weight', 'b.') == (
            sum(model.depths) + 1,
            sum(model.depths) + 2,
        )

    def test_unknown_arch(self, backbone: str) -> None:
        cls = registered(HierarchicalBackbone)[backbone]
        first = next(iter(cls.arch_settings))
        message = f"{backbone} has no arch '{first}s'.*did you mean '{first}'"
        with pytest.raises(ValueError, match=message):
            cls(f'{first}s')

    def test_drop_path_schedule(self, backbone: str) -> None:
        arch = next(iter(registered(HierarchicalBackbone)[backbone].arch_settings))
        model = registered(HierarchicalBackbone)[backbone](arch, drop_path_rate=0.3)
        rates = [block.drop_path.p for stage in model.stages for block in stage.blocks]
        assert rates[0] == 0
        assert rates[-1] == pytest.approx(0.3)
        steps = [b - a for a, b in itertools.pairwise(rates)]
        assert steps == pytest.approx([steps[0]] * len(steps))


@pytest.mark.parametrize(('backbone', 'merging'), GRID)
def test_state_dict_keys(backbone: str, merging: str, pytestconfig: pytest.Config) -> None:
    """A renamed key breaks every checkpoint: the names are pinned."""
    ours = list(testing.build_tiny(backbone, merging).state_dict())
    pinned = json.loads(KEYS.read_text())
    name = f'{backbone}, {merging}'
    if pytestconfig.getoption('--pin-keys'):
        pinned[name] = ours
        KEYS.write_text(json.dumps(dict(sorted(pinned.items())), indent=0) + '\n')
    assert name in pinned, 'new here: run pytest --pin-keys once and commit the file'
    assert ours == pinned[name]


# The official classifiers' own counts with 1000 classes; those of the other families are in their
# fixtures (tests/parity).
PARAMETERS = {
    'NAT': dict(mini=19984174, tiny=27901582, small=50743297, base=89769652),
    'PVTv2': {
        'b0': 3666760, 'b1': 14009000, 'b2': 25362856, 'b2-li': 22553512, 'b3': 45238696,
        'b4': 62556072, 'b5': 81956008, 'mit-b0': 3576392, 'mit-b1': 13664424,
        'mit-b2': 24709288, 'mit-b3': 44585128, 'mit-b4': 61355688, 'mit-b5': 81956008,
    },
    'SGFormer': dict(small=22545981, medium=38689316, base=77950293),
    'ShuntedTransformer': dict(tiny=11553576, small=22401256, base=39614376),
    'SwinTransformer': dict(tiny=28288354, small=49606258, base=87768224, large=196532476),
}  # fmt: skip


@pytest.mark.parametrize('backbone', PARAMETERS)
def test_parameters(backbone: str) -> None:
    cls, counts = registered(HierarchicalBackbone)[backbone], {}
    for arch in cls.arch_settings:
        with torch.device('meta'):
            model = cls(arch, out_type='avg_featmap')
        head = 1000 * (model.arch['embed_dims'][-1] + 1)
        counts[arch] = sum(p.numel() for p in model.parameters()) + head
    assert counts == PARAMETERS[backbone]


def test_every_backbone_is_registered_under_the_scope() -> None:
    assert testing.backbones(), 'discovery found no backbone'
    for name, cls in registered(HierarchicalBackbone).items():
        assert MODELS.get(f'spm_mm.{name}') is cls
