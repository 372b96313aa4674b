"""Small helpers for frameworks. All of them hand out views of the shared memory; none copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Iterable, Iterator, Optional, Tuple

if TYPE_CHECKING:
    import torch

    from .model import Model


def torch_weights(
    model: "Model", names: Optional[Iterable[str]] = None, raw: bool = False
) -> "Iterator[Tuple[str, torch.Tensor]]":
    """Yields (name, tensor) in the manifest's order: what ``load_weights()`` of vLLM's models takes.

    :param names: only these, in this order
    :param raw: every tensor as one row of ``uint8``
    :raises DaxserveError: WORKER_NO_DTYPE at a tensor that torch has no type for, unless ``raw``
    """
    for name in model if names is None else names:
        yield name, model.torch(name, raw)


def torch_state_dict(
    model: "Model", names: Optional[Iterable[str]] = None, raw: bool = False
) -> "Dict[str, torch.Tensor]":
    """A state dict: for ``module.load_state_dict(..., assign=True)``, which keeps the shared memory, or for
    ``from_pretrained(None, config=..., state_dict=...)`` of transformers.

    A module that took its tensors by ``assign=True`` must not be trained: the memory is read-only.
    """
    return dict(torch_weights(model, names, raw))
