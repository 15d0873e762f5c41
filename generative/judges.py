"""The models that judge images, by the name that `playfield train` knows them by."""

from __future__ import annotations

#: What `run.json` and the command line call it.
CLASSIFIER = "classifier"

#: What each of them is.
JUDGES = {CLASSIFIER: "Convolutional network that says what images show, and measures painters"}
