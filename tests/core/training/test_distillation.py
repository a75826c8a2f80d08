import copy

import pytest
import torch
from torch import nn

from transeg.core.errors import UsageError
from transeg.core.interfaces import Batch, DistillationLoss, Segmenter
from transeg.core.models.forward import to_probabilities
from transeg.core.models.layer_outputs import LayerOutputs, layers
from transeg.core.training.distillation import Distillation, Teacher, Term, to_channels


class Net(Segmenter):
    """A convolution, dropout and a head."""

    def __init__(self, outputs=1, width=4, channels=1):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.5))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, image):
        return self.head(self.body(image))


class Difference(DistillationLoss):
    """Keeps what it is given, and returns the mean difference."""

    def __init__(self, layer="logits", teacher_layer=None):
        super().__init__()
        self.layer = layer
        self.teacher_layer = teacher_layer or layer
        self.seen = []
        self.prepared = 0

    def prepare(self, student, teacher):
        self.prepared += 1

    def forward(self, student, teacher):
        self.seen.append((student, teacher))
        return (student[self.layer].mean() - teacher[self.teacher_layer].mean()).abs()


def batch(source=0.5, target=None):
    return Batch(
        source=torch.full((2, 1, 8, 8), source),
        source_mask=torch.ones(2, 8, 8, dtype=torch.long),
        target=None if target is None else torch.full((2, 1, 8, 8), target),
        positions=torch.arange(2),
        seed=1,
    )


def teacher(network=None, precision=torch.float32, name="teacher"):
    return Teacher(name, network or Net(), 1, 2, precision)


def distil(student, *pairs, sees="student"):
    return Distillation(student, [(t, [Term(f"term{i}", w, loss)]) for i, (t, w, loss) in enumerate(pairs)], sees)


def test_a_teacher_is_frozen_and_in_eval_mode_whatever_the_student_does():
    network = Net()
    before = copy.deepcopy(network.state_dict())
    student, loss = Net().train(), Difference()
    distillation = distil(student, (teacher(network), 1.0, loss))
    distillation.train()
    image = torch.randn(2, 1, 8, 8)
    total = sum(distillation(student(image), image, batch()).values())
    total.backward()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not loss.seen[0][1]["logits"].requires_grad
    assert student.head.weight.grad.abs().sum() > 0


def test_the_teacher_is_neither_saved_nor_trained_nor_counted():
    student = Net()
    distillation = distil(student, (teacher(), 1.0, Difference()))
    assert distillation.state_dict() == {}
    assert list(distillation.parameters()) == []


def test_layers_are_handed_over_by_name():
    student, network, loss = Net(width=4), Net(width=6), Difference("body", "body.0")
    distillation = distil(student, (teacher(network), 1.0, loss))
    image = torch.randn(2, 1, 8, 8)
    distillation(student(image), image, batch())
    ours, theirs = loss.seen[0]
    assert ours["body"].shape == (2, 4, 8, 8)
    assert ours["body"].requires_grad
    assert torch.allclose(theirs["body.0"], network.body[0](image))


def test_closing_leaves_the_student_as_it_was():
    student = Net()
    distillation = distil(student, (teacher(), 1.0, Difference("body")))
    assert student.body._forward_hooks
    distillation.close()
    assert not student.body._forward_hooks


def test_teachers_go_back_to_where_the_next_training_finds_them():
    places = []

    class Moved(Net):
        def to(self, place, *rest, **named):
            places.append(place)
            return super().to(place, *rest, **named)

    distillation = distil(Net(), (teacher(Moved()), 1.0, Difference()))
    distillation.to_device(torch.device("cpu", 0))
    distillation.close()
    assert places == [torch.float32, torch.device("cpu", 0), torch.device("cpu")]


def test_a_teacher_carries_nothing_between_its_passes():
    network = Net()
    distillation = distil(Net(), (teacher(network), 1.0, Difference("body")))
    student_image = torch.randn(2, 1, 8, 8)
    distillation._taps.outputs["body"] = student_image
    distillation(student_image, student_image, batch())
    assert not network.body._forward_hooks


@pytest.mark.parametrize(("sees", "value"), [("student", 0.1), ("source", 0.5), ("paired", 0.9)])
def test_teachers_see_the_image_that_was_asked_for(sees, value):
    class Echo(Segmenter):
        def forward(self, image):
            return image

    loss = Difference()
    network = Echo()
    network.mean, network.std = (0.5,), (0.5,)
    distillation = distil(Echo(), (teacher(network), 1.0, loss), sees=sees)
    image = torch.full((2, 1, 8, 8), 0.1)
    distillation(image, image, batch(0.5, 0.9))
    assert loss.seen[0][1]["logits"].mean().item() == pytest.approx(value)


def test_terms_of_one_label_add_up_over_the_teachers():
    losses = [Difference(), Difference()]
    student, image = Net(), torch.randn(2, 1, 8, 8)
    pairs = [(teacher(name=str(i)), [Term("kl", 0.25, loss)]) for i, loss in enumerate(losses)]
    distillation = Distillation(student, pairs, "student")
    logits = student(image)
    (total,) = distillation(logits, image, batch()).values()
    separate = [0.25 * (logits.mean() - loss.seen[0][1]["logits"].mean()).abs() for loss in losses]
    assert total.item() == pytest.approx(sum(separate).item())


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_teachers_answer_in_float32(precision):
    network = Net().eval()
    image = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        exact = network(image)
    found = teacher(network, precision).outputs(image, {"body"}, 1)
    assert network.head.weight.dtype == precision
    assert {output.dtype for output in found.values()} == {torch.float32}
    assert torch.allclose(found["logits"], exact, atol=0.05)


def test_logits_of_two_classes_change_channels_and_keep_their_meaning():
    one, two = torch.randn(2, 1, 3, 3), torch.randn(2, 2, 3, 3)
    assert torch.allclose(to_probabilities(to_channels(one, 2)), to_probabilities(one), atol=1e-6)
    assert torch.allclose(to_probabilities(to_channels(two, 1)), to_probabilities(two), atol=1e-6)
    assert to_channels(two, 2) is two


def test_unknown_layers_get_the_nearest_name():
    with pytest.raises(UsageError, match=r"has no layer 'bodi'.*body"):
        LayerOutputs(Net(), ["bodi"], "The student")


def test_losses_are_prepared_once_and_the_student_keeps_its_mode():
    student, loss = Net().train(), Difference("body")
    distillation = distil(student, (teacher(), 1.0, loss))
    before = copy.deepcopy(student.state_dict())
    distillation.prepare(student, torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))
    assert loss.prepared == 1
    assert student.training
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())


def test_layers_have_channels_and_strides():
    class Two(Segmenter):
        def __init__(self):
            super().__init__()
            self.down = nn.Conv2d(3, 7, 3, stride=2, padding=1)
            self.up = nn.ConvTranspose2d(7, 2, 2, stride=2)

        def forward(self, image):
            return self.up(self.down(image))

    with torch.device("meta"):
        network = Two().train()
    assert [(layer.name, layer.channels, layer.stride) for layer in layers(network, 3)] == [
        ("down", 7, 2),
        ("up", 2, 1),
    ]
    assert network.training
