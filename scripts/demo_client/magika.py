"""File types: magika looks at the first and last bytes of a file and names its type.

The features are those of the magika 1.0.3 package for its model `standard_v3_3`; the
numbers (how many bytes, what pads, what a score is worth) come from the model's own
config.json.
"""

import json
from pathlib import Path

from demo_client.gateway import infer, percent

MODEL = "magika"


class TooSmall(Exception):
    """The file has too few bytes for the model: its makers decide such files by other rules."""


def ask(gateway, path, model_folder):
    """Name the type of the file at `path`.

    `model_folder` holds config.json and content_types.json as scripts/fetch-models
    leaves them.
    """
    config = json.loads((Path(model_folder) / "config.json").read_text())
    content_types = json.loads((Path(model_folder) / "content_types.json").read_text())
    answer = infer(gateway, MODEL, features(Path(path).read_bytes(), config))
    label, score = judge(answer.numbers, config, content_types)
    description = content_types[label]["description"] or label
    sentence = f"{Path(path).name} is of type {label}: {description} ({percent(score)})"
    return sentence, answer


def features(content, config):
    """The model's input for one file: 2048 int32, a byte each, or the padding token 256.

    Both ends are taken from at most a block of the file, without the whitespace
    around them; the beginning is padded after, the end before.
    """
    block, padding = config["block_size"], config["padding_token"]
    begin = content[:block].lstrip()[: config["beg_size"]]
    end = content[-block:].rstrip()[-config["end_size"] :]
    if min(len(content), len(begin)) < config["min_file_size_for_dl"]:
        raise TooSmall(f"magika's model needs {config['min_file_size_for_dl']} bytes or more")
    return (
        list(begin)
        + [padding] * (config["beg_size"] - len(begin))
        + [padding] * (config["end_size"] - len(end))
        + list(end)
    )


def judge(scores, config, content_types):
    """The label for the model's scores, and its score.

    A label whose score is under its threshold becomes the generic `txt` or `unknown`.
    """
    best = max(range(len(scores)), key=scores.__getitem__)
    guess, score = config["target_labels_space"][best], scores[best]
    label = config["overwrite_map"].get(guess, guess)
    if score < config["thresholds"].get(guess, config["medium_confidence_threshold"]):
        label = "txt" if content_types[label]["is_text"] else "unknown"
    return label, score
