from __future__ import annotations

import base64
import builtins
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_chat import nano, user, vision

import diffusiongemma as dg
from diffusiongemma import media
from diffusiongemma.chat import encode_prompt
from diffusiongemma.errors import InputError, UserError
from diffusiongemma.media import MediaSettings, image_inputs, load_image, sample_video, squared

VISION = {"patch_size": 16, "pooling_kernel_size": 3}


def quarters(size=(96, 96)):
    """Red, green, blue and white quarters: a picture whose patches can be told apart."""
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0, 0] = pixels[0, 1, 1] = pixels[1, 0, 2] = 255
    pixels[1, 1] = 255
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def encoded(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_video(path, seconds, rate=4, size=(64, 48)):
    """A video that shows its own time: second k is a grey of 3 k."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(int(seconds * rate)):
            pixels = np.full((size[1], size[0], 3), 3 * (index // rate), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_the_same_image_from_everywhere(tmp_path):
    png = encoded(quarters(), "PNG")
    (tmp_path / "a.png").write_bytes(png)
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), png, url, quarters()):
        assert np.array_equal(np.asarray(load_image(source)), np.asarray(quarters()))


def test_images_become_upright_rgb():
    turned = quarters((60, 40))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    assert load_image(buffer.getvalue()).size == (40, 60)
    assert load_image(Image.new("LA", (8, 8))).mode == "RGB"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (b"not an image", "is not an image"),
        (encoded(quarters(), "PNG")[:60], "cannot be read as an image|is not an image"),
        ("no/such/file.png", "cannot be opened: No such file"),
        ("data:image/png;base64,@@", "not a valid data: URL"),
        ("data:image/png,abc", "not a valid data: URL"),
        ("https://example.org/a.png", "must be sent as a data: URL"),
        (7, "of type int"),
        ("nul\0.png", "cannot be opened"),
    ],
)
def test_what_is_not_an_image_is_told(source, problem):
    with pytest.raises(UserError, match=problem) as error:
        load_image(source)
    assert "\n" not in str(error.value)


def test_decompression_bombs_are_not_unpacked(monkeypatch):
    huge = encoded(Image.new("1", (8_000, 8_000)), "PNG")
    assert len(huge) < 50_000
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(InputError, match="at most 50,000,000"):
        load_image(huge)


def test_files_can_be_forbidden(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(quarters(), "PNG"))
    for read in (load_image, sample_video):
        with pytest.raises(InputError, match="data: URL"):
            read(tmp_path / "a.png", local_files=False)


@pytest.mark.parametrize("tokens", [70, 140, 280])
def test_patches_carry_the_picture(tokens):
    (one,) = image_inputs([quarters((480, 480))], VISION, tokens)
    patches = tokens * 9
    assert one.pixels.shape == (patches, 3 * 16 * 16) and one.positions.shape == (patches, 2)
    side = int(one.positions.max()) + 1
    assert one.soft_tokens == (side // 3) ** 2 <= tokens < (side // 3 + 1) ** 2
    assert (one.positions[side * side :] == -1).all() and not one.pixels[side * side :].any()
    corner = {(0, 0): (1, 0, 0), (side - 1, 0): (0, 1, 0), (0, side - 1): (0, 0, 1), (side - 1, side - 1): (1, 1, 1)}
    for patch, position in zip(one.pixels, one.positions.tolist(), strict=True):
        if tuple(position) in corner:
            expected = torch.tensor(corner[tuple(position)]).float()
            assert torch.allclose(patch.reshape(256, 3).mean(0), expected, atol=0.02)


def test_unknown_token_numbers_are_refused():
    with pytest.raises(InputError, match="70, 140, 280"):
        image_inputs([quarters()], VISION, 100)


def test_settings_come_from_the_checkpoint(tmp_path):
    assert MediaSettings.from_checkpoint(tmp_path) == MediaSettings(280, 70)
    (tmp_path / "preprocessor_config.json").write_text('{"max_soft_tokens": 560}')
    assert MediaSettings.from_checkpoint(tmp_path) == MediaSettings(560, 70)
    nested = '{"image_processor": {"max_soft_tokens": 140}, "video_processor": {"max_soft_tokens": 280}}'
    (tmp_path / "processor_config.json").write_text(nested)
    assert MediaSettings.from_checkpoint(tmp_path) == MediaSettings(140, 280)


def test_one_frame_a_second(tmp_path):
    frames = sample_video(write_video(tmp_path / "v.mp4", 3.5))
    assert [round(seconds, 2) for seconds, _ in frames] == [0, 1, 2, 3]
    greys = [np.asarray(image).mean() for _, image in frames]
    assert greys == pytest.approx([0, 3, 6, 9], abs=2) and frames[0][1].size == (64, 48)


def test_a_video_in_a_prompt_is_its_frames(tmp_path):
    data = write_video(tmp_path / "v.mp4", 2).read_bytes()
    url = "data:video/mp4;base64," + base64.b64encode(data).decode()
    parts = [{"type": "text", "text": "What happens?"}, {"type": "video", "video": url}]
    prompt = encode_prompt([user(parts)], nano(), vision())
    image = prompt.images[0]
    assert len(prompt.images) == 2 and image.pixels.shape == (70 * 9, 768)
    soft = "<|image>" + "<|image|>" * image.soft_tokens + "<image|>"
    text = nano().decode(prompt.ids)
    assert f"<|turn>user\n00:00 {soft} 00:01 {soft}What happens?<turn|>" in text
    assert [set(prompt.ids[start:end]) for start, end in prompt.image_spans] == [{nano().image_token_id}] * 2


def test_a_prompt_with_an_image_has_the_vision_tower_ready():
    """It takes a second or two to import: nobody who only shares the server is to wait for it."""
    model = dg.load("nano-base")
    model.prompt("words alone")
    assert "vision" not in dict(model.network.named_children())
    model.prompt([user([{"type": "image", "image": quarters()}])])
    assert "vision" in dict(model.network.named_children())


def test_frames_are_written_as_transformers_writes_them():
    from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

    marks = SimpleNamespace(boi_token="<|image>", eoi_token="<image|>", video_token="<|image|>")
    film = SimpleNamespace(fps=1, timestamps=[0.0, 59.5, 61.0])
    theirs = Gemma4Processor.replace_video_token(marks, {"num_soft_tokens_per_video": [3], "video_metadata": [film]}, 0)
    soft = "<|image>" + "<|image|>" * 3 + "<image|>"
    assert theirs == " ".join(f"{media.timestamp(seconds)} {soft}" for seconds in film.timestamps)


def test_long_videos_are_refused(tmp_path):
    assert len(sample_video(write_video(tmp_path / "60.mp4", 60, rate=1, size=(16, 16)))) == 60
    with pytest.raises(InputError, match="video: it has 75 s, at most 60 s: cut it"):
        sample_video(write_video(tmp_path / "75.mp4", 75, rate=1, size=(16, 16)))


@pytest.mark.parametrize(
    "data", [b"just text\n" * 100, b"", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", encoded(quarters(), "PNG")]
)
def test_what_is_not_a_video_is_told(data):
    pytest.importorskip("av")
    with pytest.raises(InputError, match="cannot be read as a video") as error:
        sample_video(data)
    assert "\n" not in str(error.value)


def test_video_without_its_package_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_av(name, *rest, **named):
        if name == "av":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(UserError, match=r"pip install 'diffusiongemma\[video\]'"):
        sample_video("v.mp4")


def test_timestamps():
    assert [media.timestamp(seconds) for seconds in (0.9, 59.99, 60)] == ["00:00", "00:59", "01:00"]


# --- nearly square ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, within, expected", [((50, 40), 1.25, (50, 50)), ((40, 50), 1.25, (50, 50)), ((60, 40), 1.25, (60, 40))]
)
def test_what_is_nearly_square_is_made_square_where_the_model_asks_for_it(size, within, expected):
    assert squared(Image.new("RGB", size), within).size == expected
    assert squared(Image.new("RGB", size), 1.0).size == size


def test_what_is_mostly_dark_is_shown_as_its_negative_where_the_model_asks_for_it():
    night = Image.new("RGB", (40, 40), "#102030")
    night.paste("white", (0, 0, 10, 10))
    day = MediaSettings(dark_on_light=True).shown(night)
    assert day.getpixel((20, 20)) == (0xEF, 0xDF, 0xCF) and day.getpixel((5, 5)) == (0, 0, 0)
    assert MediaSettings(dark_on_light=True).shown(day).tobytes() == day.tobytes()
    assert MediaSettings().shown(night).tobytes() == night.tobytes()


def test_a_checkpoint_says_what_is_made_square(tmp_path):
    raw = '{"max_soft_tokens": 140, "square_within": 1.2, "dark_on_light": true}'
    (tmp_path / "preprocessor_config.json").write_text(raw)
    settings = MediaSettings.from_checkpoint(tmp_path)
    assert settings == MediaSettings(140, 70, square_within=1.2, dark_on_light=True)
    content = [{"type": "image", "image": Image.new("RGB", (500, 450))}]
    assert encode_prompt([user(content)], nano(), vision(), media=settings).images[0].soft_tokens == 121


def test_a_checkpoint_says_on_what_page_square_images_are_laid(tmp_path):
    raw = '{"max_soft_tokens": 140, "square_within": 1.2, "page": [432, 480, 672]}'
    (tmp_path / "preprocessor_config.json").write_text(raw)
    settings = MediaSettings.from_checkpoint(tmp_path)
    page = settings.shown(Image.new("RGB", (500, 450), "red"))
    assert page.size == (480, 672) and page.getpixel((48, 240)) == (255, 0, 0)
    assert page.getpixel((47, 240)) == page.getpixel((48, 239)) == (255, 255, 255)
    long = Image.new("RGB", (500, 300), "red")
    assert settings.shown(long).tobytes() == long.tobytes()
    content = [{"type": "image", "image": Image.new("RGB", (90, 90), "red")}]
    image = encode_prompt([user(content)], nano(), vision(), media=settings).images[0]
    assert image.soft_tokens == 140 and image.positions.amax(0).tolist() == [29, 41]
    red = torch.tensor([1.0, 0.0, 0.0]).repeat(256)
    at = (15 * 30 + 3, 41 * 30 + 29, 14 * 30 + 3, 15 * 30 + 2)
    assert [torch.equal(image.pixels[i], red) for i in at] == [True, True, False, False]
