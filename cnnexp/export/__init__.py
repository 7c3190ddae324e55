"""Trained networks as files for other programs: ONNX, torch.export and safetensors, each checked, with a model card."""
