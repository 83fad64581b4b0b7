"""Exports a trained model for phones and servers: python export_tflite.py --model_dir=DIR --output_dir=OUT."""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.export()
