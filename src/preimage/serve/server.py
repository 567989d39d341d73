"""Starting and ending the page: on this machine unless told otherwise, with files that are gone afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preimage.crops import squares_by
from preimage.errors import InputError, OutputError
from preimage.faces.detect import DEFAULT as DETECTOR
from preimage.image import picture_size
from preimage.invert.registry import DEFAULT, method_class
from preimage.processes import alive
from preimage.processes import host as hostname

PREFIX = "preimage-"
"""How the names of temporary folders begin."""
LOCAL = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 40 * 2**20
"""Of a file that is sent."""
# whatever a component might want from elsewhere, the browser refuses
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"


@dataclass
class Server:
    """A page that is answered.

    Attributes:
        url: where.
        root: the folder of its files.
    """

    url: str
    root: Path
    _page: Any
    _tabs: Any
    _restore: Callable[[], None]

    def wait(self) -> None:
        """Until it is interrupted."""
        self._page.block_thread()

    def close(self) -> None:
        """End it and remove its files."""
        self._tabs.close_all()
        self._page.close(verbose=False)
        self._restore()
        shutil.rmtree(self.root, ignore_errors=True)


def start(
    photo: str | Path | None = None,
    *,
    method: str = DEFAULT,
    host: str = "127.0.0.1",
    port: int | None = None,
    password: str | None = None,
    detector: str = DETECTOR,
) -> Server:
    """Start the page.

    Args:
        photo: open from the beginning.
        method: to begin with.
        host: whom to answer; anything but this machine needs a password.
        port: None takes the first free one from 7860.
        password: which the page asks for, with any name.
        detector: what finds faces in photos, see `preimage.faces.detect.load_detector`.

    Raises:
        InputError: a host without a password, a photo that is none.
        OutputError: the port is taken.
        MethodError: no such method.
    """
    if host not in LOCAL and not password:
        raise InputError(
            f"host {host}: others on the network could use this machine. Set a password (--password), or leave the host out."
        )
    method_class(method)
    if photo is not None:
        picture_size(Path(photo))
    remove_dead()
    root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{hostname()}-{os.getpid()}-"))
    restore = _environment(root)
    try:
        from preimage.serve.page import build_page, script, style, theme
        from preimage.serve.tabs import Tabs

        kept = None
        if photo is not None:  # the page may show what lies in its own folder, and nothing else
            kept = root / Path(photo).name
            shutil.copyfile(photo, kept)
        tabs = Tabs(root / "tabs", method, squares_by(detector))
        tabs.shelf.take(method)  # before anybody waits for it
        page = build_page(tabs, None if kept is None else str(kept))
        page.queue(default_concurrency_limit=16, max_size=256)
        _, url, _ = page.launch(
            server_name=host, server_port=port, share=False, prevent_thread_lock=True, quiet=True, ssr_mode=False,
            auth=_door(password), auth_message="Any name, and the password that this page was started with.",
            max_file_size=MOST_BYTES, footer_links=[], theme=theme(), css=style(), head=script(), enable_monitoring=False,
            app_kwargs={"middleware": _middleware(), "docs_url": None, "redoc_url": None}, allowed_paths=[str(root)],
            state_session_capacity=64, run_history=False, mcp_server=False, pwa=False,
        )  # fmt: skip
    except OSError as error:
        restore()
        shutil.rmtree(root, ignore_errors=True)
        raise OutputError(f"port {port or 'from 7860'}: {error}. Choose another one (--port).") from None
    except BaseException:
        restore()
        shutil.rmtree(root, ignore_errors=True)
        raise
    return Server(url, root, page, tabs, restore)


def serve(
    photo: str | Path | None = None, *, browser: bool = True, say: Callable[[str], None] = print, **given: Any
) -> None:
    """Answer the page until it is interrupted; see `start`.

    Args:
        photo: open from the beginning.
        browser: whether to open it in one.
        say: told where it is.
        **given: as `start` takes them.
    """
    server = start(photo, **given)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as containers end it; what follows is done then too
    try:
        who = (
            "nothing leaves this machine"
            if given.get("host", LOCAL[0]) in LOCAL
            else "whoever knows the password may use it"
        )
        say(f"preimage is at {server.url} (Ctrl-C ends it; {who})")
        if browser:
            webbrowser.open(server.url)
        server.wait()
    finally:
        server.close()


def remove_dead() -> None:
    """Remove the files of pages that were killed and could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}{hostname()}-*-*"):
        pid = folder.name.removeprefix(f"{PREFIX}{hostname()}-").partition("-")[0]
        if pid.isdigit() and not alive(int(pid)) and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def _environment(root: Path) -> Callable[[], None]:
    """What Gradio reads from the environment before it is imported; the way back."""
    wanted = {
        "GRADIO_TEMP_DIR": str(root / "uploads"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SHARE": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)

    def restore() -> None:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    return restore


def _door(password: str | None) -> Callable[[str, str], bool] | None:
    if not password:
        return None
    return lambda _, given: secrets.compare_digest(given.encode(), password.encode())


def _middleware() -> list[Any]:
    """A header that keeps the browser from asking anybody else."""
    from starlette.middleware import Middleware

    class Policy:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
                await send(message)

            await self.app(scope, receive, sending if scope["type"] == "http" else send)

    return [Middleware(Policy)]
