"""Trains one network with and without each field that a recipe can add: augmentation, mixing, optimizer, and others.

python studies/recipe_fields.py --model_dir=runs/recipe_fields, with any flag of a run of train.py. The same command
resumes an interrupted study. Writes recipe_fields.json, networks/ and a folder of runs for each addition.
"""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.start("additions")
