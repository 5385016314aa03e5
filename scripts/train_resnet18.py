"""Train a bundled model: a narrow ResNet-18 for the digits or the gauges, written as ONNX.

    pip install vta-flow[torch]
    python scripts/train_resnet18.py digits|gauges [--output FILE.onnx] [--epochs N] [--seed 0]

Full ResNet-18 topology (arXiv 1512.03385): 7x7/2 stem, 3x3/2 max-pool, 4 stages of 2 basic blocks,
global average pool, dense; 16/32/64/128 channels for the digits, 16/16/32/64 for the gauges.
Weights are named as in torchvision; BatchNorm stays a node of the file. The same seed, PyTorch
version and kind of machine give the same file. The gauges take a quarter of an hour.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from flow.data.datasets import Dataset, Preprocessing
from flow.data.digits import DIGITS_CLASSES, digits
from flow.data.gauges import (
    FIRST_TRAINING_SEED,
    GAUGES_CLASSES,
    draw_gauges,
    gauges,
    random_classes,
)
from flow.data.models import DIGITS, DIGITS_ONNX, GAUGES, GAUGES_ONNX

INPUT_PIXELS = 32
OPSET = 13
IR_VERSION = 8
DIGITS_BATCH: Final = 64
#: New pictures all the time: an epoch of the gauges is as many batches.
GAUGES_BATCH: Final = 128
GAUGES_BATCHES: Final = 250
#: Neighbours of a gauge's class have a share in its target: exp(-d^2 / (2 s^2)) at d classes.
NEIGHBOURS: Final = 0.7


class BasicBlock(nn.Module):  # type: ignore[misc, unused-ignore]
    """Two 3x3 convolutions and a skip connection (1x1 convolution where the shape changes)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Build a block from `inputs` to `outputs` channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, inputs, H, W] to float32[N, outputs, H / stride, W / stride]."""
        skip = x if self.downsample is None else self.downsample(x)
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + skip)


class ResNet18(nn.Module):  # type: ignore[misc, unused-ignore]
    """ResNet-18 of any width."""

    def __init__(self, channels: tuple[int, ...], classes: int) -> None:
        """Build the network."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        inputs = channels[0]
        for stage, outputs in enumerate(channels, start=1):
            blocks = [
                BasicBlock(inputs, outputs, 1 if stage == 1 else 2),
                BasicBlock(outputs, outputs, 1),
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            inputs = outputs
        self.stages = len(channels)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[N, 3, H, W] to logits float32[N, classes]."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def stack(data: Dataset) -> tuple[Tensor, Tensor]:
    """Load a whole data set: float32[N, 3, H, W] and int64[N]."""
    assert data.targets is not None
    return torch.from_numpy(np.concatenate(list(data))), torch.from_numpy(data.targets)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale and shift every image of float32[N, C, H, W] a little, each differently."""
    count = len(images)
    angle, scale, shift_x, shift_y = torch.rand(4, count, generator=generator) * 2 - 1
    angle, scale = angle * 0.2, 1 + 0.12 * scale
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([cos, -sin, shift_x * 0.12, sin, cos, shift_y * 0.12], 1).view(count, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the model of a data set is trained.

    Parameters
    ----------
    model : str
        Its name.
    file : path
        Where the package has it.
    facts : str
        What the file says of the data that `evaluation` returns.
    channels : (int, int, int, int)
        Of the four stages.
    classes : int
        Outputs of the network.
    epochs : int
        By default.
    train : callable
        Trains a network in place, for some epochs, with a generator for all that is random; calls
        its last argument with the mean loss of each epoch.
    evaluation : callable
        Opens the images that its accuracy is measured on.
    """

    model: str
    file: Path
    facts: str
    channels: tuple[int, int, int, int]
    classes: int
    epochs: int
    train: Callable[[ResNet18, int, torch.Generator, Callable[[float], None]], None]
    evaluation: Callable[[], Dataset]


def preprocessing() -> Preprocessing:
    """Return how both data sets become inputs, float32[1, 3, 32, 32]."""
    return Preprocessing.for_input((1, 3, INPUT_PIXELS, INPUT_PIXELS), ratio=1.0)


def train(recipe: Recipe, *, epochs: int, seed: int) -> tuple[ResNet18, float]:
    """Train a new network; return it and its top-1 (0 to 1) on the evaluation images."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(seed)
    test_images, test_labels = stack(recipe.evaluation())
    model = ResNet18(recipe.channels, recipe.classes)
    losses: list[float] = []
    top1 = 0.0

    def tell(loss: float) -> None:
        nonlocal top1
        losses.append(loss)
        model.eval()
        with torch.no_grad():
            top1 = float((model(test_images).argmax(1) == test_labels).float().mean())
        sys.stderr.write(f"epoch {len(losses)}/{epochs}: loss {loss:.3f}, top-1 {top1:.2%}\n")

    recipe.train(model, epochs, generator, tell)
    return model, top1


def train_digits(
    model: ResNet18, epochs: int, generator: torch.Generator, tell: Callable[[float], None]
) -> None:
    """Train on the training part, which changes a little every time; see `Recipe`."""
    images, labels = stack(digits(preprocessing(), held_out=False))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = epochs * (len(images) // DIGITS_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=steps, pct_start=0.2
    )
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for begin in range(0, len(order) - DIGITS_BATCH + 1, DIGITS_BATCH):
            chosen = order[begin : begin + DIGITS_BATCH]
            logits = model(augment(images[chosen], generator))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimizer.step()
            schedule.step()
            total += loss.item()
        tell(total * DIGITS_BATCH / len(order))


def train_gauges(
    model: ResNet18, epochs: int, generator: torch.Generator, tell: Callable[[float], None]
) -> None:
    """Train on gauges that are drawn anew for every batch; see `Recipe`.

    Targets are soft, since a neighbour is nearly right: softmax(-d^2 / (2 s^2)) over the distance d
    to the class (R. Diaz and A. Marathe, Soft Labels for Ordinal Regression, CVPR 2019).
    """
    recipe = preprocessing()
    mean = torch.tensor(recipe.mean).view(1, 3, 1, 1)
    std = torch.tensor(recipe.std).view(1, 3, 1, 1)
    first = int(torch.randint(1 << 40, (1,), generator=generator)) + FIRST_TRAINING_SEED
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, total_steps=epochs * GAUGES_BATCHES, pct_start=0.2
    )
    every_class = torch.arange(GAUGES_CLASSES)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in range(GAUGES_BATCHES):
            number = first + epoch * GAUGES_BATCHES + batch
            classes = random_classes(GAUGES_BATCH, seed=number)
            pixels = torch.from_numpy(draw_gauges(classes, seed=number)).permute(0, 3, 1, 2)
            away = every_class - torch.from_numpy(classes)[:, None]
            targets = torch.softmax(-(away**2) / (2 * NEIGHBOURS**2), dim=1)
            loss = functional.cross_entropy(model((pixels / 255 - mean) / std), targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimizer.step()
            schedule.step()
            total += loss.item()
        tell(total / GAUGES_BATCHES)


#: By the name of the data set.
RECIPES: Final[Mapping[str, Recipe]] = MappingProxyType(
    {
        "digits": Recipe(
            model=DIGITS,
            file=DIGITS_ONNX,
            facts="UCI optical recognition of handwritten digits, test part",
            channels=(16, 32, 64, 128),
            classes=DIGITS_CLASSES,
            epochs=60,
            train=train_digits,
            evaluation=lambda: digits(preprocessing(), held_out=True),
        ),
        "gauges": Recipe(
            model=GAUGES,
            file=GAUGES_ONNX,
            facts="gauges drawn by flow/data/gauges.py",
            channels=(16, 16, 32, 64),
            classes=GAUGES_CLASSES,
            epochs=24,
            train=train_gauges,
            evaluation=lambda: gauges(preprocessing(), held_out=True),
        ),
    }
)


def to_onnx(
    model: ResNet18, recipe: Recipe, *, top1: float, seed: int, epochs: int
) -> onnx.ModelProto:
    """Write the network as ONNX, node by node, with the names of `model.state_dict()`."""
    state = {
        k: v.numpy() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")
    }
    nodes: list[onnx.NodeProto] = []

    def node(kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        output = f"{name}.out"
        nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def conv_bn(x: str, conv: str, norm: str, stride: int, kernel: int) -> str:
        x = node(
            "Conv",
            [x, f"{conv}.weight"],
            conv,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            dilations=[1, 1],
            group=1,
        )
        norms = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return node("BatchNormalization", [x, *norms], norm, epsilon=1e-5)

    x = node("Relu", [conv_bn("data", "conv1", "bn1", 2, 7)], "relu")
    x = node("MaxPool", [x], "maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage in range(1, len(recipe.channels) + 1):
        for index in range(2):
            block = f"layer{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            y = node(
                "Relu", [conv_bn(x, f"{block}.conv1", f"{block}.bn1", stride, 3)], f"{block}.relu1"
            )
            y = conv_bn(y, f"{block}.conv2", f"{block}.bn2", 1, 3)
            if f"{block}.downsample.0.weight" in state:
                x = conv_bn(x, f"{block}.downsample.0", f"{block}.downsample.1", stride, 1)
            x = node("Relu", [node("Add", [y, x], f"{block}.add")], f"{block}.relu2")
    x = node("Flatten", [node("GlobalAveragePool", [x], "avgpool")], "flatten", axis=1)
    nodes.append(
        helper.make_node("Gemm", [x, "fc.weight", "fc.bias"], ["logits"], name="fc", transB=1)
    )
    graph = helper.make_graph(
        nodes,
        recipe.model,
        [
            helper.make_tensor_value_info(
                "data", TensorProto.FLOAT, ["N", 3, INPUT_PIXELS, INPUT_PIXELS]
            )
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", recipe.classes])],
        [
            numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in state.items()
        ],
    )
    result = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="vta-flow scripts/train_resnet18.py",
    )
    facts = {
        "data": recipe.facts,
        "top1_held_out": f"{top1:.4f}",
        "seed": str(seed),
        "epochs": str(epochs),
    }
    helper.set_model_props(result, facts)
    onnx.checker.check_model(result, full_check=True)
    return result


def main() -> None:
    """Train, write the file and say how accurate it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=RECIPES, help="what to train on")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write (default: the bundled model)"
    )
    parser.add_argument("--epochs", type=int, help="passes (default: 60 for digits, 24 for gauges)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and images")
    args = parser.parse_args()
    recipe = RECIPES[args.data]
    epochs = recipe.epochs if args.epochs is None else args.epochs
    path: Path = recipe.file if args.output is None else args.output
    model, top1 = train(recipe, epochs=epochs, seed=args.seed)
    result = to_onnx(model, recipe, top1=top1, seed=args.seed, epochs=epochs)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(result, path)
    sys.stderr.write(f"{path}: {path.stat().st_size} bytes, held-out top-1 {top1:.2%}\n")


if __name__ == "__main__":
    main()
