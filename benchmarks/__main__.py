"""Every benchmark, one after the other, each in a process of its own: `make bench`, or `python -m benchmarks`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One script of this folder.

    Attributes:
        name: Its module.
        about: What it measures.
        peers: It runs in the environment that has the other libraries.
        data: What it reads below the folder of ``--data``; it is left out when there is none.
        quick: Its arguments for a short run; ``None`` leaves it out of one.
    """

    name: str
    about: str
    peers: bool = False
    data: str | None = None
    quick: tuple[str, ...] | None = None


BENCHMARKS = (
    Benchmark("loop", "CPU time a tool turn, beside other libraries", peers=True, quick=("--quick",)),
    Benchmark("imports", "CPU time of the import, beside other libraries", peers=True, quick=("--quick",)),
    Benchmark("many_tools", "starting a run with 500 tools, and compiling their grammar", quick=("--quick",)),
    Benchmark("endpoint", "CPU time a streamed token, beside the bare openai client", quick=("--quick",)),
    Benchmark("jobs", "rows a second of a job beside its model, and memory", quick=("--quick",)),
    Benchmark("soak", "10,000 runs that mostly go wrong: nothing lost, nothing left behind", quick=("--quick",)),
    Benchmark("laws", "failure classes read right, laws that hold"),
    Benchmark("parser", "throughput of the parser, and its time on hostile text"),
    Benchmark("grammar", "compiling a turn grammar, and masks at three vocabularies"),
    Benchmark("bfcl", "gold calls: accepted, parsed back, validated", data="bfcl"),
    Benchmark("maskbench", "real schemas: passed, too loose, too tight, refused", data="maskbench_sample.jsonl"),
    Benchmark("gold", "right answers of extraction sets: accepted by the grammar, valid", data="extraction"),
    Benchmark("extraction", "valid objects, field F1 and rows/s of the embedded model, by library", data="extraction"),
    Benchmark("batches", "rows of a job on the embedded model, alone and together", quick=("--rows", "8")),
    Benchmark("decoding", "constrained and free decoding on the embedded model"),
)


def main() -> None:
    names = [benchmark.name for benchmark in BENCHMARKS]
    options = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(__doc__ or "") + "\n\n" + "\n".join(f"  {b.name:<11}{b.about}" for b in BENCHMARKS),
    )
    options.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="run these alone")
    options.add_argument(
        "--data", type=Path, metavar="FOLDER", help="with bfcl/, extraction/ and maskbench_sample.jsonl"
    )
    options.add_argument("--quick", action="store_true", help="short runs of the cheap ones, to see that they work")
    options.add_argument(
        "--peers",
        type=Path,
        metavar="PYTHON",
        default=PEERS if PEERS.exists() else Path(sys.executable),
        help="an interpreter that has the libraries of benchmarks/peers.txt (default: .venv-peers, else this one)",
    )
    given = options.parse_args()
    failed = [
        benchmark.name
        for benchmark in BENCHMARKS
        if benchmark.name in given.only and not run(benchmark, data=given.data, quick=given.quick, peers=given.peers)
    ]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(benchmark: Benchmark, *, data: Path | None, quick: bool, peers: Path) -> bool:
    """Run one benchmark, its output going where ours goes.

    Returns:
        False when it failed; a benchmark that was left out has not.
    """
    if quick and benchmark.quick is None:
        return True
    arguments = list(benchmark.quick or ()) if quick else []
    if benchmark.data is not None:
        if data is None:
            print(f"({benchmark.name} needs --data with {benchmark.data} in it: left out)\n", flush=True)
            return True
        arguments += ["--data", str((data / benchmark.data).resolve())]
    python = str(peers) if benchmark.peers else sys.executable
    started = time.monotonic()
    code = subprocess.run([python, "-m", f"benchmarks.{benchmark.name}", *arguments], cwd=ROOT, check=False).returncode
    print(f"({benchmark.name}: {time.monotonic() - started:.0f} s)\n", flush=True)
    return code == 0


if __name__ == "__main__":
    main()
