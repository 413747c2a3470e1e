"""Names of types in the messages of the commands."""

import pytest

from zoo.scripts import console


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        (dict[str, str | list[str]], "a mapping of names to text or a list of texts, such as '{name: text}'"),
        (dict[str, int] | None, "a mapping of names to whole numbers, such as '{name: 2}' or null"),
        (list[str], "a list of texts"),
        (list[float], "a list of numbers, such as '[0.1, 0.9]'"),
        (tuple[int, ...], "a list of whole numbers"),
    ],
)
def test_types_have_names_in_plain_words(hint, name):
    assert console._type_name(hint) == name
