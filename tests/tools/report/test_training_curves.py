from transeg.tools.report.training_curves import _rates


def test_learning_rates_that_lie_on_each_other_are_one_line():
    steps = [1, 2]
    curves = [{"G": (steps, [1.0, 0.5])}, {"D": (steps, [1.0, 0.501])}, {"segmenter": (steps, [0.1, 0.1])}]
    (drawn,) = _rates("rates", curves).values()
    assert "G, D from 1 at iteration 1 to 0.5 at 2; segmenter from 0.1" in drawn
    assert list(_rates("rates", curves[:2])) == ["learning rate of G, D"]
    assert not _rates("rates", [])
