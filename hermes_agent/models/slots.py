"""The attention cache of several turns at once: each has a slot, and begins at its slot's beginning.

Turns of any length share a forward pass that way, and come and go without the others being moved. What lies behind a
slot's end is masked; on the CPU the embedded model does not even look at it, see `attend_by_row`.
"""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeArgument=false

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from hermes_agent.models.decoding import forward_takes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Slots", "attend_by_row", "can_share"]

_ROOM = 128
_BY_ROW = "hermes_agent_rows"


def can_share(model: PreTrainedModel, cache: DynamicCache) -> bool:
    """Whether turns can be written together: every layer sees all that went before, and a mask can hide the rest.

    Not so for sliding windows, recurrent states and whatever else keeps a state of its own.

    Args:
        model: The weights.
        cache: One that the model has read something into.
    """
    config: Any = model.config.get_text_config()
    rope: Any = getattr(config, "rope_parameters", None) or {}
    ropes = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return (
        {"attention_mask", "position_ids"} <= forward_takes(model)
        and not any("mrope_section" in each for each in ropes)
        # Their frequencies follow the longest of all rows.
        and not any(each.get("rope_type") in ("dynamic", "longrope") for each in ropes)
        and "local" not in (getattr(config, "attention_layers", None) or ())  # a window by the place in the cache
        and all(type(layer) is DynamicLayer and layer.is_initialized for layer in cache.layers)
    )


