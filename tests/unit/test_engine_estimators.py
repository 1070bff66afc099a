"""The estimators keep scikit-learn's conventions; what is excepted has its reason."""

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from exemplar.engine import BigKMeans, PropagationClassifier

DIGITS, TRUTH = load_digits(return_X_y=True)


def excepted(estimator: Any) -> dict[str, str]:
    if isinstance(estimator, PropagationClassifier):
        reason = "it takes -1 for a class; here it means unlabelled, as in scikit-learn's LabelSpreading"
        return {"check_classifiers_classes": reason}
    return {}


@parametrize_with_checks([PropagationClassifier(), BigKMeans()], expected_failed_checks=excepted)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_takes_it_for_one_of_its_own(estimator: Any, check: Any) -> None:
    check(estimator)


def test_fifty_labels_label_the_digits() -> None:
    y = np.full(len(TRUTH), -1)
    asked = np.random.default_rng(0).permutation(len(y))[:50]
    y[asked] = TRUTH[asked]
    model = PropagationClassifier().fit(DIGITS, y)
    assert (model.transduction_ == TRUTH).mean() > 0.85
    assert (model.transduction_[asked] == TRUTH[asked]).all()


def test_without_any_label_there_is_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="-1 only"):
        PropagationClassifier().fit([[0], [1]], [-1, -1])


def test_clusters_are_as_good_as_scikit_learns() -> None:
    ours = BigKMeans(30).fit(DIGITS)
    theirs = KMeans(30, n_init=3, random_state=0).fit(DIGITS)
    assert ours.inertia_ < 1.01 * theirs.inertia_
    np.testing.assert_array_equal(ours.predict(DIGITS), ours.labels_)
