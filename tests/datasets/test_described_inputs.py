"""What preprocessors say of the model inputs."""

import pytest

import zoo


@pytest.mark.parametrize(
    ("data", "model", "described"),
    [
        ("digits", "cnn", {"image": "pixels from 0 (black) to 1 (white)"}),
        ("digits", "lstm", {"image": "pixels from 0 (black) to 1 (white), one row of the image per step"}),
        (
            "commands",
            "embedding_lstm",
            {"token_ids": "line numbers of `assets/vocabulary.txt`, from 0; 0 is padding, 1 an unknown word"},
        ),
        (
            "tastes",
            "matrix_factorization",
            {
                "user_ids": "line numbers of `assets/users.txt`, from 0; 0 is unknown",
                "item_ids": "line numbers of `assets/items.txt`, from 0; 0 is unknown",
            },
        ),
    ],
)
def test_model_inputs_are_described(data, model, described):
    prepared = zoo.datasets.load(data).prepare(model)
    assert prepared.preprocessor.described_inputs == described
    assert {*described} == {*prepared.preprocessor.input_shapes}


def test_standardised_values_are_described():
    preprocessor = zoo.datasets.load("digit_rows").prepare("lstm").preprocessor
    text = preprocessor.described_inputs["series"]
    assert text.startswith("(value - mean) / deviation; means ") and text.endswith("NaN is missing")
    assert f"means {preprocessor.means[0]:.6g}, " in text
