"""What labels are worth: the product's default, the textbook's pipeline and random labels, paired by seed.

Sessions run through the functions that the product calls (`plan`, `learn`), audits and rounds included, with one
default for all data sets. Tuning was done on random re-splits of digits and on MNIST; the book's split of digits
and Banking77 are the check.

    .venv/bin/python benchmarks/accuracy.py [--seeds 10] [--only digits mnist ...]   (data: EXEMPLAR_BENCH_DATA)

Writes benchmarks/results/accuracy.csv, where what this run left out stays, and docs/learning-curves.png.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from data import Split, banking, digits, digits_of_the_book, is_there, mnist, one_rare_class
from data import split as split_of_rows
from features import PARTS, vectors
from machine import describe
from matplotlib.figure import Figure
from scipy import stats
from sessions import (
    answers_of,
    ask,
    learned_from,
    pool_accuracy,
    test_classes,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from exemplar.engine import (
    cluster,
    cluster_shares,
    fit_classifier,
    node_shares,
    representatives,
    survey,
    suspicion,
)

ROOT = Path(__file__).parent.parent
METHODS = ("ours", "textbook", "random + logistic")
BUDGETS = {
    "digits, book": [10, 12, 15, 20, 25, 30, 40, 50],
    "digits, re-splits": [10, 15, 20, 30, 40, 50],
    "mnist": [20, 50, 100],
    "banking": [77, 154, 385],
    "rare": [20, 50],
    "clipart, as seen": [50, 100],
    "fashion, as seen": [50, 100],
    "banking, as seen": [77, 154, 385],
    "stdlib, as seen": [50, 100, 200],
}
# The share of a set that is the pool, where it brings no test set.
POOL = 0.7
COLUMNS = ["set", "method", "seed", "labels", "test", "pool"]
Row = dict[str, object]
rows: list[Row] = []


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--only", nargs="*", default=[*BUDGETS, "noise"])
    options.add_argument("--methods", nargs="*", default=[*METHODS])
    given = options.parse_args()
    print(describe("scikit-learn", "numpy", "scipy"), "\n")
    with threadpool_limits(1):
        for name, (there, split_of, n_seeds) in splits(given.seeds).items():
            if name in given.only and is_there(there):
                compare(name, split_of, range(n_seeds), given.methods)
        if "noise" in given.only:
            noise(range(given.seeds))
    write()


def splits(n_seeds: int) -> dict[str, tuple[str, Callable[[int], Split], int]]:
    return {
        "digits, book": ("digits", lambda seed: digits_of_the_book(), n_seeds),
        "digits, re-splits": ("digits", digits, n_seeds),
        "mnist": ("mnist", mnist, n_seeds),
        "banking": ("banking77", lambda seed: banking(), n_seeds),
        "rare": ("digits", one_rare_class, n_seeds),
        "clipart, as seen": ("clipart", partial(as_seen, "pictures", "clipart"), n_seeds),
        "fashion, as seen": ("fashion", partial(as_seen, "pictures", "fashion 3000"), n_seeds),
        "banking, as seen": ("banking77", partial(as_seen, "texts", "banking77"), n_seeds),
        "stdlib, as seen": ("digits", partial(as_seen, "texts", "stdlib"), n_seeds),
    }


def as_seen(part: str, name: str, seed: int) -> Split:
    """Return photos or texts as the product's default sees them, pool and test drawn at random."""
    X, y = _seen(part, name)
    return split_of_rows(X, y, round(POOL * len(y)), seed)


