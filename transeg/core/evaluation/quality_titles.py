"""What tables call the measures of a generator's images; nothing heavy is imported."""

from __future__ import annotations

QUALITY = {
    "ssim": ("SSIM", 3),
    "psnr": ("PSNR", 1),
    "l1": ("L1", 4),
    "lpips": ("LPIPS", 3),
    "fid": ("FID", 1),
    "kid": ("KID", 4),
    "consistency_dice": ("consistency", 3),
    "consistency_dice_real": ("on real", 3),
    "roundtrip_ssim": ("and back: SSIM", 3),
    "roundtrip_psnr": ("PSNR", 1),
    "roundtrip_l1": ("L1", 4),
}
"""Titles and digits."""
