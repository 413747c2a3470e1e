"""The one option that is most likely to help, from the figures of a run.

Each rule is a function of `Facts`. It returns an option and the reason, or "" if its figures say nothing. `RULES` has the
surest first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zoo.conclusions.facts import Facts
from zoo.display import number_text

_WORSE_SHARE = 0.01
"""An exported epoch is worse than the best one if its metric is worse by more than this, or its loss by twice this share."""
_GAP, _LOSSES = 0.05, 1.5
"""A model is over-fitted if its training accuracy is higher by this than on validation, or without accuracies its
validation loss is this many times the training loss."""
UNBALANCED, _RECALL_GAP = 5, 0.1
"""Classes are unbalanced if the most frequent one has this many times the examples of the rarest one. It matters if the mean
recall over the classes is lower than the accuracy by this."""
_ENOUGH = 2_000
"""Training examples from which on published weights gain from training. With 750 examples of clinc_oos, validation accuracy
fell from 0.871 to 0.868."""
_FEW_IMAGES = 5_000
"""Training images below which published weights of another model are worth a try."""
_CUT = 0.1
"""Share of the texts that fill the model's input from which on it is worth a longer input."""
_POSITIONS = 512
_SMALLER = 2
"""Images are small if the model's input has less than one such part of their height and width."""
_LARGEST_SIDE = 224


def advise(facts: Facts) -> str:
    """Returns the option that is most likely to help with the reason; empty if no figure of the run says so.

    Example:
        >>> advise(Facts(history=[{"val_loss": 0.9}, {"val_loss": 0.7}], epochs=2, exported=2, options={"epochs": 2}))
        '--config.epochs 5: val_loss was still best in the last of 2 epochs'
    """
    return next(filter(None, (rule(facts) for rule in RULES)), "")


def earlier_was_better(facts: Facts) -> str:
    """The last epoch was exported, and an earlier one was clearly better."""
    name, direction = facts.monitor
    best, values = facts.best_epoch(name, direction), facts.values(name)
    if facts.selected or facts.exported is None or best is None or best == facts.exported:
        return ""
    value, exported = values[best - 1], values[facts.exported - 1]
    worse = abs(exported - value) > (_WORSE_SHARE if direction == "max" else 2 * _WORSE_SHARE * abs(value))
    if not worse:
        return ""
    return (
        f"--config.keep_best 1: {name} was best in epoch {best}, {number_text(value)}, and is {number_text(exported)} in the "
        "exported one"
    )


def began_with_random_weights(facts: Facts) -> str:
    """The family has published weights, and the model began with random ones."""
    return f"--model.weights {facts.published}: the model began with random weights" if facts.published else ""


def weights_are_on_this_machine(facts: Facts) -> str:
    """Few images were learned from random weights, and another model has published weights that need no download."""
    if not facts.transfer or not 0 < sum(facts.class_counts) < _FEW_IMAGES:
        return ""
    model, weights = facts.transfer
    return (
        f"--model {model} --model.weights {weights}: these published weights are on this machine, and the model learned "
        f"{sum(facts.class_counts):,} images from random weights"
    )


def ended_too_early(facts: Facts) -> str:
    """The last of all epochs was the best one, so more epochs may be better."""
    name, direction = facts.monitor
    done = len(facts.history)
    if not done or done < facts.epochs or facts.best_epoch(name, direction) != done:
        return ""
    if facts.options.get("closed_form") or facts.options.get("schedule", "constant") != "constant":
        return ""
    if not _still_learns(facts):
        return ""
    return f"--config.epochs {max(2 * done, 5)}: {name} was still best in the last of {_epochs(done)}"


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count != 1)}"


def _still_learns(facts: Facts) -> bool:
    """Whether the loss of the validation split, or else of training, fell in the last epoch."""
    losses = facts.values("val_loss") or facts.values("loss")
    return len(losses) < 2 or losses[-1] < losses[-2]