@cache
def _seen(part: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    given = PARTS[part].sets()[name][1]()
    return vectors(PARTS[part].kind, given.values, "auto", {}), given.y


# ── Learning curves ──────────────────────────────────────────────────────────────────────────────────────


def compare(name: str, split_of: Callable[[int], Split], seeds: Sequence[int], methods: Sequence[str]) -> None:
    budgets = BUDGETS[name]
    found = {
        method: np.array([session(name, method, split_of(seed), seed) for seed in seeds]) for method in methods
    }
    measure = "F1 of the rare class" if name == "rare" else "accuracy"
    print(f"{name}: {measure} in %, test / pool, mean ± std of {len(seeds)} seeds")
    for method, values in found.items():
        cells = [
            f"{budget}: {100 * test.mean():.1f} ± {100 * test.std():.1f} / {100 * pool.mean():.1f}"
            for budget, (test, pool) in zip(budgets, values.transpose(1, 2, 0), strict=True)
        ]
        print(f"  {method:18}", "   ".join(cells))
    best = found.get("ours")
    for method, values in found.items():
        if best is not None and method != "ours":
            low, high = _interval(100 * (best[:, -1, 0] - values[:, -1, 0]))
            print(f"  ours - {method}, paired, test at {budgets[-1]}: {low:+.1f} to {high:+.1f} (95 %)")
    if name == "digits, book" and best is not None:
        goals(split_of(0), best, budgets)
    print(flush=True)


def session(name: str, method: str, split: Split, seed: int) -> list[tuple[float, float]]:
    """Return test and pool accuracy (F1 of the rare class) at each budget of one session."""
    values = []
    classes_at = SESSIONS[method](split, max(BUDGETS[name]), seed)
    for budget in BUDGETS[name]:
        test, pool = classes_at(budget)
        if name == "rare":
            values.append((f1_score(split.y_test, test), f1_score(split.y, pool)))
        else:
            values.append((float(np.mean(test == split.y_test)), float(np.mean(pool == split.y))))
        rows.append(
            {
                "set": name,
                "method": method,
                "seed": seed,
                "labels": budget,
                "test": values[-1][0],
                "pool": values[-1][1],
            }
        )
    return values


ClassesAt = Callable[[int], tuple[np.ndarray, np.ndarray]]


def ours(split: Split, most: int, seed: int) -> ClassesAt:
    geometry = survey(split.X, random_state=seed)
    asked = ask(geometry, split.y, split.n_classes, most, seed=seed)

    def classes_at(budget: int) -> tuple[np.ndarray, np.ndarray]:
        learned = learned_from(geometry, split.y, asked[:budget], split.n_classes)
        return test_classes(geometry, learned, split.X_test), learned.choices

    return classes_at


def textbook(split: Split, most: int, seed: int) -> ClassesAt:
    """As many clusters as labels, their representatives' labels to all members, logistic regression."""

    def classes_at(budget: int) -> tuple[np.ndarray, np.ndarray]:
        nobody = np.zeros(len(split.y), bool)
        clusters = cluster(split.X, n_clusters=budget, random_state=seed)
        asked = representatives(clusters, askable=~nobody, settled=nobody)
        shares = answers_of(split.y, asked, split.n_classes).shares
        pool = cluster_shares(clusters, shares).argmax(axis=1)
        classifier = fit_classifier(split.X, pool)
        if classifier is None:
            return np.full(len(split.y_test), pool[0]), pool
        return classifier.predict_proba(split.X_test, n_classes=split.n_classes).argmax(axis=1), pool

    return classes_at


def at_random(split: Split, most: int, seed: int) -> ClassesAt:
    """What one does without any of this."""
    asked = np.random.default_rng(seed).permutation(len(split.y))[:most]

    def classes_at(budget: int) -> tuple[np.ndarray, np.ndarray]:
        known = asked[:budget]
        classifier = fit_classifier(split.X[known], split.y[known])
        if classifier is None:
            return np.full(len(split.y_test), split.y[known[0]]), np.full(len(split.y), split.y[known[0]])
        found = [
            classifier.predict_proba(X, n_classes=split.n_classes).argmax(axis=1) for X in (split.X_test, split.X)
        ]
        found[1][known] = split.y[known]
        return found[0], found[1]

    return classes_at


SESSIONS = {"ours": ours, "textbook": textbook, "random + logistic": at_random}


def goals(split: Split, found: np.ndarray, budgets: Sequence[int]) -> None:
    """Print how many labels reach what all labels give logistic regression, and 95 %."""
    scale = split.X.std(axis=0).mean()
    all_labels = LogisticRegression(max_iter=1000).fit(split.X / scale, split.y)
    ceiling = all_labels.score(split.X_test / scale, split.y_test)
    print(f"  all {len(split.y)} labels, logistic regression: {100 * ceiling:.1f}")
    means = found[:, :, 0].mean(axis=0)
    for goal in (0.909, ceiling, 0.95):
        reached = [budget for budget, mean in zip(budgets, means, strict=True) if mean >= goal]
        shares = (found[:, :, 0] >= goal).mean(axis=0)
        said = ", ".join(f"{budget}: {share:.0%}" for budget, share in zip(budgets, shares, strict=True))
        print(f"  {100 * goal:.1f} % on average with {min(reached, default='more')} labels; share of seeds: {said}")


def _interval(differences: np.ndarray) -> tuple[float, float]:
    if differences.std() == 0:
        return float(differences[0]), float(differences[0])
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean() - half), float(differences.mean() + half)


# ── Wrong answers ────────────────────────────────────────────────────────────────────────────────────────


