from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def scenes(tmp_path_factory: pytest.TempPathFactory, run_tool) -> Path:
    """A few small composed scenes."""
    out = tmp_path_factory.mktemp('scenes')
    run_tool(
        'tools/dataset_converters/compose_scenes.py',
        out,
        '--train',
        8,
        '--val',
        4,
        '--size',
        96,
        64,
    )
    return out


# Options that make a config's model and schedule small enough for a test.
SMALL = (
    'model.backbone.arch._delete_=True',
    'model.backbone.arch.embed_dims=(8,16,40,64)',
    'model.backbone.arch.depths=(1,1,1,1)',
    'model.backbone.arch.num_heads=(1,2,5,8)',
    'model.backbone.arch.mlp_ratios=(2,2,2,2)',
    'model.backbone.arch.sr_ratios=(8,4,2,1)',
    'model.neck.in_channels=[8,16,40,64]',
    'model.neck.out_channels=16',
    'model.decode_head.in_channels=[16,16,16,16]',
    'model.decode_head.channels=8',
    'model.data_preprocessor.size=(64,64)',
    'train_dataloader.batch_size=2',
    'default_hooks.logger.interval=1',
)


@pytest.fixture
def small() -> tuple[str, ...]:
    return ('--cfg-options', *SMALL)
