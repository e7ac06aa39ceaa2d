from dates import is_leap


def test_every_fourth_year():
    assert is_leap(2024)
    assert not is_leap(2023)


def test_turn_of_a_century():
    assert not is_leap(1900)
    assert is_leap(2000)
