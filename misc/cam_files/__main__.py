"""`python -m misc.cam_files convert SRC DST --to irn|png`."""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

from misc.cam_files.convert import main
from misc.command_line import run_as_program

if __name__ == "__main__":
    run_as_program(main)
