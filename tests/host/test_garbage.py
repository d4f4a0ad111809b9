"""When Python looks for garbage."""

import gc

import pytest

from veil.host.garbage import uncollected


def test_it_is_as_it_was_before_also_after_an_error():
    with uncollected():
        assert not gc.isenabled()
    with pytest.raises(ZeroDivisionError), uncollected():
        1 / 0  # noqa: B018
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected(), uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
