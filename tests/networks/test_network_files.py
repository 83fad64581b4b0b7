"""Network files, and counts of parameters and multiply-adds from block strings."""

import json
import re

import pytest
import tiny
from scripts import ROOT, run

import mixnet_tf
from mixnet_tf.networks import VARIANTS, GlobalParams, count_parts, network_content, stages_and_params

OWN = {"blocks": ["r1_k3_a1_p1_s22_e1_i8_o8", "r2_k3.5_a1.1_p1.1_s11_e3_i8_o8_se0.5_sw"], "params": {"num_classes": 7}}


@pytest.fixture
def own(tmp_path):
    """Writes a network file, and gives its path."""

    def write(network=OWN):
        path = tmp_path / "my-net.json"
        path.write_text(network if isinstance(network, str) else json.dumps(network))
        return path

    return write


def test_a_network_file_is_a_network_by_its_name(own):
    model = mixnet_tf.build_model(own(), input_shape=(32, 32, 3))
    assert model.name == "my-net" and model.output_shape == (None, 7)
    same = mixnet_tf.build_model(blocks_args=OWN["blocks"], classes=7, input_shape=(32, 32, 3))
    assert [w.shape for w in model.weights] == [w.shape for w in same.weights]
    assert mixnet_tf.build_model(str(own()), classes=3, input_shape=(32, 32, 3)).output_shape == (None, 3)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_networks_content_builds_the_same_network(name, own):
    before = stages_and_params(name, kernel_size=(3, 5))
    assert stages_and_params(own(network_content(*before))) == before


@pytest.mark.parametrize("network, message", [
    ("{", "my-net.json is not valid JSON"),
    ([1], r"expected a JSON object with \['blocks', 'params'\]"),
    ({**OWN, "block": []}, r"unknown fields \['block'\]"),
    ({"params": {}}, "blocks: expected a list with at least one block string, received None"),
    ({**OWN, "blocks": []}, "blocks: expected a list with at least one block string"),
    ({**OWN, "blocks": ["r1_k4_a1_p1_s22_e1_i8_o8"]}, "my-net.json: Option 'k4' in block string"),
    ({**OWN, "params": []}, "params: expected an object"),
    ({**OWN, "params": {"stem": 8}}, r"my-net.json: Unknown params \['stem'\]"),
    ({**OWN, "params": {"partition": "half"}}, r"my-net.json: params\['partition'\]: expected one of"),
    ({**OWN, "params": {"head": 1}}, r"params\['head'\]: expected true or false"),
    ({**OWN, "params": {"default_activation": "relu7"}}, "expected the name of a Keras activation"),
    ({**OWN, "blocks": ["r1_k3_a1_p1_s22_e1_i8_o8", "r1_k3_a1_p1_s11_e1_i9_o8"]}, "block_1 declares 9 input filters"),
    ({"blocks": ["r1_k3.5.7.9_a1_p1_s22_e1_i4_o8"], "params": {"partition": "exponential", "stem_size": 4}},
     r"4 channels cannot be split into 4 groups \(exponential\): \[2, 1, 0, 1\]"),
])  # fmt: skip
def test_a_wrong_network_file_names_the_field(network, message, own):
    with pytest.raises(ValueError, match=message):
        stages_and_params(own(network))


def test_a_network_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="There is no file none.json"):
        mixnet_tf.build_model("none.json")


@pytest.mark.parametrize("name", VARIANTS)
def test_counts_from_block_strings_are_those_of_the_model(name):
    network, model = stages_and_params(name), tiny.released(name)
    rows = count_parts(*network)
    assert sum(row.parameters for row in rows) == model.count_params()
    assert sum(row.trainable for row in rows) == sum(w.value.shape.num_elements() for w in model.trainable_weights)
    for size in (224, 96, 33):
        assert sum(row.multiply_adds for row in count_parts(*network, size)) == mixnet_tf.multiply_adds(model, size)


@pytest.mark.parametrize("overrides", [{"dilated": True}, {"partition": "exponential"}, {"project_activation": "relu"}])
def test_counts_follow_the_parameters(overrides):
    arguments = {"blocks_args": tiny.SMALL, "override_params": overrides, "kernel_size": (3, 5)}
    rows = count_parts(*stages_and_params(None, **arguments), (65, 32))
    model = mixnet_tf.build_model(**arguments, input_shape=(65, 32, 3))
    assert sum(row.parameters for row in rows) == model.count_params()
    assert sum(row.multiply_adds for row in rows) == mixnet_tf.multiply_adds(model)
    shapes = {name: tensor.shape for name, tensor in mixnet_tf.endpoints(model).items()}
    for row in rows[:-1]:
        assert shapes[row.part][1:] == (*row.resolution, row.channels)


def test_the_documents_network_file_is_one_and_its_table_has_every_parameter(own):
    document = (ROOT / "docs" / "NETWORKS.md").read_text()
    stages, params = stages_and_params(own(re.search(r"```json\n(.*?)```", document, re.DOTALL)[1]))
    assert len(stages) == 2 and params.feature_size == 256
    table = document[document.index("| parameter | default |") :]
    assert [field for field in GlobalParams._fields if f"`{field}`" not in table] == []


def test_a_network_is_printed_by_its_parts_and_as_a_file(own, capfd):
    code, out, err = run(capfd, "-m mixnet_tf.networks", "mixnet-s", "--image_size=224")
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == 1 + 1 + 16 + 1 + 1 and lines[-1].split() == ["sum", "4,134,606", "239,173,360"]
    assert lines[-3].split() == ["block_15", "7x7", "3.5.7.9", "200", "655,700", "20,290,800"]
    _, out, _ = run(capfd, "-m mixnet_tf.networks", own(), "--json", "--kernels=3")
    assert json.loads(out) == network_content(*stages_and_params(own(), kernel_size=3))


@pytest.mark.parametrize(
    "arguments, message", [((), "Expected one network"), (("nothing",), "Unknown model 'nothing'")]
)
def test_a_network_that_cannot_be_printed_is_one_line(arguments, message, capfd):
    code, _, err = run(capfd, "-m mixnet_tf.networks", *arguments)
    assert code == 2 and err.splitlines()[-1].startswith(f"error: {message}")
