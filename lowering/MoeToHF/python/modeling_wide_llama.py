"""Llama with layers of different widths: `per_layer_config` gives a layer its own heads, key heads and FFN width.

    "per_layer_config": {"13": {"num_attention_heads": 18, "num_key_value_heads": 6, "intermediate_size": 3072}}

Layers are transformers' own; only the numbers that they are made with differ. `head_dim` is given, since it does not
follow from the heads of a wide layer.
"""

import copy

from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaModel,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)


class WideLlamaConfig(LlamaConfig):
    model_type = "wide_llama"
    # Engines ask the config for the numbers that most layers have.
    allow_global_per_layer_attribute_access = True

    def validate_architecture(self):
        """LlamaConfig insists on hidden_size % num_attention_heads == 0; here head_dim is given."""

    def of_layer(self, layer):
        if not isinstance(self.per_layer_config, dict):
            # Newer releases of transformers know the key, and give one config per layer.
            return self.per_layer_config[layer]
        config = copy.copy(self)
        for key, value in self.per_layer_config.get(str(layer), {}).items():
            setattr(config, key, value)
        return config


class WideLlamaPreTrainedModel(LlamaPreTrainedModel):
    config_class = WideLlamaConfig


class WideLlamaModel(LlamaModel, WideLlamaPreTrainedModel):
    config_class = WideLlamaConfig

    def __init__(self, config):
        WideLlamaPreTrainedModel.__init__(self, config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(
            LlamaDecoderLayer(config.of_layer(i), i) for i in range(config.num_hidden_layers)
        )
        for layer in self.layers:
            # The kind of attention is chosen later, in the model's config; widths are in the weights by now.
            layer.self_attn.config = config
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()


class WideLlamaForCausalLM(LlamaForCausalLM, WideLlamaPreTrainedModel):
    config_class = WideLlamaConfig

    def __init__(self, config):
        WideLlamaPreTrainedModel.__init__(self, config)
        self.model = WideLlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()
