"""The space and the recipe of the search's tests: two stages, and small images."""

from mixnet_tf.named_recipes import RECIPES

SPACE = {
    "blocks": ["r1_k3|3.5_a1_p1_s22_e1_i8_o8", "r1|2_k3|5|3.5.7_a1_p1_s11_e3|6_i8_o8_se0|0.5_sw"],
    "params": {"feature_size": 16},
}
SMALL, LARGE = (0, 0, 1, 0, 0), (1, 1, 2, 1, 1)
RECIPE = RECIPES["digits"]._replace(image_size=16, train_batch_size=64)
STEPS = 3  # steps of a short training
