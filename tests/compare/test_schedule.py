import pytest
from mmengine.config import Config

from spm_mm.compare.costs import Cost, estimated_hours, fitting_length
from spm_mm.compare.grid import make_grid, merging_choices
from spm_mm.compare.plan import Plan, prepare
from spm_mm.compare.schedule import scale_schedule, training_length, validations
from spm_mm.errors import UserError


def camvid(root) -> Config:
    return Config.fromfile(root / 'configs/mmseg/fpn_pvt_tiny_camvid.py')


def test_iterations_are_scaled_with_their_schedule(root) -> None:
    cfg = camvid(root)
    cfg.train_cfg.val_interval = 100
    scale_schedule(cfg, 350)
    assert training_length(cfg) == (350, False)
    assert [(s.begin, s.end) for s in cfg.param_scheduler] == [(0, 25), (25, 350)]
    assert cfg.train_cfg.val_interval == 50
    assert validations(cfg) == 7
    assert cfg.default_hooks.checkpoint.interval == 350


def test_epochs_are_scaled_with_their_schedule(root) -> None:
    cfg = Config.fromfile(root / 'configs/mmdet/mask-rcnn_pvt_tiny_1x_coco.py')
    assert training_length(cfg) == (12, True)
    scale_schedule(cfg, 6)
    steps = next(s for s in cfg.param_scheduler if s.type == 'MultiStepLR')
    assert (list(steps.milestones), steps.end) == ([4, 6], 6)
    warm_up = next(s for s in cfg.param_scheduler if s.type == 'LinearLR')
    assert warm_up.end == 500  # counts iterations
    with pytest.raises(UserError, match='neither max_iters nor max_epochs'):
        training_length(Config(dict(train_cfg=None)))


def test_hours_pick_the_length(root) -> None:
    cfg = camvid(root)
    cost = Cost(
        1, 1, None, train_images=400, train_batch=4, train_seconds=[2.0, 9.0, 1.0], test_images=100,
        test_batch=2, test_seconds=[0.72],
    )  # fmt: skip
    # Two columns, three seeds: 36 s of validation and 2 s a step each.
    length = fitting_length([cost, cost], [cfg, cfg], 3, 1.0)
    assert length == (3600 / 3 - 72) // 4 == 282
    scale_schedule(cfg, length)
    assert estimated_hours([cost, cost], [cfg, cfg], 3) == pytest.approx(1.0, rel=0.01)
    with pytest.raises(UserError, match=r'--hours 0\.01 is too short: one iteration of all cells'):
        fitting_length([cost, cost], [cfg, cfg], 3, 0.01)
    epochs = Config(dict(train_cfg=dict(max_epochs=12, val_interval=12)))
    assert fitting_length([cost], [epochs], 1, 1.0) == (3600 - 36) // (100 * 2)


def test_cells_write_checkpoints_and_figures_per_class(root) -> None:
    cfg = prepare(camvid(root))
    assert cfg.default_hooks.checkpoint.interval == 70
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 1
    assert [metric.type for metric in cfg.val_evaluator] == ['IoUMetric', 'PerClassMetric']
    assert cfg.custom_hooks[-1].type == 'spm_mm.RecordHook'
    assert cfg.custom_imports['imports'] == ['spm_mm.compare.hook']
    detector = prepare(Config.fromfile(root / 'configs/mmdet/mask-rcnn_pvt_tiny_1x_coco.py'))
    assert detector.default_hooks.checkpoint.interval == 1
    assert detector.val_evaluator[0].classwise


def test_a_plan_grows_and_keeps_its_cells(root, tmp_path) -> None:
    base = camvid(root)
    plan = Plan(tmp_path, 'camvid.py')
    grid = make_grid([merging_choices(['conv', 'stepwise'], base)])
    plan.add(base, grid[:1], [0], ['compare.py', 'conv'])
    written = plan.cells[0].config.read_text()
    plan = Plan.read(tmp_path)
    plan.add(base, grid, [0, 1], ['compare.py', 'conv', 'stepwise'])
    assert [cell.name for cell in Plan.read(tmp_path).cells] == [
        'conv, seed 0', 'stepwise, seed 0', 'conv, seed 1', 'stepwise, seed 1',
    ]  # fmt: skip
    assert plan.cells[0].config.read_text() == written
    assert Config.fromfile(plan.cells[3].config).randomness.seed == 1
    base.optim_wrapper.optimizer.lr = 1.0
    with pytest.raises(UserError, match=r'was made with optim_wrapper.optimizer.lr=0\.0006'):
        Plan.read(tmp_path).add(base, grid, [0, 1, 2], ['compare.py'])
    assert len(list((tmp_path / 'configs').iterdir())) == 4
    with pytest.raises(UserError, match='holds no comparison'):
        Plan.read(tmp_path / 'none')
