"""The operators without a compiled twin on the CPU are held to their definitions in float64."""

import mmcv._ext
import mmcv.ops as ops
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from spm_mm.mmcv_ops import extension
from tests.mmcv_ops.cases import ON_CPU, ON_GPU, Numbers, operators


@pytest.fixture(autouse=True)
def _ours():
    with operators(extension):
        yield


@pytest.fixture
def random() -> Numbers:
    return Numbers('cpu', torch.float64)


def differentiable(function, *inputs: Tensor) -> None:
    assert gradcheck(function, [x.requires_grad_() for x in inputs], fast_mode=True)


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('weighted', [False, True])
def test_focal_losses(random: Numbers, gamma: float, weighted: bool) -> None:
    logits, target = random(5, 4, low=-5, high=5), torch.tensor([0, 3, 1, 2, 2])
    weight = random(4, low=0) if weighted else None
    factor = weight[target] if weighted else torch.ones(5, dtype=torch.float64)

    one_hot = F.one_hot(target, 4)
    p = torch.where(one_hot == 1, logits.sigmoid(), 1 - logits.sigmoid())
    alpha = torch.where(one_hot == 1, 0.25, 0.75)
    expected = -factor[:, None] * alpha * (1 - p) ** gamma * p.log()

    def sigmoid(logits: Tensor) -> Tensor:
        return ops.sigmoid_focal_loss(logits, target, gamma, 0.25, weight, 'none')

    close(sigmoid(logits), expected)
    differentiable(sigmoid, logits)

    def softmax(logits: Tensor) -> Tensor:
        return ops.softmax_focal_loss(logits.clone(), target, gamma, 0.25, weight, 'sum')

    p = logits.detach().softmax(1).gather(1, target[:, None])[:, 0]
    close(softmax(logits), (-factor * 0.25 * (1 - p) ** gamma * p.log()).sum())
    differentiable(softmax, logits)


def test_focal_losses_of_targets_that_are_no_class(random: Numbers) -> None:
    logits = random(2, 4)
    background = ops.sigmoid_focal_loss(logits, torch.tensor([4, 4]), 2.0, 0.25, None, 'none')
    p = logits.sigmoid()
    close(background, -0.75 * p**2 * (1 - p).log())
    ignored = torch.tensor([-1, -1])
    assert ops.softmax_focal_loss(logits.clone(), ignored, 2.0, 0.25, None, 'sum') == 0


@pytest.mark.parametrize('value', [-200.0, 200.0])
def test_sigmoid_focal_loss_stays_finite(value: float) -> None:
    logits = torch.full((2, 2), value, requires_grad=True)
    loss = ops.sigmoid_focal_loss(logits, torch.tensor([0, 1]), 0.5, 0.25, None, 'sum')
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_roi_pool(random: Numbers) -> None:
    maps, rois = random(2, 2, 6, 7), random.rois(8)
    ours = ops.roi_pool(maps, rois, (3, 2), 0.5)
    for (image, *corners), pooled in zip(rois.tolist(), ours, strict=True):
        x1, y1, x2, y2 = corners[0] / 2, corners[1] / 2, (corners[2] + 1) / 2, (corners[3] + 1) / 2
        for i in range(3):
            for j in range(2):
                top, bottom = (y1 + (y2 - y1) / 3 * k for k in (i, i + 1))
                left, right = (x1 + (x2 - x1) / 2 * k for k in (j, j + 1))
                inside = maps[int(image)][
                    :,
                    max(0, int(torch.tensor(top).floor())) : max(
                        0, int(torch.tensor(bottom).ceil())
                    ),
                    max(0, int(torch.tensor(left).floor())) : max(
                        0, int(torch.tensor(right).ceil())
                    ),
                ].flatten(1)
                expected = inside.max(1).values if inside.numel() else torch.zeros(2).double()
                close(pooled[:, i, j], expected)
    differentiable(lambda maps: ops.roi_pool(maps, rois, (3, 2), 0.5), maps)


@pytest.mark.parametrize('ratio', [0, 2])
def test_deform_roi_pool(random: Numbers, ratio: int) -> None:
    """Without shifts it is RoIAlign; a common shift moves the box."""
    maps, rois = random(2, 3, 10, 12), random.rois(8)[:5]
    align = ops.RoIAlign((3, 2), 0.5, ratio)
    close(ops.deform_roi_pool(maps, rois, None, (3, 2), 0.5, ratio, 0.1), align(maps, rois))

    shift = random(5, 2, 1, 1).expand(5, 2, 3, 2).contiguous()
    size = rois[:, 3:] - rois[:, 1:3]
    moved = rois.clone()
    moved[:, 1:] += 0.1 * (shift[:, :, 0, 0] * size).repeat(1, 2)
    ours = ops.deform_roi_pool(maps, rois, shift, (3, 2), 0.5, ratio, 0.1)
    close(ours, align(maps, moved))

    def pool(maps: Tensor, shift: Tensor) -> Tensor:
        return ops.deform_roi_pool(maps, rois, shift, (3, 2), 0.5, ratio, 0.1)

    differentiable(pool, maps, shift)


