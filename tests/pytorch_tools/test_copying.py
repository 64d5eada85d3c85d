"""``copy.deepcopy`` (averaged models, teachers) and ``pickle`` (processes, whole-model files)."""

import copy
import pickle

import torch

from tests.pytorch_tools.conftest import Subject, assert_same, each_subject, image, loss


@each_subject
def test_deepcopy_after_a_training_step(subject: Subject) -> None:
    model = subject.build()
    loss(model(image())).backward()
    other = copy.deepcopy(model)
    with torch.no_grad():
        expected = model(image())
        assert_same(other(image()), expected)
        for parameter in other.parameters():
            parameter.zero_()
        assert_same(model(image()), expected)


@each_subject
def test_pickle(subject: Subject) -> None:
    model = subject.build()
    other = pickle.loads(pickle.dumps(model))  # noqa: S301
    with torch.no_grad():
        assert_same(other(image()), model(image()))
    assert list(other.state_dict()) == list(model.state_dict())
