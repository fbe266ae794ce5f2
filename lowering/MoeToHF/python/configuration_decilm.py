"""Configuration of a Llama whose layers differ (model_type nemotron-nas), for engines that bring the model themselves.

transformers has no such class. Engines read `block_configs` by attribute: block_configs[3].ffn.ffn_mult.
"""

from types import SimpleNamespace

from transformers import LlamaConfig


def _to_namespace(value):
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _to_namespace(item) for key, item in value.items()})
    return value


class DeciLMConfig(LlamaConfig):
    model_type = "nemotron-nas"

    def __init__(self, block_configs=None, **kwargs):
        blocks = block_configs or []
        # LlamaConfig wants one number for all layers; engines ask the blocks.
        groups = [block["attention"]["n_heads_in_group"] for block in blocks]
        heads = kwargs.get("num_attention_heads") or 32
        if kwargs.get("num_key_value_heads") is None:
            kwargs["num_key_value_heads"] = heads // min((group for group in groups if group), default=1)
        if kwargs.get("intermediate_size") is None:
            multiples = [block["ffn"]["ffn_mult"] or 0 for block in blocks]
            kwargs["intermediate_size"] = max(1, int(2 * max(multiples, default=0) * kwargs.get("hidden_size", 4096) / 3))
        super().__init__(**kwargs)
        self.block_dicts = blocks

    def validate_architecture(self):
        """LlamaConfig insists on hidden_size % num_attention_heads == 0; here head_dim is given."""

    @property
    def block_configs(self):
        return [_to_namespace(block) for block in self.block_dicts]

    def to_dict(self):
        result = super().to_dict()
        result["block_configs"] = result.pop("block_dicts", self.block_dicts)
        result["num_key_value_heads"] = result["intermediate_size"] = None
        return result
