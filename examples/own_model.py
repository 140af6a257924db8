"""Bring your own Hugging Face model: a hub id or a folder, as transformers takes it.

    python examples/own_model.py NousResearch/Hermes-4-14B
    python examples/own_model.py ./my-finetune

Everything that ``from_pretrained`` takes can be passed through: dtype, device_map, quantization_config, a LoRA adapter.
"""

import sys
from typing import Literal

from hermes_agent import Agent, Sampling
from hermes_agent.models.local import LocalModel


def main(model_id: str) -> None:
    """Ask the model something; its answer has to be one of four words."""
    model = LocalModel(model_id, dtype="bfloat16", device_map="auto")
    print(f"{model.name} speaks the dialect {model.dialect.name!r}")
    agent = Agent(model, output=Literal["mercury", "venus", "earth", "mars"], sampling=Sampling(temperature=0.0))
    result = agent.run_sync("Which planet do people live on?")
    print(result.output)
    print(f"guarantee: {result.guarantee}")


if __name__ == "__main__":
    main(sys.argv[1])
