"""Makes attack_reference.npz: what the authors' Auto-PGD finds on a small network, in float64.

``python tests/support/references/make_attack_reference.py`` needs torch and pyautoattack 0.2.0 (a
packaging of github.com/fra31/auto-attack) and takes a minute. The default dtype of torch is float64
and casts to float are casts to float64, because the reference makes its steps and its l1 projection
in float32 whatever the inputs are. Rows whose result hangs on the last bits of the weights (a loss
that ties with an earlier one decides whether the step is halved) are marked, and compared by loss
alone.
"""

import pathlib

import numpy as np

STEPS = 20
SHAPE, HIDDEN, CLASSES, COUNT = (1, 5, 5), 16, 5, 28
RADII = {"Linf": 0.08, "L2": 0.5, "L1": 2.0}


def problem():
    """Returns the network, its inputs and labels, and a starting point for each norm."""
    rng = np.random.default_rng(20200813)
    size = int(np.prod(SHAPE))
    arrays = {
        "w1": rng.normal(size=(size, HIDDEN)) * 2 / np.sqrt(size),
        "b1": 0.3 * rng.normal(size=HIDDEN),
        "w2": rng.normal(size=(HIDDEN, CLASSES)) * 5 / np.sqrt(HIDDEN),
        "b2": 0.1 * rng.normal(size=CLASSES),
        "x": np.round(rng.uniform(size=(COUNT, size)) * 255) / 255,
    }
    hidden = np.maximum(arrays["x"] @ arrays["w1"] + arrays["b1"], 0)
    order = (hidden @ arrays["w2"] + arrays["b2"]).argsort(1)
    arrays["y"], arrays["target"] = order[:, -1], order[:, -3]
    noise = rng.uniform(-1, 1, size=(COUNT, size))
    for name, length in {
        "Linf": np.abs(noise).max(1, keepdims=True),
        "L2": np.linalg.norm(noise, axis=1, keepdims=True),
        "L1": np.abs(noise).sum(1, keepdims=True),
    }.items():
        centre = arrays["x"] * (name != "L1")
        arrays[f"start_{name}"] = np.clip(centre + RADII[name] * noise / length, 0, 1)
    return arrays


def run(arrays, norm, loss):
    """Returns best point, adversarial point, best loss and flag of the reference for every row."""
    import torch
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    tensors = {name: torch.as_tensor(value) for name, value in arrays.items()}

    residue = torch.zeros(COUNT, dtype=torch.bool)

    def model(images):
        size = (images.detach() - x).abs().flatten(1)
        residue.logical_or_(((size > 0) & (size < 1e-12)).any(1))
        hidden = torch.relu(images.flatten(1) @ tensors["w1"] + tensors["b1"])
        return hidden @ tensors["w2"] + tensors["b2"]

    # With zeros at the centre of the l1 ball, the reference too counts moved coordinates exactly.
    x = (tensors["x"] * (norm != "L1")).reshape(-1, *SHAPE)
    kind = APGDAttack_targeted if loss == "dlr-targeted" else APGDAttack
    attack = kind(model, n_iter=STEPS, norm=norm, eps=RADII[norm], device="cpu")
    attack.loss, attack.y_target = loss, tensors["target"]
    attack.init_hyperparam(x)
    start = tensors[f"start_{norm}"].reshape(-1, *SHAPE)
    best, robust, value, adversarial = attack.attack_single_run(x, tensors["y"], x_init=start)
    # The reference counts a coordinate left at 1e-17 by rounding as one that it moved.
    clear = ~residue if norm == "L1" else torch.ones(COUNT, dtype=torch.bool)
    flat = (best.detach().flatten(1), adversarial.detach().flatten(1), value, ~robust, clear)
    return [array.numpy() for array in flat]


def stable(arrays, norm, loss, found):
    """Returns which rows stay the same to 1e-9 when weights and starts move by rounding errors."""
    rng, same = np.random.default_rng(0), found[4].copy()
    for _ in range(6):
        moved = {
            name: value * (1 + 1e-15 * rng.normal(size=value.shape)) if name[0] in "wbs" else value
            for name, value in arrays.items()
        }
        again = run(moved, norm, loss)
        for old, new in zip(found[:2], again[:2], strict=True):
            same &= np.abs(old - new).max(1) < 1e-9
    return same


def main():
    """Runs the reference on every norm and loss and write the file."""
    import torch

    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    arrays = problem()
    results = {}
    for norm in RADII:
        for loss in ("ce", "dlr", "dlr-targeted"):
            found = run(arrays, norm, loss)
            keep = stable(arrays, norm, loss, found)
            print(f"{norm} {loss}: {keep.sum()} of {COUNT} rows do not hang on rounding")
            values = {"keep": keep, "best": found[0], "adversarial": found[1]}
            values |= {"loss": found[2], "broken": found[3]}
            results |= {f"{norm}_{loss}_{name}": value for name, value in values.items()}
    np.savez_compressed(
        pathlib.Path(__file__).with_name("attack_reference.npz"), **arrays, **results
    )


if __name__ == "__main__":
    main()
