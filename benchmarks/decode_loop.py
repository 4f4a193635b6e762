"""The peer of `benchmarks inspect`: reads every image of a zip and decodes it to RGB, in a thread for each core.

`python -m benchmarks.decode_loop ZIP` prints how many it decoded as JSON.
"""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image


def main(path: Path) -> None:
    with zipfile.ZipFile(path) as archive, ThreadPoolExecutor(os.cpu_count()) as pool:

        def decode(name: str) -> bool:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                return image.convert("RGB").mode == "RGB"

        print(json.dumps({"decoded": sum(pool.map(decode, archive.namelist()))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
