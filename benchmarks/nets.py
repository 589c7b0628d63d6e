"""A step of adversarial training against PyTorch eager and textbook Flax, in one process.

python benchmarks/nets.py [small-cnn|preact-resnet-18] [batch] [rounds] [threads]

One step is PGD (uniform start, ten sign steps, batch statistics frozen, no parameter gradients in
the attack), then one SGD update with momentum at the adversarial batch. All contenders start from
the same weights, batch and random start. "Textbook" is the same network with flax.linen.Conv and
flax.linen.max_pool under a plain jax.jit. Each round runs every contender once in random order;
printed are medians of the ratios of single rounds, of wall and of processor seconds (all threads).

Needs torch, which the project does not: without it only the two sides in JAX are compared.
"""

import functools
import os
import sys
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nets.compute import compiler
from nets.models.registry import build, initialise

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

_DEFAULTS = ("small-cnn", "128", "9", "1")
NAME, *_NUMBERS = (*sys.argv[1:], *_DEFAULTS[len(sys.argv) - 1 :])
BATCH, ROUNDS, THREADS = map(int, _NUMBERS)
STEPS, RATE, MOMENTUM, SEED = 10, 0.01, 0.9, 0
SHAPE, RADIUS, STRIDE = {
    "small-cnn": ((28, 28, 1), 0.3, 0.04),
    "preact-resnet-18": ((32, 32, 3), 8 / 255, 2 / 255),
}[NAME]
UNITS = 2 * STEPS + 3
"""A forward pass is one unit, as is each of its two gradients; the attack needs one of them."""


def pgd(logits, x, y, start):
    """Projected sign ascent of the cross-entropy; the library's attack has this signature too."""

    def loss(z):
        return optax.softmax_cross_entropy_with_integer_labels(logits(z), y).sum()

    def step(_, z):
        z = z + STRIDE * jnp.sign(jax.grad(loss)(z))
        return jnp.clip(jnp.clip(z, x - RADIUS, x + RADIUS), 0, 1)

    return jax.lax.fori_loop(0, STEPS, step, jnp.clip(x + start, 0, 1))


def training_step(module, variables, velocity, x, y, start):
    adversarial = pgd(lambda z: module.apply(variables, z), x, y, start)

    def loss(params):
        logits, rest = module.apply(
            variables | {"params": params}, adversarial, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), rest

    gradient, rest = jax.grad(loss, has_aux=True)(variables["params"])
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradient)
    params = jax.tree.map(lambda p, v: p - RATE * v, variables["params"], velocity)
    return {"params": params, **rest}, velocity


def jax_contender(jit, module, variables, batch):
    step = jit(functools.partial(training_step, module))
    state = variables, jax.tree.map(jnp.zeros_like, variables["params"])

    def run():
        return jax.block_until_ready(step(*state, *batch))[0]

    return run


if torch:

    class SmallCNN(torch.nn.Module):
        def __init__(self):
            super().__init__()
            sizes = {"conv_0_0": (1, 32), "conv_0_1": (32, 32)}
            sizes |= {"conv_1_0": (32, 64), "conv_1_1": (64, 64)}
            for name, (inputs, outputs) in sizes.items():
                setattr(self, name, torch.nn.Conv2d(inputs, outputs, 3))
            self.linear_0, self.linear_1 = torch.nn.Linear(1024, 200), torch.nn.Linear(200, 200)
            self.head = torch.nn.Linear(200, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv_0_1(F.relu(self.conv_0_0(x)))), 2)
            x = F.max_pool2d(F.relu(self.conv_1_1(F.relu(self.conv_1_0(x)))), 2)
            return self.head(F.relu(self.linear_1(F.relu(self.linear_0(x.flatten(1))))))

    class Block(torch.nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.norm_1 = torch.nn.BatchNorm2d(inputs)
            self.conv_1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.norm_2 = torch.nn.BatchNorm2d(outputs)
            self.conv_2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.shortcut = None
            if stride != 1 or inputs != outputs:
                self.shortcut = torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False)

        def forward(self, x):
            y = self.conv_2(F.relu(self.norm_2(self.conv_1(F.relu(self.norm_1(x))))))
            y += x if self.shortcut is None else self.shortcut(x)
            return y

    class PreActResNet18(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, inputs = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), 64
            for stage, width in enumerate((64, 128, 256, 512)):
                for block in (0, 1):
                    stride = 2 if stage > 0 and block == 0 else 1
                    setattr(self, f"stage_{stage}_block_{block}", Block(inputs, width, stride))
                    inputs = width
            self.norm, self.head = torch.nn.BatchNorm2d(512), torch.nn.Linear(512, 10)

        def forward(self, x):
            x = self.conv(x)
            for name, block in self.named_children():
                x = block(x) if name.startswith("stage") else x
            return self.head(F.relu(self.norm(x)).mean((2, 3)))


def torch_weights(variables, kernel_shapes):
    """The state dict with the numbers of these variables; names differ in the last dot alone."""
    renamed = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    found = {}
    for collection in variables.values():
        for layer, leaves in collection.items():
            for name, leaf in leaves.items():
                value = np.asarray(leaf)
                if name == "kernel" and value.ndim == 4:
                    value = value.transpose(3, 2, 0, 1)
                elif name == "kernel":
                    if layer in kernel_shapes:  # the flattened image has its channels last
                        value = value.reshape(*kernel_shapes[layer], -1)
                        value = value.transpose(2, 0, 1, 3).reshape(-1, value.shape[-1])
                    value = value.T
                path = layer.replace("_norm", ".norm").replace("_conv", ".conv")
                path = path.replace("_shortcut", ".shortcut") if "stage" in layer else layer
                found[f"{path}.{renamed.get(name, name)}"] = torch.from_numpy(value.copy())
    return found


