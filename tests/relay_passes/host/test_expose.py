"""Variables of a module become further results."""

from __future__ import annotations

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.graph import read_graph
from relay_passes.host.expose import expose_variables
from relay_passes.host.run import HostModule
from tests.relay_passes.expected import assert_becomes, assert_same


@I.ir_module
class Before:
    @R.function
    def main(data: R.Tensor((2,), "float32")):
        with R.dataflow():
            a = R.negative(data)
            b = R.add(a, data)
            c = R.nn.relu(a)
            R.output(b, c)
        return b, c


@I.ir_module
class After:
    @R.function
    def main(data: R.Tensor((2,), "float32")):
        with R.dataflow():
            a = R.negative(data)
            b = R.add(a, data)
            c = R.nn.relu(a)
            R.output(a, b, c)
        return b, c, c, a


def test_variables_follow_the_results() -> None:
    a, _, c = (binding.var for binding in read_graph(Before).bindings)
    assert_becomes(lambda mod: expose_variables(mod, [c, a]), Before, After)
    values = HostModule(After)(np.float32([-1, 2]))
    assert [v.tolist() for v in values] == [[0, 0], [1, 0], [1, 0], [1, -2]]


def test_no_variables_change_nothing() -> None:
    assert_same(expose_variables(Before, []), Before)
