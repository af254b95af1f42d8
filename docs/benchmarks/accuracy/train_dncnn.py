"""Train zoo's `dncnn` for the accuracy benchmark: gray, sigma 25, on crops from zoo's dataset `pairs`.

python docs/benchmarks/accuracy/train_dncnn.py --photos DIR --out FOLDER [--minutes 5]
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from nets import denoiser, denoising
from torch.nn import functional as F

from zoo.architectures.dncnn_module import DnCnn

_BATCH, _SIDE = 16, 48


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0, help="of processor time")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    crops = denoising(arguments.photos).crops(denoiser(), _SIDE, seed=0)
    net = DnCnn(1).train()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    begun, step, total = time.process_time(), 0, 60 * arguments.minutes
    while (spent := time.process_time() - begun) < total:
        batch = list(islice(crops, _BATCH))
        noisy, clean = (
            torch.from_numpy(np.stack(each))
            for each in zip(*((c.inputs, c.target) for c in batch), strict=True)
        )
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * max(0.01, 1 - spent / total)
        loss = F.mse_loss(net(noisy), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), arguments.out / "dncnn.pt")
    print(f"{step} steps, last loss {float(loss.detach()):.5f}")


if __name__ == "__main__":
    main()
