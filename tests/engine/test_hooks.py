"""The hooks of the default runtimes: what they say, and when they end a run."""

import os
import socket
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

from spm_mm.engine import machines
from spm_mm.engine.ground_truth import count_annotations
from spm_mm.engine.machines import _connections
from spm_mm.registry import HOOKS
from tests.engine.conftest import ROOT
from tests.engine.toy import write_config


@pytest.mark.parametrize('framework', ['mmdet', 'mmseg', 'mmpretrain'])
def test_default_runtimes_list_the_hooks(framework) -> None:
    cfg = Config.fromfile(ROOT / f'configs/{framework}/_base_/default_runtime.py')
    names = {hook.type.removeprefix('spm_mm.') for hook in cfg.custom_hooks}
    assert names == {
        'SeveralMachinesHook', 'EarlyWorkersHook', 'IterationSeedHook', 'LastValidationHook',
        'GroundTruthHook', 'FiniteLossHook',
    }  # fmt: skip


def train(run_here, tmp_path, hook: dict, model: dict, iterations: int):
    config = write_config(
        tmp_path / 'toy.py',
        custom_hooks=[hook],
        model=dict(type='Toy', **model),
        train_cfg=dict(by_epoch=False, max_iters=iterations, val_interval=1000),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1000, by_epoch=False)),
    )
    return run_here('tools/train.py', config, '--work-dir', tmp_path / 'work')


def test_non_finite_losses_end_the_run(run_here, tmp_path) -> None:
    hook = dict(type='spm_mm.FiniteLossHook', patience=12)
    ended = train(run_here, tmp_path, hook, dict(nan_from=5), 60)
    assert ended.status == 2
    assert 'NaN or infinite 16 times in a row up to iteration 20 (loss, loss_toy)' in ended.err
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_a_few_non_finite_losses_do_not(run_here, tmp_path) -> None:
    hook = dict(type='spm_mm.FiniteLossHook', patience=12)
    assert train(run_here, tmp_path, hook, dict(nan_from=25), 30).status == 0


def sample(**fields):
    from mmdet.structures import DetDataSample

    return DetDataSample(**fields)


BOXES = torch.tensor([[0, 0, 4, 4], [0, 0, torch.nan, 4], [3, 3, 3, 9.0]])


@pytest.mark.parametrize(
    ('fields', 'count'),
    [
        (dict(gt_instances=InstanceData(bboxes=BOXES, labels=torch.zeros(3))), 1),
        (dict(gt_instances=InstanceData(bboxes=BOXES[:0], labels=torch.zeros(0))), 0),
        (dict(gt_instances=InstanceData(labels=torch.zeros(2))), 2),
        (dict(gt_sem_seg=PixelData(data=torch.tensor([[[255, 255], [255, 3]]]))), 1),
        (dict(gt_sem_seg=PixelData(data=torch.full((1, 2, 2), 255))), 0),
        (dict(), None),
    ],
)
def test_usable_annotations(fields, count) -> None:
    assert count_annotations(sample(**fields), ignored=255) == count


def test_ignored_label_is_the_models_own() -> None:
    labels = PixelData(data=torch.tensor([[[11, 11], [255, 3]]]))
    assert count_annotations(sample(gt_sem_seg=labels), ignored=11) == 2


def test_rotated_boxes_count() -> None:
    boxes = torch.tensor([[5, 5, 2, 2, 0.3], [5, 5, 2, torch.nan, 0.3]])
    assert count_annotations(sample(gt_instances=InstanceData(bboxes=boxes)), ignored=255) == 1


@pytest.mark.parametrize('usable', [True, False])
def test_an_epoch_without_ground_truth_is_told(run_here, tmp_path, usable) -> None:
    config = write_config(
        tmp_path / 'toy.py',
        custom_hooks=[dict(type='spm_mm.GroundTruthHook')],
        loader=dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='ToyData', labels=usable),
            collate_fn=dict(type='default_collate'),
        ),
    )
    config.write_text(config.read_text() + 'train_dataloader = loader\n')
    ended = run_here('tools/train.py', config, '--work-dir', tmp_path / 'work')
    assert ended.status == 0, ended.err
    assert f'first batch has 2 images with {2 if usable else 0} usable annotations' in ended.out
    assert ('NO GROUND TRUTH in the last 8 training images' in ended.out) != usable


def test_data_without_ground_truth_is_not_counted(run_here, tmp_path) -> None:
    hook = dict(type='spm_mm.GroundTruthHook')
    ended = train(run_here, tmp_path, hook, {}, 4)
    assert 'usable annotations' not in ended.out
    assert 'NO GROUND TRUTH' not in ended.out


def test_last_validation_of_a_finished_run(run_here, tmp_path) -> None:
    config = write_config(
        tmp_path / 'toy.py', custom_hooks=[dict(type='spm_mm.LastValidationHook')]
    )
    call = ('tools/train.py', config, '--work-dir', tmp_path / 'work')
    assert run_here(*call).out.count('count: 8') == 2
    assert run_here(*call, '--resume').out.count('count: 8') == 1


@pytest.mark.skipif(not Path('/proc/self/fd').exists(), reason='sockets are listed on Linux')
def test_connections_are_found_and_left_open() -> None:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as one, server.accept()[0] as other:
            count = len(os.listdir('/proc/self/fd'))
            found = {connection.getsockname() for connection in _connections()}
            assert {one.getsockname(), other.getsockname()} <= found
            assert len(os.listdir('/proc/self/fd')) == count
            one.sendall(b'still open')
            assert other.recv(20) == b'still open'


@pytest.mark.skipif(
    not hasattr(socket, 'TCP_USER_TIMEOUT'), reason='the options are those of Linux'
)
@pytest.mark.parametrize('framework', ['mmdet', 'mmseg', 'mmpretrain'])
def test_default_runtimes_notice_a_lost_machine_within_a_minute(monkeypatch, framework) -> None:
    """What a connection is told is what the docs say, and leaves time to name the machine."""
    cfg = Config.fromfile(ROOT / f'configs/{framework}/_base_/default_runtime.py')
    (hook,) = (h for h in cfg.custom_hooks if h.type == 'spm_mm.SeveralMachinesHook')
    monkeypatch.setattr(machines, 'is_distributed', lambda: True)
    monkeypatch.setattr(machines, 'all_gather_object', lambda own: [own])
    with (
        socket.create_server(('127.0.0.1', 0)) as server,
        socket.create_connection(server.getsockname()) as one,
        server.accept()[0],
    ):
        HOOKS.build(hook).before_run(None)
        told = {
            name: one.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ('TCP_KEEPIDLE', 'TCP_KEEPINTVL', 'TCP_KEEPCNT', 'TCP_USER_TIMEOUT')
        }
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    seconds = told['TCP_USER_TIMEOUT'] / 1000
    docs = (ROOT / 'docs/guides/engine.md').read_text()
    assert f"type='spm_mm.SeveralMachinesHook', timeout={seconds:.0f})" in docs
    assert told['TCP_KEEPIDLE'] + told['TCP_KEEPINTVL'] * told['TCP_KEEPCNT'] <= seconds
    assert seconds + machines.WAIT < 50
