"""The checks themselves: a judge that never says no would let everything pass."""

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, TypeProto, helper
from suite import nontensor, python_api
from suite.cases import Case, DataSet
from suite.compare import difference, identical, kind_difference, unlike_expected
from suite.datatypes import (
    DTYPES,
    datatype_of,
    from_json,
    from_raw_bytes,
    raw_bytes,
    string_array,
    to_json,
)
from suite.traits import draws_random_numbers, not_carried

ONE = np.float32(1)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (np.array([1, 2]), np.array([1, 2])),
        (np.array(["a", "b"], object), np.array(["a", "b"], object)),
        (np.array([ONE, np.nan]), np.array([ONE, np.nan])),
        (np.array([ONE, -np.inf]), np.array([ONE, -np.inf])),
        (np.array([ONE * 1000, ONE]), np.array([ONE * 1000, ONE + np.float32(5e-4)])),
        (np.zeros((2, 0)), np.zeros((2, 0))),
        ([np.array([1])], [np.array([1])]),
        ({1: 0.5}, {1: 0.5}),
        (None, None),
    ],
)
def test_the_same_is_the_same(theirs, ours):
    assert difference(theirs, ours) is None


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (np.array([1, 2]), np.array([1, 3]), "1 of 2 elements differ, first at [1]"),
        (np.array([1, 2]), np.array([1, 2], np.int32), "INT32 instead of INT64"),
        (np.array([1, 2]), np.array([[1, 2]]), "shape [1, 2] instead of [2]"),
        (np.array(ONE), np.array([ONE]), "shape [1] instead of []"),
        (np.array(["a"], object), np.array(["b"], object), "1 of 1 elements differ"),
        (np.array([ONE]), np.array([np.float32(np.nan)]), "1 of 1 elements differ"),
        (np.array([ONE * np.inf]), np.array([-ONE * np.inf]), "1 of 1 elements differ"),
        (np.array([ONE * np.inf]), np.array([ONE]), "1 of 1 elements differ"),
        (np.array([ONE]), np.array([ONE * np.float32(1.00001)]), "1 of 1 elements differ"),
        ([np.array([1])], [np.array([1]), np.array([2])], "2 items instead of 1"),
        ([np.array([1])], [np.array([2])], "item 0: 1 of 1 elements differ"),
        ({1: 0.5}, {2: 0.5}, "keys [2] are not [1]"),
        ({1: 0.5}, {1: 0.6}, "key 1:"),
        (None, np.array([1]), "only one has a value"),
    ],
)
def test_a_difference_is_said(theirs, ours, said):
    assert said in difference(theirs, ours)


def test_only_kind_and_shape_count_where_numbers_are_random():
    one = np.array([ONE, ONE])
    assert kind_difference(one, one * 2) is None
    assert kind_difference(one, one[:1])
    assert kind_difference(one, one.astype(np.float64))


def test_the_last_bit_is_no_difference_but_not_identical():
    one, near = np.array([ONE]), np.array([np.nextafter(ONE, np.float32(2))])
    assert difference(one, near) is None
    assert not identical(one, near)
    assert identical(one, one.copy())


def test_a_case_has_its_own_tolerance():
    strict = Case("strict", "node", None, [], rtol=1e-3, atol=0)
    loose = Case("loose", "node", None, [], rtol=1e-1, atol=0)
    expected, got = [np.array([ONE])], [np.array([ONE * np.float32(1.05)])]
    assert unlike_expected(expected, got, loose) is None
    assert "not as the case expects" in unlike_expected(expected, got, strict)


ARRAYS = [
    np.array([True, False]),
    np.array([[np.iinfo(np.int64).min, np.iinfo(np.int64).max]]),
    np.array([np.iinfo(np.uint64).max], np.uint64),
    np.array([0.1, 1 / 3, 65504], np.float16),
    np.array([0.1, 1 / 3, np.nan, np.inf], ml_dtypes.bfloat16),
    np.array([0.1, 1 / 3, 1e-45, 3.4e38, np.nan, -np.inf], np.float32),
    np.array([0.1, 5e-324, 1.7e308]),
    np.array(7, np.int8),
    np.zeros((3, 0, 2), np.float32),
    string_array(["", "ä", "two words", '"'], (2, 2)),
]


