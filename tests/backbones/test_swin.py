import torch

from tests.testing import build_tiny


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


def test_dense_weights_into_fewer_outputs(tmp_path) -> None:
    """The norms of outputs that are not wanted are left out."""
    dense = build_tiny('SwinTransformer')
    path = tmp_path / 'dense.pth'
    torch.save({f'backbone.{k}': v for k, v in dense.state_dict().items()}, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    model = build_tiny('SwinTransformer', out_indices=(1, 2), init_cfg=init_cfg)
    model.init_weights()
    for name, value in model.state_dict().items():
        assert torch.equal(value, dense.state_dict()[name]), name
