import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from spm_mm.errors import UserError
from tests.engine.toy import Toy


@pytest.fixture
def publish(load_tool, monkeypatch):
    tool = load_tool('tools/model_converters/publish.py')

    def run(*arguments: object) -> None:
        monkeypatch.setattr('sys.argv', ['publish.py', *map(str, arguments)])
        tool.main()

    return run


def test_averaged_weights_of_a_run(publish, tmp_path) -> None:
    """mmengine puts the averaged weights into ``state_dict`` and the raw ones elsewhere."""
    hook = EMAHook(momentum=0.5)
    data = DataLoader([dict(inputs=torch.ones(1))] * 4, batch_size=1)
    runner = Runner(
        model=Toy(),
        work_dir=str(tmp_path),
        train_dataloader=data,
        train_cfg=dict(by_epoch=False, max_iters=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=4, by_epoch=False)),
        custom_hooks=[hook],
        log_level='ERROR',
        experiment_name='publish',
    )
    runner.train()
    publish(tmp_path / 'iter_4.pth', tmp_path / 'out.pth')
    published = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert torch.equal(published['layer.weight'], hook.ema_model.module.layer.weight)
    assert not torch.equal(published['layer.weight'], runner.model.layer.weight)


def test_name_by_content(publish, tmp_path) -> None:
    torch.save({'state_dict': {'a': torch.ones(2)}}, tmp_path / 'in.pth')
    (tmp_path / 'out.pth').write_text('of somebody else')
    publish(tmp_path / 'in.pth', tmp_path / 'out.pth', '--hash')
    publish(tmp_path / 'in.pth', tmp_path / 'out.pth', '--hash')
    (file,) = tmp_path.glob('out-????????.pth')
    assert torch.load(file, weights_only=True)['state_dict']['a'].tolist() == [1, 1]
    assert (tmp_path / 'out.pth').read_text() == 'of somebody else'


def test_no_meta_views_and_wrappers(publish, tmp_path) -> None:
    whole = torch.ones(1000, 1000)
    state_dict = {'module._orig_mod.a': whole[0], 'module._orig_mod.b': whole[1]}
    torch.save({'state_dict': state_dict, 'meta': None}, tmp_path / 'in.pth')
    (tmp_path / 'README.md').write_bytes(b'\xff\xfe of somebody else')
    publish(tmp_path / 'in.pth', tmp_path / 'out.pth')
    published = torch.load(tmp_path / 'out.pth', weights_only=True)
    assert published['state_dict'].keys() == {'a', 'b'}
    assert (tmp_path / 'out.pth').stat().st_size < 20_000
    assert (tmp_path / 'README.md').read_bytes().startswith(b'\xff')
    assert (tmp_path / 'out.pth.md').is_file()


@pytest.mark.parametrize(
    ('weights', 'said'),
    [
        ({}, 'has an empty state_dict'),
        (
            {'a': torch.ones(1), 'b': torch.tensor([1, torch.nan])},
            'NaN or infinity in 1 of 2 .* b:',
        ),
    ],
)
def test_useless_weights_are_refused(publish, tmp_path, weights, said) -> None:
    torch.save({'state_dict': weights}, tmp_path / 'in.pth')
    with pytest.raises(UserError, match=said):
        publish(tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()