@pytest.mark.parametrize("array", ARRAYS, ids=datatype_of)
def test_tensors_come_back_as_they_went(array):
    datatype, shape = datatype_of(array), array.shape
    assert identical(array, from_raw_bytes(raw_bytes(array), datatype, shape))
    assert identical(array, from_json(to_json(array), datatype, shape))


@pytest.mark.parametrize(
    ("elements", "datatype"), [([1.0], "INT64"), ([1], "BOOL"), ([True], "FP32"), (["1"], "FP32")]
)
def test_json_of_another_kind_is_no_tensor(elements, datatype):
    with pytest.raises(ValueError, match="an element is no"):
        from_json(elements, datatype, [1])


def case_of(input_type, output_type, operator="Identity", inputs=("x",)):
    x, y = helper.make_value_info("x", input_type), helper.make_value_info("y", output_type)
    graph = helper.make_graph([helper.make_node(operator, inputs, ["y"])], "g", [x], [y])
    return Case("case", "node", helper.make_model(graph), [DataSet([], [])], 1e-3, 1e-7)


def tensor_of(element):
    return helper.make_tensor_type_proto(element, [1])


FLOAT = tensor_of(TensorProto.FLOAT)


@pytest.mark.parametrize(
    ("declared", "cause"),
    [
        (FLOAT, None),
        (tensor_of(TensorProto.STRING), None),
        (tensor_of(TensorProto.BFLOAT16), None),
        (tensor_of(TensorProto.INT4), "the protocol has no INT4 (input)"),
        (tensor_of(TensorProto.COMPLEX64), "the protocol has no COMPLEX64 (input)"),
        (helper.make_sequence_type_proto(FLOAT), "an input is a sequence"),
        (helper.make_optional_type_proto(FLOAT), "an input is an optional"),
    ],
)
def test_what_the_protocol_cannot_carry_is_told_by_the_types(declared, cause):
    told = not_carried(case_of(declared, FLOAT))
    assert told is None if cause is None else told.startswith(cause)


@pytest.mark.parametrize(
    ("declared", "cause"),
    [
        (helper.make_sequence_type_proto(FLOAT), None),
        (tensor_of(TensorProto.FLOAT8E5M2), "the protocol has no FLOAT8E5M2 (output)"),
        (
            helper.make_sequence_type_proto(tensor_of(TensorProto.UINT2)),
            "the protocol has no UINT2 (output)",
        ),
    ],
)
def test_outputs_other_than_tensors_are_carried_if_what_is_in_them_is(declared, cause):
    assert not_carried(case_of(FLOAT, declared)) == cause


def test_random_operators_are_found_in_subgraphs_too():
    assert not draws_random_numbers(case_of(FLOAT, FLOAT).model)
    assert draws_random_numbers(case_of(FLOAT, FLOAT, "Bernoulli").model)
    assert not draws_random_numbers(case_of(FLOAT, FLOAT, "Dropout").model)
    assert draws_random_numbers(case_of(FLOAT, FLOAT, "Dropout", ["x", "", "training"]).model)
    inner = case_of(FLOAT, FLOAT, "RandomNormalLike").model.graph
    outer = case_of(FLOAT, FLOAT, "If").model
    outer.graph.node[0].attribute.append(helper.make_attribute("then_branch", inner))
    assert draws_random_numbers(outer)


def test_sequences_and_maps_are_read_out_of_json():
    sequence = helper.make_sequence_type_proto(FLOAT)
    texts = string_array(['{"datatype":"FP32","shape":[2],"data":[1.5,"NaN"]}'], [1])
    (tensor,) = nontensor.read(texts, sequence)
    assert identical(tensor, np.array([1.5, np.nan], np.float32))

    maps = TypeProto()
    maps.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    maps.sequence_type.elem_type.map_type.value_type.CopyFrom(FLOAT)
    texts = string_array(['{"0":0.25,"-1":"Infinity"}'], [1])
    assert nontensor.read(texts, maps) == [{0: 0.25, -1: np.inf}]


def test_bfloat16_goes_through_the_python_api():
    model = case_of(tensor_of(TensorProto.BFLOAT16), tensor_of(TensorProto.BFLOAT16)).model
    model.ir_version = 8
    session = python_api.open_session(model.SerializeToString())
    array = np.array([1.5], DTYPES["BF16"])
    (answer,) = python_api.answer(session, {"x": array})
    assert identical(array, answer)
