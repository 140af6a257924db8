"""``hermes-sdk models``: what is cached, and what runs here."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hermes_agent.cli.exits import reported
from hermes_agent.cli.options import DebugOption, JsonOption
from hermes_agent.cli.terminal import console, json_line, safe

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo
    from rich.console import Console

__all__ = ["HELP", "app"]

HELP = """Show the models that are cached here, and what it takes to run them.

\b
Examples:
  hermes-sdk models
  hermes-sdk models --json
  hermes-sdk models fetch
"""

_PACKAGES = ("torch", "transformers", "accelerate", "outlines", "llguidance")

app = typer.Typer(help=HELP, invoke_without_command=True)


@app.callback()
def models(ctx: typer.Context, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show what is cached and what runs here."""
    if ctx.invoked_subcommand is not None:
        return
    with reported(debug):
        found = _look()
        if as_json:
            print(json_line(found))
        else:
            _show(found, console())


@app.command()
def fetch(debug: DebugOption = False) -> None:
    """Fetch the embedded model now, so that later runs need no network."""
    with reported(debug):
        from hermes_agent.models.embedded import ensure

        console().print(f"embedded is in {safe(str(ensure()))}")


def _look() -> dict[str, Any]:
    from hermes_agent.models import PROVIDERS
    from hermes_agent.models.embedded import cache_path, is_cached

    ready, folder = is_cached(), cache_path()
    return {
        "embedded": {"cached": ready, "folder": str(folder), "bytes": _bytes_in(folder) if ready else 0},
        "huggingface": _hub_models(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "names": dict(PROVIDERS),
    }


def _version(package: str) -> str | None:
    """The installed version, read from its metadata: importing torch costs seconds."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _hub_models() -> list[dict[str, Any]]:
    """Causal language models in the Hugging Face cache, by name."""
    try:
        from huggingface_hub import CacheNotFound, constants, scan_cache_dir
    except ImportError:
        return []
    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError):
        return []
    found = [
        {"name": f"hf:{repo.repo_id}", "bytes": repo.size_on_disk, "folder": str(repo.repo_path)}
        for repo in repos
        if repo.repo_type == "model" and _is_causal(repo)
    ]
    return sorted(found, key=lambda model: str(model["name"]))


def _is_causal(repo: CachedRepoInfo) -> bool:
    """Whether any cached revision says that it is a causal language model."""
    for revision in repo.revisions:
        for file in revision.files:
            if file.file_name == "config.json" and _names_causal(Path(file.file_path)):
                return True
    return False


def _names_causal(config: Path) -> bool:
    try:
        architectures = json.loads(config.read_text(encoding="utf-8")).get("architectures") or ()
        return any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)
    except (OSError, ValueError, AttributeError, TypeError):
        return False  # a broken download is no model


def _show(found: dict[str, Any], out: Console) -> None:
    def heading(text: str) -> None:
        out.print(text, style="bold")

    embedded = found["embedded"]
    heading("Cached here")
    if embedded["cached"]:
        out.print(f"  embedded  {_size(embedded['bytes'])}  {safe(embedded['folder'])}")
    else:
        out.print("  embedded  not fetched yet: the first run does it, or `hermes-sdk models fetch` now (93 MB)")
    for model in found["huggingface"]:
        out.print(f"  {safe(model['name'])}  {_size(model['bytes'])}  {safe(model['folder'])}")
    heading("Installed")
    for name, installed in found["packages"].items():
        out.print(f"  {name} {installed or 'is not installed'}")
    if not (found["packages"]["torch"] and found["packages"]["transformers"]):
        out.print('  Local models need both: pip install "hermes-agent-sdk[local]"', style="yellow")
    heading("Names for --model")
    for name, meaning in found["names"].items():
        out.print(f"  {name}  {meaning}")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
