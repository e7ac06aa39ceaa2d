import subprocess
import sys

import pytest

from foundation.prices import cost_usd, price_of


def test_prices_are_litellms():
    from litellm import model_cost

    listed = model_cost["gpt-4o-mini"]
    price = price_of("gpt-4o-mini")
    assert price is not None
    assert price.input == listed["input_cost_per_token"]
    assert price.output == listed["output_cost_per_token"]
    assert price.cached_input == listed["cache_read_input_token_cost"]


def test_cached_tokens_cost_their_own_price():
    price = price_of("gpt-4o-mini")
    assert price is not None
    whole = cost_usd("gpt-4o-mini", None, 1000, 100)
    assert whole == pytest.approx(1000 * price.input + 100 * price.output)
    cached = cost_usd("gpt-4o-mini", None, 1000, 100, cached_tokens=400)
    assert whole - cached == pytest.approx(400 * (price.input - price.cached_input))
    assert cost_usd("gpt-4o-mini", None, 10, 0, 99) == pytest.approx(10 * price.cached_input)


@pytest.mark.parametrize(
    ("model", "provider"),
    [("gpt-4o-mini", "openai"), ("openai/gpt-4o-mini", None), ("gpt-4o-mini", "somebody")],
)
def test_a_model_is_found_with_or_without_its_provider(model, provider):
    assert price_of(model, provider) == price_of("gpt-4o-mini")


@pytest.mark.parametrize("model", ["", "/", "coder-v3", "somebody/coder-v3", "openai/"])
def test_other_models_have_no_price(model):
    assert cost_usd(model, None, 10, 10) is None


def test_litellm_is_not_imported():
    code = (
        "import sys; from foundation.prices import price_of; assert price_of('gpt-4o-mini'); "
        "print('litellm' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
