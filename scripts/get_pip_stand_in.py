# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for get-pip.py where ansible-test cannot download it: takes pip from Python itself, then from the index.

ansible-test runs get-pip.py with the packages to install in a virtual environment that has no pip yet.
"""

import subprocess
import sys

# Options of get-pip.py alone, which pip does not know.
OWN_OPTIONS = ("--no-setuptools", "--no-wheel")

arguments = [argument for argument in sys.argv[1:] if argument not in OWN_OPTIONS]
# In processes of their own: ensurepip switches off pip's configuration for the process that it runs in.
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *arguments], check=False).returncode)
