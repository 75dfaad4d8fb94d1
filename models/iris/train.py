#!/usr/bin/env python3
"""Train the iris classifier of this repository and write it as ONNX.

A multilayer perceptron with one hidden layer learns Fisher's iris measurements
(as scikit-learn ships them). The graph is written node by node rather than by a
converter: it stays small and readable, and the standardisation of the features
is part of it, so a client sends plain centimetres.

    input          float32 [N, 4]  sepal length, sepal width, petal length, petal width, in cm
    probabilities  float32 [N, 3]  setosa, versicolor, virginica; each row sums to 1

Usage: train.py [OUTPUT]       (default: iris.onnx beside this script)
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 20260101
HIDDEN_UNITS = 8
# Without weight decay the few flowers are learnt by heart and every answer is 100 %.
WEIGHT_DECAY = 1.0
# Old enough for every ONNX Runtime of the last years, new enough for all we use.
OPSET = 17
IR_VERSION = 8


def new_pipeline():
    """The model to fit: standardise the four features, then the perceptron."""
    return make_pipeline(
        StandardScaler(),
        MLPClassifier(
            hidden_layer_sizes=(HIDDEN_UNITS,),
            activation="relu",
            solver="lbfgs",
            alpha=WEIGHT_DECAY,
            max_iter=2000,
            random_state=SEED,
        ),
    )


def to_onnx(pipeline, class_names):
    """Write the fitted pipeline as an ONNX model with one input and one output."""
    scaler, perceptron = (step for _, step in pipeline.steps)
    (hidden_weights, output_weights) = perceptron.coefs_
    (hidden_bias, output_bias) = perceptron.intercepts_
    constants = {
        "feature_mean": scaler.mean_,
        "feature_scale": scaler.scale_,
        "hidden_weights": hidden_weights,
        "hidden_bias": hidden_bias,
        "output_weights": output_weights,
        "output_bias": output_bias,
    }
    nodes = [
        helper.make_node("Sub", ["input", "feature_mean"], ["centred"]),
        helper.make_node("Div", ["centred", "feature_scale"], ["standardised"]),
        helper.make_node("Gemm", ["standardised", "hidden_weights", "hidden_bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["activated"]),
        helper.make_node("Gemm", ["activated", "output_weights", "output_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "iris",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor_value_info(
                "probabilities", TensorProto.FLOAT, ["N", len(class_names)]
            )
        ],
        [
            numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(
        graph,
        producer_name="models/iris/train.py",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        doc_string="Iris species out of sepal and petal sizes in centimetres.",
    )
    helper.set_model_props(
        model,
        {
            "classes": ",".join(class_names),
            "features": "sepal_length_cm,sepal_width_cm,petal_length_cm,petal_width_cm",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("iris.onnx")
    iris = load_iris()
    features, species = iris.data, iris.target

    folds = StratifiedKFold(n_splits=10, shuffle=True, random_state=SEED)
    scores = cross_val_score(new_pipeline(), features, species, cv=folds)
    print(
        f"accuracy in 10-fold cross-validation: {scores.mean():.3f} (deviation {scores.std():.3f})"
    )

    seen, unseen, seen_species, unseen_species = train_test_split(
        features, species, test_size=0.2, stratify=species, random_state=SEED
    )
    pipeline = new_pipeline().fit(seen, seen_species)
    model = to_onnx(pipeline, [str(name) for name in iris.target_names])
    output.write_bytes(model.SerializeToString(deterministic=True))

    # What counts is the written file: read it back and ask it.
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"input": unseen.astype(np.float32)})
    right = int((answers.argmax(axis=1) == unseen_species).sum())
    print(f"accuracy of {output.name} on the {len(unseen)} flowers held out: {right}/{len(unseen)}")
    gap = np.abs(answers - pipeline.predict_proba(unseen)).max()
    print(f"largest difference from scikit-learn's probabilities: {gap:.1e}")
    if gap > 1e-5:
        raise SystemExit("the written model does not compute what was trained")
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
