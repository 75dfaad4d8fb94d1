"""What can be told of a model by looking at it, without a runtime.

Two things matter here: whether the protocol has words for everything that goes in and comes out,
and whether the model draws random numbers, so that no two answers need be equal.
"""

from onnx import AttributeProto, TensorProto

from .datatypes import OF_ONNX

RANDOM_OPERATORS = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


def not_carried(case):
    """Why the protocol cannot carry a case, or `None` where it can.

    Inputs must be tensors of the protocol's datatypes. Outputs may be sequences, maps and
    optionals as well, which are answered as JSON, as long as the tensors in them can be carried.
    """
    for value in case.inputs:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return f"an input is {article(kind)}, the protocol has tensors only"
        if value.type.tensor_type.elem_type not in OF_ONNX:
            return f"the protocol has no {type_name(value.type.tensor_type.elem_type)} (input)"
    for value in case.outputs:
        for element in element_types(value.type):
            if element not in OF_ONNX:
                return f"the protocol has no {type_name(element)} (output)"
    return None


def article(kind):
    word = kind.removesuffix("_type").replace("_", " ")
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def type_name(element):
    return TensorProto.DataType.Name(element)


def element_types(declared):
    """The types of all tensors in a value of the declared type."""
    kind = declared.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        return [getattr(declared, kind).elem_type]
    if kind == "map_type":
        return [declared.map_type.key_type, *element_types(declared.map_type.value_type)]
    return element_types(getattr(declared, kind).elem_type)


def draws_random_numbers(model):
    """Whether an operator of the model, in whatever graph of it, gives other numbers each time."""
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    return any(is_random(node) for body in bodies for node in nodes_within(body))


def is_random(node):
    if node.op_type == "Dropout":
        # The third input turns training on. A Dropout of before has an attribute instead, which
        # no runtime for inference obeys.
        return len(node.input) > 2 and node.input[2] != ""
    return node.op_type in RANDOM_OPERATORS


def nodes_within(nodes):
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from nodes_within(attribute.g.node)
            for graph in attribute.graphs:
                yield from nodes_within(graph.node)
