"""Malformed configs, options and data that users really write: each ends in a clear error.

The first line says the file and the key; the text of mmengine or of the framework stays.
"""

# ruff: noqa: E501 (one case a line)
import json
import re

import pytest
from PIL import Image

from tests.engine.toy import CONFIG

UNREADABLE = {
    # name of the case: the config's files by their names, the first being the config; what is said
    'bracket left open': ({'c.py': 'model = dict('}, [r'c\.py, line 1: .*never closed: model = dict\(']),
    'comma forgotten': ({'c.py': 'a = dict(x=1 y=2)'}, [r'c\.py, line 1: .*: a = dict\(x=1 y=2\)']),
    'wrong indentation': ({'c.py': 'a = 1\n  b = 2'}, [r'c\.py, line 2: IndentationError: unexpected indent']),
    'tabs and spaces': ({'c.py': 'if 1:\n\ta = 1\n        b = 2'}, [r'c\.py, line 3: .*tabs and spaces']),
    'quote left open': ({'c.py': "a = 'x"}, [r'c\.py, line 1: SyntaxError: unterminated string']),
    'yaml text as python': ({'c.py': 'model:\n  type: Toy'}, [r'c\.py, line ']),
    'a key twice in a call': ({'c.py': 'a = dict(x=1, x=2)'}, [r'c\.py, line 1: .*keyword argument repeated: x']),
    'merge conflict': ({'c.py': '<<<<<<< HEAD\na = 1'}, [r'c\.py, line 1: ']),
    'binary': ({'c.py': bytes(range(256))}, [r'c\.py.*: .*(decode|null)']),
    'a checkpoint': ({'c.py': b'PK\x03\x04\x00\x00\x08\x08'}, [r'c\.py']),
    'latin-1': ({'c.py': 'a = "\xe9"'.encode('latin-1')}, [r"c\.py: .*can't decode byte 0xe9"]),
    'null byte': ({'c.py': 'a = 1\0'}, [r'c\.py.*null bytes']),
    'unknown name': ({'c.py': 'a = 1\nb = c'}, [r"c\.py, line 2: .*NameError: name 'c' is not defined"]),
    'unknown name in a base': (
        {'c.py': '_base_ = "b.py"', 'b.py': '\na = c'}, [r"c\.py.*b\.py, line 2: NameError: name 'c'"]
    ),
    'division by zero': ({'c.py': 'a = 1 / 0'}, [r'c\.py, line 1: ZeroDivisionError: division by zero']),
    'wrong key of a base': (
        {'c.py': '_base_ = "b.py"\na = _base_.modle', 'b.py': 'model = 1'}, [r'c\.py, line 2: .*modle']
    ),
    'braces with a wrong key of a base': (
        {'c.py': '_base_ = "b.py"\na = {{_base_.modle}}', 'b.py': 'model = 1'}, [r'c\.py.*KeyError: .*modle']
    ),
    'environment variable': ({'c.py': 'a = "{{$NOT_THERE_AT_ALL:}}"'}, [r'c\.py.*NOT_THERE_AT_ALL']),
    'missing base': ({'c.py': '_base_ = "b.py"'}, [r'c\.py, which inherits from \S*b\.py: FileNotFoundError']),
    'missing base of a base': (
        {'c.py': '_base_ = "b.py"', 'b.py': '_base_ = ["./x.py"]'}, [r'b\.py, which inherits from \S*x\.py: FileNotFoundError']
    ),
    'missing base of a framework': (
        {'c.py': '_base_ = "mmseg::_base_/nothing.py"'}, [r"c\.py: _base_ '_base_/nothing\.py': FileNotFoundError: .*/mmseg/"]
    ),
    'base of an unknown framework': ({'c.py': '_base_ = "mmx::a.py"'}, [r'c\.py.*mmx']),
    'base is a folder': ({'c.py': '_base_ = "."'}, [r'c\.py, which inherits from /\S*: FileNotFoundError: file "/\S*" does not exist']),
    'base is a number': ({'c.py': '_base_ = 3'}, [r'c\.py: .*_base_ .*3']),
    'base is a dict': ({'c.py': '_base_ = dict(a=1)'}, [r'c\.py.*_base_']),
    'bases in a tuple with a number': ({'c.py': '_base_ = ("b.py", 3)', 'b.py': ''}, [r'c\.py: .*_base_ .*3']),
    'base is a text': ({'c.py': '_base_ = "b.txt"', 'b.txt': 'a = 1'}, [r'c\.py.*b\.txt.*py/yml/yaml/json']),
    'syntax error in a base': ({'c.py': '_base_ = "b.py"', 'b.py': 'y = 1\nx ='}, [r'b\.py, line 2: .*: x =']),
    'base of itself': ({'c.py': '_base_ = "c.py"'}, [r'_base_ goes in a circle: \S*c\.py -> \S*c\.py']),
    'bases in a circle': (
        {'c.py': '_base_ = ["b.py"]', 'b.py': '_base_ = ["c.py"]'}, [r'circle: .*c\.py -> .*b\.py -> .*c\.py']
    ),
    'yaml bases in a circle': (
        {'c.yaml': '_base_: b.yaml', 'b.yaml': '_base_: [c.yaml]'}, [r'circle: .*c\.yaml -> .*b\.yaml -> .*c\.yaml']
    ),
    'json bases in a circle': (
        {'c.json': '{"_base_": "b.json"}', 'b.json': '{"_base_": "c.json"}'},
        [r'circle: .*c\.json -> .*b\.json -> .*c\.json'],
    ),
    'imported bases in a circle': (
        {
            'c.py': 'from mmengine.config import read_base\nwith read_base():\n    from .b import *',
            'b.py': 'from mmengine.config import read_base\nwith read_base():\n    from .c import *',
        },
        [r'circle: .*c\.py -> .*b\.py -> .*c\.py'],
    ),
    'imported base is missing': (
        {'c.py': 'from mmengine.config import read_base\nwith read_base():\n    from .b import *'},
        [r'c\.py.*b\.py not found'],
    ),
    'both ways to inherit': (
        {
            'c.py': 'from mmengine.config import read_base\nwith read_base():\n    from .b import *',
            'b.py': '_base_ = "a.py"',
            'a.py': '',
        },
        [r'c\.py.*inheritance chain must match'],
    ),
    'duplicate keys in bases': (
        {'c.py': '_base_ = ["a.py", "b.py"]', 'a.py': 'x = 1', 'b.py': 'x = 2'},
        [r"c\.py.*KeyError: .*Duplicate key is not allowed among bases.*'x'"],
    ),
    'a dict over a list of the base': (
        {'c.py': '_base_ = "b.py"\nx = dict(y=dict(a=1))', 'b.py': 'x = dict(y=[1])'},
        [r"c\.py: TypeError: y=.*_delete_=True"],
    ),
    'a dict over a number of the base': (
        {'c.py': '_base_ = "b.py"\nx = dict(a=1)', 'b.py': 'x = 3'}, [r"c\.py: TypeError: .*x.*_delete_=True"]
    ),
    'missing import': (
        {'c.py': 'custom_imports = dict(imports=["nowhere.at_all"])'}, [r'c\.py: ImportError: .*nowhere']
    ),
    'imports not in a dict': ({'c.py': 'custom_imports = ["tests"]'}, [r'c\.py: .*custom_imports takes a dict with imports']),
    'imports misspelt': ({'c.py': 'custom_imports = dict(import_="tests")'}, [r'c\.py: TypeError: .*import_']),
    'reserved key': ({'c.py': 'filename = "a"'}, [r'c\.py: KeyError: .*filename is reserved']),
    'json without an end': ({'c.json': '{"model": {'}, [r'c\.json: JSONDecodeError: .*line 1 column']),
    'json with a comment': ({'c.json': '{"a": 1} // x'}, [r'c\.json: JSONDecodeError: Extra data']),
    'json of a list': ({'c.json': '[1, 2]'}, [r'c\.json: .*list.*a config must hold a dict']),
    'json that is empty': ({'c.json': ''}, [r'c\.json: JSONDecodeError']),
    'yaml that does not parse': ({'c.yaml': 'a: [1, 2'}, [r'c\.yaml: ParserError: .*line 1']),
    'yaml with a tab': ({'c.yml': 'a:\n\tb: 1'}, [r'c\.yml: ScannerError: .*line 2']),
    'yaml of a list': ({'c.yaml': '- a\n- b'}, [r'c\.yaml: .*list.*a config must hold a dict']),
    'yaml that is empty': ({'c.yaml': ''}, [r'c\.yaml: .*NoneType']),
    'yaml of a number for a key': ({'c.yaml': '3: a'}, [r'c\.yaml: .*int']),
    'no extension': ({'c': 'a = 1'}, [r'/c: .*py/yml/yaml/json']),
    'another extension': ({'c.toml': 'a = 1'}, [r'c\.toml: .*Only py/yml/yaml/json']),
    'compiled python': ({'c.pyc': b'\xcb\r\r\n'}, [r'c\.pyc: .*Only py/yml/yaml/json']),
}  # fmt: skip


