"""ImageNet (ILSVRC 2012) in numbers."""

CLASSES = 1000
# Shards and images of a split. Source: tools/datasets/imagenet_to_gcs.py; mnasnet_main.py.
SPLITS = {"train": (1024, 1_281_167), "validation": (128, 50_000)}