@pytest.mark.parametrize('ratio', [0, 2])
def test_largest_of_roi_align_is_differentiable(random: Numbers, ratio: int) -> None:
    maps, rois = random(2, 2, 6, 7), random.rois(6)
    differentiable(lambda m: ops.roi_align(m, rois, (3, 2), 0.5, ratio, 'max', True), maps)


def test_carafe(random: Numbers) -> None:
    """Group g of channels, place (y, x): the masks' weighted sum of the window around (y, x) / 2."""
    maps, masks = random(2, 4, 3, 5), random(2, 2 * 9, 6, 10)
    windows = F.unfold(maps, 3, padding=1).view(2, 4, 9, 3, 5)
    windows = windows.repeat_interleave(2, 3).repeat_interleave(2, 4)
    weights = masks.view(2, 2, 9, 6, 10).repeat_interleave(2, 1)
    expected = (windows * weights).sum(2)
    close(ops.carafe(maps, masks, 3, 2, 2), expected)
    close(ops.carafe_naive(maps, masks, 3, 2, 2), expected)
    differentiable(lambda x, m: ops.carafe(x, m, 3, 2, 2), maps, masks)


def test_border_align(random: Numbers) -> None:
    maps, boxes = random(1, 8, 9, 9), torch.tensor([[[1.0, 2, 5, 6], [3, 3, 3, 7]]]).double()
    ours = ops.border_align(maps, boxes, 4)
    for n, (x1, y1, x2, y2) in enumerate(boxes[0].int().tolist()):
        parts = maps[0].view(4, 2, 9, 9)
        # Every step of these boxes is one pixel or none.
        expected = torch.stack(
            [
                parts[0, :, y1, x1 : x2 + 1].amax(1),
                parts[1, :, y1 : y2 + 1, x1].amax(1),
                parts[2, :, y2, x1 : x2 + 1].amax(1),
                parts[3, :, y1 : y2 + 1, x2].amax(1),
            ],
            1,
        )
        close(ours[0, :, n], expected)
    places = random.boxes(6, high=6).view(1, 6, 4)
    differentiable(lambda maps: ops.border_align(maps, places, 3), maps)


def test_masked_convolution(random: Numbers) -> None:
    maps, mask = random(1, 4, 6, 7), random(1, 6, 7)
    weight, bias = random(5, 4, 3, 3), random(5)
    expected = F.conv2d(maps, weight, bias, padding=1) * (mask > 0)
    close(ops.masked_conv2d(maps, mask, weight, bias, 1), expected)


def test_deformable_attention(random: Numbers) -> None:
    """Against mmcv's own form in standard operators."""
    attention = ops.multi_scale_deform_attn
    shapes, starts = torch.tensor([[4, 5], [2, 3]]), torch.tensor([0, 20])
    value, weights = random(2, 26, 2, 3), random(2, 5, 2, 2, 4, low=0)
    locations = random(2, 5, 2, 2, 4, 2, low=-0.2, high=1.2)

    def ours(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return attention.MultiScaleDeformableAttnFunction.apply(
            value, shapes, starts, locations, weights, 64
        )

    expected = attention.multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    close(ours(value, locations, weights), expected)
    differentiable(ours, value, locations, weights)


def test_deformable_convolutions_are_differentiable(random: Numbers) -> None:
    maps, weight, bias = random(2, 4, 4, 5), random(4, 2, 3, 3), random(4)
    offset, mask = random(2, 36, 4, 5, low=-2, high=2), random(2, 18, 4, 5, low=0)
    differentiable(lambda x, o, w: ops.deform_conv2d(x, o, w, 1, 1, 1, 2, 2), maps, offset, weight)
    # With the input and the offset fixed, the weight's gradient is computed alone.
    fixed = maps.detach(), offset.detach()
    differentiable(lambda w: ops.deform_conv2d(*fixed, w, 1, 1, 1, 2, 2), weight)

    def modulated(x: Tensor, o: Tensor, m: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return ops.modulated_deform_conv2d(x, o, m, w, b, 1, 1, 1, 2, 2)

    differentiable(modulated, maps, offset, mask, weight, bias)


def test_synchronized_batch_norm_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda group: 1)
    ours = ops.SyncBatchNorm(4, group=object())
    theirs = torch.nn.BatchNorm2d(4)
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(3, 4, 5, 6)
    results = []
    for norm in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y = norm(leaf)
        y.backward(torch.linspace(-1, 1, y.numel()).view_as(y))
        state = norm.state_dict()
        results.append(
            [y, leaf.grad, norm.weight.grad, state['running_mean'], state['running_var']]
        )
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_equal_scores_keep_the_lower_index() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]).repeat(100, 1)
    scores = torch.full((300,), 0.5)
    for _ in range(3):
        assert ops.nms(boxes, scores, 0.5)[1].tolist() == [0, 2]
    assert ops.nms_match(torch.cat([boxes, scores[:, None]], 1), 0.5)[0][0] == 0


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_reads_channels_last_maps(mode: str) -> None:
    random = Numbers('cpu')
    maps, rois = random(2, 3, 10, 12), random.rois(8)
    align = ops.RoIAlign((3, 2), 0.5, 2, pool_mode=mode)
    results = []
    for leaf in (maps, maps.to(memory_format=torch.channels_last)):
        leaf = leaf.detach().requires_grad_()
        pooled = align(leaf, rois)
        pooled.square().sum().backward()
        results.append((pooled, leaf.grad))
    torch.testing.assert_close(*results)


