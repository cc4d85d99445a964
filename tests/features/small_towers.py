"""Models of transformers with two small layers per tower and random weights, in the form of the real folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

WORDS = ("<pad>", "<end>", "<start>", "<unknown>", "a", "the", "red", "dog", "cats", "runs", "and", "two")
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SEEN = {"hidden_size": 16, "image_size": 32, "patch_size": 16, **LAYERS}
READ = {"hidden_size": 16, "vocab_size": len(WORDS), "max_position_embeddings": 12, **LAYERS}
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
CROPPED = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
KINDS = ("clip", "siglip", "siglip2", "blip", "blip_retrieval", "dinov2", "dinov2_with_registers", "dinov3_vit")


def hugging_face_folder(folder: Path, kind: str = "clip", **saved: object) -> str:
    """Write a model's folder, as `save_pretrained` and the Hugging Face hub have it, and return its path.

    Parameters
    ----------
    kind : one of `KINDS`.
    saved : options of `save_pretrained`.
    """
    t = pytest.importorskip("transformers", reason="the extra is not installed")
    place = folder / kind
    text = {**READ, **SPECIAL}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "clip":
            model = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=SEEN, projection_dim=12))
            images = t.CLIPImageProcessor(**CROPPED)
        elif kind == "siglip":
            model = t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=SEEN))
            images = t.SiglipImageProcessor(size={"height": 32, "width": 32})
        elif kind == "siglip2":
            seen = {**SEEN, "num_patches": 16, "patch_size": 8}
            model = t.Siglip2Model(t.Siglip2Config(text_config=text, vision_config=seen))
            images = t.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        elif kind.startswith("blip"):
            config = t.BlipConfig(text_config=text, vision_config=SEEN, projection_dim=12, image_text_hidden_size=12)
            model = (t.BlipForImageTextRetrieval if kind == "blip_retrieval" else t.BlipModel)(config)
            images = t.BlipImageProcessor(size={"height": 32, "width": 32})
        else:
            names = {"dinov2": "Dinov2", "dinov2_with_registers": "Dinov2WithRegisters", "dinov3_vit": "DINOv3ViT"}
            name = names[kind]
            registers = {} if kind == "dinov2" else {"num_register_tokens": 4}
            model = getattr(t, f"{name}Model")(getattr(t, f"{name}Config")(**SEEN, **registers))
            images = t.BitImageProcessor(**CROPPED)
        for parameter in model.parameters():  # those that begin as zeros would hide what is left out
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(place, **saved)
    images.save_pretrained(place)
    if not kind.startswith("dino"):
        _tokenizer(t).save_pretrained(place)
    return str(place)


def _tokenizer(transformers):
    """Whole words between `<start>` and `<end>`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    one = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unknown>"))
    one.normalizer, one.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    one.post_processor = processors.TemplateProcessing("<start> $A <end>", None, [("<start>", 2), ("<end>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=one, pad_token="<pad>", eos_token="<end>", bos_token="<start>", unk_token="<unknown>"
    )
