"""Imported by the fork server: a run on one thread, after which compiled loops are loaded and nothing is slow the first
time. What a fork of it computes starts from its own seed all the same."""

import contextlib
import io
from tempfile import TemporaryDirectory

from test_stop import config

from kronos_nb.train_sequential import main

quiet = io.StringIO()
with TemporaryDirectory() as folder, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
    main(['--config', str(config(folder))])
