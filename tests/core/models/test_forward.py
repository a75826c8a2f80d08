import pytest
import torch

from transeg.core.models.forward import to_classes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("classes", [2, 3, 6, 40])
def test_the_first_of_the_likeliest_classes_counts(dtype, classes):
    """Whatever the layout, and where nothing is a number, too."""
    logits = torch.randint(3, (2, classes, 37, 53), generator=torch.Generator().manual_seed(0)).to(dtype)
    logits[0, 1, :3] = torch.nan
    logits[1, :, 5] = -torch.inf
    last = logits.contiguous(memory_format=torch.channels_last)
    for each in (logits, last, logits[:, :, ::2], logits.transpose(2, 3), logits[:, :, :1, :1]):
        assert torch.equal(to_classes(each), each.argmax(1))
