"""The one way from a fitted classifier to class probabilities, and classifiers that leave no row undecided.

One classifier for each class (liblinear's, SGD's) can give every class of a row a probability that rounds to 0, on
vectors far from all training rows. scikit-learn then answers zeros, NaN or equal shares, each estimator in its own
way. Here such a row has equal shares, as in scikit-learn's CalibratedClassifierCV and in its modified Huber loss:
nothing in the row speaks for any class, and a confidence of 1 / K says so, where shares of the training rows would pass
for knowledge about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV, _CalibratedClassifier, _SigmoidCalibration, _TemperatureScaling
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline

# What scikit-learn's CalibratedClassifierCV fits for a method; for isotonic it is the public IsotonicRegression.
CALIBRATORS = {"sigmoid": _SigmoidCalibration, "temperature": _TemperatureScaling}


def class_probabilities(classifier: Any, classes: Sequence[Any], vectors: np.ndarray) -> np.ndarray:
    """Probabilities float64 (n, K) in the order of `classes`; 0 for a class that the classifier never saw.

    An undecided row (all zeros or not finite, of a classifier that `decided` did not make) has equal shares.
    """
    places = {str(label): place for place, label in enumerate(classes)}
    table = np.zeros((len(vectors), len(classes)))
    if len(vectors):
        shares = np.asarray(classifier.predict_proba(vectors), dtype=np.float64)
        undecided = ~np.isfinite(shares).all(axis=1) | (shares.sum(axis=1) == 0)
        shares[undecided] = 1.0 / shares.shape[1]
        table[:, [places[str(label)] for label in classifier.classes_]] = shares
    return table


def decided(classifier: Any) -> Any:
    """The fitted `classifier`, wrapped where it could leave a row undecided; otherwise the same probabilities.

    A plain scikit-learn estimator, so that whoever loads it alone (the downstream system) gets the same answers too.
    Members of an ensemble, and what follows a choice of features, are replaced within it.
    """
    last = classifier[-1] if isinstance(classifier, Pipeline) else classifier
    if isinstance(last, VotingClassifier | StackingClassifier):
        last.estimators_ = [decided(member) for member in last.estimators_]
        names = [name for name, _ in last.estimators]
        for name, member in zip(names, last.estimators_, strict=True):
            last.named_estimators_[name] = member
        return classifier
    if not _answers_class_by_class(last):
        return classifier
    if isinstance(last, OneVsRestClassifier):
        if last is classifier:
            classifier = _joined(last)
        else:
            classifier.steps[-1] = (classifier.steps[-1][0], _joined(last))
    # CalibratedClassifierCV divides with the rule above. A calibration of slope -1 and offset 0 is the plain logistic
    # function of the score, which both estimators use themselves.
    plain = CALIBRATORS["sigmoid"]()
    plain.a_, plain.b_ = -1.0, 0.0
    return assembled(classifier, "sigmoid", [plain] * len(classifier.classes_))


def assembled(classifier: Any, method: str, calibrators: Sequence[Any]) -> CalibratedClassifierCV:
    """A fitted classifier with fitted calibrators behind it, as CalibratedClassifierCV would have made it.

    Args:
        method: of CalibratedClassifierCV.
        calibrators: scikit-learn's, one for `temperature` and for two classes, else one for each class.
    """
    wrapped = CalibratedClassifierCV(classifier, method=method, ensemble=False)
    part = _CalibratedClassifier(classifier, list(calibrators), classes=classifier.classes_, method=method)
    wrapped.calibrated_classifiers_ = [part]
    wrapped.classes_ = classifier.classes_
    wrapped.n_features_in_ = classifier.n_features_in_
    return wrapped


def bare(classifier: Any) -> Any:
    """The classifier that `decided` or `assembled` wrapped; any other as it is."""
    # No family of ours makes one with ensemble=False.
    if isinstance(classifier, CalibratedClassifierCV) and classifier.ensemble is False:
        return classifier.calibrated_classifiers_[0].estimator
    return classifier


def uncalibrated(classifier: Any) -> Any:
    """What a calibrated classifier answers without its calibrators; one without any is given back as it is."""
    inner = bare(classifier)
    plain = inner if inner is classifier else decided(inner)
    # Of one that `decided` alone wrapped, the same wrapping has been made anew.
    return classifier if _is_plain(classifier) else plain


def _is_plain(classifier: Any) -> bool:
    """Whether `decided` made it."""
    if bare(classifier) is classifier or classifier.method != "sigmoid":
        return False
    parts = classifier.calibrated_classifiers_[0].calibrators
    return all(part.a_ == -1.0 and part.b_ == 0.0 for part in parts)


def _answers_class_by_class(classifier: Any) -> bool:
    if isinstance(classifier, LogisticRegression):  # more classes than liblinear fits: made by `_joined`
        return classifier.solver == "liblinear" and len(classifier.classes_) > 2
    return isinstance(classifier, OneVsRestClassifier | SGDClassifier) and len(classifier.classes_) > 2


def _joined(classifier: OneVsRestClassifier) -> LogisticRegression:
    """The same scores by one matrix product, where one-vs-rest asks an estimator for each class."""
    members = classifier.estimators_
    joined = LogisticRegression(**members[0].get_params())
    joined.coef_ = np.vstack([member.coef_ for member in members])
    joined.intercept_ = np.concatenate([member.intercept_ for member in members])
    joined.n_iter_ = np.concatenate([member.n_iter_ for member in members])
    joined.classes_ = classifier.classes_
    joined.n_features_in_ = classifier.n_features_in_
    return joined
