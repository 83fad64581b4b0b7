"""Trains the networks of one of the paper's figures on any dataset, and draws the figure beside the paper's own.

python studies/kernel_sizes.py --figure=4 --dataset=imagenet2012 --model_dir=/data/study, with any flag of a run of
train.py. The same command resumes an interrupted study. A finished run is not repeated, even for another figure in
the same folder. Writes figure-4.json, figure-4.png, networks/ and a folder of runs for each network.
"""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.start("study")
