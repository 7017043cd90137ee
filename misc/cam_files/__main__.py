"""`python -m misc.cam_files convert SRC DST --to irn|png`."""

from misc.cam_files.convert import main

if __name__ == "__main__":
    raise SystemExit(main())