def line_of(ended, status: int | None = None) -> str:
    """The one line that says what is wrong."""
    if status is not None:
        assert ended.status == status, ended.err
    lines = re.findall('^error: .*', ended.err, re.MULTILINE)
    assert len(lines) == 1, ended.err
    return lines[0]


@pytest.mark.parametrize('case', UNREADABLE)
def test_config_that_cannot_be_read(run_here, tmp_path, case) -> None:
    files, said = UNREADABLE[case]
    for name, text in files.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    work = tmp_path / 'work'
    ended = run_here('tools/train.py', tmp_path / next(iter(files)), '--work-dir', work)
    line = line_of(ended, 2)
    for text in said:
        assert re.search(text, line)
    assert 'Traceback' not in ended.err
    assert not work.exists()


SETTINGS = {
    # what stands behind the toy's config: the key, and what mmengine says
    'model = "x"': ('model', 'model should be a nn.Module object or dict'),
    'model = None': ('model', 'model should be'),
    'model = []': ('model', 'model should be'),
    'model = {}': ('model', 'must contain the key "type"'),
    'model = dict(typ="Toy")': ('model', 'must contain the key "type"'),
    'model = dict(type="Toyy")': ('model', 'Toyy is not in the'),
    'model = dict(type=3)': ('model', 'type must be a str or valid type'),
    'model = dict(type="Toy", pauze=1)': ('model', "unexpected keyword argument 'pauze'"),
    'del model': ('model', "'model'"),
    'train_dataloader = "x"': ('train_dataloader', ''),
    'train_dataloader = []': ('train_dataloader', ''),
    'train_dataloader = {}': ('train_dataloader', ''),
    'del train_dataloader': ('train_dataloader', 'should be either all None or not None'),
    'train_dataloader = dict(loader, batch_size="x")': ('train_dataloader', ''),
    'train_dataloader = dict(loader, batch_size=2.5)': ('train_dataloader', 'batch_size'),
    'train_dataloader = dict(loader, batch_size=-1)': ('train_dataloader', 'batch_size'),
    'train_dataloader = dict(loader, num_workers=-1)': ('train_dataloader', 'num_workers'),
    'train_dataloader = dict(loader, num_workers="x")': ('train_dataloader', ''),
    'train_dataloader = dict(loader, num_worker=1)': ('train_dataloader', "unexpected keyword argument 'num_worker'"),
    'train_dataloader = dict(loader, persistent_workers=True)': ('train_dataloader', 'persistent_workers'),
    'train_dataloader = dict(loader, dataset="x")': ('train_dataloader.dataset', ''),
    'train_dataloader = dict(loader, dataset=[dict(type="ToyData")])': ('train_dataloader.dataset', ''),
    'train_dataloader = dict(loader, dataset=dict(type="No"))': ('train_dataloader.dataset', 'No is not in the'),
    'train_dataloader = dict(loader, sampler="x")': ('train_dataloader.sampler', ''),
    'train_dataloader = dict(loader, sampler=dict(type="No"))': ('train_dataloader.sampler', 'No is not in the'),
    'train_dataloader = dict(loader, collate_fn="x")': ('train_dataloader', 'collate_fn'),
    'train_dataloader = dict(loader, collate_fn=dict(type="no"))': ('train_dataloader', ''),
    'train_cfg = "x"': ('train_cfg', ''),
    'train_cfg = []': ('train_cfg', ''),
    'train_cfg = {}': ('train_cfg', ''),
    'train_cfg = dict(by_epoch=True, max_iters=3)': ('train_cfg', 'max_iters'),
    'train_cfg = dict(type="NoLoop")': ('train_cfg', 'NoLoop is not in the'),
    'train_cfg = dict(by_epoch=False)': ('train_cfg', 'max_iters'),
    'train_cfg = dict(by_epoch=False, max_iters="x")': ('train_cfg', 'invalid literal'),
    'train_cfg = dict(by_epoch=False, max_iters=4, val_interval="x")': ('train_cfg', ''),
    'val_cfg = "x"': ('val_cfg', ''),
    'val_cfg = None': ('val_cfg', 'should be either all None or not None'),
    'val_cfg = dict(type="NoLoop")': ('val_cfg', 'NoLoop is not in the'),
    'val_evaluator = "x"': ('val_evaluator', ''),
    'val_evaluator = dict(type="No")': ('val_evaluator', 'No is not in the'),
    'val_evaluator = [3]': ('val_evaluator', ''),
    'val_dataloader = 3': ('val_dataloader', ''),
    'optim_wrapper = "x"': ('optim_wrapper', ''),
    'optim_wrapper = {}': ('optim_wrapper', 'optim_wrapper.optimizer is missing'),
    'optim_wrapper = None': ('optim_wrapper', 'should be either all None or not None'),
    'optim_wrapper = dict(type="No", optimizer=dict(type="SGD", lr=1))': ('optim_wrapper', 'No is not in the'),
    'optim_wrapper = dict(optimizer="SGD")': ('optim_wrapper', ''),
    'optim_wrapper = dict(optimizer=dict(type="SDG", lr=0.1))': ('optim_wrapper', 'optimizer.type is misspelt'),
    'optim_wrapper = dict(optimizer=dict(type="SGD", lr="x"))': ('optim_wrapper.optimizer', ''),
    'optim_wrapper = dict(optimizer=dict(type="SGD", lr=-1))': ('optim_wrapper.optimizer', 'Invalid learning rate'),
    'optim_wrapper = dict(optimizer=dict(type="SGD", learning_rate=1))': ('optim_wrapper.optimizer', 'learning_rate'),
    'optim_wrapper = dict(optimizer=dict(type="SGD", lr=1), constructor="No")': ('optim_wrapper', 'No is not in the'),
    'optim_wrapper = dict(optimizer=dict(type="SGD", lr=1), clip_grad=3)': ('optim_wrapper', 'clip_grad'),
    'param_scheduler = "x"': ('param_scheduler', ''),
    'param_scheduler = ["x"]': ('param_scheduler', ''),
    'param_scheduler = dict(type="No")': ('param_scheduler', 'No is not in the'),
    'param_scheduler = [dict(type="MultiStepLR")]': ('param_scheduler.0', 'milestones'),
    'param_scheduler = [dict(type="PolyLR", powr=1)]': ('param_scheduler.0', 'powr'),
    'param_scheduler = [dict(type="LinearLR", begin=5, end=2)]': ('param_scheduler.0', 'end'),
    'default_hooks = "x"': ('default_hooks', ''),
    'default_hooks = [dict(type="LoggerHook")]': ('default_hooks', ''),
    'default_hooks = dict(checkpoint=3)': ('default_hooks', 'hook should be an instance of Hook or dict, but got 3'),
    'default_hooks = dict(checkpoint=dict(type="No"))': ('default_hooks.checkpoint', 'No is not in the'),
    'default_hooks = dict(logger=dict(type="LoggerHook", intervall=1))': ('default_hooks.logger', "did you mean 'interval'"),
    'default_hooks = dict(logger=dict(type="LoggerHook", interval="x"))': ('default_hooks.logger', 'interval'),
    'custom_hooks = "x"': ('custom_hooks', ''),
    'custom_hooks = dict(type="EMAHook")': ('custom_hooks', ''),
    'custom_hooks = [3]': ('custom_hooks', ''),
    'custom_hooks = [dict(type="No")]': ('custom_hooks.0', 'No is not in the'),
    'custom_hooks = [dict(type="EMAHook", priority="SOON")]': ('custom_hooks', 'SOON'),
    'custom_hooks = [dict(type="spm_mm.SeveralMachinesHook", timeout=1)]': ('custom_hooks.0', 'timeout must be'),
    'visualizer = "x"': ('visualizer', ''),
    'visualizer = dict(type="No")': ('visualizer', 'No is not in the'),
    'visualizer = dict(type="Visualizer", vis_backends=[dict(type="No")])': ('visualizer', 'No is not in the'),
    'visualizer = dict(type="Visualizer", vis_backends="x")': ('visualizer', ''),
    'env_cfg = "x"': ('env_cfg', ''),
    'env_cfg = dict(mp_cfg=3)': ('env_cfg', ''),
    'env_cfg = dict(mp_cfg=dict(mp_start_method="x"))': ('env_cfg', "'x'"),
    'randomness = 3': ('randomness', ''),
    'randomness = dict(sed=3)': (': randomness: ', "unexpected keyword argument 'sed'"),
    'randomness = dict(seed="x")': ('randomness', ''),
    'log_processor = "x"': ('log_processor', ''),
    'log_processor = dict(by_epch=False)': ('log_processor', 'by_epch'),
    'log_level = "LOUD"': ('log_level', 'LOUD'),
    'log_level = dict(a=1)': ('log_level', ''),
    'default_scope = 3': ('default_scope', ''),
    'work_dir = 3': ('work_dir', ''),
    'load_from = 3': ('load_from', ''),
    'data_preprocessor = "x"': ('data_preprocessor', ''),
    'runner_type = "NoRunner"': ('runner_type', 'NoRunner is not in the'),
    'auto_scale_lr = 3': ('auto_scale_lr', ''),
    'auto_scale_lr = dict(enable=True)': ('auto_scale_lr', ''),
}  # fmt: skip


