"""A two-tower recommender from files to its SavedModel: new items are ranked by their features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import zoo

COLOURS = ("red", "blue")


@pytest.mark.slow
def test_new_items_are_recommended_to_those_who_like_their_features(tmp_path):
    """Half of the users choose red items, the others blue ones. Some items of each colour have no interaction at all."""
    rng = np.random.default_rng(0)
    items = pd.DataFrame({"item_id": [f"i{n:02}" for n in range(60)], "colour": [COLOURS[n % 2] for n in range(60)]})
    items["price"] = rng.uniform(1, 9, 60).round(2)
    old = items[:50]  # the last ten are new
    rows = []
    for user in range(80):
        liked = old[old["colour"] == COLOURS[user % 2]]["item_id"]
        for time, item in enumerate(rng.permutation(liked)[:12]):
            rows.append((f"u{user}", item, 100 * time + user))
    pd.DataFrame(rows, columns=["user_id", "item_id", "time"]).to_csv(tmp_path / "clicks.csv", index=False)
    items.to_csv(tmp_path / "items.csv", index=False)
    users = pd.DataFrame({"user_id": [f"u{n}" for n in range(82)], "likes": [COLOURS[n % 2] for n in range(82)]})
    users.to_csv(tmp_path / "users.csv", index=False)
    result = zoo.run(
        "two_tower",
        f"csv:{tmp_path / 'clicks.csv'}",
        config={"epochs": 40, "batch_size": 64, "learning_rate": 0.01},
        model_arguments={"embedding_dim": 8, "id_dropout": 0.5},
        data_arguments={"items": "items.csv", "users": "users.csv"},
        run_directory=tmp_path / "run",
        verbose=0,
    )
    model = zoo.load(result.saved_model)
    features = {"item_colour": items["colour"].to_numpy(object), "item_price": items["price"].to_numpy(np.float32)}
    new_ids = np.array(["?"] * 60, object)
    vectors = model({"item_id": new_ids, **features}, "item_vectors")["vector"]
    known = model({"item_id": items["item_id"].to_numpy(object), **features}, "item_vectors")["vector"]
    np.testing.assert_allclose(vectors[50:, :-1], known[50:, :-1], rtol=1e-4, atol=1e-5)
    for place, colour in enumerate(COLOURS):
        same = np.array([c == colour for c in items["colour"]])
        by_history = model({"history": [items["item_id"][place::2][:5].tolist()]}, "history")
        assert {int(i[1:]) % 2 for i in map(bytes.decode, by_history["item_id"][0])} == {place}
        user = model({"history": np.array([[""]], object), "user_likes": [colour]}, "user_features")
        assert {int(i[1:]) % 2 for i in map(bytes.decode, user["item_id"][0])} == {place}
        for name in (f"u{place}", f"u{80 + place}"):  # the second has no interactions, only features
            vector = model({"user_id": [name]}, "user_vectors")["vector"][0]
            scores = vectors[:, :-1] @ vector[:-1]
            assert scores[50:][same[50:]].min() > scores[50:][~same[50:]].max(), "new items of the colour come first"
    with pytest.raises(zoo.UsageError, match="two_tower, is for the task recommendation and has no metric"):
        zoo.compare(tmp_path / "run", tmp_path / "run")
