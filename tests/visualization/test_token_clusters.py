import cv2
import numpy as np
import pytest
import torch

from spm_mm.visualization import token_clusters
from tests import testing


def test_clusters_of_every_clustering() -> None:
    conv, sia = (dict(type=f'spm_mm.{name}Merging') for name in ('Conv', 'Cluster'))
    model = testing.build_tiny('PVT').eval()
    with pytest.raises(ValueError, match='the mergings of this PVT cluster no tokens'):
        token_clusters(model, torch.randn(1, 3, 64, 96))
    config = testing.tiny_config('PVT') | dict(merging=[conv, sia, sia])
    found = token_clusters(testing.MODELS.build(config).eval(), torch.randn(1, 3, 64, 96))
    assert {stage: index.shape for stage, index in found.items()} == {3: (8, 12), 4: (8, 12)}
    assert [len(np.unique(index)) for index in found.values()] == [24, 6]


def test_tool_writes_a_figure(load_tool, root, tmp_path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'picture.png'), picture)
    out = tmp_path / 'figures' / 'out.png'
    config = root / 'configs/mmpretrain/pvt_tiny_hafa_in1k.py'
    load_tool('tools/visualization/token_clusters.py').main(
        [str(config), str(tmp_path / 'picture.png'), str(out), '--size', '64', '96']
    )
    assert cv2.imread(str(out)).std() > 10
