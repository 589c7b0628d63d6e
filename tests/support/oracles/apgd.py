"""linf Auto-PGD for one sample, in plain NumPy, with each peculiarity of the reference a switch."""

import numpy as np

PECULIARITIES = (
    "the first window compares its first loss with zero",
    "momentum points to the best point from the point before the return",
    "the last misclassified point is kept",
    "no step is stuck at the first check",
)


def network(arrays):
    """Returns a function from a point and a label to cross-entropy, gradient and misclassified."""
    w1, b1, w2, b2 = (arrays[name] for name in ("w1", "b1", "w2", "b2"))

    def judge(point, label):
        before = point @ w1 + b1
        logits = np.maximum(before, 0) @ w2 + b2
        lead = logits - logits.max()
        chance = np.exp(lead) / np.exp(lead).sum()
        slope = chance - (np.arange(len(chance)) == label)
        gradient = w1 @ ((before > 0) * (w2 @ slope))
        return -np.log(chance[label]), gradient, logits.argmax() != label

    return judge


def checks(steps):
    """Returns the windows as a dictionary from the step that closes one to its length."""
    length, at, windows = max(int(0.22 * steps), 1), 0, {}
    while at + length <= steps:
        at += length
        windows[at] = length
        length = max(length - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return windows


def run(judge, x, label, start, radius, steps, *, without=(), step_dtype=np.float64):
    """Returns the best point and the adversarial one, `without` some of the peculiarities."""
    zero_row, old_previous, keep_last, patient = (name not in without for name in PECULIARITIES)
    here = before = best = adversarial = start
    loss, gradient, wrong = judge(here, label)
    best_loss = checked_loss = adversarial_loss = loss
    best_gradient, history = gradient, [0.0 if zero_row else loss]
    step, halved = step_dtype(2 * radius), patient
    for i in range(steps):
        a = 1.0 if i == 0 else 0.75
        cut = lambda z: np.clip(np.clip(z, x - radius, x + radius), 0, 1)  # noqa: E731
        target = cut(here + float(step) * np.sign(gradient))
        here, before = cut(here + (target - here) * a + (here - before) * (1 - a)), here
        loss, gradient, wrong = judge(here, label)
        if wrong and (keep_last or loss > adversarial_loss):
            adversarial, adversarial_loss = here, loss
        if loss > best_loss:
            best, best_loss, best_gradient = here, loss, gradient
        history.append(loss)
        window = checks(steps).get(i + 1)
        if window:
            # The two conditions of Croce and Hein: too few rises, or nothing changed since.
            rises = np.sum(np.diff(history[-window - 1 :]) > 0)
            halved = rises <= 0.75 * window or (not halved and checked_loss >= best_loss)
            checked_loss = best_loss
            if halved:
                step /= step_dtype(2)
                here, gradient = best, best_gradient
                before = before if old_previous else best
    return best, adversarial
