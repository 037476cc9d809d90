"A headless Chromium for the tests that look at pages, and a place for their screenshots."

import os
import shutil
import tempfile
from pathlib import Path

FLAGS = (
    '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking'
    ' --disable-component-update --disable-sync'.split()
)


def chromium_path():
    "Where Chromium is installed, or None."
    return next(
        filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', '/usr/bin/chromium'))), None
    )


def launch(playwright):
    "Start Chromium under `playwright`; skip the test, saying why, where there is none."
    import pytest

    if not chromium_path():
        pytest.skip('no Chromium is installed: apt install chromium')
    return playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)


def artefacts():
    "The folder for screenshots: `KRONOS_ARTEFACTS`, or one that is thrown away."
    folder = Path(os.environ.get('KRONOS_ARTEFACTS') or Path(tempfile.gettempdir()) / 'kronos_artefacts')
    folder.mkdir(parents=True, exist_ok=True)
    return folder
