import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

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


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Run a tool in this process, which takes a second where a new one takes ten."""

    def run(tool: str, *words: object, status: int = 0) -> SimpleNamespace:
        monkeypatch.setattr('sys.argv', [tool, *map(str, words)])
        # So that what the tool sets is gone after the test.
        monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
        ended = 0
        try:
            runpy.run_path(tool, run_name='__main__')
        except SystemExit as end:
            ended = end.code
        out, err = capsys.readouterr()
        assert ended == status, out + err
        return SimpleNamespace(stdout=out, stderr=err)

    return run
