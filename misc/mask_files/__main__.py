"""`python -m misc.mask_files SRC DST`."""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

from misc.command_line import run_as_program
from misc.mask_files.convert import main

if __name__ == "__main__":
    run_as_program(main)
