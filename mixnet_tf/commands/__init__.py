"""The commands: flags and one call each; `train.py`, `eval.py` and `export_tflite.py`, or mixnet-train and its kind."""