def test_deformable_convolution_reads_channels_last_maps() -> None:
    random = Numbers('cpu')
    maps, offset, weight = random(2, 4, 7, 8), random(2, 18, 7, 8), random(6, 4, 3, 3)
    plain = ops.deform_conv2d(maps, offset, weight, 1, 1)
    last = (x.to(memory_format=torch.channels_last) for x in (maps, offset, weight))
    torch.testing.assert_close(ops.deform_conv2d(*last, 1, 1), plain)


HALF = [n for n in ON_CPU | ON_GPU if 'max' not in n and 'nms' not in n and 'half' not in n]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', HALF)
def test_half_precision(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs that half precision holds exactly give the float32 result, rounded."""
    case = (ON_CPU | ON_GPU)[name]
    draw = Numbers.__call__
    monkeypatch.setattr(Numbers, '__call__', lambda *a, **k: draw(*a, **k).to(dtype).float())
    expected = case('cpu')
    monkeypatch.setattr(Numbers, '__call__', lambda *a, **k: draw(*a, **k).to(dtype))
    for part, value in case('cpu').items():
        assert value.dtype == dtype
        torch.testing.assert_close(value.float(), expected[part], rtol=0.05, atol=0.1)


def test_autocast_does_not_reach_into_an_operator() -> None:
    random = Numbers('cpu')
    maps, offset, weight = random(2, 4, 7, 8), random(2, 18, 7, 8), random(6, 4, 3, 3)
    plain = ops.deform_conv2d(maps, offset, weight, 1, 1)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(ops.deform_conv2d(maps, offset, weight, 1, 1), plain)


def test_no_boxes(random: Numbers) -> None:
    none, maps = random(0, 5), random(2, 3, 10, 12)
    assert ops.roi_pool(maps, none, (3, 2), 0.5).shape == (0, 3, 3, 2)
    assert ops.deform_roi_pool(maps, none, None, (3, 2), 0.5, 0, 0.1).shape == (0, 3, 3, 2)
    assert ops.roi_align(maps, none, (3, 2), 0.5, 0, 'max', True).shape == (0, 3, 3, 2)
    assert ops.nms_match(none.float(), 0.5) == []


@pytest.mark.parametrize(
    ('call', 'name', 'owner'),
    [
        (
            lambda: ops.box_iou_rotated(torch.rand(1, 5), torch.rand(1, 5)),
            'box_iou_rotated',
            'MMRotate',
        ),
        (lambda: extension.bias_act(), 'bias_act', 'MMagic'),
        (lambda: extension.knn_forward(), 'knn_forward', 'MMDetection3D'),
        (lambda: extension.new_operator(), 'new_operator', 'none of MMDetection'),
    ],
)
def test_an_operator_that_is_not_here_says_so(call, name: str, owner: str) -> None:
    with pytest.raises(NotImplementedError) as error:
        call()
    assert str(error.value).startswith(f'mmcv operator {name} (used by {owner}')
    assert 'MMCV=compiled make setup' in str(error.value)


def test_python_looks_up_no_private_names() -> None:
    assert not hasattr(extension, '__wrapped__')
    assert not hasattr(extension, '_pytestfixturefunction')


@pytest.mark.skipif(not mmcv._ext.__file__.endswith('.py'), reason='mmcv is compiled')
def test_environment_reports_name_them() -> None:
    assert ops.get_compiler_version() == 'none, operators of spm_mm.mmcv_ops'