@pytest.mark.parametrize('setting', SETTINGS)
def test_setting_that_does_not_fit(run_here, tmp_path, request, setting) -> None:
    key, said = SETTINGS[setting]
    config = tmp_path / f'toy{list(SETTINGS).index(setting)}.py'
    config.write_text(f'{CONFIG}\n{setting}\n')
    work = () if 'work_dir' in setting else ('--work-dir', tmp_path / 'work')
    ended = run_here('tools/train.py', config, *work)
    assert ended.status in (1, 2)
    line = line_of(ended)
    assert line.startswith(f'error: {config}: ')
    assert key in line
    assert said in line
    assert re.search(r': \w+Error: ', line) or 'spm_mm' in setting


CLASSIFIER = """
default_scope = 'mmpretrain'
backbone = dict(
    type='spm_mm.PVT',
    arch=dict(
        embed_dims=(8, 16, 40, 64),
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(2, 2, 2, 2),
        sr_ratios=(8, 4, 2, 1),
    ),
    merging=dict(type='spm_mm.StepwiseMerging'),
)
neck = dict(type='GlobalAveragePooling')
head = dict(type='LinearClsHead', num_classes=2, in_channels=64, loss=dict(type='CrossEntropyLoss'))
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')]
data = dict(type='CustomDataset', data_root='{{fileDirname}}', ann_file='list.txt', pipeline=pipeline)
model = dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head)
train_dataloader = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False), dataset=data)
train_cfg = dict(by_epoch=False, max_iters=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
log_processor = dict(by_epoch=False)
"""
PARTS = {
    # what stands behind that config: the key, and what is said
    'backbone["type"] = "spm_mm.PVTT"': ('model.backbone', "did you mean 'spm_mm.PVT'"),
    'backbone["type"] = "PVT"': ('model.backbone', 'PVT is not in the mmpretrain'),
    'backbone["merging"]["type"] = "spm_mm.StepwizeMerging"': ('model.backbone', "merging[0] has unknown type 'spm_mm.StepwizeMerging': allowed are "),
    'backbone["merging"]["kernel"] = 3': ('model.backbone', "merging[0] has no option 'kernel': allowed are "),
    'backbone["merging"] = [backbone["merging"]] * 2': ('model.backbone', 'merging'),
    'backbone["merging"] = []': ('model.backbone', 'merging'),
    'backbone["merging"] = "spm_mm.StepwiseMerging"': ('model.backbone', 'merging'),
    'backbone["merging"] = 3': ('model.backbone', 'merging'),
    'backbone["merging"]["in_channels"] = 3': ('model.backbone', 'in_channels'),
    'backbone["drop_path"] = 0.1': ('model.backbone', "did you mean 'drop_path_rate'"),
    'backbone["drop_path_rate"] = "x"': ('model.backbone', 'drop_path_rate'),
    'backbone["drop_path_rate"] = 2': ('model.backbone', 'drop_path_rate'),
    'backbone["arch"] = "tyni"': ('model.backbone', "did you mean 'tiny'"),
    'backbone["arch"] = 3': ('model.backbone', 'arch'),
    'backbone["arch"] = ["tiny"]': ('model.backbone', 'arch'),
    'backbone["arch"].pop("depths")': ('model.backbone', 'depths'),
    'backbone["arch"]["depth"] = (1, 1, 1, 1)': ('model.backbone', 'depth'),
    'backbone["arch"]["depths"] = (1, 1, 1)': ('model.backbone', 'depths'),
    'backbone["arch"]["depths"] = 2': ('model.backbone', 'depths'),
    'backbone["arch"]["depths"] = ("x", 1, 1, 1)': ('model.backbone', 'depths'),
    'backbone["arch"]["num_heads"] = (3, 2, 5, 8)': ('model.backbone', 'num_heads'),
    'backbone["arch"]["embed_dims"] = (8, 16, 40, -64)': ('model.backbone', 'embed_dims'),
    'backbone["out_indices"] = (4,)': ('model.backbone', 'out_indices'),
    'backbone["out_indices"] = "x"': ('model.backbone', 'out_indices'),
    'backbone["frozen_stages"] = 9': ('model.backbone', 'frozen_stages'),
    'backbone["norm_cfg"] = dict(type="LNN")': ('model.backbone', "the class does not take that key: allowed are 'arch', "),
    'backbone["init_cfg"] = dict(type="Pretrained", checkpoint="nothing.pth")': ('', 'nothing.pth'),
    'backbone["init_cfg"] = dict(type="Pretraind")': ('model.backbone.init_cfg', 'Pretraind is not in the'),
    'neck["type"] = "GlobalAveragePoolin"': ('model.neck', 'GlobalAveragePoolin is not in the'),
    'neck["dims"] = 2': ('model.neck', "unexpected keyword argument 'dims'"),
    'model["neck"] = dict(type="spm_mm.MTAA")': ('model.neck', 'MTAA is not in the'),
    'head["type"] = "LinearClsHed"': ('model.head', "did you mean 'LinearClsHead'"),
    'head["num_classes"] = "x"': ('model.head', ''),
    'head["num_classes"] = 0': ('model.head', 'num_classes=0'),
    'head.pop("num_classes")': ('model.head', "'num_classes'"),
    'head["loss"]["type"] = "CrosEntropy"': ('model.head.loss', 'CrosEntropy is not in the'),
    'head["loss"] = "x"': ('model.head', 'cfg should be a dict'),
    'model["heads"] = head': ('model', "unexpected keyword argument 'heads'"),
    'model["data_preprocessor"] = "x"': ('model', 'data_preprocessor'),
    'model["backbone"] = "spm_mm.PVT"': ('model', 'cfg should be a dict'),
    'model.pop("backbone")': ('model', "missing 1 required positional argument: 'backbone'"),
    'pipeline[0]["type"] = "LoadImage"': ('train_dataloader.dataset.pipeline.0', 'LoadImage is not in the'),
    'pipeline[1].pop("scale")': ('train_dataloader.dataset.pipeline.1', ''),
    'pipeline[1] = 3': ('train_dataloader.dataset', '3'),
    'pipeline[1] = "Resize"': ('train_dataloader.dataset', 'transform must be a callable object or dict'),
    'data["pipeline"] = "x"': ('train_dataloader.dataset', 'x'),
    'data["ann_file"] = "nothing.txt"': ('train_dataloader.dataset', 'nothing.txt does not exist'),
    'data["ann_file"] = 3': ('train_dataloader.dataset', ''),
    'data["data_root"] = "nothing"': ('train_dataloader.dataset', 'nothing does not exist'),
    'data["data_prefix"] = "nothing"': ('train_dataloader', 'nothing'),
    'data["prefix"] = "nothing"': ('train_dataloader.dataset', "unexpected keyword argument 'prefix'"),
    'data["ann_file"] = "pictures"': ('train_dataloader.dataset', 'pictures'),
    'data["ann_file"] = "words.txt"': ('train_dataloader.dataset', 'invalid literal for int'),
    'data["ann_file"] = "alone.txt"': ('train_dataloader.dataset', 'not enough values to unpack'),
    'data["ann_file"] = "empty.txt"': ('train_dataloader', 'the dataset has no samples'),
    'data["ann_file"] = "pictures/b.png"': ('train_dataloader.dataset', "can't decode byte"),
    'data["ann_file"] = "lost.txt"': ('', 'pictures/lost.png'),
}  # fmt: skip


