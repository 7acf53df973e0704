"""Server momentum against the recursion of Hsu et al. 2019, written out for three numbers."""

import numpy as np

from learning.strategies.fedavgm import FedAvgM
from tests.unit.learning.strategies.three_numbers import Federation, weights_of


def test_two_steps_follow_the_recursion() -> None:
    strategy = FedAvgM(server_momentum=0.5)

    first = strategy.step(weights_of(1, 2, 3), weights_of(0, 2, 4), {})
    second = strategy.step(first.weights, weights_of(0, 1, 4), first.state)

    # v1 = w0 - mean = (1, 0, -1), w1 = (0, 2, 4); v2 = 0.5 v1 + (w1 - mean) = (0.5, 1, -0.5), w2 = w1 - v2.
    assert first.weights["w"].tolist() == [0, 2, 4]
    assert second.weights["w"].tolist() == [-0.5, 1, 4.5]
    assert second.state["momentum/w"].tolist() == [0.5, 1, -0.5]


def test_mean_that_no_longer_moves_lets_the_step_die_out() -> None:
    strategy = FedAvgM(server_momentum=0.7)
    step = strategy.step(weights_of(1, 1, 1), weights_of(0, 1, 2), {})
    positions = []
    for _ in range(60):
        step = strategy.step(step.weights, step.weights, step.state)
        positions.append(step.weights["w"])

    # The whole way is that of one step times 1 / (1 - 0.7): a geometric series, not one that grows.
    np.testing.assert_allclose(positions[-1], [1 - 1 / 0.3, 1, 1 + 1 / 0.3], rtol=1e-5)


def test_no_momentum_is_federated_averaging() -> None:
    plain = FedAvgM(server_momentum=0.0).step(weights_of(1, 2, 3), weights_of(0.5, 2, 5), {})

    assert plain.weights["w"].tolist() == [0.5, 2, 5]


def test_counters_and_running_statistics_are_replaced_by_their_mean() -> None:
    model = {"bn.running_var": np.ones(2, np.float32), "bn.num_batches_tracked": np.array(4)}
    mean = {"bn.running_var": np.full(2, 0.5, np.float32), "bn.num_batches_tracked": np.array(8)}

    step = FedAvgM().step(model, mean, {})

    assert step.weights["bn.running_var"].tolist() == [0.5, 0.5]
    assert step.weights["bn.num_batches_tracked"] == 8
    assert step.state == {}


def test_arguments_are_not_changed() -> None:
    model, aggregate = weights_of(1, 2, 3), weights_of(0, 0, 0)
    before = FedAvgM().step(model, aggregate, {})
    velocity = before.state["momentum/w"].copy()

    FedAvgM().step(before.weights, aggregate, before.state)

    assert model["w"].tolist() == [1, 2, 3]
    assert before.state["momentum/w"].tolist() == velocity.tolist()


def test_whole_run_follows_independent_arithmetic() -> None:
    federation = Federation(FedAvgM(server_momentum=0.6), batches=1, rate=0.2)
    curves, points = np.array([[1.0], [3.0], [0.25]]), np.array([[1, -2, 0.5], [3, 0, -1], [-0.5, 4, 2]])
    w, v = np.zeros(3), np.zeros(3)
    for _ in range(6):
        federation.play()
        v = 0.6 * v + 0.2 * (curves * (w - points)).mean(axis=0)
        w = w - v

    np.testing.assert_allclose(federation.model["w"], w, rtol=1e-5)
