"""The published training loop, model by model in float64 NumPy, on explicitly perturbed batches.

Two logits with a softmax, gradients by the chain rule, Adam by hand: nothing of `sims` is used.
"""

from typing import NamedTuple

import numpy as np


class Model(NamedTuple):
    """One model's settings; `weights` are those of the classes [negative, positive]."""

    rate: float
    radius: float = 0.0
    order: float = 2.0
    mixup: float = 1.0
    weights: tuple[float, float] = (1.0, 1.0)
    one_step: bool = False
    mixed: bool = False
    adam: bool = True
    squared: bool = False
    robust_validation: bool = False


def softmax_slopes(scores, labels, weights):
    """Returns the gradient of the summed weighted cross entropy in the two logits, (n, 2)."""
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    classes = (labels > 0).astype(int)
    slopes = shifted / shifted.sum(1, keepdims=True) - np.eye(2)[classes]
    return slopes * np.asarray(weights)[classes][:, None]


def loss_slopes(model, x, y, matrix, bias):
    """Returns the gradient of the summed loss in the outputs, (n, outputs)."""
    scores = x @ matrix + bias
    if model.squared:
        return 2 * (scores - y[:, None])
    return softmax_slopes(scores, y, model.weights)


def perturbed(model, x, y, matrix, bias):
    """Returns the batch after one step up the gradient of its mean loss in its points."""
    slope = loss_slopes(model, x, y, matrix, bias) @ matrix.T / len(x)
    moved = np.empty_like(x)
    for i, g in enumerate(slope):
        if model.order == np.inf:
            step = np.sign(g)
        elif model.order == 2:
            length = np.sqrt(np.sum(g**2))
            step = g / (max(length, 1e-6) if model.one_step else length)
        else:
            step = np.zeros_like(g)
            step[np.argmax(np.abs(g))] = np.sign(g[np.argmax(np.abs(g))])
        moved[i] = x[i] + model.radius * step
    return moved


def train(model, x, y, order, partner, matrix, bias, batch):
    """Returns matrix (d, outputs) and bias (outputs,) after each epoch.

    `order` and `partner` hold for each epoch the rows and the points they are mixed with.
    """
    parameters = [np.array(matrix, float), np.array(bias, float)]
    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
    steps, history = 0, []
    for rows, matched in zip(order, partner, strict=True):
        for start in range(0, len(rows), batch):
            chosen = rows[start : start + batch]
            xb = model.mixup * x[chosen] + (1 - model.mixup) * x[matched[start : start + batch]]
            batches = [xb]
            if model.radius:
                batches = [perturbed(model, xb, y[chosen], *parameters)]
                batches += [xb] if model.mixed else []
            slopes = [loss_slopes(model, b, y[chosen], *parameters) / len(b) for b in batches]
            gradient = [
                sum(b.T @ s for b, s in zip(batches, slopes, strict=True)),
                sum(s.sum(0) for s in slopes),
            ]
            steps += 1
            for k, g in enumerate(gradient):
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g**2
                mean, square = first[k] / (1 - 0.9**steps), second[k] / (1 - 0.999**steps)
                step = mean / (np.sqrt(square) + 1e-8) if model.adam else g
                parameters[k] = parameters[k] - model.rate * step
        history.append([p.copy() for p in parameters])
    return history


def batch_mean_loss(model, x, y, matrix, bias, batch):
    """Returns the mean over batches of their mean losses, natural or at the perturbed points."""
    if model.robust_validation and model.radius:
        x = perturbed(model._replace(one_step=False), x, y, matrix, bias)
    scores = x @ matrix + bias
    if model.squared:
        losses = (scores[:, 0] - y) ** 2
    else:
        side = (y > 0).astype(int)
        top = scores.max(1)
        log_sum = top + np.log(np.exp(scores - top[:, None]).sum(1))
        losses = (log_sum - scores[np.arange(len(y)), side]) * np.asarray(model.weights)[side]
    return np.mean([losses[s : s + batch].mean() for s in range(0, len(y), batch)])
