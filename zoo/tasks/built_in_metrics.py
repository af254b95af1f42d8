"""The measures of the built-in tasks. Listing them imports neither numpy nor a plugin."""

from __future__ import annotations

from zoo.contracts import Metric

PSNR = Metric("psnr_db", "PSNR", "dB", 2, loss_unit="dB", limit=3.0, hub="psnr")
SSIM = Metric("ssim", "SSIM")
#: Says what PSNR says.
MSE = Metric("mse", "MSE", decimals=6, higher_is_better=False, shown=False)
DICE = Metric("dice", "Dice", loss_unit="pt", limit=3.0)
IOU = Metric("iou", "IoU", loss_unit="pt", hub="mean_iou")
MEAN_IOU = Metric("miou", "mean IoU", decimals=2, percent=True, loss_unit="pt", limit=5.0, hub="mean_iou")
PIXEL_ACCURACY = Metric("pixel_accuracy", "pixel accuracy", decimals=2, percent=True, loss_unit="pt")
TOP1 = Metric("top1", "top-1", decimals=2, percent=True, loss_unit="pt", limit=10.0, hub="accuracy")
TOP5 = Metric("top5", "top-5", decimals=2, percent=True, loss_unit="pt", hub="top5_accuracy")
MEAN_AP = Metric(
    "map", "mAP", decimals=2, percent=True, loss_unit="pt", limit=5.0, hub="mean_average_precision"
)
AP50 = Metric("map50", "mAP at IoU 0.5", decimals=2, percent=True, loss_unit="pt")

#: Agreement with the original network, which needs no labels.
TOP1_AGREEMENT = Metric(
    "top1_agreement", "same top-1 class", decimals=1, percent=True, loss_unit="pt", limit=30.0
)
LOGITS_SNR = Metric("logits_sqnr_db", "logits, signal to error", "dB", 1)
PIXEL_AGREEMENT = Metric(
    "pixel_agreement", "same class of a pixel", decimals=1, percent=True, loss_unit="pt", limit=30.0
)
BOX_AGREEMENT = Metric(
    "box_agreement", "mAP against the original's boxes", decimals=1, percent=True, loss_unit="pt", limit=30.0
)
SIGNAL_TO_ERROR = Metric("signal_to_error_db", "signal to error", "dB", 1)
#: By how many dB the error adds to the power of the signal: 0 for none, 3 where the two are equal.
DEVIATION = Metric(
    "deviation_db", "deviation", "dB", 2, higher_is_better=False, loss_unit="dB", limit=1.0, shown=False
)

#: Every built-in measure by its key.
METRICS = {
    each.key: each
    for each in (
        PSNR, SSIM, MSE, DICE, IOU, MEAN_IOU, PIXEL_ACCURACY, TOP1, TOP5, MEAN_AP, AP50, TOP1_AGREEMENT, LOGITS_SNR,
        PIXEL_AGREEMENT, BOX_AGREEMENT, SIGNAL_TO_ERROR, DEVIATION,
    )
}  # fmt: skip
