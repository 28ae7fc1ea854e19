"""Hugging Face's Trainer."""

from __future__ import annotations

import contextlib
import io
import tempfile

from benchmarks.workloads import RATE, Workload

NAME = "HF Trainer"
PACKAGES = ("transformers", "accelerate")


def fit(work: Workload) -> None:
    import torch
    from torch import nn
    from torch.utils.data import Dataset
    from transformers import Trainer, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()

    class Rows(Dataset):
        def __init__(self, x, y):
            self.x, self.y = x, y

        def __len__(self):
            return len(self.x)

        def __getitem__(self, index):
            return {"x": self.x[index], "labels": self.y[index]}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.loss_of = work.build(), work.loss

        def forward(self, x, labels):
            outputs = self.net(x)
            return {"loss": self.loss_of(outputs, labels), "logits": outputs}

    def figures(found):
        return {"figure": float(work.figure(torch.as_tensor(found.predictions), torch.as_tensor(found.label_ids)))}

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        net = Net()
        arguments = TrainingArguments(
            folder,
            num_train_epochs=work.epochs,
            per_device_train_batch_size=work.batch,
            per_device_eval_batch_size=512,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
        Trainer(
            net,
            arguments,
            train_dataset=Rows(work.x, work.y),
            eval_dataset=Rows(work.xv, work.yv),
            compute_metrics=figures,
            optimizers=(optimizer, None),
        ).train()
