"""Label spreading: the block solve, the push, the stored columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from sklearn.kernel_ridge import KernelRidge
from sklearn.semi_supervised import LabelSpreading

from exemplar.engine import Columns, Pusher, empty_columns, leave_one_out
from exemplar.engine.propagation import ALPHA, push, spread, spreading
from exemplar.engine.propagation.columns import gp_leave_one_out, gp_weights
from exemplar.engine.propagation.push import column
from exemplar.engine.propagation.spreading import Spreader
from exemplar.errors import InputError


def affinity(W: NDArray[np.float64]) -> sparse.csr_array:
    d = W.sum(axis=1)
    root = np.sqrt(np.where(d > 0, d, 1))
    return sparse.csr_array((W / root / root[:, None]).astype(np.float32))


def exact(S: sparse.csr_array, alpha: float = ALPHA) -> NDArray[np.float64]:
    dense = S.toarray().astype(float)
    return (1 - alpha) * np.linalg.inv(np.eye(len(dense)) - alpha * dense)


def dense_column(n_nodes: int, nodes: NDArray[np.int32], values: NDArray[np.float32]) -> NDArray[np.float32]:
    g = np.zeros(n_nodes, np.float32)
    g[nodes] = values
    return g


def neighbor_graph(n_nodes: int, seed: int = 0) -> sparse.csr_array:
    """Return a self-tuned graph of a few loose groups in the plane."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_nodes, 2)) + 3 * rng.normal(size=(5, 2))[rng.integers(5, size=n_nodes)]
    squared = ((X[:, None] - X) ** 2).sum(axis=2)
    sigma = np.sqrt(np.sort(squared, axis=1)[:, 7])
    W = np.exp(-squared / np.outer(sigma, sigma)) * (squared <= sigma[:, None] ** 2)
    np.fill_diagonal(W, 0)
    return affinity(np.maximum(W, W.T))


def ring(n_nodes: int) -> sparse.csr_array:
    i = np.arange(n_nodes)
    half = np.full(n_nodes, 0.5, np.float32)
    S = sparse.coo_array((half, (i, (i + 1) % n_nodes)), shape=(n_nodes, n_nodes))
    return sparse.csr_array(S + S.T)


@st.composite
def graphs(draw: st.DrawFn) -> sparse.csr_array:
    """Small graphs with weights over ten decades: hubs, several components, nodes without a neighbour."""
    n_nodes = draw(st.integers(1, 12))
    W = np.zeros((n_nodes, n_nodes))
    edges = st.tuples(st.integers(0, n_nodes - 1), st.integers(0, n_nodes - 1), st.floats(-10, 0))
    for i, j, exponent in draw(st.lists(edges, max_size=30)):
        W[i, j] = W[j, i] = 10**exponent
    np.fill_diagonal(W, 0)
    return affinity(W)


alphas = st.sampled_from([0.1, 0.5, ALPHA, 0.99])
seeds = st.integers(0, 2**32 - 1)

PAIR = affinity(np.array([[0.0, 1], [1, 0]]))
# A triangle, a pair and a node without a neighbour.
PARTS = affinity(
    np.array(
        [
            [0, 1, 1, 0, 0, 0],
            [1, 0, 1, 0, 0, 0],
            [1, 1, 0, 0, 0, 0],
            [0, 0, 0, 0, 1, 0],
            [0, 0, 0, 1, 0, 0],
            [0, 0, 0, 0, 0, 0.0],
        ]
    )
)

# ── The block solve ──────────────────────────────────────────────────────────────────────────────────────


def test_two_nodes_by_hand() -> None:
    # (1-α)(I-αS)^-1 = (1-α)/(1-α²) [[1, α], [α, 1]]
    np.testing.assert_allclose(spread(PAIR, np.float32([[1, 0], [0, 1]])) * 1.9, [[1, 0.9], [0.9, 1]], rtol=1e-6)


