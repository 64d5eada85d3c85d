import pytest
import torch

from spm_mm import testing
from spm_mm.backbones import SwinTransformer
from spm_mm.testing import build_tiny


# The official models' own counts with 1000 classes.
@pytest.mark.parametrize(
    ('arch', 'parameters'), [('tiny', 28288354), ('small', 49606258), ('base', 87768224)]
)
def test_parameters(arch: str, parameters: int) -> None:
    with torch.device('meta'):
        model = SwinTransformer(arch, out_type='avg_featmap')
    head = 1000 * (model.arch['embed_dims'][-1] + 1)
    assert sum(p.numel() for p in model.parameters()) + head == parameters


@pytest.mark.parametrize('size', [(33, 47), (200, 333)], ids=str)
def test_large_and_odd_images_train(size: tuple[int, int]) -> None:
    model = build_tiny('SwinTransformer', window_size=5).train()
    image = torch.randn(1, 3, *size, requires_grad=True)
    outs = model(image)
    assert [out.shape[2:] for out in outs] == [
        (-(-size[0] // stride), -(-size[1] // stride)) for stride in (4, 8, 16, 32)
    ]
    testing.total(outs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert image.grad.isfinite().all()


def test_classifier_and_dense_form_differ_in_the_shift_of_small_maps() -> None:
    dense, classifier = (
        build_tiny('SwinTransformer'),
        build_tiny('SwinTransformer', out_type='avg_featmap'),
    )
    kinds = [
        {block.attn.shift_small_maps for stage in model.stages for block in stage.blocks}
        for model in (dense, classifier)
    ]
    assert kinds == [{True}, {False}]
    as_classifier = build_tiny('SwinTransformer', shift_small_maps=False).eval()
    as_classifier.load_state_dict(dense.state_dict())
    own = classifier.state_dict().keys()
    classifier.eval().load_state_dict({k: v for k, v in dense.state_dict().items() if k in own})
    x = torch.randn(1, 3, 70, 97)
    pooled = as_classifier(x)[-1].mean(dim=(2, 3))
    torch.testing.assert_close(classifier(x)[-1], pooled)
    assert not torch.allclose(dense.eval()(x)[-1].mean(dim=(2, 3)), pooled)


def test_the_next_stage_reads_the_map_without_its_norm() -> None:
    model = build_tiny('SwinTransformer').eval()
    x = torch.randn(1, 3, 64, 64)
    before = model(x)
    with torch.no_grad():
        model.norms[0].weight.zero_()
    after = model(x)
    assert not torch.equal(before[0], after[0])
    assert all(torch.equal(*pair) for pair in zip(before[1:], after[1:], strict=True))
