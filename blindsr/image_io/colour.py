"""CMYK to sRGB, the one colour conversion that is made: the networks' neighbours in colour are RGB or gray."""

import io
from typing import Any

from PIL import Image, ImageCms

__all__ = ["cmyk_to_srgb"]


def cmyk_to_srgb(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes, str]:
    """Convert a CMYK picture through its profile.

    Returns:
        The RGB picture, its sRGB profile, and a sentence for the user.
    """
    srgb: Any = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    srgb_bytes: bytes = srgb.tobytes()
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, srgb, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            reason = "its profile cannot be used"
        else:
            if converted is not None:
                return converted, srgb_bytes, "CMYK was converted to sRGB through the profile in the file"
            reason = "its profile cannot be used"
    else:
        reason = "the file has no profile"
    note = f"CMYK was converted to sRGB by the plain rule, as {reason}: colours may differ from print"
    return picture.convert("RGB"), srgb_bytes, note