def noise(seeds: Sequence[int], *, budget: int = 100, share: float = 0.1, asked_again: float = 0.2) -> None:
    """Print what wrong answers cost, and what asking the most suspicious labels again brings back."""
    found = np.array([_noisy(digits(seed), seed, budget, share, asked_again) for seed in seeds])
    print(f"digits, {budget} labels, {share:.0%} of them wrong; asked again: {asked_again:.0%} (pool / test, %)")
    for name, values in zip(
        ("clean", "with wrong answers", "after asking again"), found.transpose(1, 2, 0)[:3], strict=True
    ):
        print(f"  {name:20} {100 * values[0].mean():.1f} / {100 * values[1].mean():.1f}")
    low, high = _interval(100 * (found[:, 0, 0] - found[:, 2, 0]))
    print(f"  clean - asked again, pool, paired: {low:+.2f} to {high:+.2f} points (95 %)")
    print(f"  wrong answers found: {found[:, 3, 0].mean():.0%}\n", flush=True)


def _noisy(split: Split, seed: int, budget: int, share: float, asked_again: float) -> list[tuple[float, float]]:
    geometry = survey(split.X, random_state=seed)
    asked = np.array(ask(geometry, split.y, split.n_classes, budget, seed=seed))
    rng = np.random.default_rng(seed)
    wrong = rng.choice(asked, round(share * budget), replace=False)
    said = split.y.copy()
    said[wrong] = (said[wrong] + rng.integers(1, split.n_classes, len(wrong))) % split.n_classes
    again = _most_suspicious(geometry, said, asked, split.n_classes, round(asked_again * budget))
    corrected = said.copy()
    corrected[again] = split.y[again]
    values = []
    for y in (split.y, said, corrected):
        learned = learned_from(geometry, y, asked, split.n_classes)
        test = test_classes(geometry, learned, split.X_test)
        values.append((pool_accuracy(learned, split.y), float(np.mean(test == split.y_test))))
    return [*values, (float(np.isin(wrong, again).mean()), 0.0)]


def _most_suspicious(geometry, said: np.ndarray, asked: np.ndarray, n_classes: int, n: int) -> np.ndarray:
    answers = answers_of(said, asked, n_classes)
    learned = learned_from(geometry, said, asked, n_classes)
    Y = node_shares(geometry, answers.shares)[learned.inference.columns.nodes]
    scores = suspicion(learned.inference.columns.among_labeled(), Y)
    of_node = dict(zip(learned.inference.columns.nodes.tolist(), scores, strict=True))
    by_row = np.array([of_node[node] for node in geometry.graph.node_of[asked].tolist()])
    return asked[np.argsort(-by_row, kind="stable")[:n]]


# ── Output ───────────────────────────────────────────────────────────────────────────────────────────────


def write() -> None:
    path = Path(__file__).parent / "results" / "accuracy.csv"
    path.parent.mkdir(exist_ok=True)
    rows.extend(_of_other_runs(path))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    shown = [name for name in BUDGETS if name != "rare" and any(row["set"] == name for row in rows)]
    if not shown:
        return
    n_columns = min(4, len(shown))
    n_lines = -(-len(shown) // n_columns)
    figure = Figure(figsize=(4 * n_columns, 3.6 * n_lines), layout="constrained")
    for axes, name in zip(np.ravel(figure.subplots(n_lines, n_columns)), shown, strict=False):
        draw(axes, name)
    figure.savefig(ROOT / "docs" / "learning-curves.png", dpi=110)


def _of_other_runs(path: Path) -> list[Row]:
    """Return the rows of sets and methods that this run left out."""
    if not path.exists():
        return []
    measured = {(row["set"], row["method"]) for row in rows}
    numbers = {"seed": int, "labels": int, "test": float, "pool": float}
    with path.open(newline="") as file:
        before = [{name: numbers.get(name, str)(row[name]) for name in COLUMNS} for row in csv.DictReader(file)]
    return [row for row in before if (row["set"], row["method"]) not in measured]


def draw(axes, name: str) -> None:
    for method in [*METHODS, *best_peer(name)]:
        values = test_accuracies(name, method)
        if values.size == 0:
            continue
        mean, std = 100 * values.mean(axis=1), 100 * values.std(axis=1)
        axes.plot(BUDGETS[name], mean, marker="o", markersize=3, label=method)
        axes.fill_between(BUDGETS[name], mean - std, mean + std, alpha=0.2)
    axes.set(title=name, xlabel="labels", ylabel="test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def test_accuracies(name: str, method: str) -> np.ndarray:
    """Return the test accuracies of a method, a row for each budget."""
    mine = [row for row in rows if (row["set"], row["method"]) == (name, method)]
    return np.array([[row["test"] for row in mine if row["labels"] == budget] for budget in BUDGETS[name]], float)


def best_peer(name: str) -> list[str]:
    """Return the peer that is best on average over all budgets, if peers.py has measured any."""
    peers = sorted({str(row["method"]) for row in rows if row["set"] == name} - set(METHODS))
    return [max(peers, key=lambda method: test_accuracies(name, method).mean())] if peers else []


if __name__ == "__main__":
    main()