@pytest.mark.parametrize('setting', PARTS)
def test_part_that_does_not_fit(run_here, tmp_path, setting) -> None:
    key, said = PARTS[setting]
    (tmp_path / 'pictures').mkdir()
    for name in 'ab':
        Image.new('RGB', (40, 40)).save(tmp_path / f'pictures/{name}.png')
    lists = dict(
        list='a.png 0\npictures/b.png 1', words='a.png cat', alone='a.png', empty='',
        lost='pictures/lost.png 0\npictures/lost.png 1',
    )  # fmt: skip
    for name, text in lists.items():
        (tmp_path / f'{name}.txt').write_text(text)
    config = tmp_path / f'classifier{list(PARTS).index(setting)}.py'
    config.write_text(f'{CLASSIFIER}\n{setting}\n')
    ended = run_here('tools/train.py', config, '--work-dir', tmp_path / 'work')
    assert ended.status in (1, 2), ended.err
    line = line_of(ended)
    assert not key or line.startswith(f'error: {config}: ')
    assert key in line
    assert said in line


IMAGE = dict(id=1, file_name='a.png', height=4, width=4)
BOX = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 2, 2], area=4, iscrowd=0)
COCO = dict(images=[IMAGE], annotations=[BOX], categories=[dict(id=1, name='person')])
ANNOTATIONS = {
    'cut off': (json.dumps(COCO)[:50], 'JSONDecodeError'),
    'not json': ('a.png 1', 'JSONDecodeError: Expecting value: line 1 column 1'),
    'empty': ('', 'JSONDecodeError'),
    'binary': (b'\x89PNG\r\n', "can't decode byte"),
    'a list': (json.dumps([COCO]), ''),
    'without images': (json.dumps({**COCO, 'images': None}), ''),
    'image without an id': (json.dumps({**COCO, 'images': [{}]}), "'id'"),
    'image without a size': (json.dumps({**COCO, 'images': [dict(id=1, file_name='a')]}), "'height'"),
    'image without a name': (json.dumps({**COCO, 'images': [dict(id=1, height=1)]}), "'file_name'"),
    'box without an image': (json.dumps({**COCO, 'annotations': [{'id': 1}]}), "'image_id'"),
    'box without numbers': (json.dumps({**COCO, 'annotations': [{**BOX, 'bbox': [0, 'x', 1, 1]}]}), ''),
    'box of three numbers': (json.dumps({**COCO, 'annotations': [{**BOX, 'bbox': [0, 0, 1]}]}), 'unpack'),
    'box without an area': (json.dumps({**COCO, 'annotations': [dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 1, 1])]}), "'area'"),
    'category without a name': (json.dumps({**COCO, 'categories': [dict(id=1)]}), "'name'"),
    'a folder': (None, ''),
}  # fmt: skip


