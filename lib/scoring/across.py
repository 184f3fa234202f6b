"""Score a trained model on single corpora, also on those without training clips."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.core.errors import SettingError
from lib.core.targets import TargetGroup
from lib.scoring import baselines
from lib.scoring.baselines import JOINT, predict_out_of_fold_ridge
from lib.scoring.corpus_scores import COLUMNS, CorpusClips, align_ranks, score_corpus
from lib.scoring.evaluation import Evaluation, Predictions, select_labels
from lib.scoring.reliability import find_reliability, read_error_variance
from lib.scoring.settings import RANK, Align, Settings

_LEFT_OUT = ("median_predictor", "video_lookup", "shrunk_video_lookup", *JOINT[1:])


def select_corpora(evaluation: Evaluation, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the clips on which each corpus is scored: those of the scored split, or all if the model was not trained on it.

    Raises SettingError for a corpus without a usable clip.
    """
    trained_on, tables = evaluation.trained.training.corpora, {}
    for name in names:
        table = evaluation.scored_clips if name in trained_on else evaluation.usable
        tables[name] = table[table["corpus"] == name].reset_index(drop=True)
        if tables[name].empty:
            raise SettingError(
                f"evaluate.on has {name!r}, which has no usable clip; allowed: corpora of data/clips.csv with such clips,"
                f" {', '.join(sorted(set(evaluation.usable['corpus'])))}. Correct evaluate.on, or the corpus' split"
            )
    return tables


def score_corpora(
    evaluation: Evaluation,
    tables: Mapping[str, pd.DataFrame],
    vectors: Mapping[str, pd.DataFrame],
    settings: Settings,
) -> pd.DataFrame:
    """Return the rows of `score_corpus` for each target group and corpus; none without `tables` (`select_corpora`).

    vectors: as for the baselines.
    """
    rows = []
    predicted = evaluation.predict_clips(tables)
    for targets in evaluation.trained.targets if tables else ():
        for corpus, clips in gather_corpora(evaluation, tables, predicted, targets, vectors, settings.align):
            table = score_corpus(clips, settings.bootstrap)
            rows.append(table.assign(targets=targets, corpus=corpus, trained=clips.trained)[[*COLUMNS]])
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=COLUMNS)


def gather_corpora(
    evaluation: Evaluation,
    tables: Mapping[str, pd.DataFrame],
    predicted: Predictions,
    targets: str,
    vectors: Mapping[str, pd.DataFrame],
    align: Align,
) -> Iterator[tuple[str, CorpusClips]]:
    """Yield the name and the clips of each corpus that has labels of a target group.

    align: of the labels of corpora that the model was not trained on (`align_ranks`).
    """
    target_group, training = evaluation.trained.targets[targets], evaluation.tables["training"]
    joined = pd.concat([*tables.values()], ignore_index=True)
    fitted = baselines.predict(training, joined, evaluation.tuning_clips, target_group.columns, vectors)
    fitted, _ = baselines.clip_predictions(fitted, target_group.range)
    inputs = select_model_vectors(evaluation, vectors)
    start = 0
    for corpus, table in tables.items():
        rows, start = slice(start, start + len(table)), start + len(table)
        predictions = {"model": predicted[corpus][targets].mean}
        predictions |= {name: values[rows] for name, values in fitted.items() if name not in _LEFT_OUT}
        trained = corpus in evaluation.trained.training.corpora
        actual, errors = select_labels(table, target_group), read_error_variance(table, target_group.columns)
        reliability = find_reliability(actual, errors, target_group)
        if align == RANK and not trained:
            actual = align_ranks(actual, select_labels(training, target_group))
            # the reliability of the ratings is not that of their quantiles
            reliability = np.full(len(target_group.columns), np.nan)
        labelled, columns = np.isfinite(actual).any(1), np.isfinite(actual).any(0)
        if not labelled.any():
            continue
        arrays = table[labelled], actual[labelled], predictions
        within_corpus = {} if trained else _fit_within(*arrays, vectors, inputs, target_group)
        where = np.ix_(labelled, columns)
        yield (
            corpus,
            CorpusClips(
                columns=[name for name, is_labelled in zip(target_group.columns, columns, strict=True) if is_labelled],
                actual=actual[where],
                videos=table["video"].to_numpy()[labelled],
                predictions={name: values[where] for name, values in predictions.items()},
                within_corpus={name: values[:, columns] for name, values in within_corpus.items()},
                trained=trained,
                span=target_group.span,
                reliability=reliability[columns],
            ),
        )


def select_model_vectors(evaluation: Evaluation, vectors: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """Return the vectors that the model's encoders read, joined; None if an encoder reads no vectors."""
    settings_by_encoder = evaluation.trained.network.settings_by_encoder
    references = dict.fromkeys(reference for settings in settings_by_encoder.values() for reference in settings.reads)
    if not references or not references.keys() <= vectors.keys():
        return None
    return pd.concat([vectors[reference].add_prefix(f"{reference}.") for reference in references], axis=1)


def _fit_within(
    table: pd.DataFrame,
    actual: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    vectors: Mapping[str, pd.DataFrame],
    inputs: pd.DataFrame | None,
    target_group: TargetGroup,
) -> dict[str, np.ndarray]:
    """Return for each predictor the out-of-fold predictions of ridge on the same vectors, fitted to the corpus itself."""
    tables = {f"ridge_{name}": vector for name, vector in vectors.items()} | (
        {} if inputs is None else {"model": inputs}
    )
    fitted = {name: predict_out_of_fold_ridge(table, actual, tables[name]) for name in predictions if name in tables}
    low, high = target_group.range
    return {name: values.clip(low, high) for name, values in fitted.items() if values is not None}
