"""ViT of transformers in PyTorch: writes a folder with random weights, and the hidden states and logits of some images.

`python vit_reference.py JOB` reads a JSON file: `images` (.npy, float32 (batch, height, width, 3), 0 to 1), `folder` to
write, `answers` (.npz to write), `config`, and `body` (true leaves out the classifier).
"""

import json
import sys

import numpy as np
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTModel


def main(job):
    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(**job["config"]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.eval().save_pretrained(job["folder"])
    if job.get("body"):
        ViTModel(model.config).save_pretrained(job["folder"])
    settings = {"do_normalize": True, "do_rescale": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    with open(f"{job['folder']}/preprocessor_config.json", "w", encoding="utf-8") as file:
        json.dump(settings, file)
    pixels = torch.tensor(np.load(job["images"]).transpose(0, 3, 1, 2) * np.float32(2) - 1)
    with torch.no_grad():
        outputs = model(pixels, output_hidden_states=True)
    states = {f"state_{i}": state.numpy() for i, state in enumerate(outputs.hidden_states)}
    np.savez(job["answers"], logits=outputs.logits.numpy(), **states)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file))
