"""Every process that a test starts imports the tinyml that the tests import, not a source tree it may be started in."""

import os
from pathlib import Path

import tinyml

os.environ["PYTHONPATH"] = str(Path(tinyml.__file__).parent.parent)
os.chdir(Path(__file__).parent)