def torch_contender(variables, batch):
    model = SmallCNN() if NAME == "small-cnn" else PreActResNet18()
    weights = torch_weights(variables, {"linear_0": (4, 4, 64)})
    missing = set(model.state_dict()) ^ set(weights)
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    model.load_state_dict(weights, strict=False)
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    x, start = (torch.from_numpy(np.moveaxis(np.asarray(a), 3, 1).copy()) for a in batch[::2])
    y = torch.from_numpy(np.asarray(batch[1], np.int64))

    def run():
        model.eval().requires_grad_(False)
        z = (x + start).clamp(0, 1)
        for _ in range(STEPS):
            z.requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(z), y, reduction="sum"), z)
            z = z.detach() + STRIDE * gradient.sign()
            z = z.clamp(x - RADIUS, x + RADIUS).clamp(0, 1)
        model.train().requires_grad_(True)
        optimiser.zero_grad()
        F.cross_entropy(model(z), y).backward()
        optimiser.step()

    return model, run, x


def forward_flop(model, x):
    """Twice the multiply-adds of one image's forward pass, those with padding included."""
    counts = []

    def count(layer, _, output):
        counts.append(2 * output[0].numel() * layer.weight[0].numel())

    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    model(x[:1])
    for hook in hooks:
        hook.remove()
    return sum(counts)


def seconds(run):
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def interleaved(contenders):
    """Wall and processor seconds, (2, rounds), of each contender."""
    order = np.random.default_rng(SEED)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name in order.permutation(list(contenders)):
            times[name].append(seconds(contenders[name]))
    return {name: np.transpose(rows) for name, rows in times.items()}


def host_seconds():
    """Wall time of a call whose tree has as many leaves as the model's, but narrow ones."""
    narrow = {"stem": 1, "widths": (1,) * 4} if "resnet" in NAME else {"stages": ((1, 1),) * 2}
    tree = initialise(jax.random.key(0), build(NAME, 10, **narrow), SHAPE)
    touch = compiler.jit(lambda tree: jax.tree.map(lambda a: a + 1, tree))
    jax.block_until_ready(touch(tree))
    times = [seconds(lambda: jax.block_until_ready(touch(tree)))[0] for _ in range(200)]
    return len(jax.tree.leaves(tree)), float(np.median(times))


def main():
    if hasattr(os, "sched_setaffinity"):  # before JAX starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-THREADS:])
    rng = np.random.default_rng(SEED)
    x = jnp.asarray(rng.uniform(size=(BATCH, *SHAPE)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 10, BATCH), jnp.int32)
    start = jnp.asarray(rng.uniform(-RADIUS, RADIUS, x.shape), jnp.float32)
    batch, module = (x, y, start), build(NAME, 10)
    variables = initialise(jax.random.key(SEED), module, SHAPE)
    ours = jax_contender(compiler.jit, module, variables, batch)
    textbook = jax_contender(jax.jit, module, variables, batch)
    print(f"{NAME}, batch {BATCH}, {STEPS} attack steps, {THREADS} threads, jax {jax.__version__}")
    print(f"load {os.getloadavg()[0]:.1f}, compiler options {compiler.options() or 'none'}")
    updated = ours()
    with (
        mock.patch("nets.models.network.Conv", nn.Conv),
        mock.patch("nets.models.registry.max_pool", lambda x: nn.max_pool(x, (2, 2), (2, 2))),
    ):
        other = textbook()
    contenders = {"ours": ours, "textbook flax": textbook}
    gap = max(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.abs(a - b).max(), updated, other)))
    print(f"largest difference of a variable after one step, ours and textbook: {gap:.1e}")
    if torch is None:
        print("torch is not installed: no comparison (pip install torch, then run this again)")
    else:
        torch.set_num_threads(THREADS)
        model, run, images = torch_contender(variables, batch)
        logits = compiler.jit(module.apply)
        for name, current in (("at the start", variables), ("after one step", updated)):
            theirs = model.eval()(images).detach().numpy()
            gap = np.abs(np.asarray(logits(current, x)) - theirs).max()
            print(f"largest difference of a logit {name}, ours and torch: {gap:.1e}")
            if current is variables:
                run()
        matrix = torch.ones(2048, 2048)
        contenders |= {"torch eager": run, "matmul 2048": lambda: matrix @ matrix}
        flop = {"matmul 2048": 2 * 2048.0**3}
        step_flop = UNITS * BATCH * forward_flop(model, images)
        print(f"forward pass {step_flop / UNITS / BATCH / 1e6:.1f} MFLOP an image")
    times = interleaved(contenders)
    print(f"{'':14}  {'wall s':>8} {'cpu s':>8} {'least':>8}   ratio to ours, wall and cpu")
    for name, spent in times.items():
        ratio = np.median(spent / times["ours"], axis=1)
        middle = np.median(spent, axis=1)
        line = f"{name:14}  {middle[0]:8.3f} {middle[1]:8.3f} {spent[0].min():8.3f}"
        line += f"   {ratio[0]:6.2f} {ratio[1]:6.2f}"
        if torch:
            speed = flop.get(name, step_flop) / np.array([spent[0].min(), middle[1]]) / 1e9
            line += f"   {speed[0]:5.0f} GFLOP/s at best, {speed[1]:4.0f} a processor second"
        print(line)
    leaves, host = host_seconds()
    print(f"host time of a call with {leaves} leaves: {host * 1e3:.2f} ms")
    print(f"load {os.getloadavg()[0]:.1f}; {ROUNDS} rounds")


if __name__ == "__main__":
    main()
