"""STL's switch of what names it knows, by hand-worked numbers."""

import numpy as np
import pytest
import torch

from ucdr_core.methods import OptionError
from ucdr_core.methods.stl import STL

VECTORS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]], dtype=torch.float64)


def made(**options) -> STL:
    """zeta and W the identity, two seen classes and an unseen one; lambda = 2, gamma = 3."""
    values = {"dim": 2, "prototype_dim": 2, "hidden": 4, "positions": 1, "scale": 2.0, "temperature": 3.0}
    method = STL(torch.nn.Sequential(), 4, VECTORS[:2], STL.Options(**values, **options), VECTORS[2:]).double()
    with torch.no_grad():
        method.zeta.weight.copy_(torch.eye(2))
        method.zeta.bias.zero_()
        method.prototype.weight.copy_(torch.eye(2))
    return method


def test_the_softmax_is_over_the_names_that_are_known():
    """v = (0, 1): cosines 0, 1 to the seen classes and 0 to the unseen one; scores of 0, 6 and 0."""
    v = torch.tensor([[0.0, 3.0]], dtype=torch.float64)
    of_all, of_seen = (
        made(weight_calibration=0.0, names=names).log_probabilities(v).exp().detach().numpy()
        for names in ("all", "seen")
    )
    np.testing.assert_allclose(of_all, [np.array([1, np.exp(6), 1]) / (2 + np.exp(6))])
    np.testing.assert_allclose(of_seen, [np.array([1, np.exp(6)]) / (1 + np.exp(6))])


def test_the_vectors_of_unseen_classes_do_not_reach_a_method_that_knows_the_seen_names_alone():
    method = made(weight_calibration=0.0, names="seen")
    assert method.unseen_vectors.shape == (0, 2)
    assert {"unseen_vectors"} == {name for name, value in method.named_buffers() if not len(value)}


def test_calibration_needs_the_names_of_unseen_classes():
    with pytest.raises(OptionError, match="set weight_calibration to 0"):
        made(names="seen")