@pytest.mark.parametrize('case', ANNOTATIONS)
def test_annotations_that_cannot_be_read(run_here, tmp_path, case) -> None:
    text, said = ANNOTATIONS[case]
    file = tmp_path / 'coco.json'
    if text is None:
        file.mkdir()
    else:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    config = tmp_path / f'coco{list(ANNOTATIONS).index(case)}.py'
    dataset = dict(type='mmdet.CocoDataset', data_root=str(tmp_path), ann_file='coco.json')
    dataset['data_prefix'] = dict(img='')
    config.write_text(f'{CONFIG}\ntrain_dataloader = dict(loader, dataset={dataset!r})\n')
    ended = run_here('tools/train.py', config, '--work-dir', tmp_path / 'work')
    assert ended.status in (1, 2), ended.err
    line = line_of(ended)
    assert line.startswith(
        f'error: {config}: train_dataloader.dataset (data_root={tmp_path}, ann_file=coco.json)'
    )
    assert said in line


OPTIONS = {
    'model': r"--cfg-options take KEY=VALUE, got \['model'\]",
    '=3': r'options\d+\.py: SyntaxError: .*config',
    'custom_hooks.3.type=x': r'--cfg-options .*do not fit .*Index 3 exceeds',
    'custom_hooks.x=3': r"--cfg-options .*'custom_hooks\.x'.*do not fit .*list indices",
    'model.type.a=1': r'--cfg-options .*do not fit .*type=',
    'train_cfg.max_iters.a.b=1': r'--cfg-options .*do not fit .*max_iters=',
    'a=[1,(2]': r'--cfg-options take KEY=VALUE, got .*Imbalanced brackets',
    'train_cfg.max_iters=4.x': r'invalid literal for int\(\).*4\.x',
}  # fmt: skip


