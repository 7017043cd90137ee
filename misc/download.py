"""Files from the internet, which are whole or not there at all."""

import http.client
import logging
import shutil
import time
import urllib.request
from pathlib import Path

from tqdm import tqdm

from misc.errors import MENDABLE, UserError
from misc.workspace import atomic_write

logger = logging.getLogger(__name__)

TIMEOUT = 60  # seconds without a byte
TEMPORARY = (408, 425, 429)  # answers after which trying again helps, as after those from 500 on


def download(url: str, target: Path, attempts: int) -> None:
    """Download a file, which appears when all of it is there.

    Args:
        url: http or https; redirections are followed.
        target: file to write.
        attempts: how often to try while the connection or the server fails.

    Raises:
        UserError: if the server has no such file, or the last attempt fails.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "sbe"})
    for attempt in range(1, attempts + 1):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                length = int(response.headers.get("Content-Length") or 0)
                bar = tqdm.wrapattr(response, "read", desc=target.name, total=length or None)
                with bar as body, atomic_write(target) as file:
                    shutil.copyfileobj(body, file)
                    if length and file.tell() != length:
                        raise OSError(f"{file.tell()} of {length} bytes arrived")
            return
        except (OSError, http.client.HTTPException) as error:
            code = getattr(error, "code", 500)
            is_final = code < 500 and code not in TEMPORARY
            if is_final or getattr(error, "errno", None) in MENDABLE or attempt == attempts:
                raise UserError(f"{url} cannot be downloaded: {error}.") from None
            logger.warning("%s: %s. Trying again.", target.name, error)
            time.sleep(2**attempt)