def texts_are_cut(facts: Facts) -> str:
    """Many texts are longer than the model's input."""
    if facts.full is None or facts.full[0] < _CUT or "max_length" not in facts.arguments:
        return ""
    share, length = facts.full
    if facts.arguments.get("weights") and 2 * length > _POSITIONS:
        return ""  # published weights have no more positions
    return (
        f"--model.max_length {2 * length}: {share:.0%} of the training texts fill all {length} tokens, and may be cut"
    )


def classes_are_unbalanced(facts: Facts) -> str:
    """Rare classes are recognised worse than frequent ones."""
    counts = [count for count in facts.class_counts if count]
    if len(counts) < 2 or facts.macro_recall is None or facts.accuracy is None:
        return ""
    rare = max(counts) >= UNBALANCED * min(counts) and facts.accuracy - facts.macro_recall >= _RECALL_GAP
    if not rare or facts.options.get("class_weights") is not None:
        return ""
    return (
        f"--config.class_weights balanced: the classes have {min(counts):,} to {max(counts):,} training examples, and their "
        f"mean recall on validation, {facts.macro_recall:.4f}, is below the accuracy, {facts.accuracy:.4f}"
    )


def only_the_last_layer_was_solved(facts: Facts) -> str:
    """Published weights were frozen, and there are enough examples to train them as well."""
    if not facts.options.get("closed_form") or not facts.arguments.get("weights"):
        return ""
    if sum(facts.class_counts) < _ENOUGH:
        return ""
    return (
        "--config.closed_form false --config.head_first true: the last layer alone was fitted; this trains the published "
        "weights after it"
    )


def learned_by_heart(facts: Facts) -> str:
    """The model is much better on its training examples than on validation."""
    if facts.exported is None or not facts.history or facts.options.get("closed_form"):
        return ""
    row = facts.history[facts.exported - 1]
    if "accuracy" in row and "val_accuracy" in row:
        apart, name = row["accuracy"] - row["val_accuracy"] >= _GAP, "accuracy"
    else:
        apart, name = 0 < _LOSSES * row.get("loss", 0.0) < row.get("val_loss", 0.0), "loss"
    option = _against_over_fitting(facts) if apart else ""
    if not option:
        return ""
    figures = f"{number_text(row[name])} on training examples, {number_text(row[f'val_{name}'])} on validation"
    return f"{option}: the model is over-fitted, {name} {figures}"


def _against_over_fitting(facts: Facts) -> str:
    if facts.options.get("closed_form"):  # nothing was trained, so neither augmentation nor dropout has an effect
        return ""
    if facts.image_sizes is not None and not facts.options.get("augmentation"):
        return "--config.augmentation '[\"crop\"]'"
    dropout = facts.arguments.get("dropout")
    if isinstance(dropout, (int, float)) and not isinstance(dropout, bool) and dropout < 0.5:
        return f"--model.dropout {min(0.5, round(dropout + 0.2, 2)):g}"
    return ""


def images_are_small(facts: Facts) -> str:
    """The images have much more pixels than the model gets."""
    if facts.image_sizes is None or "input_shape" not in facts.arguments:
        return ""
    own, used = facts.image_sizes
    if min(o / u for o, u in zip(own, used, strict=True)) < _SMALLER or max(used) >= _LARGEST_SIDE:
        return ""
    height, width = (min(2 * side, _LARGEST_SIDE) for side in used)
    channels = facts.arguments["input_shape"][-1]
    return (
        f"--model.input_shape '[{height}, {width}, {channels}]': the images have {own[0]} x {own[1]} pixels, the model gets "
        f"{used[0]} x {used[1]}"
    )


RULES: Sequence[Callable[[Facts], str]] = (
    began_with_random_weights,
    weights_are_on_this_machine,
    earlier_was_better,
    ended_too_early,
    texts_are_cut,
    classes_are_unbalanced,
    only_the_last_layer_was_solved,
    learned_by_heart,
    images_are_small,
)
"""The rules, the surest first."""
