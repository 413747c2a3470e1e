"""Which epoch was exported, and why."""

from __future__ import annotations

from zoo.conclusions.facts import Facts
from zoo.display import number_text


def describe_exported(facts: Facts) -> str:
    """Returns a phrase on the weights that were evaluated and exported.

    Example:
        >>> describe_exported(Facts(history=[{"epoch": 1, "val_loss": 0.5}], epochs=1, exported=1))
        'epoch 1 of 1, the last one'
    """
    if facts.options.get("closed_form"):
        return "the closed-form solution, without epochs"
    if facts.exported is None:
        return "the weights that the run began with"
    done = len(facts.history)
    name, _ = facts.monitor
    average = "; the moving average of the weights" if facts.options.get("ema_momentum") is not None else ""
    if done < facts.epochs:
        patience, best = facts.options.get("patience"), facts.best_epoch(*facts.monitor)
        if patience is not None and (best is None or done - best >= patience):
            why = f"patience {patience}"
        else:
            why = "a callback" if facts.options.get("time_limit") is None else "the time limit"
        ended = f"; {why} ended the training after {done} of {facts.epochs}"
    else:
        ended = ""
    if not facts.selected:
        return f"epoch {facts.exported} of {done}, the last one{average}{ended}"
    values = facts.values(name)
    value = f", {number_text(values[facts.exported - 1])}" if values else ""
    return f"epoch {facts.exported} of {done}, with the best {name}{value}{average}{ended}"
