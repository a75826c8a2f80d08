"""Small components in files of their own, with faults where tests want them."""

HEAD = """
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from transeg.core.interfaces import *
from transeg.core.interfaces import Dataset, Generator, Loss, Optimization, Phase, Sample, Segmenter
"""
NET = '''
class Net(Segmenter):
    """A network.

    Args:
        width: channels.
    """

    def __init__(self, in_channels, num_classes, *, width: int = 4):
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.last = nn.Conv2d(width, num_classes, 1)

    def forward(self, image):
        return self.last(self.first(image).relu())
'''
GENERATOR = '''
class Net(Generator):
    """A translator."""

    def __init__(self, source_channels, target_channels):
        super().__init__()
        self.net = nn.Conv2d(source_channels, target_channels, 3, padding=1)

    def optimizers(self):
        return {"net": Optimization(torch.optim.SGD(self.parameters(), 0.1))}

    def phases(self, batch):
        fake = self.translate(batch.source, "source-to-target")
        yield Phase(("net",), {"l1": (fake - batch.target).abs().mean()}, fake=fake)

    def translate(self, image, direction, noise=None):
        return self.net(image).tanh()
'''
LOSS = '''
class Net(Loss):
    """Mean square of the difference."""

    def forward(self, logits, target):
        known = target != IGNORE
        labels = target.where(known, 0)
        if logits.shape[1] == 1:
            wrong = (logits[:, 0].float().sigmoid() - labels).square()
        else:
            wrong = (logits.float().softmax(1) - F.one_hot(labels, logits.shape[1]).movedim(-1, 1)).square().mean(1)
        return (wrong * known).sum() / known.sum().clamp(min=1)
'''
DATASET = '''
class Net(Dataset):
    """Ten images."""

    def __init__(self, root, split):
        self.numbers = [i for i in range(10) if split in ("all", ("train", "val", "test")[i % 3])]

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        number = self.numbers[index]
        image = np.random.default_rng(number).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        mask = (image[:, :, 0] > 100).astype(np.uint8)
        return Sample(image, mask, f"image{number}", f"group{number}")
'''
METRIC = '''
def Net(probabilities, labels, pixel_size):
    """A share."""
    known = labels != IGNORE
    return float((probabilities.argmax(0) == labels)[known].mean()) if known.any() else None
'''
STRATEGY = '''
from transeg.core.interfaces import Stage, Strategy

class Net(Strategy):
    """One stage."""

    def stages(self, experiment):
        return [Stage("one", ("segmenter",))]

    def result(self, experiment):
        return {"segmenter": "one"}

    def summary(self, experiment):
        return "A segmenter learned"

    def task(self, stage, parts, build):
        from transeg.core.training.tasks import SegmentationTask
        segmenter, loss = build.segmenter(), build.loss()
        return SegmentationTask(segmenter, loss, build.optimization(segmenter, loss))
'''
ROWS = {
    "dataset": "needs_root = false",
    "metric": "higher_is_better = true",
    "strategy": 'needs = ["source", "segmenter"]\n[strategy.odd.defaults]\ndata = { sampling = "shuffle" }\n'
    "train = { iterations = 2, batch_size = 2, lr = 1e-3 }\naugmentation = { transforms = [] }",
}
SOURCES = {
    "segmenter": NET,
    "generator": GENERATOR,
    "loss": LOSS,
    "dataset": DATASET,
    "metric": METRIC,
    "strategy": STRATEGY,
}


def write_component(folder, kind, *changes, name="odd", row=""):
    """A manifest of one component called `odd`; texts of its source are replaced by others.

    Args:
        folder: that both files go to.
        kind: of the component.
        changes: pairs of what is replaced and by what.
        name: of the files.
        row: a further line of its table.
    """
    source = SOURCES[kind]
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    (folder / f"{name}.py").write_text(("" if kind == "strategy" else HEAD) + source)
    rows = f'entry = "{name}.py:Net"\nsummary = "Odd"\n{row}\n{ROWS.get(kind, "")}\n'
    (folder / f"{name}.toml").write_text(f"[plugin]\ncontract = 2\n[{kind}.odd]\n{rows}")
    return folder / f"{name}.toml"
