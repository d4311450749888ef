"""A folder with a page that enhances audio in the browser, for any web server."""

from __future__ import annotations

import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path

from espnet2_tfckd.data.paths import make_own_folder
from espnet2_tfckd.deploy.exported import check_network, read_export

#: What the page needs of the npm package onnxruntime-web.
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
PAGE_FILES = ("index.html", "enhancer.js", "sound.js")


def write_page(model: str | Path, runtime: str | Path, folder: str | Path) -> Path:
    """Write the page, an exported causal model, and the runtime that it needs.

    Args:
        model: Folder of an exported model.
        runtime: Folder ``dist`` of the npm package onnxruntime-web, or the one that holds it.
        folder: Folder to write; one of before is replaced.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: If the model or the runtime is not there.
        ValueError: If the model is damaged, not causal, for several microphones, or its ``n_fft``
            is no power of two; or if ``folder`` holds files of others.
    """
    meta = read_export(model)
    if "streaming" not in meta["models"]:
        raise ValueError(
            f"{model} has no streaming network, because the model is not causal: train one with "
            "separator_conf.causal: true"
        )
    if meta["microphones"] > 1:
        raise ValueError(f"{model} needs {meta['microphones']} microphones; the page has one")
    n_fft = meta["n_fft"]
    if n_fft & (n_fft - 1):
        raise ValueError(f"{model}: its n_fft is {n_fft}, and the page needs a power of two")
    check_network(model, meta, "streaming")
    dist = _runtime_folder(Path(runtime))
    page = make_own_folder(Path(folder), [Path(model), dist])
    for name in PAGE_FILES:
        text = (resources.files("espnet2_tfckd.deploy") / "web" / name).read_text(encoding="utf-8")
        (page / name).write_text(text, encoding="utf-8")
    for name in RUNTIME_FILES:
        shutil.copyfile(dist / name, page / name)
    (page / "model").mkdir()
    for name in ("meta.json", meta["models"]["streaming"]["file"]):
        shutil.copyfile(Path(model) / name, page / "model" / name)
    return page / "index.html"


class Handler(SimpleHTTPRequestHandler):
    """Serves files, modules under the type that browsers insist on, without a line for each."""

    extensions_map = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_arguments) -> None:
        """Nothing."""


def serve(folder: Path, host: str, port: int) -> None:
    """Serve a folder until Ctrl-C.

    Raises:
        RuntimeError: If the port cannot be used.
    """
    try:
        server = ThreadingHTTPServer((host, port), partial(Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", error)
        raise RuntimeError(
            f"port {port} of {host} cannot be used ({reason}): give another --port"
        ) from None
    with server:
        print(f"http://{host}:{server.server_port} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended")


def _runtime_folder(runtime: Path) -> Path:
    places = (runtime, runtime / "dist", runtime / "node_modules" / "onnxruntime-web" / "dist")
    for place in places:
        if all((place / name).is_file() for name in RUNTIME_FILES):
            return place
    raise FileNotFoundError(
        f"{runtime} does not hold {' and '.join(RUNTIME_FILES)} of onnxruntime-web: in that "
        "folder, run 'npm install onnxruntime-web'"
    )
