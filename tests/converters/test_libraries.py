"""Weights of other libraries' own classes, from files as they write them: the same outputs, at two
sizes.
"""

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spm_mm.backbones import NAT, PVT, PVTv2, SwinTransformer
from spm_mm.converters import Converted, convert_checkpoint, read_checkpoint
from spm_mm.converters.base import Classifier
from spm_mm.errors import UserError


def needs(library: str) -> pytest.MarkDecorator:
    found = importlib.util.find_spec(library) is not None
    return pytest.mark.skipif(not found, reason=f'{library} is not installed')


def randomize(model: nn.Module) -> nn.Module:
    """Weights drawn at random, so that no two layers can be taken for each other."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim == 1:
            parameter.data += 0.1 * noise
        else:
            parameter.data = noise / parameter[0].numel() ** 0.5
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def equal_epsilons(*models: nn.Module) -> None:
    """Sources differ in the epsilon of some norms, see the converters."""
    for model in models:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6


def save_timm(name: str) -> Callable[[Path], tuple[nn.Module, Path]]:
    def save(folder: Path) -> tuple[nn.Module, Path]:
        import timm

        options = dict(strict_img_size=False) if name.startswith('swin') else {}
        model = randomize(timm.create_model(name, num_classes=7, **options))
        torch.save({'arch': name, 'state_dict': model.state_dict()}, folder / 'timm.pth')
        return model, folder / 'timm.pth'

    return save


def save_torchvision(folder: Path) -> tuple[nn.Module, Path]:
    import torchvision

    model = randomize(torchvision.models.swin_t(num_classes=7))
    torch.save(model.state_dict(), folder / 'swin_t.pth')
    return model, folder / 'swin_t.pth'


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


def save_hugging_face(kind: str, **options: object) -> Callable[[Path], tuple[nn.Module, Path]]:
    def save(folder: Path) -> tuple[nn.Module, Path]:
        import transformers

        config = getattr(transformers, f'{kind}Config')(num_labels=7, **options)
        model = randomize(getattr(transformers, f'{kind}ForImageClassification')(config))
        model.save_pretrained(folder)
        return Logits(model), folder

    return save


# Windows divide these maps in every stage: where they do not, each library pads in its own way.
WINDOWS, SIZES = ((224, 224), (224, 448)), ((64, 64), (96, 128))
TINY = dict(depths=[2, 2, 2, 2])
SWIN = (SwinTransformer, 'tiny', {})
CASES = {
    'timm-pvtv2': (save_timm('pvt_v2_b0'), PVTv2, 'b0', {}, SIZES),
    'timm-pvtv2-li': (save_timm('pvt_v2_b2_li'), PVTv2, 'b2-li', {}, SIZES),
    'timm-swin': (save_timm('swin_tiny_patch4_window7_224'), *SWIN, WINDOWS),
    # It does not shift along a side of one window; the official code looks at the shorter side.
    'torchvision-swin': (save_torchvision, *SWIN, ((224, 224), (448, 448))),
    'huggingface-swin': (save_hugging_face('Swin'), *SWIN, WINDOWS),
    # It takes images of the size of its tables alone.
    'huggingface-pvt': (save_hugging_face('Pvt', **TINY), PVT, 'tiny', {}, ((224, 224),)),
    'huggingface-pvt-96': (
        save_hugging_face('Pvt', **TINY, image_size=96), PVT, 'tiny', {'img_size': 96}, ((96, 96),)
    ),
    'huggingface-pvtv2': (save_hugging_face('PvtV2'), PVTv2, 'b0', {}, SIZES),
    'huggingface-segformer': (save_hugging_face('Segformer'), PVTv2, 'mit-b0', {}, SIZES),
}  # fmt: skip
LIBRARIES = {'huggingface': 'transformers'}


def cases(names: Iterable[str]) -> list:
    """The names, each skipped where its library is not installed."""
    return [
        pytest.param(name, marks=needs(LIBRARIES.get(first := name.split('-')[0], first)))
        for name in names
    ]


@torch.no_grad()
@pytest.mark.parametrize('case', cases(CASES))
def test_classifiers_put_out_the_same(case: str, tmp_path: Path) -> None:
    save, family, arch, options, sizes = CASES[case]
    theirs, path = save(tmp_path)
    converted = convert_checkpoint(read_checkpoint(path))
    assert case.startswith(converted.source)
    assert converted.complete
    assert not converted.conversion.dropped.keys() - relative_indices(converted)
    out_type = 'cls_token' if family is PVT else 'avg_featmap'
    ours = Classifier.of(
        family(arch, out_type=out_type, **options), {'head.weight': torch.zeros(7, 1)}
    )
    ours.load_state_dict(converted.conversion.state_dict)
    equal_epsilons(ours.eval(), theirs)
    for size in sizes:
        image = torch.randn(2, 3, *size)
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-5)


def relative_indices(converted: Converted) -> set[str]:
    """What Swin's classes keep beside their weights."""
    return {key for key in converted.conversion.dropped if key.endswith('relative_position_index')}


