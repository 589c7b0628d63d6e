"""The published training grid against a PyTorch loop of the published style, in one run.

python benchmarks/train.py [gaussian|cauchy|holtsmark]

The loop trains one model at a time: DataLoader, zero_grad before a one-step attack that runs
backward itself, Adam, validation. Its epochs are timed at every imbalance ratio and attack and
multiplied by the epochs that the grid itself ran there, so that early stopping counts for both
sides: an extrapolation, in which every rate costs the same. The grid runs cold on all cores, then,
like the loop, on one; times are of the processor, summed over threads, but for the wall time.
Weights are compared on the same batches after about 96 steps, where the validation loss was least,
beside what the loop itself changes from float32 to float64: signs of weights near zero are chaotic.

Needs torch, which the project does not: without it only this project's side is printed.
"""

import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np

from sims.training.data import Split, splits
from sims.training.grid import Grid, GridThreat, published
from sims.training.loop import shuffles
from sims.training.run import first_weights, train_grid
from sims.training.setup import Settings

try:
    import torch
except ImportError:
    torch = None

ROUNDS, BATCH, STEPS, RATE, SEED = 3, 64, 96, 1e-3, 2
COMPILE = "/jax/core/compile/backend_compile_duration"


def attacked(model, criterion, x, y, threat: GridThreat):
    """The batch one step up its loss; like advertorch's, it leaves gradients in the parameters."""
    leaf = x.detach().clone().requires_grad_()
    criterion(model(leaf), y).backward()
    if threat.norm == "linf":
        return (leaf + threat.radius * leaf.grad.sign()).detach()
    length = leaf.grad.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return (leaf + threat.radius * leaf.grad / length).detach()


def tensors(points):
    return torch.from_numpy(points.x), torch.from_numpy((points.y > 0).astype(np.int64))


def epoch(model, criterion, optimiser, batches, threat: GridThreat) -> None:
    for x, y in batches:
        optimiser.zero_grad()
        if threat.radius:
            x = attacked(model, criterion, x, y, threat)
        criterion(model(x), y).backward()
        optimiser.step()


def validate(model, criterion, loader) -> float:
    losses, correct = [], 0
    for x, y in loader:
        output = model(x)
        losses.append(criterion(output, y).item())
        correct += (output.data.max(1)[1] == y).sum().item()
    return float(np.mean(losses))


def loop_seconds(split: Split, threat: GridThreat) -> float:
    """Processor seconds of an epoch of the loop with validation: the median of a few."""
    sets = [torch.utils.data.TensorDataset(*tensors(p)) for p in (split.train, split.validation)]
    used, held = (
        torch.utils.data.DataLoader(part, batch_size=BATCH, shuffle=shuffle)
        for part, shuffle in zip(sets, (True, False), strict=True)
    )
    model, criterion = torch.nn.Linear(split.train.x.shape[1], 2), torch.nn.CrossEntropyLoss()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    times = []
    for _ in range(ROUNDS + 1):
        start = time.process_time()
        epoch(model, criterion, optimiser, used, threat)
        validate(model, criterion, held)
        times.append(time.process_time() - start)
    return float(np.median(times[1:]))


def loop_weights(split: Split, threat: GridThreat, epochs: int, double: bool) -> np.ndarray:
    """The difference of the two logits' weights after some epochs on this project's batches."""
    x, y = tensors(split.train)
    dtype = torch.float64 if double else torch.float32
    x = x.to(dtype)
    weight, bias = first_weights(SEED, x.shape[1])
    model, criterion = torch.nn.Linear(x.shape[1], 2, dtype=dtype), torch.nn.CrossEntropyLoss()
    with torch.no_grad():
        for parameter, half in ((model.weight, weight / 2), (model.bias, bias / 2)):
            parameter.copy_(torch.from_numpy(np.stack([-half, half])))
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    order, _ = shuffles(SEED, split.train.y, 0, len(y), False)
    for rows in order[:epochs]:
        parts = (rows[i : i + BATCH] for i in range(0, len(y), BATCH))
        epoch(model, criterion, optimiser, ((x[part], y[part]) for part in parts), threat)
    found = model.weight.detach().numpy()
    return found[1] - found[0]


def differences(law: str, data: dict[float, Split]) -> Iterator[str]:
    """Lines that compare weights at the epoch of least validation loss of the published variant."""
    for ratio, threat in itertools.product((1.0, 10.0), published(law).threats):
        batches = -(-len(data[ratio].train.y) // BATCH)
        settings = Settings(attack="one-step", gradient="mixed")
        grid = Grid(law, (ratio,), (SEED,), (RATE,), (threat,), settings=settings)
        trained = train_grid(grid._replace(epochs=-(-STEPS // batches)))
        weight, epochs = trained["weight"].values.ravel(), trained["best_epoch"].item() + 1
        other, exact = (loop_weights(data[ratio], threat, epochs, d) for d in (False, True))
        gap, own = (np.linalg.norm(w - other) / np.linalg.norm(other) for w in (weight, exact))
        yield f"  R = {ratio:2g}  {threat!s:12} {epochs * batches:4d} steps  {gap:.1e}  {own:.1e}"


def main(law: str) -> None:
    grid = published(law)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event) if event == COMPILE else None
    )
    data = splits(law, grid.ratios, grid.data_seed)  # drawing them is compiled apart
    compiled.clear()
    spent = {}
    for name in ("cold", "warm, one core"):
        wall, processor = time.perf_counter(), time.process_time()
        dataset = train_grid(grid)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        models, epochs = dataset["epochs"].size, int(dataset["epochs"].sum())
        print(
            f"{law}, {name}: {models} models, {epochs} epochs, {wall:.1f} s, "
            f"{processor:.1f} processor s, {len(compiled)} executables"
        )
        compiled.clear()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        spent[name] = processor
    if torch is None:
        print("torch is not installed: no comparison (pip install torch, then run this again)")
        return
    torch.set_num_threads(1)
    print("PyTorch loop, processor ms an epoch, and the epochs that the grid ran there")
    total = everything = 0.0
    for ratio, threat in itertools.product(grid.ratios, grid.threats):
        seconds = loop_seconds(data[ratio], threat)
        part = dataset["epochs"].sel(imbalance_ratio=ratio, threat=str(threat))
        total += seconds * int(part.sum())
        everything += seconds * part.size * grid.epochs
        print(f"  R = {ratio:2g}  {threat!s:12} {seconds * 1e3:6.1f} ms  {int(part.sum()):6d}")
    print(f"extrapolated: {total:.0f} processor s with the grid's stops, {everything:.0f} without")
    cold, warm = (total / spent[name] for name in spent)
    print(f"ratio with the same stops: {cold:.0f} cold on all cores, {warm:.0f} warm on one")
    print(
        "published variant on the same batches: relative difference of the weights from the loop,"
    )
    print("and of the loop in float64 from the loop")
    for line in differences(law, data):
        print(line)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gaussian")