def attend_by_row(model: PreTrainedModel) -> None:
    """Have a model on the CPU attend to each turn's own keys, with the call that a turn alone makes.

    Sums over padding have another order than sums without it, and differ in the last bit; this way they do not.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    if _attention(model) != "sdpa":
        return

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, lengths: Any = None, **options: Any) -> Any:
        if lengths is None:
            return sdpa_attention_forward(module, query, key, value, mask, **options)
        found = torch.empty_like(query)
        shared = query.shape[1] != key.shape[1]
        for i, n in enumerate(lengths):
            found[i : i + 1] = nn.functional.scaled_dot_product_attention(
                query[i : i + 1], key[i : i + 1, :, :n], value[i : i + 1, :, :n],
                scale=options.get("scaling"), enable_gqa=shared,
            )  # fmt: skip
        return found.transpose(1, 2).contiguous(), None

    untyped: tuple[Any, Any] = AttentionInterface, AttentionMaskInterface
    untyped[0].register(_BY_ROW, attend)
    untyped[1].register(_BY_ROW, sdpa_mask)
    model.set_attn_implementation(_BY_ROW)


def _attention(model: PreTrainedModel) -> object:
    return model.config._attn_implementation  # pyright: ignore[reportPrivateUsage]  # it has no public name


class Slots:
    """Turns that are written together. A turn is known by its place, from 0; the last takes the place of one that goes.

    Args:
        model: The weights.
        options: What else every forward pass is given.
    """

    def __init__(self, model: PreTrainedModel, options: dict[str, Any]) -> None:
        self._model = model
        self._options = options
        self._by_row = _attention(model) == _BY_ROW
        self._shared = _Shared()
        self._layers: list[_Layer] = []

    def __len__(self) -> int:
        return len(self._shared.lengths)

    def join(self, cache: DynamicCache) -> None:
        """Take in a turn whose prompt was read into a cache of its own, which stays as it is."""
        if not self._layers:
            self._layers = [_Layer(self._shared) for _ in cache.layers]
        for own, layer in zip(self._layers, cache.layers, strict=True):
            read: Any = layer
            own.take_in(read.keys, read.values)
        self._shared.lengths.append(cache.get_seq_length())

    def leave(self, place: int) -> None:
        """Let a turn go."""
        last = len(self) - 1
        if last == 0:
            self.clear()
            return
        for layer in self._layers:
            layer.move(last, place)
        self._shared.lengths[place] = self._shared.lengths[last]
        self._shared.lengths.pop()
        for layer in self._layers:
            layer.shrink()

    def clear(self) -> None:
        """Let all go, and their memory with them."""
        self._shared.lengths.clear()
        self._layers = []

    def forward(self, tokens: Sequence[int]) -> torch.Tensor:
        """Read one token a turn; the float32 logits behind them, ``[turns, vocabulary]``."""
        device, lengths = self._model.device, self._shared.lengths
        with torch.inference_mode():
            positions = torch.tensor(lengths, device=device)
            options: dict[str, Any] = dict(self._options)
            if self._by_row:
                options["lengths"] = [n + 1 for n in lengths]
            elif len(set(lengths)) > 1:
                seen = torch.arange(max(lengths) + 1, device=device) <= positions[:, None]
                options["attention_mask"] = seen.long()
            self._shared.indexes.clear()
            out: Any = self._model(
                input_ids=torch.tensor(tokens, device=device)[:, None],
                position_ids=positions[:, None],
                past_key_values=Cache(layers=[*self._layers]),
                use_cache=True,
                **options,
            )
            self._shared.lengths[:] = [n + 1 for n in lengths]
            logits: torch.Tensor = out.logits[:, -1].float()
        return logits


class _Shared:
    """What all layers know: how much every slot holds."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.indexes: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def index(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Every slot, and where its next token goes; once a pass and device."""
        if device not in self.indexes:
            ends = torch.tensor(self.lengths, device=device)
            self.indexes[device] = torch.arange(len(self.lengths), device=device), ends
        return self.indexes[device]


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__
    """Keys and values of one layer, ``[slots, heads, room, size]``; behind a slot's end are zeros.

    What is masked must be a number all the same: nothing times NaN is NaN.
    """

    def __init__(self, shared: _Shared) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of transformers
        self._shared = shared

    def _held(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.keys, self.values
        if keys is None or values is None:
            raise RuntimeError("no turn has been taken in")
        return keys, values

    def take_in(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Fill the next slot from ``[1, heads, tokens, size]``."""
        if not self.is_initialized:
            self.dtype, self.device = keys.dtype, keys.device
            self.keys, self.values = keys[:0, :, :0], values[:0, :, :0]
            self.is_initialized = True
        place, length = len(self._shared.lengths), keys.shape[2]
        self._grow(place + 1, length + 1)
        for own, new in zip(self._held(), (keys, values), strict=True):
            own[place, :, :length] = new[0]
            own[place, :, length:] = 0

    def move(self, source: int, target: int) -> None:
        """Copy a slot to another."""
        length = self._shared.lengths[source]
        if source != target:
            for own in self._held():
                own[target, :, :length] = own[source, :, :length]
                own[target, :, length:] = 0

    def shrink(self) -> None:
        """Give back what a long turn, or many, needed and nobody needs any more."""
        keys, values = self._held()
        slots, longest = len(self._shared.lengths), self.get_seq_length()
        if keys.shape[0] > 4 * slots or keys.shape[2] > 2 * (longest + _ROOM):
            self.keys = keys[: 2 * slots, :, : longest + _ROOM].clone()
            self.values = values[: 2 * slots, :, : longest + _ROOM].clone()

    def _grow(self, slots: int, room: int) -> None:
        """Make sure of so many slots and so much room in each."""
        keys, values = self._held()
        have, length = keys.shape[0], keys.shape[2]
        if slots <= have and room <= length:
            return
        slots = have if slots <= have else max(slots, min(2 * have, have + 8))
        room = length if room <= length else (room // _ROOM + 1) * _ROOM

        def grown(old: torch.Tensor) -> torch.Tensor:
            new = old.new_zeros((slots, old.shape[1], room, old.shape[3]))
            new[:have, :, :length] = old
            return new

        self.keys, self.values = grown(keys), grown(values)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put one token in every slot; all slots as far as the longest goes."""
        del args, kwargs
        longest = self.get_seq_length() + 1
        self._grow(len(self._shared.lengths), longest)
        keys, values = self._held()
        slots, ends = self._shared.index(keys.device)
        keys[slots, :, ends] = key_states[:, :, 0]
        values[slots, :, ends] = value_states[:, :, 0]
        return keys[: len(slots), :, :longest], values[: len(slots), :, :longest]

    def get_seq_length(self) -> int:
        """Tokens in the longest slot."""
        return max(self._shared.lengths, default=0)
