"""Iris flowers: four lengths in, a species out. The model is models/iris of this repository."""

from demo_client.gateway import infer, percent

MODEL = "iris"
SPECIES = ["setosa", "versicolor", "virginica"]


def ask(gateway, centimetres):
    """Name the species of one flower.

    `centimetres` is sepal length, sepal width, petal length, petal width. The model
    standardises them itself.
    """
    answer = infer(gateway, MODEL, centimetres)
    best = max(range(len(SPECIES)), key=lambda index: answer.numbers[index])
    sentence = f"the flower is an Iris {SPECIES[best]} ({percent(answer.numbers[best])})"
    return sentence, answer
