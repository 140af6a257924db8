"""Bring your own Hugging Face model: a hub id or a folder, as transformers takes it.

    python examples/own_model.py NousResearch/Hermes-4-14B
    python examples/own_model.py ./my-finetune

Everything that ``from_pretrained`` takes can be passed through: dtype, device_map, quantization_config, a LoRA adapter.
"""

import sys

from hermes_agent.models.local import LocalModel

from hermes_agent import Agent, Limits
from hermes_agent.toolbox import clock


def main(model_id: str) -> None:
    """Ask the model for the time; its answer has to be made of a call and a text."""
    model = LocalModel(model_id, dtype="auto", device_map="auto")
    print(f"{model.name} speaks the dialect {model.dialect.name!r}")
    agent = Agent(model, tools=[clock], tool_choice="required", limits=Limits(turn_tokens=256))
    result = agent.run_sync("What time is it?")
    print(result.output)
    print(f"guarantee: {result.guarantee}")


if __name__ == "__main__":
    main(sys.argv[1])