def test_where_no_label_is_connected_the_scores_are_exactly_zero() -> None:
    F = spread(PARTS, np.float32([[1, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]))
    assert (F[:3, 0] > 0).all() and not F[3:].any() and not F[:, 1].any()


def test_a_node_without_a_neighbour_keeps_its_own_answer() -> None:
    Y = np.zeros((6, 1), np.float32)
    Y[5] = 1
    np.testing.assert_allclose(spread(PARTS, Y), (1 - ALPHA) * Y, rtol=1e-6)


@given(graphs(), alphas, st.sampled_from([0.3, 1e-2, 1e-4, 1e-6]), seeds)
def test_the_error_of_each_class_is_within_the_tolerance(
    S: sparse.csr_array, alpha: float, tolerance: float, seed: int
) -> None:
    Y = np.random.default_rng(seed).random((S.shape[0], 3), np.float32)
    F_exact = exact(S, alpha) @ Y
    error = np.linalg.norm(spread(S, Y, alpha=alpha, tolerance=tolerance) - F_exact, axis=0)
    # float32 rounds 1 + αS, too, which 1 / (1-α) magnifies
    assert (error <= (tolerance + 2e-6 / (1 - alpha)) * np.linalg.norm(F_exact, axis=0)).all()


@given(graphs(), seeds)
def test_the_order_of_the_nodes_does_not_matter(S: sparse.csr_array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    Y, order = rng.random((S.shape[0], 2), np.float32), rng.permutation(S.shape[0])
    permuted = spread(sparse.csr_array(S.toarray()[order][:, order]), Y[order])
    np.testing.assert_allclose(permuted, spread(S, Y)[order], rtol=1e-4, atol=1e-6)


def test_scikit_learn_agrees_on_what_label_spreading_is() -> None:
    W = neighbor_graph(150).toarray().astype(float)
    y = np.full(150, -1)
    y[::10] = np.arange(15) % 3
    peer = LabelSpreading(kernel=lambda X, Y: W, alpha=ALPHA, max_iter=1000, tol=1e-9).fit(np.zeros((150, 1)), y)
    F = spread(affinity(W), np.eye(4, dtype=np.float32)[y][:, :3])
    np.testing.assert_allclose(F / F.sum(axis=1, keepdims=True), peer.label_distributions_, atol=1e-5)


def test_classes_and_chunks_are_computed_apart_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    S, Y = neighbor_graph(100), np.random.default_rng(0).random((100, 40), np.float32)
    whole = spread(S, Y)
    monkeypatch.setattr(spreading, "CHUNK_OF_ROWS", 7)
    monkeypatch.setattr(spreading, "BLOCK_OF_COLUMNS", 3)
    np.testing.assert_array_equal(spread(S, Y), whole)
    np.testing.assert_array_equal(spread(S, Y[:, [5]]), whole[:, [5]])


@pytest.mark.parametrize("kept_bytes", [spreading.KEPT_BYTES, 5 * 400, 0])
def test_a_spreader_says_what_a_solve_says_whatever_was_asked_before(
    kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreading, "KEPT_BYTES", kept_bytes)
    S, rng = neighbor_graph(100), np.random.default_rng(0)
    spreader, Y = Spreader(S), np.zeros((100, 8), np.float32)
    solved = []
    monkeypatch.setattr(spreading, "spread", lambda S, Y: solved.append(Y.shape[1]) or spread(S, Y))
    for _ in range(20):
        Y[rng.integers(100), rng.integers(8)] = rng.random()
        Y[rng.integers(100)] = 0
        np.testing.assert_array_equal(spreader.spread(Y), spread(S, Y))
    n_seen = int(Y.any(axis=0).sum())
    del solved[:]
    spreader.spread(Y)
    assert solved == [max(n_seen - kept_bytes // 400, 0)]


def test_the_scores_are_not_negative_however_coarse_the_solve() -> None:
    # A tree with ten branches at each node: six Chebyshev steps from its root end below zero in places.
    parents = np.repeat(np.arange(1111), 10)
    edges = (np.ones(11110), (parents, np.arange(1, 11111)))
    W = sparse.csr_array(edges, shape=(11111, 11111))
    roots = sparse.diags_array(1 / np.sqrt((W + W.T).sum(axis=1)))
    Y = np.zeros((11111, 1), np.float32)
    Y[0] = 1
    assert (spread(sparse.csr_array(roots @ (W + W.T) @ roots), Y, tolerance=0.13) >= 0).all()


def test_a_coarse_solve_takes_no_more_steps_than_it_needs() -> None:
    Y = np.float32([[1], [0]])
    np.testing.assert_array_equal(spread(PAIR, Y, tolerance=0.95), np.float32(1 - ALPHA) * Y)


def test_what_goes_in_is_left_as_it_was() -> None:
    S, Y = neighbor_graph(50), np.ones((50, 2), np.float32)
    before = S.copy()
    spread(S, Y)
    Pusher(S).column(0)
    assert (Y == 1).all() and (before != S).nnz == 0


def test_no_classes() -> None:
    assert spread(PAIR, np.zeros((2, 0), np.float32)).shape == (2, 0)


@pytest.mark.parametrize(
    ("Y", "complaint"),
    [
        ([[1]], r"shape \(1, 1\): expected \(2, n_classes\)"),
        ([1, 0], r"shape \(2,\)"),
        ([[1], [-1]], "-1.0 to 1.0: expected"),
        ([[1], [np.nan]], "nan to nan"),
        ([[1], [np.inf]], "1.0 to inf"),
    ],
)
def test_answers_that_are_no_vote_shares_are_refused(Y: list, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        spread(PAIR, np.float32(Y))


@pytest.mark.parametrize(
    ("S", "complaint"),
    [
        ([[0, 1, 0], [1, 0, 0]], r"shape \(2, 3\): expected \(n_nodes, n_nodes\)"),
        ([[0, 2], [2, 0]], "2.0 to 2.0: expected normalised weights"),
        ([[0, -0.5], [-0.5, 0]], "-0.5 to -0.5"),
        ([[0, np.nan], [np.nan, 0]], "nan to nan"),
    ],
)
def test_a_matrix_that_is_no_affinity_is_refused(S: list, complaint: str) -> None:
    S = sparse.csr_array(np.float32(S))
    with pytest.raises(InputError, match=complaint):
        spread(S, np.ones((2, 1), np.float32))
    with pytest.raises(InputError, match=complaint):
        Pusher(S)


def test_weights_that_nobody_normalised_are_refused() -> None:
    with pytest.raises(InputError, match="eigenvalues outside"):
        Pusher(sparse.csr_array(np.ones((4, 4), np.float32)))


@pytest.mark.parametrize(
    "options", [{"alpha": 0}, {"alpha": 1}, {"alpha": np.nan}, {"tolerance": 0}, {"tolerance": 1}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        spread(PAIR, np.ones((2, 1), np.float32), **options)
    with pytest.raises(InputError, match=next(iter(options))):
        Pusher(PAIR, **options)


# ── The push ─────────────────────────────────────────────────────────────────────────────────────────────


@given(graphs(), alphas, st.sampled_from([0.3, 1e-2, 1e-4, 1e-6]))
def test_the_error_of_a_column_is_within_the_tolerance(S: sparse.csr_array, alpha: float, tolerance: float) -> None:
    G, pusher = exact(S, alpha), Pusher(S, alpha=alpha, tolerance=tolerance)
    for node in range(S.shape[0]):
        g = dense_column(S.shape[0], *pusher.column(node))
        assert np.abs(G[:, node] - g).max() <= (tolerance + 1e-6 / (1 - alpha)) * G[:, node].max()


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([0.1, 1e-2, 1e-3]))
def test_the_error_is_within_the_tolerance_where_most_is_left_out(seed: int, tolerance: float) -> None:
    S = neighbor_graph(300, seed)
    node = seed % 300
    G_column = spread(S, np.eye(300, dtype=np.float32)[:, [node]])[:, 0]
    g = dense_column(300, *column(S, node, tolerance=tolerance))
    assert np.abs(G_column - g).max() <= tolerance * G_column.max()
    assert (g >= 0).all()


def test_the_nodes_of_a_column_ascend() -> None:
    nodes, _ = column(neighbor_graph(100), 60)
    assert len(nodes) > 10 and (np.diff(nodes) > 0).all()


def test_on_a_ring_by_hand() -> None:
    # g_i = c λ^|i| with αλ/2 + α/(2λ) = 1, as (I-αS)g is zero away from the node; c = (1-α)/(1-αλ) there.
    decay = (1 - np.sqrt(1 - ALPHA**2)) / ALPHA
    nodes, values = column(ring(1001), 500, tolerance=1e-6)
    peak = (1 - ALPHA) / (1 - ALPHA * decay)
    np.testing.assert_allclose(values, peak * decay ** np.abs(nodes - 500), atol=1e-6 * peak)


def test_a_push_stays_where_it_matters() -> None:
    nodes, _ = column(ring(20_000), 7_000)
    assert 20 < len(nodes) < 60 and np.abs(nodes - 7_000).max() < 30


@given(graphs(), st.data())
def test_a_column_does_not_depend_on_what_was_computed_before(S: sparse.csr_array, data: st.DataObject) -> None:
    nodes = data.draw(st.lists(st.integers(0, S.shape[0] - 1), min_size=1, max_size=5))
    pusher = Pusher(S)
    for node in nodes:
        again, fresh = pusher.column(node), column(S, node)
        np.testing.assert_array_equal(again[0], fresh[0])
        np.testing.assert_array_equal(again[1], fresh[1])


def test_a_push_that_broke_off_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    S = neighbor_graph(100)
    pusher = Pusher(S)
    with monkeypatch.context() as patched:
        patched.setattr(push._Ball, "descend", lambda ball: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pusher.column(3)
    np.testing.assert_array_equal(pusher.column(4)[1], column(S, 4)[1])


@pytest.mark.parametrize("node", [-1, 2])
def test_a_node_that_the_graph_has_not_is_refused(node: int) -> None:
    with pytest.raises(InputError, match=f"node is {node}: expected .*0 to 1"):
        column(PAIR, node)


def test_a_lone_node_and_a_graph_of_one() -> None:
    for S, node in ((PARTS, 5), (sparse.csr_array((1, 1), dtype=np.float32), 0)):
        nodes, values = column(S, node)
        assert nodes.tolist() == [node] and values.tolist() == [np.float32(1 - ALPHA)]
        assert (nodes.dtype, values.dtype) == (np.int32, np.float32)


@given(graphs(), alphas)
def test_the_error_bound_is_a_bound_and_no_loose_one(S: sparse.csr_array, alpha: float) -> None:
    norm = exact(S, alpha).sum(axis=1).max() / (1 - alpha)
    assert norm * (1 - 1e-4) <= push._inverse_norm(S, alpha) <= norm * 1.021


# ── The stored columns ───────────────────────────────────────────────────────────────────────────────────

N_NODES = 120
GRAPH = neighbor_graph(N_NODES)
G = exact(GRAPH)


class CountingPusher(Pusher):
    def __init__(self) -> None:
        super().__init__(GRAPH)
        self.asked: list[int] = []

    def column(self, node: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        self.asked.append(node)
        return super().column(node)


def stored(*nodes: int) -> Columns:
    return empty_columns().updated(Pusher(GRAPH), np.int32(nodes))


def assert_same(one: Columns, two: Columns) -> None:
    for name in ("nodes", "indptr", "indices", "values"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        assert getattr(one, name).dtype == getattr(two, name).dtype


labelings = st.lists(st.integers(0, N_NODES - 1), max_size=6, unique=True)


@settings(max_examples=25, deadline=None)
@given(labelings, labelings)
def test_an_update_computes_what_is_missing_and_equals_a_fresh_start(before: list[int], after: list[int]) -> None:
    pusher = CountingPusher()
    columns = empty_columns().updated(pusher, np.int32(before))
    pusher.asked.clear()
    updated = columns.updated(pusher, np.int32(after))
    assert pusher.asked == [node for node in after if node not in before]
    assert_same(updated, stored(*after))


def test_the_columns_spread_answers_as_the_block_solve_does() -> None:
    nodes = np.int32([7, 3, 90])
    Y_labeled = np.float32([[1, 0], [0, 1], [0.25, 0.75]])
    Y = np.zeros((N_NODES, 2), np.float32)
    Y[nodes] = Y_labeled
    F = stored(*nodes).spread(Y_labeled, N_NODES)
    assert F.dtype == np.float32
    np.testing.assert_allclose(F, spread(GRAPH, Y), atol=3 * 1e-3 * G.max())


def test_among_labeled_is_the_block_of_g_and_symmetric() -> None:
    nodes = [50, 2, 119, 3]
    G_LL = stored(*nodes).among_labeled()
    np.testing.assert_array_equal(G_LL, G_LL.T)
    np.testing.assert_allclose(G_LL, G[np.ix_(nodes, nodes)], atol=1e-3 * G.max())


def test_columns_are_arrays_that_can_be_stored() -> None:
    columns = stored(1, 2)
    dtypes = [getattr(columns, name).dtype for name in ("nodes", "indptr", "indices", "values")]
    assert dtypes == [np.int32, np.int64, np.int32, np.float32]


def test_before_the_first_answer() -> None:
    columns = empty_columns()
    no_answers = np.zeros((0, 2), np.float32)
    assert_same(columns, stored(4).updated(Pusher(GRAPH), np.int32([])))
    assert columns.spread(no_answers, 3).tolist() == [[0, 0]] * 3
    assert columns.among_labeled().shape == (0, 0)
    assert leave_one_out(columns.among_labeled(), no_answers).shape == (0, 2)
    assert gp_weights(columns.among_labeled(), no_answers, noise=0.1).shape == (0, 2)


def test_labels_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="1 duplicates"):
        stored(3, 4, 3)
    with pytest.raises(InputError, match="node is 120"):
        stored(120)
    with pytest.raises(InputError, match=r"shape \(1, 2\): expected \(2, n_classes\)"):
        stored(3, 4).spread(np.ones((1, 2), np.float32), N_NODES)


# ── Leave-one-out and the Gaussian process ───────────────────────────────────────────────────────────────

LABELED = [5, 17, 40, 41, 99]
Y_LABELED = np.float32([[1, 0], [0, 1], [1, 0], [0.5, 0.5], [0, 1]])


def test_leave_one_out_is_spreading_without_the_own_answer() -> None:
    q = leave_one_out(G[np.ix_(LABELED, LABELED)], Y_LABELED)
    for i, node in enumerate(LABELED):
        Y = np.zeros((N_NODES, 2), np.float32)
        Y[LABELED] = Y_LABELED
        Y[node] = 0
        np.testing.assert_allclose(q[i], spread(GRAPH, Y)[node], rtol=1e-5, atol=1e-7)


def test_one_answer_alone_has_nothing_that_speaks_for_it() -> None:
    assert leave_one_out(np.float32([[0.3]]), np.float32([[1, 0]])).tolist() == [[0, 0]]


@pytest.mark.parametrize("noise", [1e-3, 0.1, 10])
def test_gp_weights_are_kernel_ridge_on_g_of_unit_mean_diagonal(noise: float) -> None:
    G_LL, scale = G[np.ix_(LABELED, LABELED)], G[LABELED, LABELED].mean()
    ridge = KernelRidge(kernel="precomputed", alpha=noise).fit(G_LL / scale, Y_LABELED)
    F = G[:, LABELED] @ gp_weights(G_LL, Y_LABELED, noise=noise)
    np.testing.assert_allclose(F, ridge.predict(G[:, LABELED] / scale), rtol=1e-4, atol=1e-6)


def test_little_noise_reproduces_the_answers() -> None:
    columns = stored(*LABELED)
    F = columns.spread(gp_weights(columns.among_labeled(), Y_LABELED, noise=1e-6), N_NODES)
    np.testing.assert_allclose(F[LABELED], Y_LABELED, atol=5e-3)


def test_a_gaussian_process_without_an_answer_is_one_fitted_without_it() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    G, Y = (root @ root.T).astype(np.float32), rng.random((6, 3)).astype(np.float32)
    noise = 0.3 * float(G.diagonal().mean())
    found = gp_leave_one_out(G, Y, noise=0.3)
    for i in range(6):
        rest = np.delete(np.arange(6), i)
        fitted = KernelRidge(alpha=noise, kernel="precomputed").fit(G[np.ix_(rest, rest)], Y[rest])
        np.testing.assert_allclose(found[i], fitted.predict(G[i : i + 1, rest])[0], rtol=1e-3, atol=1e-4)


def test_a_crowd_of_answers_does_not_outvote_a_single_one_in_a_gaussian_process() -> None:
    # Nodes 0 to 8 are one answer given nine times; node 9 stands as near to the node asked about as they do.
    G_LL = np.full((10, 10), 0.9)
    G_LL[9], G_LL[:, 9] = 0, 0
    np.fill_diagonal(G_LL, 1)
    near = np.full(10, 0.5)
    Y = np.eye(2)[[0] * 9 + [1]]
    assert (near @ Y)[0] == 9 * (near @ Y)[1]
    F = near @ gp_weights(G_LL, Y, noise=0.1)
    assert F[0] < 1.5 * F[1]


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(InputError, match=r"G_LL has the shape \(2, 3\)"):
        leave_one_out(np.ones((2, 3)), np.ones((2, 1)))
    with pytest.raises(InputError, match=r"Y has the shape \(3, 1\): expected \(2, n_classes\)"):
        leave_one_out(np.eye(2), np.ones((3, 1)))
    with pytest.raises(InputError, match="noise is 0"):
        gp_weights(np.eye(2), np.ones((2, 1)), noise=0)
    with pytest.raises(InputError, match="not positive definite"):
        gp_weights(np.array([[1, 3], [3, 1]]), np.ones((2, 1)), noise=0.1)
