from blindsr.zssr.schedule import should_divide_rate


def test_a_falling_error_keeps_the_rate():
    steps = list(range(50, 550, 50))
    assert not should_divide_rate(steps, [1.0 / step for step in steps], window=256, ratio=1.5)


def test_an_error_that_only_jitters_divides_the_rate():
    steps = list(range(50, 550, 50))
    errors = [1.0 + (0.01 if i % 2 else -0.01) for i in range(10)]
    assert should_divide_rate(steps, errors, window=256, ratio=1.5)


def test_too_few_looks_decide_nothing():
    assert not should_divide_rate([50, 100, 150], [1.0, 2.0, 1.0], window=256, ratio=1.5)


def test_only_the_window_is_looked_at():
    steps = list(range(50, 1050, 50))
    fell_long_ago = [100.0 / step for step in steps[:14]] + [7.0, 7.1, 7.0, 7.1, 7.0, 7.1]
    assert should_divide_rate(steps, fell_long_ago, window=256, ratio=1.5)
