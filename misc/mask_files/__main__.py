"""`python -m misc.mask_files SRC DST`."""

from misc.mask_files.convert import main

if __name__ == "__main__":
    raise SystemExit(main())