@needs('transformers')
@pytest.mark.parametrize('form', ['bin', 'shards', 'headless'])
def test_folders_of_hugging_face(form: str, tmp_path: Path) -> None:
    import transformers

    if form == 'headless':
        model = transformers.SwinModel(transformers.SwinConfig())
    else:
        model = transformers.SegformerForImageClassification(transformers.SegformerConfig())
    model.save_pretrained(tmp_path, max_shard_size='4MB' if form == 'shards' else '1GB')
    if form == 'bin':
        torch.save(load_file(tmp_path / 'model.safetensors'), tmp_path / 'pytorch_model.bin')
        (tmp_path / 'model.safetensors').unlink()
    assert (len([*tmp_path.glob('*.safetensors')]) > 1) == (form == 'shards')
    converted = convert_checkpoint(read_checkpoint(tmp_path))
    assert converted.complete
    family = (
        "SwinTransformer 'tiny', backbone" if form == 'headless' else "PVTv2 'mit-b0', classifier"
    )
    assert converted.found.startswith(family)


def test_a_folder_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'without config\.json'):
        read_checkpoint(tmp_path)
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(UserError, match=r'neither model\.safetensors nor pytorch_model\.bin'):
        read_checkpoint(tmp_path)
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text('{"weight_map": {"a": "../other.safetensors"}}')
    with pytest.raises(UserError, match='names files outside of its folder'):
        read_checkpoint(tmp_path)


def neighbors(size: int, kernel: int) -> Tensor:
    """For every place on a line the places that it attends to, (size, kernel)."""
    start = (torch.arange(size) - kernel // 2).clamp(0, size - kernel)
    return start[:, None] + torch.arange(kernel)


def query_key_bias(q: Tensor, k: Tensor, table: Tensor, kernel: int, dilation: int) -> Tensor:
    """What natten's operator of this purpose does, by its description: for a dilation of 1."""
    assert dilation == 1
    rows, columns = (neighbors(side, kernel) for side in q.shape[2:4])
    near = k[:, :, rows][:, :, :, :, columns]  # (B, G, H, k, W, k, D)
    logits = torch.einsum('bghwd,bghiwjd->bghwij', q, near)
    up, left = (
        places - torch.arange(len(places))[:, None] + kernel - 1 for places in (rows, columns)
    )
    return (logits + table[:, up[:, None, :, None], left[None, :, None, :]]).flatten(4)


def attention_value(attention: Tensor, v: Tensor, kernel: int, dilation: int) -> Tensor:
    rows, columns = (neighbors(side, kernel) for side in v.shape[2:4])
    near = v[:, :, rows][:, :, :, :, columns]
    return torch.einsum('bghwij,bghiwjd->bghwd', attention.unflatten(4, (kernel, kernel)), near)


@torch.no_grad()
@needs('transformers')
@pytest.mark.parametrize('arch', ['mini', 'small'])
def test_nat_of_hugging_face(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its class for DiNAT without dilation, which is NAT, and with the operators of natten above."""
    import transformers
    from transformers.models.dinat import modeling_dinat

    if transformers.__version__.startswith('5'):
        pytest.skip('the class of transformers 5 gives natten another layout than natten takes')
    monkeypatch.setattr(modeling_dinat, 'requires_backends', lambda *args: None)
    monkeypatch.setattr(modeling_dinat, 'natten2dqkrpb', query_key_bias)
    monkeypatch.setattr(modeling_dinat, 'natten2dav', attention_value)
    settings = NAT.arch_settings[arch]
    config = transformers.DinatConfig(
        num_labels=7, embed_dim=settings['embed_dims'][0], depths=list(settings['depths']),
        num_heads=list(settings['num_heads']), mlp_ratio=float(settings['mlp_ratios'][0]),
        dilations=[[1] * depth for depth in settings['depths']],
        layer_scale_init_value=settings['layer_scale'] or 0.0,
    )  # fmt: skip
    theirs = randomize(transformers.DinatForImageClassification(config))
    theirs.save_pretrained(tmp_path / 'saved')
    with pytest.raises(UserError, match='these weights are of DiNAT'):
        convert_checkpoint(read_checkpoint(tmp_path / 'saved'))
    # The same as files of NAT.
    weights = load_file(tmp_path / 'saved/model.safetensors')
    weights = {key.replace('dinat.', 'nat.'): value for key, value in weights.items()}
    folder = tmp_path / 'nat'
    folder.mkdir()
    save_file(weights, folder / 'model.safetensors')
    (folder / 'config.json').write_text('{"model_type": "nat"}')
    converted = convert_checkpoint(read_checkpoint(folder))
    assert converted.source == 'huggingface-nat'
    assert converted.complete
    ours = Classifier.of(NAT(arch, out_type='avg_featmap'), {'head.weight': torch.zeros(7, 1)})
    ours.load_state_dict(converted.conversion.state_dict)
    ours.eval()
    for size in ((224, 224), (256, 288)):
        image = torch.randn(1, 3, *size)
        torch.testing.assert_close(ours(image), theirs(image).logits, rtol=1e-4, atol=1e-5)
