"""Lightning's Trainer."""

from __future__ import annotations

from benchmarks.workloads import RATE, Workload

NAME = "Lightning"
PACKAGES = ("lightning",)


def fit(work: Workload) -> None:
    import logging
    import warnings

    import lightning
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss_of = work.build(), work.loss

        def training_step(self, batch, index):
            loss = self.loss_of(self.net(batch[0]), batch[1])
            self.log("loss", loss, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch, index):
            outputs = self.net(batch[0])
            self.log("val_loss", self.loss_of(outputs, batch[1]))
            self.log("val_figure", work.figure(outputs, batch[1]))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=RATE)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning.Trainer(
            max_epochs=work.epochs,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        ).fit(
            Module(),
            DataLoader(TensorDataset(work.x, work.y), batch_size=work.batch, shuffle=True),
            DataLoader(TensorDataset(work.xv, work.yv), batch_size=512),
        )
