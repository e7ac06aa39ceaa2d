import pytest
from tiny_base import build_tiny_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def tokenizer(tiny_base):
    from trainer.base import load_tokenizer

    return load_tokenizer(str(tiny_base))
