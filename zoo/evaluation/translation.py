"""Report of translations: BLEU and chrF, next to a nearest-sentence baseline."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from zoo.errors import UsageError
from zoo.evaluation.intervals import bootstrap, with_interval
from zoo.evaluation.reports import Figure, Report, ReportKind, raw_examples, register_report
from zoo.kernels import traced
from zoo.registry import get_spec

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

_CHUNK = 256


def translation_report(
    sources: Sequence[str],
    references: Sequence[str],
    answers: Sequence[str],
    *,
    train_sources: Sequence[str],
    train_references: Sequence[str],
    num_samples: int = 8,
) -> dict[str, Any]:
    """Compares a model's translations with references, next to a baseline that only memorises.

    The baseline, `nearest`, returns the translation of the training sentence whose words and letters are most similar to the
    source. A model that does not beat it has not learned to translate. BLEU and chrF are those of sacrebleu with default
    settings (cased, tokens of mteval-v13a, one reference), 0 to 100. Sources: Papineni et al., BLEU, ACL 2002; Popović,
    chrF, WMT 2015; Post, A call for clarity in reporting BLEU scores, WMT 2018.

    Args:
        sources: the source texts.
        references: the human translations.
        answers: the model's translations.
        train_sources: source texts of the training split; empty for a report without the baseline.
        train_references: their translations.
        num_samples: number of examples to include, spread evenly over all.

    Returns:
        `bleu` and `chrf`, `exact_match` (share of translations equal to the reference, without white space at the ends),
        `num_examples`, `signature` (sacrebleu's, with the settings of BLEU), `samples` (source, reference, answer), and
        `baseline`: {"name": "nearest", "bleu", "chrf", "exact_match"}, None without training sentences.

    Raises:
        UsageError: lists have different lengths, or there are no examples.

    Example:
        >>> report = translation_report(["Go."], ["Va !"], ["Va !"], train_sources=["Go!"], train_references=["Allez !"])
        >>> report["exact_match"], report["baseline"]["exact_match"]
        (1.0, 0.0)
    """
    if not sources:
        raise UsageError("There is no translation to compare. Pass at least one example.")
    if not len(sources) == len(references) == len(answers):
        raise UsageError(
            f"received {len(sources)} sources, {len(references)} references and {len(answers)} translations; expected the "
            "same number of each. Pass lists of the same length."
        )
    if len(train_sources) != len(train_references):
        raise UsageError(
            f"received {len(train_sources)} training sources and {len(train_references)} references; expected the same "
            "number of each. Pass lists of the same length."
        )
    from sacrebleu.metrics import BLEU

    bleu = BLEU()
    scores = _scores(references, answers)
    bleu.corpus_score(list(answers), [list(references)])
    baseline = None
    if train_sources:
        nearest = nearest_answers(sources, train_sources, train_references)
        baseline = {"name": "nearest", **_scores(references, nearest)}
    shown = np.unique(np.linspace(0, len(sources) - 1, num_samples).round().astype(int))
    samples = [{"source": sources[i], "reference": references[i], "answer": answers[i]} for i in shown]
    return {
        **scores,
        "num_examples": len(sources),
        "signature": str(bleu.get_signature()),
        "baseline": baseline,
        "samples": samples,
    }


def _scores(references: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    from sacrebleu.metrics import BLEU, CHRF

    same = [a.strip() == r.strip() for a, r in zip(answers, references, strict=True)]
    return {
        "bleu": float(BLEU().corpus_score(list(answers), [list(references)]).score),
        "chrf": float(CHRF().corpus_score(list(answers), [list(references)]).score),
        "exact_match": float(np.mean(same)),
    }


def translation_intervals(references: Sequence[str], answers: Sequence[str]) -> dict[str, list[float]]:
    """Returns 95 % bootstrap intervals of `bleu` and `chrf`, with sacrebleu's counts of every sentence.

    Example:
        >>> translation_intervals(["Va !", "Allez-y !"], ["Va !", "Allez !"])["chrf"][1]
        100.0
    """
    from sacrebleu.metrics import BLEU, CHRF

    found: dict[str, list[float]] = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        # sacrebleu's own resampling holds the counts of all samples at once; these methods are what it is made of.
        counts = np.array(metric._extract_corpus_statistics(list(answers), [list(references)]), np.float64)

        def statistics(drawn: NDArray[np.float64], name: str = name, metric: Any = metric, counts: Any = counts) -> Any:
            return {name: np.array([metric._compute_score_from_stats(row).score for row in drawn @ counts])}

        found |= bootstrap(len(counts), statistics)
    return found


def nearest_answers(sources: Sequence[str], train_sources: Sequence[str], train_references: Sequence[str]) -> list[str]:
    """Returns the translation of the nearest training sentence for every source; ties go to the first.

    The similarity is the cosine of TF-IDF vectors of words and of two to four letters in words, with equal weights.

    Example:
        >>> nearest_answers(["I run."], ["I ran.", "You eat."], ["J'ai couru.", "Tu manges."])
        ["J'ai couru."]
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    first = dict(zip(reversed(train_sources), reversed(train_references), strict=True))
    known = list(dict.fromkeys(train_sources))
    # Punctuation marks are words, so that a sentence of only marks has neighbours, and questions are near to questions.
    vectorizers = [
        TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", dtype=np.float32),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, dtype=np.float32),
    ]
    try:
        table = sparse.hstack([v.fit_transform(known) for v in vectorizers]).T.tocsr()
    except ValueError:  # no training sentence has a word: all are equally near
        return [first[known[0]]] * len(sources)
    answers = []
    for i in range(0, len(sources), _CHUNK):
        rows = sparse.hstack([v.transform(sources[i : i + _CHUNK]) for v in vectorizers]).tocsr()
        likeness = (rows @ table).toarray()
        answers += [first[known[j]] for j in likeness.argmax(axis=1)]
    return answers


def summary(report: Mapping[str, Any]) -> str:
    """Returns the main metrics as a line of text.

    Example:
        >>> summary({"bleu": 41.3, "chrf": 60.2, "exact_match": 0.3, "num_examples": 500, "baseline": None})
        'BLEU 41.3, chrF 60.2, 30.0 % equal to the reference, on 500 examples'
    """
    text = (
        f"BLEU {with_interval(report, 'bleu', '.1f')}, chrF {with_interval(report, 'chrf', '.1f')}, "
        f"{100 * report['exact_match']:.1f} % equal to the reference, "
        f"on {report['num_examples']} examples"
    )
    if (baseline := report.get("baseline")) is not None:
        text += f" (nearest training sentence: BLEU {baseline['bleu']:.1f}, chrF {baseline['chrf']:.1f})"
    return text


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    # The report scores the outputs of `serving_default`, not the next token after the right ones.
    preprocessor: Any = data.preprocessor
    head = get_spec(data.model).functions[data.task.signatures["serving_default"].head](model)

    @functools.partial(traced, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def translate(texts: tf.Tensor) -> tf.Tensor:
        return preprocessor.to_text(head(*preprocessor.serve({"text": texts}))["token_ids"])

    def pairs(name: str) -> tuple[list[str], list[str]]:
        examples = list(raw_examples(data, name))
        return tuple([e[key].decode("utf-8", "replace") for e in examples] for key in ("text", "translation"))  # type: ignore[return-value]

    sources, references = pairs(split)
    # Similar lengths together, because the cost of a batch depends on its longest sentence.
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    answers = [""] * len(sources)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        answered = translate(tf.constant([sources[i] for i in places])).numpy()
        for place, answer in zip(places, answered, strict=True):
            answers[place] = answer.decode("utf-8", "replace")
    train_sources, train_references = pairs("train")
    report = translation_report(
        sources, references, answers, train_sources=train_sources, train_references=train_references
    )
    return {**report, "intervals": translation_intervals(references, answers)}


def _headline(report: Report) -> list[Figure]:
    name = "translation of the nearest training sentence"
    return [
        Figure(metric, report[key], name, report["baseline"][key], key=key)
        for metric, key in (("BLEU", "bleu"), ("chrF", "chrf"))
    ]


register_report("translation", ReportKind(_compute, summary, _headline))
