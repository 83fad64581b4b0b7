import pytest

from mixnet_tf.class_names import NOT_COMPARED, checked_names, match, shown_names


def _match(names, own_names):
    return match(names, len(names), own_names, len(own_names), "dataset 'x'")


def test_equal_names_need_no_mapping_even_where_classes_share_one():
    assert _match(["crane", "tench", "crane"], ["crane", "tench", "crane"]) == (None, ())


def test_another_order_is_mapped_by_name():
    assert _match("abc", "cab") == ((2, 0, 1), ())


def test_classes_that_the_dataset_lacks_are_counted():
    assert _match("abcd", "db") == ((3, 1), ("the dataset has 2 of the model's 4 classes",))


def test_a_class_that_the_model_does_not_know_is_an_error_that_lists_both_sides():
    with pytest.raises(ValueError, match="does not know 1 of the 3 classes of dataset 'x': 'owl'. .* lacks 1: 'cow'"):
        _match(["cat", "cow", "dog"], ["cat", "dog", "owl"])


@pytest.mark.parametrize("names, own_names", [("aab", "ab"), ("ab", "aab")])
def test_a_name_that_has_to_be_found_stands_for_one_class(names, own_names):
    with pytest.raises(ValueError, match="several classes are named 'a'"):
        _match(names, own_names)


@pytest.mark.parametrize("names, own_names", [(None, "ab"), ("ab", None), (None, None)])
def test_without_names_the_numbers_have_to_agree_and_a_note_says_so(names, own_names):
    assert match(names, 2, own_names, 2, "dataset 'x'") == (None, (NOT_COMPARED,))
    with pytest.raises(ValueError, match="The model has 2 classes, but dataset 'x' has 3"):
        match(names, 2, own_names, 3, "dataset 'x'")


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\u2028a", "", " \t"])
def test_a_name_that_would_move_the_lines_of_a_labels_file_is_refused(name):
    with pytest.raises(ValueError, match="labels.txt: class 1 is named .* expected a name of one line"):
        checked_names(["tench", name], "labels.txt")


def test_classes_of_one_name_are_shown_with_their_numbers():
    assert shown_names(["crane", "tench", "crane"]) == ("crane (0)", "tench", "crane (2)")
