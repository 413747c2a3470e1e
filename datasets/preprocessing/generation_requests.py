"""The inputs that determine how a text is generated: their declarations, default values and checks in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from zoo.tasks import Request

DEFAULTS: Mapping[str, Any] = {"seed": 0, "temperature": 0.8, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}
"""How `serving_default` samples."""
SEARCH_DEFAULTS: Mapping[str, Any] = {"num_beams": 4, "length_penalty": 1.0}
"""How `beam` searches."""
_MOST_BEAMS = 8
_MOST_STOPS, _LONGEST_STOP = 16, 100


def generation_requests(most: int, most_new: int) -> dict[str, Request]:
    """Returns the requests by name, each (batch,), and `stop`, string (batch, stops).

    Args:
        most: largest number of tokens that may be generated.
        most_new: the default of that number.
    """
    found = {
        "seed": ("int64", "of the draws; the same seed gives the same text"),
        "temperature": ("float32", "0 takes the most probable token"),
        "top_k": ("int32", "draws from the k most probable tokens; 0 from all"),
        "top_p": ("float32", "draws from the tokens of this probability, at most 1"),
        "repetition_penalty": ("float32", "above 1 makes tokens that occurred less probable; 1 does not"),
        "num_beams": ("int32", f"texts that are followed at once, 1 to {_MOST_BEAMS}"),
        "length_penalty": (
            "float32",
            "the power of the length that divides a text's log-probability, -1 to 5; 0 for none",
        ),
        "max_new_tokens": ("int32", f"tokens to generate, 1 to {most:,}"),
    }
    defaults = {**DEFAULTS, **SEARCH_DEFAULTS, "max_new_tokens": most_new}
    stops = (
        f"the generated text ends before the first of these texts, at most {_MOST_STOPS}; an empty one has no effect"
    )
    return {
        **{
            name: Request(name, "number", dtype, (), description, default=defaults[name])
            for name, (dtype, description) in found.items()
        },
        "stop": Request("stop", "texts", "string", (None,), stops, default=[""]),
    }


def checked(ways: Mapping[str, tf.Tensor], most: int) -> dict[str, tf.Tensor]:
    """Returns the ways to generate after checking them in the graph; `most` is the largest number of new tokens."""
    rules = {
        "temperature": (lambda x: tf.math.is_finite(x) & (x >= 0), "a number of at least 0"),
        "top_k": (lambda x: x >= 0, "a whole number of at least 0, where 0 means all tokens"),
        "top_p": (lambda x: (x > 0) & (x <= 1), "a number above 0, at most 1"),
        "repetition_penalty": (lambda x: tf.math.is_finite(x) & (x > 0), "a number above 0, where 1 means no penalty"),
        "num_beams": (lambda x: (x >= 1) & (x <= _MOST_BEAMS), f"1 to {_MOST_BEAMS}"),
        "length_penalty": (lambda x: (x >= -1) & (x <= 5), "-1 to 5, where 0 means none"),
        "max_new_tokens": (lambda x: (x >= 1) & (x <= most), f"1 to {most}, less than the model's context"),
    }
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(valid(ways[name])), [f"{name} is out of range; expected {range_}", ways[name]]
        )
        for name, (valid, range_) in rules.items()
    ]
    with tf.control_dependencies(checks):
        return {name: tf.identity(value) for name, value in ways.items()}


def checked_stops(stops: tf.Tensor) -> tf.Tensor:
    """Returns stop strings, string (batch, stops), after checking in the graph that they are few and short."""
    fits = (tf.shape(stops)[1] <= _MOST_STOPS) & tf.reduce_all(tf.strings.length(stops) <= _LONGEST_STOP)
    few = f"stop is too long; expected at most {_MOST_STOPS} texts of at most {_LONGEST_STOP} bytes"
    with tf.control_dependencies([tf.debugging.Assert(fits, [few])]):
        return tf.strings.unicode_transcode(stops, "UTF-8", "UTF-8", errors="replace")
