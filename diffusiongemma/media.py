"""Images and videos as the vision tower's inputs: opened with care, sampled, cut into patches."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MAX_PIXELS = 50_000_000  # a few hundred bytes of PNG can unpack to gigabytes
MAX_VIDEO_SECONDS = 60
# Containers of moving pictures only: FFmpeg would also play text files, and playlists that name other files.
_VIDEO_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,gif"


class ImageInput(NamedTuple):
    """One image or video frame: `pixels` [P, 3 * patch²] from 0 to 1 and the patches' grid `positions` [P, 2] (column,
    row; -1 for padding), worth `soft_tokens` tokens in the prompt."""

    pixels: Tensor
    positions: Tensor
    soft_tokens: int


@dataclass(frozen=True)
class MediaSettings:
    """Tokens an image and a video frame may take, and whether prompts may name files of this machine.

    For models that know images of one kind: how much longer than the other one side may be for an image to be stretched
    to a square (1: never), whether one that is mostly dark is shown as its negative, and the side, the page's width and
    the page's height, all in pixels, of a square image that is laid on the lower right corner of a white page (None: as
    large as the tokens allow, without a page), and the characters, a token each, that soft tokens are rounded to.
    """

    image_tokens: int = 280
    video_tokens: int = 70
    local_files: bool = True
    square_within: float = 1.0
    dark_on_light: bool = False
    page: tuple[int, int, int] | None = None
    symbols: str = ""

    @classmethod
    def from_checkpoint(cls, folder: Path, local_files: bool = True) -> MediaSettings:
        """As the checkpoint's processor files say; the release's defaults where they say nothing.

        `square_within`, `dark_on_light`, `page` and `symbols` are this package's own: transformers knows none of them.
        """
        image, video = _processor_file(folder)
        image_tokens = image.get("max_soft_tokens", cls.image_tokens)
        video_tokens = video.get("max_soft_tokens", min(image_tokens, cls.video_tokens))
        return cls(
            image_tokens,
            video_tokens,
            local_files,
            float(image.get("square_within", cls.square_within)),
            bool(image.get("dark_on_light", cls.dark_on_light)),
            _page(image.get("page")),
            str(image.get("symbols", cls.symbols)),
        )

    def shown(self, image: Image) -> Image:
        """An image as the model is to see it."""
        image = squared(image, self.square_within)
        image = dark_on_light(image) if self.dark_on_light else image
        return on_page(image, *self.page) if self.page and image.width == image.height else image


def _page(raw: Any) -> tuple[int, int, int] | None:
    if raw is None:
        return None
    side, width, height = (int(size) for size in raw)
    return side, width, height


def _processor_file(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            raw = json.loads((folder / name).read_text(encoding="utf-8"))
            return raw.get("image_processor", raw), raw.get("video_processor", {})
    return {}, {}


def load_image(source: str | Path | bytes | Image, local_files: bool = True) -> Image:
    """An RGB image, turned upright, from a file, the bytes of one, a `data:` URL or an image of Pillow's.

    Raises InputError for what is not an image, for more than `MAX_PIXELS`, and for files unless `local_files`.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = source if isinstance(source, Image.Image) else Image.open(_opened(source, "image", local_files))
        if image.width * image.height > MAX_PIXELS:
            raise InputError(
                f"one has {image.width} x {image.height} pixels, at most {MAX_PIXELS:,}: make it smaller",
                option="images",
            )
        return _on_white(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise InputError(f"{_shown(source)} is not an image: use PNG, JPEG, WebP or GIF", option="images") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{_shown(source)} cannot be read as an image: {error}", option="images") from error


def _on_white(image: Image) -> Image:
    """What a viewer shows of it on a white page, as RGB: transparency in any of the ways that files have of saying it,
    and samples of 16 bits, which Pillow cuts off where they are grey."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        image = _grey(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(page, image).convert("RGB")


def _grey(image: Image) -> Image:
    """Grey of 16 bits or of any numbers as grey of 8 bits; a grey that means "nothing here" becomes transparent."""
    import numpy as np
    from PIL import Image

    samples = np.asarray(image).astype(np.float64)
    most = 65535 if image.mode.startswith("I") else max(1.0, float(samples.max(initial=0)))
    grey = Image.fromarray(np.clip(samples * 255 / most, 0, 255).round().astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8)))
    return grey


def squared(image: Image, within: float) -> Image:
    """The image, stretched to a square if its longer side is at most `within` times the other."""
    short, long = sorted(image.size)
    return image.resize((long, long)) if short < long <= within * short else image


def on_page(image: Image, side: int, width: int, height: int) -> Image:
    """A square image, `side` pixels wide and high, on the lower right corner of a white page."""
    from PIL import Image

    page = Image.new("RGB", (width, height), "white")
    page.paste(image.resize((side, side), Image.Resampling.BICUBIC), (width - side, height - side))
    return page


def dark_on_light(image: Image) -> Image:
    """The image, or its negative if more than half of it is dark."""
    from PIL import ImageOps, ImageStat

    return ImageOps.invert(image) if ImageStat.Stat(image.convert("L")).median[0] < 128 else image


def image_inputs(
    images: Sequence[Image], vision_config: Any, max_soft_tokens: int = 280, page: tuple[int, int] | None = None
) -> list[ImageInput]:
    """Images as the vision tower takes them, each scaled to use at most `max_soft_tokens` and keep its proportions.

    Those of the size of the `page` (width, height) stay as they are.
    `vision_config`: mapping or object with `patch_size` and `pooling_kernel_size`. P = max_soft_tokens * pooling².
    Raises InputError for a number of tokens that the release does not know (70, 140, 280, 560 or 1120).
    """
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

    grid: dict[str, Any] = {name: _setting(vision_config, name) for name in ("patch_size", "pooling_kernel_size")}
    try:
        processor = Gemma4ImageProcessorPil(max_soft_tokens=max_soft_tokens, **grid)
        made = [processor.preprocess([image], return_tensors="pt", do_resize=image.size != page) for image in images]
    except ValueError as error:
        raise InputError(f"they cannot be prepared: {error}", option="images") from error
    return [
        ImageInput(one["pixel_values"][0], one["image_position_ids"][0], int(one["num_soft_tokens_per_image"][0]))
        for one in made
    ]


def sample_video(source: str | Path | bytes, local_files: bool = True) -> list[tuple[float, Image]]:
    """One frame a second with its time in seconds, from a file, the bytes of one or a `data:` URL.

    Raises InputError without PyAV, for what is not a video, and for more than 60 seconds.
    """
    try:
        import av
    except ImportError:
        raise InputError("reading a video needs PyAV: pip install 'diffusiongemma[video]'", option="video") from None
    try:
        with (
            _opened(source, "video", local_files) as file,
            av.open(file, options={"format_whitelist": _VIDEO_FORMATS}) as container,
        ):
            frames = list(_frames_by_second(container))
    except (OSError, av.FFmpegError) as error:
        raise InputError(f"{_shown(source)} cannot be read as a video: {error}", option="video") from error
    if not frames:
        raise InputError(f"{_shown(source)} has no pictures: use a video", option="video")
    return frames


def timestamp(seconds: float) -> str:
    """`mm:ss`, as the model reads it before each frame."""
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def _frames_by_second(container: Any) -> Iterator[tuple[float, Image]]:
    if not container.streams.video:
        return
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_PIXELS:
        raise InputError(
            f"it has {stream.width} x {stream.height} pixels, at most {MAX_PIXELS:,}: make it smaller", option="video"
        )
    _check_duration((container.duration or 0) / 1_000_000)  # microseconds
    start, due = None, 0.0
    for frame in container.decode(stream):
        start = frame.time if start is None else start
        seconds = (frame.time or 0.0) - (start or 0.0)
        _check_duration(seconds)
        if due <= seconds < MAX_VIDEO_SECONDS:
            yield seconds, frame.to_image()
            due = int(seconds) + 1


def _check_duration(seconds: float) -> None:
    if seconds >= MAX_VIDEO_SECONDS + 0.5:  # containers round up
        raise InputError(f"it has {seconds:.0f} s, at most {MAX_VIDEO_SECONDS} s: cut it", option="video")


_OPTIONS = {"image": "images", "video": "video"}  # by kind


def _opened(source: Any, kind: str, local_files: bool) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, str) and source.startswith("data:"):
        return io.BytesIO(_data_url(source, kind))
    if not isinstance(source, str | Path):
        raise InputError(
            f"one is of type {type(source).__name__}: give a file name, bytes or a data: URL", option=_OPTIONS[kind]
        )
    if str(source).startswith(("http:", "https:")) or not local_files:
        raise InputError(
            "one must be sent as a data: URL, files and web addresses are not opened", option=_OPTIONS[kind]
        )
    try:
        return open(source, "rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{_shown(source)} cannot be opened: {reason}", option=_OPTIONS[kind]) from error


def _data_url(url: str, kind: str) -> bytes:
    header, comma, body = url.partition(",")
    try:
        if comma and header.endswith(";base64"):
            return base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error:
        pass
    raise InputError(f"not a valid data: URL: write data:{kind}/…;base64,…", option=_OPTIONS[kind])


def _shown(source: Any) -> str:
    text = str(source) if isinstance(source, str | Path) else f"the {type(source).__name__} given"
    return text if len(text) <= 80 else text[:77] + "…"


def _setting(config: Any, name: str) -> int:
    return config[name] if isinstance(config, dict) else getattr(config, name)
