"""The study of a recipe's fields: each addition is trained by its own recipe, beside a run without any."""

import json

import pytest
from scripts import run

from mixnet_tf.runs import RunConfig

_SCRIPT = "studies/recipe_fields.py"
_SHORT = ("--dataset=digits", "--image_size=16", "--train_batch_size=256", "--train_steps=2", "--seeds=1")
_NETWORK = {"blocks": ["r1_k3_a1_p1_s22_e1_i8_o8"], "params": {"stem_size": 8, "feature_size": 16}}


@pytest.mark.soak
def test_each_addition_is_trained_by_its_own_fields(tmp_path, data_dir, capfd):
    (tmp_path / "small.json").write_text(json.dumps(_NETWORK))
    flags = (f"--network={tmp_path}/small.json", f"--model_dir={tmp_path}/study", f"--data_dir={data_dir}", *_SHORT)
    code, out, err = run(capfd, _SCRIPT, *flags, "--additions=none,mixup,drop_path")
    assert code == 0, err
    assert "Additions: 3 runs of 2 steps, 512 images; 0 are finished." in out
    recipes = {
        name: RunConfig.read(tmp_path / "study" / name / "seed-0").recipe for name in ("none", "mixup", "drop_path")
    }
    assert [recipe.mixup for recipe in recipes.values()] == [0, 0.2, 0]
    without = recipes["none"].model_overrides
    assert dict(recipes["drop_path"].model_overrides) == {**without, "drop_path": 0.2}
    report = json.loads((tmp_path / "study" / "recipe_fields.json").read_text())
    assert report["networks"].keys() == report["additions"].keys() == recipes.keys()
    code, out, err = run(capfd, _SCRIPT, *flags, "--additions=none,mixup,drop_path")
    assert code == 0 and "3 are finished" in out, err


def test_an_unknown_addition_is_one_line(capfd):
    code, _, err = run(capfd, _SCRIPT, "--additions=mixup,bright")
    assert code != 0 and "expected none, randaugment" in err
