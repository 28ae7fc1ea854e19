"""A folder of diffusers draws what its own pipeline draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import maas_magics as maas
from maas_magics.api.errors import MaasError, ModelError
from maas_magics.session import current

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of the library, about itself

WORDS = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", *["a", "red", "blue", "circle", "square", "left", "of", "the"]]


def pipeline(scheduler: str, **more: Any) -> Any:
    """A pipeline of random weights, of a few numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    known = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    known.post_processor = processors.TemplateProcessing("[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)])
    words = PreTrainedTokenizerFast(
        tokenizer_object=known, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]", unk_token="[UNK]",
        model_max_length=12,
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, norm_num_groups=4, attention_head_dim=4,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4, norm_num_groups=4,
    )  # fmt: skip
    return diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=words, unet=unet,
        scheduler=getattr(diffusers, scheduler)(num_train_timesteps=100, **more),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler"])
def test_a_folder_draws_what_its_pipeline_draws(scheduler: str, store: Path, tmp_path: Path) -> None:
    made = pipeline(scheduler)
    made.set_progress_bar_config(disable=True)
    made.save_pretrained(tmp_path / "pipe")
    info = maas.import_model(str(tmp_path / "pipe"), "drawer")
    assert info.draws and info.signature.outputs[0].shape == (-1, 8, 8, 3)
    captions = ["a red circle left of the square", "blue"]
    found = maas.predict("drawer", captions, seed=3, steps=4, guidance=5.0)
    latents = [np.random.default_rng(3 + row).standard_normal((1, 4, 4, 4)).astype(np.float32) for row in range(2)]
    wanted = made(
        captions, num_inference_steps=4, guidance_scale=5.0, latents=torch.from_numpy(np.concatenate(latents)),
        output_type="np",
    ).images  # fmt: skip
    assert np.abs(found.array.astype(int) - np.round(wanted * 255)).max() <= 1
    assert np.ptp(found.array) > 20
    plain = maas.predict("drawer", captions[:1], seed=3, steps=4, guidance=1.0)
    without = made(
        captions[:1], num_inference_steps=4, guidance_scale=1.0, latents=torch.from_numpy(latents[0]), output_type="np"
    ).images
    assert np.abs(plain.array.astype(int) - np.round(without * 255)).max() <= 1


def test_what_a_pipeline_cannot_do_is_said(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pipe"
    pipeline("DDIMScheduler").save_pretrained(folder)
    maas.import_model(str(folder), "drawer", column="prompt")
    assert current().backend.models.get("drawer").signature.inputs[0].name == "prompt"
    with pytest.raises(MaasError, match="no export"):
        maas.export("drawer")
    with pytest.raises(MaasError, match="trained here to draw"):
        maas.evaluate("drawer", pd.DataFrame({"picture": [np.zeros((8, 8))], "prompt": ["a"]}))
    with pytest.raises(MaasError, match="more than 12 tokens"):
        maas.predict("drawer", "a red circle " * 5)
    with pytest.raises(MaasError, match="is imported, and not trained"):
        maas.train("other", data=[], target="picture", model=f"diffusers:{folder}")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "FluxPipeline"))
    with pytest.raises(ModelError, match="FluxPipeline"):
        maas.import_model(str(folder), "other", kind="text-to-image")
    for file in folder.glob("*/*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match="no weights as safetensors"):
        maas.import_model(str(folder), "other")
