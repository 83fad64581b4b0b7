"""What is known of the published sets of weights."""

import pytest

import mixnet_tf
from mixnet_tf.errors import InputError
from mixnet_tf.networks import GOOGLES, TIMMS, Preprocessing
from mixnet_tf.weights import google, hub, pretrained, released
from mixnet_tf.weights.records import RECORDS

# The facts that are not known, by the name of the set; all others have to be there.
_UNKNOWN = {
    "google/mixnet-s": {"revision", "sha256", "license", "crop_fraction"},
    "google/mixnet-m": {"revision", "size", "sha256", "license", "crop_fraction"},
    "google/mixnet-l": {"revision", "license", "crop_fraction"},
    "timm/mixnet_s.ft_in1k": {"size", "sha256", "crop_padding"},
    "timm/mixnet_m.ft_in1k": {"size", "sha256", "crop_padding"},
    "timm/mixnet_l.ft_in1k": {"size", "sha256", "crop_padding"},
    "timm/mixnet_xl.ra_in1k": {"size", "crop_padding"},
}


def test_every_published_set_has_a_record_and_only_what_is_listed_is_unknown():
    assert {each.name: {k for k, v in each._asdict().items() if v is None} for each in RECORDS} == _UNKNOWN
    assert {each.model_name for each in RECORDS} == set(released.PUBLISHED)
    for each in RECORDS:
        assert each.image_size == 224 and 75 < each.top_1 < 81
        assert [round(255 * value, 6) for value in each.mean] == [round(value, 6) for value in Preprocessing.MEAN_RGB]
        deviation = [round(255 * value, 6) for value in each.deviation]
        assert deviation == [round(value, 6) for value in Preprocessing.STDDEV_RGB]
        assert each.resizing == (GOOGLES if each.name.startswith("google/") else TIMMS)
        if each.sha256 is not None:
            assert len(bytes.fromhex(each.sha256)) == 32


@pytest.mark.parametrize("model_name", released.PUBLISHED)
def test_the_first_record_of_a_network_is_what_imagenet_means(model_name):
    first = mixnet_tf.list_weights(model_name)[0]
    if model_name in google.ARCHIVES:
        known = google.ARCHIVES[model_name]
        assert (first.weights, first.size, first.sha256) == ("imagenet", known.size, known.sha256)
    else:
        assert first.weights == pretrained.TIMM[model_name]
    for each in mixnet_tf.list_weights(model_name):
        assert each.model_name == model_name
        assert each.weights == "imagenet" or hub.is_hub_name(each.weights) and hub.hub_folder(each.weights)


def test_networks_without_published_weights_have_none_and_unknown_ones_are_refused():
    assert mixnet_tf.list_weights("mobilenet-v2") == []
    assert mixnet_tf.list_weights() == list(RECORDS)
    with pytest.raises(InputError, match=r"model_name: expected one of \['mixnet-s', .*received 'mixnet-xxl'"):
        mixnet_tf.list_weights("mixnet-xxl")
