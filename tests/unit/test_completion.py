"""Completion as shells do it: fast, quiet, and never with what a shell would run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner
from journals import Bench
from command_lines import ROOT

from farm.cli import known, root