@pytest.mark.parametrize('option', OPTIONS)
def test_options_that_do_not_fit(run_here, tmp_path, option) -> None:
    config = tmp_path / f'options{list(OPTIONS).index(option)}.py'
    config.write_text(f'{CONFIG}\ncustom_hooks = [dict(type="NaiveVisualizationHook")]\n')
    ended = run_here(
        'tools/train.py', config, '--work-dir', tmp_path / 'work', '--cfg-options', option
    )
    assert ended.status in (1, 2), ended.err
    assert re.search(OPTIONS[option], ended.err)


@pytest.mark.parametrize(
    'text',
    [
        '_base_ = "./{{ fileBasenameNoExtension }}_base.py"',
        '_base_ = "{{ fileDirname }}/c_base.py"',
        '_base_ = ["./c" + "_base.py"]',
        '_base_ = ["./c_base.py", "./other.py"]',
    ],
)
def test_bases_that_mmengine_finds(run_here, tmp_path, text) -> None:
    """Two bases may have the same one: that is no circle."""
    (tmp_path / 'toy_base.py').write_text(CONFIG)
    (tmp_path / 'c_base.py').write_text('_base_ = "toy_base.py"')
    (tmp_path / 'other.py').write_text('_base_ = "third.py"')
    (tmp_path / 'third.py').write_text('third = 3')
    config = tmp_path / 'c.py'
    config.write_text(text)
    ended = run_here('tools/train.py', config, '--work-dir', tmp_path / 'work')
    assert ended.status == 0, ended.err


def test_work_dir_after_mistakes(run_here, tmp_path) -> None:
    """What a run that failed has left there does not stop the next one, nor is it resumed from."""
    config = tmp_path / 'again.py'
    call = ('tools/train.py', config, '--work-dir', tmp_path / 'work')
    for setting in (
        'model = dict(type="Toyy")',
        'train_dataloader = dict(loader, dataset="x")',
        'val_evaluator = [3]',
        'default_hooks = "x"',
        'a = c',
    ):
        config.write_text(f'{CONFIG}\n{setting}\n')
        assert run_here(*call).status in (1, 2)
    config.write_text(CONFIG)
    assert run_here(*call, '--resume').status == 0
    assert (tmp_path / 'work/iter_4.pth').is_file()
