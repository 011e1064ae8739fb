#!/usr/bin/env python3
"""Trains a classifier on the handwritten digits that come with scikit-learn.

Prints one line per epoch while it learns, then its accuracy on digits that it has never seen, and
leaves the model and the numbers in /out (or the folder given as the first argument).
"""

import json
import os
import sys
import time

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

EPOCHS = int(os.environ.get("EPOCHS", "40"))
BATCH = 64
SEED = 7


def shifted(images, labels):
    """The images and their four neighbours one pixel away: five times as many to learn from."""
    square = images.reshape(-1, 8, 8)
    moved = [square]
    for axis, by in ((1, 1), (1, -1), (2, 1), (2, -1)):
        moved.append(np.roll(square, by, axis=axis))
    return np.concatenate(moved).reshape(-1, 64), np.tile(labels, len(moved))


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else "/out"
    started = time.monotonic()

    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    train_x, train_y = shifted(train_x, train_y)
    print(f"{len(train_x)} images to learn from, {len(test_x)} kept back for the test", flush=True)

    model = MLPClassifier(hidden_layer_sizes=(256, 128), batch_size=BATCH, random_state=SEED)
    for epoch in range(1, EPOCHS + 1):
        order = np.random.default_rng(SEED + epoch).permutation(len(train_x))
        model.partial_fit(train_x[order], train_y[order], classes=digits.target_names)
        if epoch == 1 or epoch % 5 == 0 or epoch == EPOCHS:
            accuracy = model.score(test_x, test_y)
            seconds = time.monotonic() - started
            print(
                f"epoch {epoch:3d}/{EPOCHS}  loss {model.loss_:.4f}  "
                f"accuracy {accuracy:.4f}  {seconds:5.1f} s",
                flush=True,
            )

    predicted = model.predict(test_x)
    accuracy = float((predicted == test_y).mean())
    metrics = {
        "accuracy": accuracy,
        "test_images": len(test_x),
        "epochs": EPOCHS,
        "loss": float(model.loss_),
        "seconds": round(time.monotonic() - started, 3),
        "confusion": confusion_matrix(test_y, predicted).tolist(),
    }
    joblib.dump(model, os.path.join(out, "model.joblib"), compress=3)
    with open(os.path.join(out, "metrics.json"), "w", encoding="utf-8") as file:
        json.dump(metrics, file, indent=2)
        file.write("\n")
    print(f"accuracy on {len(test_x)} unseen digits: {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
