import pytest
import torch
import torch.utils.checkpoint
from torch.nn import functional as F

from spm_mm.ops import gelu_linear, gelu_linear_reference, linear, mlp, mlp_reference

PAIRS = [(linear, F.linear), (gelu_linear, gelu_linear_reference)]


def results(function, x, weight, bias) -> list[torch.Tensor]:
    out = function(x, weight, bias)
    inputs = [t for t in (x, weight, bias) if t is not None]
    return [out, *torch.autograd.grad((out * torch.arange(out.shape[-1])).sum(), inputs)]


@pytest.mark.parametrize('pair', PAIRS)
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('rows', [(5,), (2, 30, 40), (3, 150, 160)])
def test_equals_the_reference(pair, bias: bool, rows: tuple[int, ...]) -> None:
    """A small product, one that oneDNN takes, and one that is made in parts: 72,000 rows of 64."""
    x = torch.randn(*rows, 64, requires_grad=True)
    weight = (torch.randn(96, 64) / 8).requires_grad_()
    b = torch.randn(96, requires_grad=True) if bias else None
    for one, other in zip(*(results(f, x, weight, b) for f in pair), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-3)


def test_keeps_one_map() -> None:
    """Of the hidden layer the GELU's input alone is kept, and no third tensor of its size."""
    x, weight, bias = torch.randn(64, 512, requires_grad=True), torch.randn(8, 512), torch.randn(8)
    kept = {}
    for function in (gelu_linear, gelu_linear_reference):
        sizes = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            function(x, weight.requires_grad_(), bias)
        kept[function] = sizes.count(x.numel())
    assert kept == {gelu_linear: 1, gelu_linear_reference: 2}


def test_autocast() -> None:
    x, weight, bias = (torch.randn(*s, requires_grad=True) for s in ((2, 40, 64), (96, 64), (96,)))
    with torch.autocast('cpu', torch.bfloat16):
        fast, plain = (results(f, x, weight, bias) for f in PAIRS[1])
    for one, other in zip(fast, plain, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0.05, atol=3.0 if one is not fast[0] else 0.2)


@pytest.mark.parametrize('function', [gelu_linear, mlp])
def test_no_rows(function) -> None:
    inputs = mlp_case(0, torch.float32)
    inputs = inputs if function is mlp else [inputs[0], inputs[3][:, :64], inputs[4]]
    out = function(*inputs)
    assert out.shape == (2, 0, 32)
    assert torch.autograd.grad(out.sum(), inputs[0])[0].shape == inputs[0].shape


@pytest.mark.parametrize('rows', [20, 72_000])
@pytest.mark.parametrize('case', ['x frozen', 'weights frozen', 'autocast backward', 'turned'])
def test_gelu_linear_where_others_look_on(case: str, rows: int) -> None:
    """Also where it runs in parts, whose gradients are written in place."""
    x, weight, bias = torch.randn(2, rows // 2, 64), torch.randn(96, 64) / 8, torch.randn(96)
    if case == 'turned':
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    wanted = {'x frozen': [weight, bias], 'weights frozen': [x]}.get(case, [x, weight, bias])
    for tensor in wanted:
        tensor.requires_grad_()
    expected = torch.autograd.grad(gelu_linear_reference(x, weight, bias).sum(), wanted)
    loss = gelu_linear(x, weight, bias).sum()
    with torch.autocast('cpu', torch.bfloat16, enabled=case == 'autocast backward'):
        grads = torch.autograd.grad(loss, wanted)
    for one, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-2)


def test_second_derivative() -> None:
    x, weight, bias = (
        torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (5, 4), (5,))
    )
    assert torch.autograd.gradgradcheck(gelu_linear, (x, weight, bias))


def mlp_case(rows: int, dtype: torch.dtype, hidden: int = 256) -> list[torch.Tensor]:
    shapes = ((2, rows, 64), (hidden, 64), (hidden,), (32, hidden), (32,))
    return [(torch.randn(s, dtype=dtype) / s[-1] ** 0.5).requires_grad_() for s in shapes]


@pytest.mark.parametrize(('rows', 'parts'), [(3, 1), (700, 1), (10_000, 3)])
def test_mlp(rows: int, parts: int) -> None:
    """A small one, one that oneDNN takes, and one in parts, of which the last is smaller."""
    inputs = mlp_case(rows, torch.float32)
    out = mlp(*inputs)
    grad = torch.randn_like(out)
    assert len(out.grad_fn.saved_tensors) == 5 + parts
    expected = mlp_reference(*inputs)
    with torch.no_grad():
        torch.testing.assert_close(mlp(*inputs), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(out, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('frozen', [[0], [1, 2, 3, 4]])
def test_mlp_with_frozen_inputs(frozen: list[int]) -> None:
    inputs = mlp_case(5, torch.float64)
    for i in frozen:
        inputs[i].requires_grad_(False)
    wanted = [t for t in inputs if t.requires_grad]
    grads, expected = (
        torch.autograd.grad(f(*inputs).square().sum(), wanted) for f in (mlp, mlp_reference)
    )
    for one, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_second_derivative_of_mlp() -> None:
    assert torch.autograd.gradgradcheck(mlp, mlp_case(2, torch.float64, hidden=3))


@pytest.mark.parametrize('function', [gelu_linear, mlp])
def test_second_derivative_where_autocast_is_on(function) -> None:
    """A float32 layer stays one, also where its backward pass runs under autocast."""
    inputs = mlp_case(2, torch.float32)
    inputs = inputs if function is mlp else [inputs[0], inputs[3][:, :64], inputs[4]]
    out = function(*inputs).square().sum()
    expected = torch.autograd.grad(out, inputs[0], create_graph=True)[0]
    with torch.autocast('cpu', torch.bfloat16):
        grad = torch.autograd.grad(out, inputs[0], create_graph=True)[0]
    torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-5)


def test_second_derivative_of_tied_inputs() -> None:
    """One input is made of another, and a weight is there twice."""

    def tied(function, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        bias = weight.sum(dim=1)
        return function(function(x, weight, bias, weight, bias), weight, bias, weight, bias)

    inputs = [torch.randn(2, 3).double().requires_grad_(), torch.randn(3, 3).double()]
    inputs[1].requires_grad_()
    grads = [
        torch.autograd.grad(tied(f, *inputs).square().sum(), inputs, create_graph=True)
        for f in (mlp, mlp_reference)
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('wrap', ['checkpoint', 'autocast backward', 'func', 'not contiguous'])
def test_mlp_where_others_look_on(wrap: str) -> None:
    inputs = mlp_case(700, torch.float32)
    x = inputs[0]
    expected = torch.autograd.grad(mlp_reference(*inputs).square().sum(), x)[0]
    if wrap == 'checkpoint':
        out = torch.utils.checkpoint.checkpoint(mlp, *inputs, use_reentrant=False)
        grad = torch.autograd.grad(out.square().sum(), x)[0]
    elif wrap == 'autocast backward':
        loss = mlp(*inputs).square().sum()
        with torch.autocast('cpu', torch.bfloat16):
            grad = torch.autograd.grad(loss, x)[0]
    elif wrap == 'func':
        grad = torch.func.grad(lambda t: mlp(t, *inputs[1:]).square().sum())(x)
    else:
        turned = x.transpose(0, 1).contiguous().transpose(0, 1)
        grad = torch.autograd.grad(mlp(turned, *inputs[1:]).square().sum(), x)[0]
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)
