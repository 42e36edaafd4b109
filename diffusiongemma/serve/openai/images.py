"""Images in messages: data URLs within limits; web addresses only where the server allows them."""

from __future__ import annotations

import base64
import binascii
import io
import ipaddress
import socket
import urllib.error
import urllib.parse
import urllib.request
import warnings
from typing import Any

from PIL import Image

from diffusiongemma.serve.errors import refusal
from diffusiongemma.serve.openai.bodies import ChatRequest, ImagePart
from diffusiongemma.serve.openai.history import mended
from diffusiongemma.serve.settings import MIB, Settings

FETCH_SECONDS = 10.0
PARAM = "messages"


def messages_of(body: ChatRequest, settings: Settings) -> list[dict[str, Any]]:
    """Messages as `chat.canonical` takes them, each image as bytes that were looked at and found harmless."""
    messages = []
    for message in body.messages:
        plain = message.model_dump(exclude_none=True)
        if isinstance(message.content, list):
            plain["content"] = [
                {"type": "image", "image": _image(part, settings)} if isinstance(part, ImagePart) else part.model_dump()
                for part in message.content
            ]
        messages.append(plain)
    _count_images(messages, settings)
    return mended(messages)


def _count_images(messages: list[dict[str, Any]], settings: Settings) -> None:
    parts = [part for m in messages if isinstance(m.get("content"), list) for part in m["content"]]
    count = sum(part["type"] == "image" for part in parts)
    if count > settings.max_images:
        raise refusal(f"{count} images, at most {settings.max_images} in a request", PARAM)


def _image(part: ImagePart, settings: Settings) -> bytes:
    return image_bytes(part.image_url if isinstance(part.image_url, str) else part.image_url.url, settings)


def image_bytes(url: str, settings: Settings) -> bytes:
    """What a data: URL or a web address holds, looked at and found harmless. Raises `ApiError`."""
    if url.startswith("data:"):
        data = _decoded(url)
    elif url.startswith(("http://", "https://")):
        if not settings.allow_urls:
            raise refusal("web addresses are not opened: send the image as a data: URL", PARAM)
        data = fetch(url, settings.max_image_bytes)
    else:
        raise refusal("image_url is neither a data: URL nor a web address", PARAM)
    return _checked(data, settings)


def _decoded(url: str) -> bytes:
    header, comma, body = url.partition(",")
    try:
        if comma and header.endswith(";base64"):
            return base64.b64decode("".join(body.split()), validate=True)  # some encoders break lines
    except (binascii.Error, ValueError):
        pass
    raise refusal("not a valid data: URL: write data:image/…;base64,…", PARAM)


def _checked(data: bytes, settings: Settings) -> bytes:
    """Raises `ApiError` for too many bytes or pixels; the pixels are counted before they are unpacked."""
    if len(data) > settings.max_image_bytes:
        raise refusal(f"an image has {len(data) / MIB:.1f} MiB, at most {settings.max_image_bytes / MIB:.0f}", PARAM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
                width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise refusal(f"an image has too many pixels, at most {settings.max_image_pixels:,}", PARAM) from None
    except Exception as error:  # whatever Pillow's readers raise for bytes that are not theirs
        raise refusal("an image cannot be read: send PNG, JPEG, WebP or GIF", PARAM) from error
    if width * height > settings.max_image_pixels:
        raise refusal(f"an image has {width} x {height} pixels, at most {settings.max_image_pixels:,}", PARAM)
    return data


# --- web addresses --------------------------------------------------------------------------------------------------


def fetch(url: str, most: int) -> bytes:
    """The bytes at a public address, at most `most`, within `FETCH_SECONDS`. Raises `ApiError`."""
    try:
        with _opener().open(url, timeout=FETCH_SECONDS) as response:
            data: bytes = response.read(most + 1)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise refusal(f"the image cannot be fetched: {error}"[:300], PARAM) from error
    if len(data) > most:
        raise refusal(f"the image at that address has more than {most / MIB:.0f} MiB", PARAM)
    return data


class _PublicOnly(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: each would have to be looked at again."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    from http.client import HTTPConnection, HTTPSConnection

    class Http(HTTPConnection):
        def connect(self) -> None:
            self.sock = _public_socket(self.host, self.port)

    class Https(HTTPSConnection):
        def connect(self) -> None:
            raw = _public_socket(self.host, self.port)
            self.sock = self._context.wrap_socket(raw, server_hostname=self.host)  # type: ignore[attr-defined]

    class HttpHandler(urllib.request.HTTPHandler):
        def http_open(self, request: Any) -> Any:
            return self.do_open(Http, request)

    class HttpsHandler(urllib.request.HTTPSHandler):
        def https_open(self, request: Any) -> Any:
            return self.do_open(Https, request)

    no_proxy = urllib.request.ProxyHandler({})
    return urllib.request.build_opener(no_proxy, _PublicOnly(), HttpHandler(), HttpsHandler())


def _public_socket(host: str, port: int) -> socket.socket:
    """A connection to an address that was looked at itself: a name could answer otherwise when asked again."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not ipaddress.ip_address(address[0]).is_global:
            raise OSError("the address is not public")
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(FETCH_SECONDS)
        connection.connect(address)
        return connection
    raise OSError("the address has no host")
